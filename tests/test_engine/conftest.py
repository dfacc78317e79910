import multiprocessing
from multiprocessing.connection import wait

import pytest


@pytest.fixture(scope='session')
def processes():
    """Fresh processes that need not import everything again."""
    context = multiprocessing.get_context('forkserver')
    context.set_forkserver_preload(['mmvg', 'mmengine.runner'])
    return context


@pytest.fixture(scope='session')
def launch(processes, free_port):
    """Run ``target(*args, env)`` in so many processes, with what a launcher tells each of them."""

    def launch(world_size, target, *args):
        common = dict(
            WORLD_SIZE=str(world_size), MASTER_ADDR='127.0.0.1', MASTER_PORT=str(free_port())
        )
        ranks = [
            processes.Process(
                target=target, args=(*args, dict(common, RANK=str(rank), LOCAL_RANK=str(rank)))
            )
            for rank in range(world_size)
        ]
        for process in ranks:
            process.start()
        # One that fails leaves the others waiting for it.
        while any(p.is_alive() for p in ranks) and not any(p.exitcode for p in ranks):
            wait([p.sentinel for p in ranks if p.is_alive()])
        for process in ranks:
            process.kill()
            process.join()
        assert [process.exitcode for process in ranks] == [0] * world_size

    return launch
