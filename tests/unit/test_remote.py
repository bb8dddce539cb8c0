"""Which file systems are somebody else's machine or program."""

import os
import re

import pytest

from ndfile._core import file_system_type, is_remote

HEADER = "/usr/include/linux/magic.h"


@pytest.mark.parametrize("magic", [0x6969, 0x517B, 0xFF534D42, 0xFE534D42, 0x65735546, 0x01021997, 0x00C36400])
def test_a_file_system_over_a_network_is_remote(magic):
    assert is_remote(magic)


@pytest.mark.parametrize("magic", [0xEF53, 0x58465342, 0x9123683E, 0x01021994, 0x794C7630, 0x2FC12FC1, 0, 1 << 32])
def test_a_file_system_on_a_disk_or_in_memory_is_not(magic):
    """ext4, XFS, Btrfs, tmpfs, an overlay, ZFS."""
    assert not is_remote(magic)


def test_a_number_is_known_where_the_systems_field_is_signed_and_narrow():
    assert is_remote(0xFF534D42 - (1 << 32))


def test_the_system_s_own_files_are_not_remote():
    fd = os.open("/proc/self/status", os.O_RDONLY)
    try:
        assert not is_remote(file_system_type(fd))
    finally:
        os.close(fd)


@pytest.mark.skipif(not os.path.exists(HEADER), reason="the kernel's headers are not installed")
def test_the_numbers_are_those_of_the_kernel_s_header():
    with open(HEADER) as file:
        defined = dict(re.findall(r"#define\s+(\w+_MAGIC)\s+(0x[0-9a-fA-F]+)", file.read()))
    names = "NFS_SUPER SMB_SUPER CIFS_SUPER SMB2_SUPER FUSE_SUPER V9FS CEPH_SUPER AFS_SUPER AFS_FS CODA_SUPER NCP_SUPER"
    found = {int(defined[f"{name}_MAGIC"], 16) for name in names.split() if f"{name}_MAGIC" in defined}
    assert found
    assert all(map(is_remote, found))
