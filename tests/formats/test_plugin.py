"""Formats of other packages: the documented example, installed for real, and packages that are broken."""

import os
import re
import subprocess
import sys
import textwrap

import numpy as np
import pytest

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), os.pardir, os.pardir)


def documented(name):
    """The Python file that docs/formats.md shows under this name."""
    with open(os.path.join(ROOT, "docs", "formats.md")) as file:
        return re.search(rf"`{name}`:\n\n```python\n(.*?)```", file.read(), re.DOTALL)[1]


class Environment:
    """A folder on the path of new interpreters, as pip would fill it."""

    def __init__(self, folder):
        self.folder = folder
        self.path = os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH")]))

    def install(self, package, formats, **modules):
        for name, text in modules.items():
            (self.folder / f"{name}.py").write_text(textwrap.dedent(text))
        info = self.folder / f"{package.replace('-', '_')}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
        lines = [f"{name} = {target}" for name, target in formats.items()]
        (info / "entry_points.txt").write_text("\n".join(["[ndfile.formats]", *lines, ""]))

    def run(self, *arguments, check=True):
        environment = os.environ | {"PYTHONPATH": self.path, "PYTHONDONTWRITEBYTECODE": "1"}
        result = subprocess.run(
            [sys.executable, *map(str, arguments)],
            cwd=self.folder,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert not check or result.returncode == 0, f"exit {result.returncode}\n{result.stdout}\n{result.stderr}"
        return result

    def python(self, program, *, warnings="error"):
        start = "import os\nimport numpy as np\nimport ndfile as nf\nfrom ndfile import formats\n"
        return self.run("-W", warnings, "-c", start + textwrap.dedent(program))

    def pytest(self, *arguments):
        return self.run(
            *("-m", "pytest", "-q", "--no-header", "-p", "no:cacheprovider", "--rootdir", self.folder),
            *(f"--basetemp={self.folder / 'pytest'}", "-c", os.devnull, "-W", "error", *arguments),
            check=False,
        )


@pytest.fixture
def environment(tmp_path):
    return Environment(tmp_path)


@pytest.fixture
def toy(environment):
    """An environment with the documented format."""
    environment.install("toy-format", {"toy": "toy_format:Toy"}, toy_format=documented("toy_format.py"))
    return environment


def test_an_installed_format_is_listed_and_had_by_name(toy):
    toy.python(
        """
        assert formats.names()[-1] == "toy"
        assert formats.named("toy").suffixes == (".toy",)
        """
    )


def test_a_file_of_an_installed_format_is_written_and_opened(toy):
    toy.python(
        """
        with nf.create("a.toy", (3, 4), "f4", fill=2) as a:
            a[0] = 1
        values = np.full((3, 4), 2, "f4")
        values[0] = 1
        opened = nf.open("a.toy", "r+")
        assert isinstance(opened, nf.memmap) and opened.offset == 64
        assert np.array_equal(opened, values)
        nf.save("b.toy", opened[::-1])
        assert np.array_equal(nf.open("b.toy"), values[::-1])
        nf.convert("b.toy", "b.npy")
        assert np.array_equal(np.load("b.npy"), values[::-1])
        assert nf.info("b.toy").format == "toy"
        """
    )


def test_it_is_told_by_its_content_and_by_its_suffix(toy):
    toy.python(
        """
        nf.save("a.toy", np.arange(3.0))
        os.rename("a.toy", "a.npy")
        assert nf.info("a.npy").format == "toy"
        with open("a.npy.json", "w") as file:
            file.write("{}")
        assert nf.info("a.npy").format == "toy"
        nf.save("b", np.arange(3.0), format="toy")
        assert np.array_equal(nf.open("b", format="toy"), np.arange(3.0))
        with open("c.toy", "wb") as file:
            file.write(b"no grid at all")
        try:
            nf.open("c.toy")
        except nf.FormatError as error:
            assert "toy grid" in str(error)
        else:
            raise AssertionError
        """
    )


def test_what_it_cannot_hold_is_refused_in_its_own_words(toy):
    toy.python(
        """
        try:
            nf.save("a.toy", np.zeros(3, "S3"))
        except nf.LayoutError as error:
            assert error.problem == "a toy grid cannot hold |S3"
        else:
            raise AssertionError
        assert not os.path.exists("a.toy")
        """
    )


def test_the_documented_format_passes_the_contract(toy):
    (toy.folder / "test_toy.py").write_text(documented("test_toy.py"))
    result = toy.pytest("test_toy.py")
    assert result.returncode == 0, result.stdout
    assert re.search(r"^\d{2,} passed in", result.stdout, re.MULTILINE), result.stdout


# What is wrong with each of these formats, and a test of the contract that says so.
FAULTS = {
    "takes_everything": ("test_other_files_are_not_recognised", "def recognises(self, source):\n    return True"),
    "takes_nothing": ("test_its_files_are_recognised", "def recognises(self, source):\n    return False"),
    "wrong_offset": (
        "test_a_file_is_described_as_it_was_written",
        "def changed(self, one):\n    return one._replace(offset=one.offset - 8)",
    ),
    "wrong_order": (
        "test_a_file_is_described_as_it_was_written",
        "def changed(self, one):\n    return one._replace(order='F')",
    ),
    "wrong_dtype": (
        "test_a_file_is_described_as_it_was_written",
        "def changed(self, one):\n    return one._replace(dtype=one.dtype.newbyteorder())",
    ),
    "odd_metadata": (
        "test_a_file_is_described_as_it_was_written",
        "def changed(self, one):\n    return one._replace(metadata={'x': {1}})",
    ),
    "asks_the_data": (
        "test_the_description_does_not_depend_on_the_data",
        "def describe(self, source):\n    found = super().describe(source)\n"
        "    return found._replace(metadata={'first': source.read(64, 1)[0]})",
    ),
    "reads_the_data": (
        "test_describing_reads_headers_only",
        "def describe(self, source):\n    source.read(0, source.size)\n    return super().describe(source)",
    ),
    "maps_the_data": (
        "test_describing_reads_headers_only",
        "def describe(self, source):\n    np.memmap(source.path, mode='r').max()\n    return super().describe(source)",
    ),
    "goes_by_the_name": (
        "test_describing_reads_the_file_that_was_opened",
        "def describe(self, source):\n    with open(source.path, 'rb') as file:\n        source.head = file.read(64)\n"
        "    return super().describe(source)",
    ),
    "foreign_error": (
        "test_every_truncation_is_refused_or_opened_whole",
        "def describe(self, source):\n    if len(source.head) < 64:\n        raise KeyError('x')\n"
        "    return super().describe(source)",
    ),
    "another_foreign_error": (
        "test_changed_bytes_are_refused_or_opened_within_the_file",
        "def describe(self, source):\n    if any(source.head[40:64]):\n        raise OverflowError('x')\n"
        "    return super().describe(source)",
    ),
    "takes_what_is_there": (
        "test_every_truncation_is_refused_or_opened_whole",
        "def changed(self, one):\n"
        "    return one._replace(shape=one.shape[1:]) if self.size < one.offset + one.nbytes else one",
    ),
    "repairs": (
        "test_every_truncation_is_refused_or_opened_whole",
        "def describe(self, source):\n    if source.size < 64:\n        with open(source.path, 'ab') as file:\n"
        "            file.truncate(64)\n    return super().describe(source)",
    ),
    "leaks": (
        "test_no_descriptor_is_left",
        "def describe(self, source):\n    os.open(source.path, 0)\n    return super().describe(source)",
    ),
    "not_aligned": ("test_a_saved_array_is_read_by_others", "alignment = 128  # of the test"),
    "overlaps": (
        "test_the_plan_is_what_is_written",
        "def plan(self, streams, metadata):\n    found = super().plan(streams, metadata)\n"
        "    return found._replace(parts=(*found.parts, (60, bytes(4))))",
    ),
    "writes_otherwise": (
        "test_the_plan_is_what_is_written",
        "def write(self, fd, streams, metadata):\n    super().write(fd, streams, metadata)\n"
        "    os.write(fd, b'x' * 70)",
    ),
    "takes_any_type": (
        "test_what_it_cannot_hold_is_refused",
        "def plan(self, streams, metadata):\n    found = {k: v if v.dtype in toy_format.CODES else "
        "v._replace(dtype=np.dtype('<f4')) for k, v in streams.items()}\n    return super().plan(found, metadata)",
    ),
    "loses_metadata": ("test_metadata_comes_back", "metadata_nbytes = 100"),
}

FAULTY = """
import os
import numpy as np
import toy_format
from toy_format import Toy

class Base(Toy):
    size = 0

    def describe(self, source):
        self.size = source.size
        found = super().describe(source)
        return found._replace(members={k: self.changed(one) for k, one in found.members.items()})

    def changed(self, one):
        return one
"""

# A format whose values may be inverted in the file, where byte 63 is 1: those are decoded. And what may be wrong there.
INVERTED = """
import os
import numpy as np
from toy_format import Toy

class inverted(Toy):
    name = "inverted"
    suffixes = (".inverted",)

    def recognises(self, source):  # those below have the same content
        return super().recognises(source) and source.path.endswith(self.suffixes)

    def describe(self, source):
        found = super().describe(source)
        if source.size < 64 or source.head[63] != 1:
            return found
        member = found.members["data"]._replace(offset=None, obstacle="its bytes are inverted")
        return found._replace(members={"data": member})

    def decode(self, source, member):
        yield ~np.frombuffer(source.read(64, member.nbytes, member.name), "u1")
"""

DECODING_FAULTS = {
    "no_obstacle": (
        "test_what_cannot_be_mapped_says_why",
        "def describe(self, source):\n    return Toy.describe(self, source)",
    ),
    "obstacle_with_a_stop": (
        "test_what_cannot_be_mapped_says_why",
        "def describe(self, source):\n    found = super().describe(source)\n"
        "    one = found.members['data']\n"
        "    return found._replace(members={'data': one._replace(obstacle=one.obstacle and 'It is inverted.')})",
    ),
    "decodes_other_values": (
        "test_it_decodes_to_the_bytes_of_the_array",
        "def decode(self, source, member):\n    yield np.zeros(member.nbytes, 'u1')",
    ),
    "decodes_too_little": (
        "test_it_is_converted",
        "def decode(self, source, member):\n    yield from [part[:-1] for part in super().decode(source, member)]",
    ),
    "leaks_while_decoding": (
        "test_decoding_leaves_no_descriptor",
        "def decode(self, source, member):\n    os.open(source.path, 0)\n    yield from super().decode(source, member)",
    ),
    "foreign_error_of_a_cut_file": (
        "test_decoding_a_cut_file_raises_nothing_but_format_errors",
        "def decode(self, source, member):\n    np.frombuffer(source.reopen().read()[64:], member.dtype)\n"
        "    yield from super().decode(source, member)",
    ),
    "foreign_error_of_changed_bytes": (
        "test_decoding_changed_bytes_raises_nothing_but_format_errors",
        "def decode(self, source, member):\n    assert not any(source.head[50:63])\n"
        "    yield from super().decode(source, member)",
    ),
}


def subclasses(base, faults):
    """A class for each fault: the program, and the format's name."""
    names = {name: name.replace("_", "-") for name in faults}
    classes = [
        f"class {name}({base}):\n    name = {names[name]!r}\n    suffixes = ('.{names[name]}',)\n"
        + textwrap.indent(body, "    ")
        for name, (_, body) in faults.items()
    ]
    return "\n".join(classes), names


def failed_tests(environment, *arguments):
    result = environment.pytest(*arguments, "--tb=no", "-rf")
    assert result.returncode in (0, 1), result.stdout
    return set(re.findall(r"^FAILED (\w+.py::\w+::\w+)", result.stdout, re.MULTILINE)), result.stdout


def test_a_format_whose_decoding_has_a_fault_does_not_pass(environment):
    classes, names = subclasses("inverted", DECODING_FAULTS)
    formats = {"inverted": "faulty:inverted"} | {names[name]: f"faulty:{name}" for name in DECODING_FAULTS}
    environment.install(
        "faulty-formats", formats, faulty=INVERTED + "\n" + classes, toy_format=documented("toy_format.py")
    )
    tests = """
import faulty
from ndfile.testing import DecodingContract, WritingContract

TestToy.__test__ = False

class TestInverted(TestToy, DecodingContract):
    __test__ = True
    format = faulty.inverted()
    shapes = ((3, 40), (5,))

    def write_packed(self, path, array):
        self.write(path, array)
        with open(path, "rb") as file:
            content = file.read()
        with open(path, "wb") as file:
            file.write(content[:63] + bytes([1]) + bytes(255 - byte for byte in content[64:]))
"""
    tests = documented("test_toy.py") + tests
    more = "".join(f"class Test_{name}(TestInverted):\n    format = faulty.{name}()\n\n" for name in DECODING_FAULTS)
    (environment.folder / "test_inverted.py").write_text(tests)
    (environment.folder / "test_faulty.py").write_text(tests + "\n" + more)
    assert failed_tests(environment, "test_inverted.py")[0] == set()
    chosen = [f"test_faulty.py::Test_{name}::{test}" for name, (test, _) in DECODING_FAULTS.items()]
    failed, output = failed_tests(environment, *chosen)
    assert failed == set(chosen), output


def test_a_format_with_a_fault_does_not_pass(toy):
    classes, names = subclasses("Base", FAULTS)
    toy.install("faulty-formats", {names[name]: f"faulty:{name}" for name in FAULTS}, faulty=FAULTY + classes)
    tests = [
        f"class Test_{name}(TestToy):\n    __test__ = True\n    format = faulty.{name}()\n"
        + ("    alignment = 128\n" if name == "not_aligned" else "")
        for name in FAULTS
    ]
    (toy.folder / "test_faulty.py").write_text(
        "\n".join([documented("test_toy.py"), "import faulty", "TestToy.__test__ = False", *tests])
    )
    chosen = [f"test_faulty.py::Test_{name}::{test}" for name, (test, _) in FAULTS.items()]
    failed, output = failed_tests(toy, *chosen)
    assert failed == set(chosen), output


BROKEN = {
    "missing-module": ("nothing_here:Format", "ModuleNotFoundError"),
    "missing-class": ("toy_format:Missing", "AttributeError"),
    "raising-module": ("raising:Broken", "ZeroDivisionError"),
    "no-format": ("broken:NoFormat", "TypeError"),
    "other-name": ("broken:OtherName", "TypeError"),
    "no-name": ("broken:NoName", "TypeError"),
    "an-instance": ("broken:instance", "TypeError"),
    "odd-suffixes": ("broken:OddSuffixes", "TypeError"),
    "raising-class": ("broken:Raising", "ZeroDivisionError"),
}


@pytest.fixture
def broken(environment):
    environment.install(
        "broken-formats",
        {name: target for name, (target, _) in BROKEN.items()},
        raising="1 / 0",
        broken="""
        from ndfile.formats import Format

        class NoFormat:
            name = "no-format"

        class OtherName(Format):
            name = "another"

        class NoName(Format):
            pass

        class OddSuffixes(Format):
            name = "odd-suffixes"
            suffixes = [".odd"]

        class Raising(Format):
            name = "raising-class"

            def __init__(self):
                1 / 0

        instance = OtherName()
        """,
    )
    environment.install("toy-format", {"toy": "toy_format:Toy"}, toy_format=documented("toy_format.py"))
    return environment


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_package_is_named_where_its_format_is_asked_for(broken, name):
    broken.python(
        f"""
        np.save("a.npy", np.arange(3))
        for _ in range(2):
            try:
                nf.open("a.npy", format={name!r})
            except nf.LayoutError as error:
                assert {BROKEN[name][1]!r} in str(error), error
                assert {name!r} in str(error) and "broken-formats" in str(error), error
            else:
                raise AssertionError
        """
    )


def test_broken_packages_do_not_concern_files_of_built_in_formats(broken):
    broken.python(
        """
        nf.save("a.npy", np.arange(3))
        nf.save("a.npz", {"x": np.arange(3)})
        nf.save("a.safetensors", {"x": np.arange(3)})
        nf.save("a.bin", np.arange(3))
        for name in ("a.npy", "a.bin"):
            assert np.array_equal(nf.open(name), np.arange(3))
        assert len(nf.open("a.npz")) == len(nf.open("a.safetensors")) == 1
        assert nf.open("a.npy", "r+").mode == "r+"
        """
    )


def test_broken_packages_do_not_keep_files_of_others_from_opening(broken):
    result = broken.python(
        """
        nf.save("a.toy", np.arange(3.0))
        assert np.array_equal(nf.open("a.toy"), np.arange(3.0))
        np.arange(3, dtype="i4").tofile("plain")
        assert np.array_equal(nf.open("plain", dtype="i4"), np.arange(3))
        for opening in (lambda: nf.open("plain"), lambda: nf.save("a.unknown", np.arange(3))):
            try:
                opening()
            except (nf.FormatError, nf.LayoutError) as error:
                print(error)
            else:
                raise AssertionError
        """,
        warnings="always",
    )
    for name in BROKEN:
        assert f"format '{name}' of broken-formats" in result.stderr
    assert "neither its content nor its name tells a format" in result.stdout
    assert "names no format" in result.stdout


def test_a_format_that_fails_to_recognise_is_left_out(environment):
    environment.install(
        "failing-format",
        {"failing": "failing:Failing"},
        failing="""
        from ndfile.formats import Format

        class Failing(Format):
            name = "failing"

            def recognises(self, source):
                return source.head[9999] == 0
        """,
    )
    result = environment.python(
        """
        np.arange(3, dtype="i4").tofile("plain")
        assert np.array_equal(nf.open("plain", dtype="i4"), np.arange(3))
        """,
        warnings="always",
    )
    assert "'failing'" in result.stderr
    assert "IndexError" in result.stderr


def test_the_name_of_a_built_in_format_cannot_be_taken(environment):
    environment.install("another-npy", {"npy": "toy_format:Toy"}, toy_format=documented("toy_format.py"))
    environment.python(
        """
        np.save("a.npy", np.arange(3))
        assert np.array_equal(nf.open("a.npy"), np.arange(3))
        assert type(formats.named("npy")).__module__ == "ndfile.formats.npy"
        assert formats.names().count("npy") == 1
        """
    )


def test_opening_built_in_formats_does_not_look_for_packages(environment):
    environment.install("raising-format", {"raising": "raising:Broken"}, raising="raise SystemExit(3)")
    np.save(environment.folder / "a.npy", np.arange(3))
    environment.python("assert len(nf.open('a.npy')) == 3")
