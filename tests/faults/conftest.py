"""The folder of those who are killed at work."""

import os
import tempfile

import pytest

# A file system without a disk: a kill leaves the same there, and syncs cost nothing. The short forms use it.
MEMORY = "/dev/shm"


@pytest.fixture
def working_folder(tmp_path):
    """A folder for files whose writers are killed: in memory in the short form, where there is such."""
    if "NDFILE_ROUNDS_SCALE" in os.environ or not os.access(MEMORY, os.W_OK):
        (folder := tmp_path / "files").mkdir()
        yield str(folder)
        return
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
        yield folder
