import multiprocessing
import socket

import pytest


@pytest.fixture(scope='session')
def processes():
    """Fresh processes that need not import everything again."""
    context = multiprocessing.get_context('forkserver')
    context.set_forkserver_preload(['mmvg', 'mmengine.runner'])
    return context


@pytest.fixture(scope='session')
def launch(processes):
    """Run ``target(*args, env)`` in so many processes, with what a launcher tells each of them."""

    def launch(world_size, target, *args):
        with socket.socket() as server:
            server.bind(('127.0.0.1', 0))
            port = server.getsockname()[1]
        common = dict(WORLD_SIZE=str(world_size), MASTER_ADDR='127.0.0.1', MASTER_PORT=str(port))
        ranks = [
            processes.Process(
                target=target, args=(*args, dict(common, RANK=str(rank), LOCAL_RANK=str(rank)))
            )
            for rank in range(world_size)
        ]
        for process in ranks:
            process.start()
        for process in ranks:
            process.join()
        assert [process.exitcode for process in ranks] == [0] * world_size

    return launch
