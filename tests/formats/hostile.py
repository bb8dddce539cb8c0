"""How a hostile file is tried: described and opened in every mode; and what may come of it."""

import json
import os
import time
import traceback
import tracemalloc
from typing import Any, NamedTuple

import ndfile as nf

MODES = ("r", "r+", "c")

# What refusing a file may take: seconds of a processor, of which slow and shared machines take several times as many.
# What this is to find, work that grows with what a file claims, takes minutes.
MOST_SECONDS = 0.25
MOST_NBYTES = 16 << 20

# What a file may come to. Where it has an array that cannot be mapped, `info` describes that.
REFUSED, OBSTACLE, MAPPED = "refused", "obstacle", "mapped"
ANY = "any"  # one of them, as long as what is mapped lies inside the file

LONGEST_MESSAGE = 1000
EDGE_NBYTES = 1 << 20

# Files of each format that are refused.
ENOUGH = 300


class Case(NamedTuple):
    """A file that lies.

    Attributes
    ----------
    name : str
    content : bytes
    outcome : {'refused', 'obstacle', 'mapped', 'any'}
        What must come of it.
    beside : dict of str to bytes
        Other files: what is added to the path, and the content.
    size : int
        What the file is made long, with a hole at its end; 0 for the length of the content.
    arguments : dict
        What `ndfile.open` and `ndfile.info` are told.
    is_long : bool
        Whether time and memory go with its length, which is what it is about, so that they have no limit.
    """

    name: str
    content: bytes
    outcome: str = REFUSED
    beside: dict[str, bytes] = {}
    size: int = 0
    arguments: dict[str, Any] = {}
    is_long: bool = False

    def write(self, path):
        """Make the file, and those beside it."""
        with open(path, "wb") as file:
            file.write(self.content)
            if self.size:
                file.truncate(self.size)
        for suffix, content in self.beside.items():
            with open(path + suffix, "wb") as file:
                file.write(content)


def cuts(content, outcome=REFUSED, step=1, name="cut", stop=None):
    """A file cut to every length."""
    for length in range(0, len(content) if stop is None else stop, step):
        yield Case(f"{name}-to-{length}", content[:length], outcome)


def changes(content, offsets, values=(0x00, 0x7F, 0x80, 0xFF), outcome=ANY, name="byte"):
    """A file with one byte changed, for each of some."""
    for offset in offsets:
        for value in values:
            if content[offset] != value:
                yield Case(
                    f"{name}-{offset}-is-{value}", content[:offset] + bytes([value]) + content[offset + 1 :], outcome
                )


def check_all(cases, folder, name):
    """Prove `check` of many cases, and say which of them fail."""
    failed = []
    for number, case in enumerate(cases):
        inside = os.path.join(folder, str(number))
        os.mkdir(inside)
        try:
            check(case, os.path.join(inside, name))
        except Exception as error:
            failed.append((case.name, error))
    for name, error in failed:
        print(f"{name}: {''.join(traceback.format_exception(error, chain=False)[-5:])}")  # noqa: T201  # pytest shows it
    assert not failed, [name for name, _ in failed]


def check(case, path):
    """Prove that a file comes to what it should in every mode, and that it costs nothing and changes nothing."""
    case.write(path)
    before, descriptors = _state(path), _count_descriptors()
    described = info(path, **case.arguments)
    outcomes = {mode: opened(path, mode, **case.arguments) for mode in MODES}
    assert _state(path) == before
    assert _count_descriptors() == descriptors
    assert outcomes["c"] == outcomes["r"]
    assert outcomes["r+"] in (outcomes["r"], REFUSED)
    if case.outcome != ANY:
        assert described == case.outcome
        assert outcomes["r"] in (case.outcome, REFUSED if case.outcome == OBSTACLE else case.outcome)
    if REFUSED in (described, outcomes["r"]) and not case.is_long:
        _check_cost(lambda: info(path, **case.arguments))
        _check_cost(lambda: opened(path, "r", **case.arguments))


def info(path, **arguments):
    """What describing a file comes to."""
    try:
        about = nf.info(path, **arguments)
    except nf.FormatError as error:
        return _refusal(error, path)
    # A dtype is written as NumPy writes it, however many fields it has.
    most = sum(LONGEST_MESSAGE + len(str(member.dtype)) for member in about.members.values())
    assert len(repr(about)) < LONGEST_MESSAGE + most
    json.dumps(about.to_dict())
    for member in about.members.values():
        if member.obstacle is None:
            assert 0 <= member.offset <= member.offset + member.nbytes <= about.size
    return OBSTACLE if any(member.obstacle for member in about.members.values()) else MAPPED


def opened(path, mode, **arguments):
    """What opening a file comes to, and every array in it."""
    try:
        found = nf.open(path, mode, **arguments)
    except nf.FormatError as error:
        return _refusal(error, path)
    with found:
        if not isinstance(found, nf.Archive):
            _touch(found, path)
            return MAPPED
        outcomes = {_member(found, name, path) for name in found}
    return OBSTACLE if REFUSED in outcomes else MAPPED


def _member(archive, name, path):
    try:
        array = archive[name]
    except nf.FormatError as error:
        return _refusal(error, path)
    _touch(array, path)
    return MAPPED


def _touch(array, path):
    assert 0 <= array.offset <= array.offset + array.nbytes <= os.path.getsize(path)
    assert array.dtype.hasobject is False
    if 0 < array.nbytes < EDGE_NBYTES:
        array.tobytes()


def _refusal(error, path):
    assert type(error) is nf.FormatError
    assert os.path.dirname(str(error.path)) == os.path.dirname(path)
    assert error.offset is None or isinstance(error.offset, int)
    assert error.advice.endswith((".", ")"))
    assert len(str(error)) < LONGEST_MESSAGE
    return REFUSED


def _check_cost(act):
    seconds = []
    for _ in range(3):
        start = time.process_time()
        act()
        seconds.append(time.process_time() - start)
        if seconds[-1] < MOST_SECONDS:
            break
    assert min(seconds) < MOST_SECONDS
    tracemalloc.start()
    try:
        act()
        assert tracemalloc.get_traced_memory()[1] < MOST_NBYTES
    finally:
        tracemalloc.stop()


def _state(path):
    """The file and all that stands around it, with their sizes, times and bytes."""
    folder = os.path.dirname(path)
    return {name: _identity(os.path.join(folder, name)) for name in os.listdir(folder)}


def _identity(path):
    status = os.stat(path)
    with open(path, "rb") as file:
        edge = file.read(EDGE_NBYTES)
    return status.st_ino, status.st_size, status.st_blocks, status.st_mtime_ns, status.st_ctime_ns, edge


def _count_descriptors():
    return len(os.listdir("/proc/self/fd"))


# Arguments: a good file, one that no format knows, and the folder of the hostile ones. Prints how much more memory the
# process ever had than before the first of these; by then all formats are imported.
ALL_IN_ONE_PROCESS = """
    import os
    import sys

    import ndfile as nf


    def resident(name):
        with open("/proc/self/status") as status:
            return next(int(line.split()[1]) << 10 for line in status if line.startswith(name))


    def descriptors():
        return len(os.listdir("/proc/self/fd"))


    def tried(path):
        for mode in ("r", "r+", "c"):
            try:
                nf.open(path, mode).close()
            except nf.FormatError:
                pass


    good, unknown, folder = sys.argv[1:]
    nf.open(good).close()
    nf.info(good)
    tried(unknown)
    opened, before = descriptors(), resident("VmRSS")
    with open("/proc/self/clear_refs", "w") as references:
        references.write("5")
    for root, _, names in os.walk(folder):
        for name in names:
            if not name.endswith(".json"):
                tried(os.path.join(root, name))
    assert descriptors() == opened
    print(resident("VmHWM") - before)
"""


def check_together(groups, good, folder, suffix, run_python):
    """Prove that trying all files in one process never needs more memory than refusing one may."""
    os.mkdir(folder)
    for number, case in enumerate(case for group in groups for case in group()):
        if case.outcome in (REFUSED, ANY) and not case.is_long and not case.arguments:
            case.write(os.path.join(folder, f"{number}{suffix}"))
    unknown = f"{folder}-unknown"
    Case("unknown", b"?").write(unknown)
    result = run_python(ALL_IN_ONE_PROCESS, good, unknown, folder)
    assert int(result.stdout) < MOST_NBYTES


def check_count(cases, folder, name):
    """Prove that at least 300 different files are refused, and that each has a name of its own."""
    names, refused = [], set()
    for case in cases:
        names.append(case.name)
        content = (case.content, case.size, *case.beside.items())
        if len(refused) < ENOUGH and case.outcome in (REFUSED, ANY) and content not in refused:
            inside = os.path.join(folder, f"{len(names)}-counted")
            os.mkdir(inside)
            path = os.path.join(inside, name)
            case.write(path)
            if opened(path, "r", **case.arguments) == REFUSED:
                refused.add(content)
    assert len(refused) >= ENOUGH
    assert len(set(names)) == len(names)


def assert_cheap(path, is_right):
    """Prove that opening and describing takes less than 5 ms and 5 MiB, and that it is right."""
    for act in (nf.open, nf.info):
        seconds = []
        for _ in range(20):
            start = time.process_time()
            found = act(path)
            seconds.append(time.process_time() - start)
            if act is nf.open:
                found.close()
        assert min(seconds) < 0.005
        tracemalloc.start()
        try:
            found = act(path)
            if act is nf.open:
                found.close()
            assert tracemalloc.get_traced_memory()[1] < 5 << 20
        finally:
            tracemalloc.stop()
    with nf.open(path) as found:
        assert is_right(found)
    assert os.stat(path).st_blocks < 4096
