"""Parsers with a planted fault, one for each promise: what watches ours must find every one of them."""

from __future__ import annotations

import json
import os
import signal
import time
from typing import Any

import numpy as np
from targets import MOST_NBYTES, MOST_SECONDS, Files, Target

from ndfile.formats.format import Contents, Member
from ndfile.formats.raw import Raw
from ndfile.formats.safetensors import Safetensors
from ndfile.layout import Layout

__all__ = ["CONTROLS", "FINDINGS"]


class Unpickling(Target):
    """What numpy.load does with an array of objects. Not to be fuzzed: nobody knows what a pickle comes to do."""

    def parse(self, files: Files) -> None:
        np.load(files.path, allow_pickle=True)


class _UncheckedMember(Member):
    def layout(self, source: Any) -> Layout:  # noqa: ARG002  (as the contract has it)
        return Layout(self.dtype, self.shape, self.offset, self.order)


class _UncheckedRaw(Raw):
    def describe(self, source: Any, **hints: Any) -> Any:
        contents = super().describe(source, **hints)
        return contents._replace(members={name: _UncheckedMember(*one) for name, one in contents.members.items()})


class Reaching(Target):
    """Nobody compares the file's size with what the sidecar says."""

    def format(self) -> Any:
        return _UncheckedRaw()


class _TrustingSafetensors(Safetensors):
    def describe(self, source: Any, **_: Any) -> Any:
        start = 8 + int.from_bytes(source.read(0, 8), "little")
        fields = json.loads(source.read(8, start - 8))
        fields.pop("__metadata__", None)
        types = {"F64": "<f8", "F16": "<f2", "I64": "<i8", "BOOL": "?", "U32": "<u4", "C64": "<c8"}
        members = {
            name: Member(name, np.dtype(types[one["dtype"]]), tuple(one["shape"]), start + one["data_offsets"][0])
            for name, one in fields.items()
        }
        return Contents(members, True)


class Raising(Target):
    """A reader that takes a header to be what it should be."""

    def format(self) -> Any:
        return _TrustingSafetensors()


class Slow(Target):
    def parse(self, files: Files) -> None:  # noqa: ARG002  (slow over any)
        until = time.thread_time() + 1.5 * MOST_SECONDS
        while time.thread_time() < until:
            pass


class Hungry(Target):
    def parse(self, files: Files) -> None:  # noqa: ARG002  (hungry over any)
        bytes(MOST_NBYTES + 1)


class Writing(Target):
    def parse(self, files: Files) -> None:
        with open(files.path, "ab") as file:
            file.write(b"1")


class Leaking(Target):
    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.left: list[int] = []

    def parse(self, files: Files) -> None:
        self.left.append(os.open(files.path, os.O_RDONLY))


class Dying(Target):
    """A wrong magic number ends the process. There is no other way to see a fault in C code."""

    def parse(self, files: Files) -> None:
        if os.pread(files.fd, 1, 0) not in (b"", b"\x93"):
            os.kill(os.getpid(), signal.SIGSEGV)


CONTROLS = {
    "unpickling": Unpickling("npy", "x.npy"),
    "reaching": Reaching("raw", "x.bin.json", "x.bin"),
    "raising": Raising("safetensors", "x.safetensors"),
    "slow": Slow("npy", "x.npy"),
    "hungry": Hungry("npy", "x.npy"),
    "writing": Writing("npy", "x.npy"),
    "leaking": Leaking("npy", "x.npy"),
    "dying": Dying("npy", "x.npy"),
}

# What is to be found of each, or a part of it.
FINDINGS = {
    "unpickling": "does pickle.find_class",
    "reaching": "a member reaches out of the file",
    "raising": "KeyError in controls.py",
    "slow": "slow",
    "hungry": "takes much memory",
    "writing": "the file was changed",
    "leaking": "leaves a file open",
    "dying": "crash",
}
