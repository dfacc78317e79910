import multiprocessing

import pytest


@pytest.fixture(scope='session')
def processes():
    """Fresh processes that need not import everything again."""
    context = multiprocessing.get_context('forkserver')
    context.set_forkserver_preload(['mmvg', 'mmengine.runner'])
    return context
