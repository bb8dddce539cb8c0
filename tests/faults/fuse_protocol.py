"""The kernel's side of a FUSE file system: the messages of <linux/fuse.h>, as far as a folder of files needs them.

A request is a header and a body, and so is its answer; the numbers are the machine's own.
"""

import enum
import struct

__all__ = [
    "ATTR",
    "ATTR_OUT",
    "BATCH_FORGET_IN",
    "CREATE_IN",
    "DIRENT",
    "ENTRY_OUT",
    "FORGET_IN",
    "FORGET_ONE",
    "FSYNC_IN",
    "INIT_IN",
    "INIT_OUT",
    "IN_HEADER",
    "LINK_IN",
    "MAJOR",
    "MINOR",
    "MKDIR_IN",
    "OPEN_IN",
    "OPEN_OUT",
    "OUT_HEADER",
    "READ_IN",
    "RELEASE_IN",
    "RENAME_IN",
    "ROOT",
    "SETATTR_IN",
    "STATFS_OUT",
    "WRITE_IN",
    "WRITE_OUT",
    "Change",
    "Code",
    "Init",
    "Open",
]

MAJOR, MINOR = 7, 38

ROOT = 1  # the folder that is mounted


class Code(enum.IntEnum):
    """What is asked for."""

    LOOKUP = 1
    FORGET = 2
    GETATTR = 3
    SETATTR = 4
    MKDIR = 9
    UNLINK = 10
    RMDIR = 11
    RENAME = 12
    LINK = 13
    OPEN = 14
    READ = 15
    WRITE = 16
    STATFS = 17
    RELEASE = 18
    FSYNC = 20
    FLUSH = 25
    INIT = 26
    OPENDIR = 27
    READDIR = 28
    RELEASEDIR = 29
    FSYNCDIR = 30
    CREATE = 35
    INTERRUPT = 36
    DESTROY = 38
    BATCH_FORGET = 42


class Init(enum.IntFlag):
    """What both sides can do. The last lies in the upper half, which has a field of its own."""

    ASYNC_READ = 1 << 0
    BIG_WRITES = 1 << 5
    AUTO_INVAL_DATA = 1 << 12
    ASYNC_DIO = 1 << 15
    WRITEBACK_CACHE = 1 << 16
    PARALLEL_DIROPS = 1 << 18
    MAX_PAGES = 1 << 22
    INIT_EXT = 1 << 30
    DIRECT_IO_ALLOW_MMAP = 1 << 36


class Open(enum.IntFlag):
    """What the kernel may do with an open file's pages."""

    DIRECT_IO = 1 << 0
    KEEP_CACHE = 1 << 1


class Change(enum.IntFlag):
    """What a SETATTR sets."""

    MODE = 1 << 0
    UID = 1 << 1
    GID = 1 << 2
    SIZE = 1 << 3
    ATIME = 1 << 4
    MTIME = 1 << 5
    FH = 1 << 6
    ATIME_NOW = 1 << 7
    MTIME_NOW = 1 << 8


IN_HEADER = struct.Struct("=IIQQIIIHH")  # len, opcode, unique, nodeid, uid, gid, pid, extensions
OUT_HEADER = struct.Struct("=IiQ")  # len, -errno, unique

INIT_IN = struct.Struct("=IIII")  # major, minor, max_readahead, flags
# major, minor, max_readahead, flags, max_background, congestion, max_write, time_gran, max_pages, alignment, flags2
INIT_OUT = struct.Struct("=IIIIHHIIHHI28x")

ATTR = struct.Struct("=6Q10I")  # ino, size, blocks, three times, their ns, mode, nlink, uid, gid, rdev, blksize, flags
ATTR_OUT = struct.Struct("=QII")  # valid, its ns; then ATTR
ENTRY_OUT = struct.Struct("=4Q2I")  # nodeid, generation, valid name, valid attributes, their ns; then ATTR

# valid, fh, size, lock_owner, three times, their ns, mode, -, uid, gid
SETATTR_IN = struct.Struct("=I4xQQQQQQIIII4xII4x")

OPEN_IN = struct.Struct("=II")  # flags
OPEN_OUT = struct.Struct("=QI4x")  # fh, flags of `Open`
CREATE_IN = struct.Struct("=IIII")  # flags, mode, umask; then the name
READ_IN = struct.Struct("=QQIIQI4x")  # fh, offset, size, ...
WRITE_IN = struct.Struct("=QQIIQI4x")  # fh, offset, size, ...; then the bytes
WRITE_OUT = struct.Struct("=I4x")
RELEASE_IN = struct.Struct("=QIIQ")
FSYNC_IN = struct.Struct("=QI4x")  # fh, 1: data only

DIRENT = struct.Struct("=QQII")  # ino, offset of the next, length of the name, type; then the name up to 8 bytes
STATFS_OUT = struct.Struct("=5Q3I28x")  # blocks, bfree, bavail, files, ffree, bsize, namelen, frsize

MKDIR_IN = struct.Struct("=II")  # mode, umask
RENAME_IN = struct.Struct("=Q")  # new folder; then both names
LINK_IN = struct.Struct("=Q")  # node; then the name

FORGET_IN = struct.Struct("=Q")  # lookups
BATCH_FORGET_IN = struct.Struct("=I4x")  # how many
FORGET_ONE = struct.Struct("=QQ")  # node, lookups
