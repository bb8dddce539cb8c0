"""A file system whose reads can be slow and can fail: the program that the kernel asks.

    python fuse_server.py MOUNT BACKING OPTIONS

shows the folder BACKING at MOUNT until it is unmounted. It speaks the kernel's protocol on /dev/fuse itself, so it
needs no library. It is a process of its own: a page fault waits for the answer with the interpreter's lock held, and
a thread of the same interpreter would never give one.

Standard input takes orders, one JSON document to a line, and standard output has an answer to each. When the input
ends, because whoever gave the orders is gone, the file system goes too. `fuse_disk.py` is the other end.
"""

import collections
import contextlib
import ctypes
import errno
import itertools
import json
import os
import stat
import sys
import threading
import time
import traceback

from fuse_protocol import (
    ATTR,
    ATTR_OUT,
    BATCH_FORGET_IN,
    CREATE_IN,
    DIRENT,
    ENTRY_OUT,
    FORGET_IN,
    FORGET_ONE,
    FSYNC_IN,
    IN_HEADER,
    INIT_IN,
    INIT_OUT,
    LINK_IN,
    MAJOR,
    MINOR,
    MKDIR_IN,
    OPEN_IN,
    OPEN_OUT,
    OUT_HEADER,
    READ_IN,
    RELEASE_IN,
    RENAME_IN,
    ROOT,
    SETATTR_IN,
    STATFS_OUT,
    WRITE_IN,
    WRITE_OUT,
    Change,
    Code,
    Init,
    Open,
)

PAGE = os.sysconf("SC_PAGESIZE")

MS_NOSUID, MS_NODEV, MNT_DETACH = 2, 4, 2

NS = 1_000_000_000

# What `mount` may be given, and what it is otherwise: libfuse's own choices, but for the threads.
OPTIONS = {
    "threads": 32,
    "max_background": 12,  # requests that the kernel's readahead may have under way
    "max_pages": 256,  # of one request
    "max_readahead": 128 << 10,
    "valid_s": 1.0,  # how long the kernel may believe a name, a size and a time
    "async_read": True,
    "keep_cache": False,  # whether an open leaves the pages of the last one
    "direct_io": False,  # no page cache
    "direct_io_mmap": False,  # ... and maps that are shared nevertheless
    "auto_inval": True,  # another time at the server drops the pages
    "writeback": False,  # writes wait in the page cache
}

# What can be set while it is mounted.
SETTINGS = {
    "delay_s": 0.0,  # before a READ is answered
    "bad": None,  # READs that touch bytes [start, stop) of any file fail ...
    "read_errno": errno.EIO,  # ... with this
    "write_errno": 0,  # every WRITE fails with this
}

KNOWN = {int(code): code.name.lower() for code in Code}

NO_ANSWER = object()  # the kernel does not wait for one


def attach(folder, fd):
    """Mount what is asked through a descriptor of /dev/fuse."""
    data = f"fd={fd},rootmode={stat.S_IFDIR:o},user_id=0,group_id=0,allow_other"
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(b"ndfile-test", os.fsencode(folder), b"fuse", MS_NOSUID | MS_NODEV, data.encode()) < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), folder)


def detach(folder):
    ctypes.CDLL(None).umount2(os.fsencode(folder), MNT_DETACH)


class Nodes:
    """The inodes that the kernel knows, each with a descriptor that is only a name for it.

    A descriptor follows its file through renames, and keeps the number from being given to another.
    """

    def __init__(self, folder):
        self._lock = threading.Lock()
        self._fds = {ROOT: os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)}
        self._lookups = collections.Counter()
        self._numbers, self._keys = {}, {}
        self._next = itertools.count(ROOT + 1)

    def fd(self, node):
        return self._fds[node]

    def path(self, node):
        """A path for calls that take no such descriptor."""
        return f"/proc/self/fd/{self._fds[node]}"

    def look_up(self, folder, name):
        fd = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self._fds[folder])
        found = os.fstat(fd)
        key = found.st_dev, found.st_ino
        with self._lock:
            node = self._numbers.get(key)
            if node is None:
                node = self._numbers[key] = next(self._next)
                self._fds[node], self._keys[node] = fd, key
            else:
                os.close(fd)
            self._lookups[node] += 1
        return node, found

    def forget(self, node, lookups):
        if node == ROOT:
            return
        with self._lock:
            self._lookups[node] -= lookups
            if self._lookups[node] <= 0:
                del self._lookups[node], self._numbers[self._keys.pop(node)]
                os.close(self._fds.pop(node))


class Counts:
    """What was asked of the server since `reset`."""

    def __init__(self):
        self._lock = threading.Lock()
        self._under_way = 0
        self.reset()

    def reset(self):
        with self._lock:
            self._reads, self._others = [], collections.Counter()
            self._most = self._under_way

    def note(self, name):
        with self._lock:
            self._others[name] += 1

    @contextlib.contextmanager
    def read(self, offset, size):
        with self._lock:
            self._reads.append((offset, size))
            self._under_way += 1
            self._most = max(self._most, self._under_way)
        try:
            yield
        finally:
            with self._lock:
                self._under_way -= 1

    def tell(self):
        with self._lock:
            return {
                "reads": self._reads,
                "most_under_way": self._most,
                "under_way": self._under_way,
                "requests": dict(self._others),
            }


class Folder:
    """A folder as the kernel asks for it. A method is named as its request; it gives the body of the answer."""

    def __init__(self, backing, options, counts):
        self.options, self.counts = options, counts
        self.settings = dict(SETTINGS)
        self.nodes = Nodes(backing)
        self._listings, self._next_listing = {}, itertools.count(1)

    # ---- What the kernel may do, and what there is ----

    def init(self, node, body):
        _, minor, readahead, offered = INIT_IN.unpack_from(body)
        options = self.options
        if offered & Init.INIT_EXT:
            offered |= int.from_bytes(body[16:20], sys.byteorder) << 32
        wanted = Init.BIG_WRITES | Init.PARALLEL_DIROPS | Init.MAX_PAGES | Init.INIT_EXT | Init.ASYNC_DIO
        for option, flag in [
            ("async_read", Init.ASYNC_READ),
            ("auto_inval", Init.AUTO_INVAL_DATA),
            ("writeback", Init.WRITEBACK_CACHE),
            ("direct_io_mmap", Init.DIRECT_IO_ALLOW_MMAP),
        ]:
            wanted |= flag if options[option] else 0
        flags = int(wanted) & offered
        background, pages = options["max_background"], options["max_pages"]
        return INIT_OUT.pack(
            MAJOR,
            min(minor, MINOR),
            min(readahead, options["max_readahead"]),
            flags & 0xFFFFFFFF,
            background,
            max(1, background * 3 // 4),
            pages * PAGE,
            1,
            pages,
            0,
            flags >> 32,
        )

    def statfs(self, node, body):
        found = os.statvfs(self.nodes.fd(ROOT))
        return STATFS_OUT.pack(
            found.f_blocks,
            found.f_bfree,
            found.f_bavail,
            found.f_files,
            found.f_ffree,
            found.f_bsize,
            found.f_namemax,
            found.f_frsize,
        )

    def destroy(self, node, body):
        return b""

    def interrupt(self, node, body):
        return NO_ANSWER

    # ---- Names ----

    def lookup(self, node, body):
        return self._entry(node, *_names(body))

    def forget(self, node, body):
        self.nodes.forget(node, *FORGET_IN.unpack_from(body))
        return NO_ANSWER

    def batch_forget(self, node, body):
        (count,) = BATCH_FORGET_IN.unpack_from(body)
        for one in range(count):
            self.nodes.forget(*FORGET_ONE.unpack_from(body, BATCH_FORGET_IN.size + one * FORGET_ONE.size))
        return NO_ANSWER

    def mkdir(self, node, body):
        mode, umask = MKDIR_IN.unpack_from(body)
        (name,) = _names(body[MKDIR_IN.size :])
        os.mkdir(name, mode & ~umask, dir_fd=self.nodes.fd(node))
        return self._entry(node, name)

    def unlink(self, node, body):
        os.unlink(*_names(body), dir_fd=self.nodes.fd(node))
        return b""

    def rmdir(self, node, body):
        os.rmdir(*_names(body), dir_fd=self.nodes.fd(node))
        return b""

    def rename(self, node, body):
        (folder,) = RENAME_IN.unpack_from(body)
        old, new = _names(body[RENAME_IN.size :])
        os.rename(old, new, src_dir_fd=self.nodes.fd(node), dst_dir_fd=self.nodes.fd(folder))
        return b""

    def link(self, node, body):
        (file,) = LINK_IN.unpack_from(body)
        (name,) = _names(body[LINK_IN.size :])
        os.link(self.nodes.path(file), name, dst_dir_fd=self.nodes.fd(node), follow_symlinks=True)
        return self._entry(node, name)

    def opendir(self, node, body):
        folder = os.open(self.nodes.path(node), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            with os.scandir(folder) as entries:
                found = [
                    (e.inode(), os.fsencode(e.name), stat.S_IFMT(e.stat(follow_symlinks=False).st_mode) >> 12)
                    for e in entries
                ]
        finally:
            os.close(folder)
        number = next(self._next_listing)
        self._listings[number] = found
        return OPEN_OUT.pack(number, 0)

    def readdir(self, node, body):
        number, first, size, *_ = READ_IN.unpack_from(body)
        listing = b""
        for place, (inode, name, kind) in enumerate(self._listings[number][first:], first + 1):
            entry = DIRENT.pack(inode, place, len(name), kind) + name
            entry += bytes(-len(entry) % 8)
            if len(listing) + len(entry) > size:
                break
            listing += entry
        return listing

    def releasedir(self, node, body):
        number, *_ = RELEASE_IN.unpack_from(body)
        del self._listings[number]
        return b""

    def fsyncdir(self, node, body):
        folder = os.open(self.nodes.path(node), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
        return b""

    # ---- Sizes and times ----

    def getattr(self, node, body):
        return self._attributes(os.fstat(self.nodes.fd(node)))

    def setattr(self, node, body):
        valid, fh, size, _, atime, mtime, _, atime_ns, mtime_ns, _, mode, uid, gid = SETATTR_IN.unpack_from(body)
        path = self.nodes.path(node)
        if valid & Change.MODE:
            os.chmod(path, stat.S_IMODE(mode))
        if valid & (Change.UID | Change.GID):
            os.chown(path, uid if valid & Change.UID else -1, gid if valid & Change.GID else -1)
        if valid & Change.SIZE:
            os.truncate(fh if valid & Change.FH else path, size)
        if valid & (Change.ATIME | Change.MTIME):
            old, now = os.fstat(self.nodes.fd(node)), time.time_ns()
            given = now if valid & Change.ATIME_NOW else atime * NS + atime_ns
            first = given if valid & Change.ATIME else old.st_atime_ns
            given = now if valid & Change.MTIME_NOW else mtime * NS + mtime_ns
            os.utime(path, ns=(first, given if valid & Change.MTIME else old.st_mtime_ns))
        return self._attributes(os.fstat(self.nodes.fd(node)))

    # ---- Bytes ----

    def open(self, node, body):
        flags, _ = OPEN_IN.unpack_from(body)
        return OPEN_OUT.pack(os.open(self.nodes.path(node), self._flags(flags)), self._open_flags())

    def create(self, node, body):
        flags, mode, umask, _ = CREATE_IN.unpack_from(body)
        (name,) = _names(body[CREATE_IN.size :])
        fh = os.open(name, self._flags(flags) | os.O_CREAT, mode & ~umask, dir_fd=self.nodes.fd(node))
        return self._entry(node, name) + OPEN_OUT.pack(fh, self._open_flags())

    def read(self, node, body):
        fh, offset, size, *_ = READ_IN.unpack_from(body)
        with self.counts.read(offset, size):
            # What a network takes, whatever the answer.
            time.sleep(self.settings["delay_s"])
            bad = self.settings["bad"]
            if bad and offset < bad[1] and bad[0] < offset + size:
                raise OSError(self.settings["read_errno"], "as was ordered")
            return os.pread(fh, size, offset)

    def write(self, node, body):
        fh, offset, size, *_ = WRITE_IN.unpack_from(body)
        if self.settings["write_errno"]:
            raise OSError(self.settings["write_errno"], "as was ordered")
        return WRITE_OUT.pack(os.pwrite(fh, body[WRITE_IN.size : WRITE_IN.size + size], offset))

    def flush(self, node, body):
        return b""

    def fsync(self, node, body):
        fh, data_only = FSYNC_IN.unpack_from(body)
        (os.fdatasync if data_only & 1 else os.fsync)(fh)
        return b""

    def release(self, node, body):
        fh, *_ = RELEASE_IN.unpack_from(body)
        os.close(fh)
        return b""

    # ---- Parts of answers ----

    def _flags(self, flags):
        flags &= ~(os.O_NOFOLLOW | os.O_DIRECT | os.O_CREAT | os.O_EXCL | os.O_NOCTTY)
        if self.options["writeback"]:
            # The kernel reads what is around a write, and knows the end itself.
            flags &= ~os.O_APPEND
            if flags & os.O_ACCMODE == os.O_WRONLY:
                flags = flags & ~os.O_ACCMODE | os.O_RDWR
        return flags | os.O_CLOEXEC

    def _open_flags(self):
        keep, direct = self.options["keep_cache"], self.options["direct_io"]
        return (Open.KEEP_CACHE if keep else 0) | (Open.DIRECT_IO if direct else 0)

    def _valid(self):
        seconds, rest = divmod(round(self.options["valid_s"] * NS), NS)
        return seconds, rest

    def _entry(self, folder, name):
        node, found = self.nodes.look_up(folder, name)
        seconds, rest = self._valid()
        return ENTRY_OUT.pack(node, 0, seconds, seconds, rest, rest) + _packed(found)

    def _attributes(self, found):
        return ATTR_OUT.pack(*self._valid(), 0) + _packed(found)


def _names(body):
    """The names that a request ends with, each with a zero byte behind it."""
    return bytes(body).rstrip(b"\0").split(b"\0")


def _packed(found):
    times = found.st_atime_ns, found.st_mtime_ns, found.st_ctime_ns
    return ATTR.pack(
        found.st_ino,
        found.st_size,
        found.st_blocks,
        *(t // NS for t in times),
        *(t % NS for t in times),
        found.st_mode,
        found.st_nlink,
        found.st_uid,
        found.st_gid,
        found.st_rdev,
        found.st_blksize,
        0,
    )


class Server:
    """Threads that take requests from the kernel until there is no mount any more."""

    def __init__(self, device, folder, counts):
        self._device, self._folder, self._counts = device, folder, counts
        threads = folder.options["threads"]
        self._threads = [threading.Thread(target=self._serve, daemon=True) for _ in range(threads)]
        for thread in self._threads:
            thread.start()

    def join(self):
        for thread in self._threads:
            thread.join()

    def _serve(self):
        buffer = bytearray(self._folder.options["max_pages"] * PAGE + PAGE)
        while True:
            try:
                nbytes = os.readv(self._device, [buffer])
            except OSError as error:
                if error.errno == errno.ENODEV:  # unmounted
                    return
                if error.errno in (errno.ENOENT, errno.EINTR, errno.EAGAIN):  # whoever asked is gone
                    continue
                raise
            self._answer(memoryview(buffer)[:nbytes])

    def _answer(self, request):
        _, code, unique, node, *_ = IN_HEADER.unpack_from(request)
        error, body = self._act(code, node, request[IN_HEADER.size :])
        if body is NO_ANSWER:
            return
        header = OUT_HEADER.pack(OUT_HEADER.size + len(body), -error, unique)
        try:
            os.writev(self._device, [header, body])
        except OSError as failed:
            if failed.errno not in (errno.ENOENT, errno.ENODEV):  # nobody waits any more
                raise

    def _act(self, code, node, body):
        """Do what is asked; gives an error's number or 0, and the body of the answer."""
        if code not in KNOWN:
            return errno.ENOSYS, b""  # the kernel does without, and does not ask again
        self._counts.note(KNOWN[code])
        try:
            return 0, getattr(self._folder, KNOWN[code])(node, body)
        except OSError as error:
            return error.errno, b""
        except Exception:
            traceback.print_exc()
            return errno.EPROTO, b""


def obey(folder, counts, mount):
    """Follow the orders of standard input. Where they end, whoever gave them has ended, in whatever way."""
    for line in sys.stdin:
        order, *values = json.loads(line)
        if order == "set":
            folder.settings.update(*values)
        elif order == "reset":
            counts.reset()
        print(json.dumps(counts.tell()), flush=True)
    detach(mount)
    os._exit(0)


def main(mount, backing, options):
    counts = Counts()
    folder = Folder(backing, {**OPTIONS, **json.loads(options)}, counts)
    try:
        device = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
        attach(mount, device)
    except OSError as error:
        print(json.dumps({"refused": str(error)}), flush=True)
        return
    print(json.dumps({"mounted": mount}), flush=True)
    server = Server(device, folder, counts)
    threading.Thread(target=obey, args=(folder, counts, mount), daemon=True).start()
    server.join()
    os._exit(0)  # the thread that waits for orders cannot be told


if __name__ == "__main__":
    main(*sys.argv[1:])
