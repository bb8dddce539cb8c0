"""One file that notes all that is done to it, in order: the program behind a disk that records.

    python recorder.py FUSE LOG IMAGE

speaks FUSE on the descriptor FUSE, whose root is a regular file with the content of IMAGE, and appends each write and
each flush to the descriptor LOG before it answers: a head of two numbers, offset and length (0 for a flush), then what
was written. It is a process of its own because a thread cannot serve the page faults of its own interpreter.
"""

import errno
import os
import stat
import struct
import sys

MOST_NBYTES = 1 << 20  # of one write

HEAD = struct.Struct("=QQ")

# What the kernel sends and wants, as in linux/fuse.h.
REQUEST = struct.Struct("=IIQQIIIHH")  # length, operation, number, ...
ANSWER = struct.Struct("=IiQ")
GETATTR, SETATTR, OPEN, READ, WRITE, RELEASE, FSYNC, FLUSH, INIT = 3, 4, 14, 15, 16, 18, 20, 25, 26
FORGET, INTERRUPT, BATCH_FORGET = 2, 36, 42  # are not answered
TRANSFER = struct.Struct("=QQI20x")  # of a read or a write: handle, offset, length
DIRECT_IO = 1  # nothing is kept in the page cache, where it could be merged, delayed or lost
MAX_PAGES = 1 << 22


class Recorder:
    def __init__(self, log, image):
        self.log = log
        self.image = bytearray(image)
        self.acts = {
            INIT: self.init,
            GETATTR: self.attributes,
            SETATTR: self.attributes,
            OPEN: lambda _: struct.pack("=QIi", 0, DIRECT_IO, 0),
            READ: self.read,
            WRITE: self.write,
            FSYNC: self.flush,
            FLUSH: lambda _: b"",  # a descriptor was closed
            RELEASE: lambda _: b"",
        }

    def answer(self, request):
        """What to send back; None for nothing."""
        _, operation, number, *_ = REQUEST.unpack_from(request)
        if operation in (FORGET, INTERRUPT, BATCH_FORGET):
            return None
        act = self.acts.get(operation)
        body = b"" if act is None else act(request[REQUEST.size :])
        return ANSWER.pack(ANSWER.size + len(body), 0 if act else -errno.ENOSYS, number) + body

    def init(self, asked):
        major, _, readahead = struct.unpack_from("=III", asked)
        pages = MOST_NBYTES // os.sysconf("SC_PAGESIZE")
        return struct.pack("=IIIIHHIIHH32x", major, 31, readahead, MAX_PAGES, 12, 9, MOST_NBYTES, 1, pages, 0)

    def attributes(self, _):
        valid_s, nbytes = 3600, len(self.image)
        owner = stat.S_IFREG | 0o600, 1, 0, 0, 0, 4096, 0
        return struct.pack("=QII6Q3I7I", valid_s, 0, 0, 1, nbytes, nbytes // 512, 0, 0, 0, 0, 0, 0, *owner)

    def read(self, asked):
        _, offset, nbytes = TRANSFER.unpack_from(asked)
        return self.image[offset : offset + nbytes]

    def write(self, asked):
        _, offset, nbytes = TRANSFER.unpack_from(asked)
        data = asked[TRANSFER.size :]
        assert len(data) == nbytes
        assert offset + nbytes <= len(self.image)
        self.image[offset : offset + nbytes] = data
        self.note(offset, data)
        return struct.pack("=II", nbytes, 0)

    def flush(self, _):
        self.note(0, b"")
        return b""

    def note(self, offset, data):
        record = HEAD.pack(offset, len(data)) + data
        assert os.write(self.log, record) == len(record)


def serve(fuse, recorder):
    while True:
        try:
            answer = recorder.answer(os.read(fuse, MOST_NBYTES + (1 << 16)))
            if answer is not None:
                os.write(fuse, answer)
        except OSError as error:
            if error.errno == errno.ENODEV:  # unmounted
                return
            if error.errno != errno.ENOENT:  # whoever asked was killed, and waits for no answer
                raise


if __name__ == "__main__":
    with open(sys.argv[3], "rb") as file:
        content = file.read()
    serve(int(sys.argv[1]), Recorder(int(sys.argv[2]), content))
