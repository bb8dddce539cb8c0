"""What the tests of other libraries have in common."""

from multiprocessing import resource_tracker

import numpy as np
import pytest


@pytest.fixture(scope="session", autouse=True)
def _tracker_is_there():
    """Start what the first spawned process would start, and what then stays: no test leaves it behind."""
    resource_tracker.ensure_running()


@pytest.fixture
def file(tmp_path, numbers):
    """The path of a file that holds `numbers`."""
    path = str(tmp_path / "x.npy")
    np.save(path, numbers)
    return path
