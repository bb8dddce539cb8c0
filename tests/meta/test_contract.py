"""What holds for the package as a whole."""

import importlib.metadata
import inspect
import os
import re

import pytest

import ndfile as nf

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), os.pardir, os.pardir)


def sources(folder, endings):
    """Files of a folder with one of the endings, as meson.build would name them."""
    for where, folders, names in os.walk(os.path.join(ROOT, folder)):
        folders[:] = [name for name in folders if name != "__pycache__"]
        for name in names:
            if name.endswith(endings):
                yield os.path.relpath(os.path.join(where, name), ROOT)


@pytest.fixture(scope="module")
def listed():
    """The files that meson.build names."""
    with open(os.path.join(ROOT, "meson.build")) as file:
        return set(re.findall(r"'(src/[^']+)'", file.read()))


@pytest.mark.parametrize(("folder", "endings"), [("src/ndfile", (".py", ".pyi", "py.typed")), ("src/core", (".c",))])
def test_every_source_is_built_or_installed(listed, folder, endings):
    found = set(sources(folder, endings))
    assert found
    assert found <= listed


def test_every_file_that_is_built_or_installed_exists(listed):
    assert {name for name in listed if not os.path.exists(os.path.join(ROOT, name))} == set()


def test_the_installed_package_has_every_source():
    installed = {file.name for file in importlib.metadata.files("ndfile") or ()}
    assert {os.path.basename(name) for name in sources("src/ndfile", (".py", ".pyi", "py.typed"))} <= installed


def test_the_version_is_the_one_that_was_installed():
    assert nf.__version__ == importlib.metadata.version("ndfile")


def test_the_public_names_are_sorted_and_exist():
    assert nf.__all__ == sorted(nf.__all__)
    assert len(set(nf.__all__)) == len(nf.__all__)
    assert all(hasattr(nf, name) for name in nf.__all__)


def test_nothing_else_of_the_package_is_public_but_its_modules():
    found = {name for name in vars(nf) if not name.startswith("_")}
    assert found - set(nf.__all__) <= {name for name in found if inspect.ismodule(getattr(nf, name))}


@pytest.mark.parametrize("name", nf.__all__)
def test_a_public_name_has_a_docstring_of_its_own(name):
    thing = getattr(nf, name)
    own = vars(thing).get("__doc__") if inspect.isclass(thing) else thing.__doc__
    first = (own or "").strip().splitlines()
    assert first
    assert first[0].endswith(".")


OWN_MEMBERS = [
    (name, member)
    for name in nf.__all__
    if inspect.isclass(getattr(nf, name))
    for cls in getattr(nf, name).__mro__
    if cls.__module__.startswith("ndfile")
    for member in vars(cls)
    if not member.startswith("_")
]
# Built into the interpreter or a few lines long.
LIGHT = {"__future__", "_stat", "errno", "fcntl", "stat"}


@pytest.mark.parametrize(("name", "member"), OWN_MEMBERS)
def test_a_public_method_or_property_has_a_docstring(name, member):
    found = inspect.getattr_static(getattr(nf, name), member)
    if inspect.ismemberdescriptor(found):  # an attribute, which the class describes
        assert re.search(rf"^ *{member} : ", inspect.getdoc(getattr(nf, name)), re.MULTILINE)
    elif callable(found) or inspect.isdatadescriptor(found):
        assert inspect.getdoc(found) or inspect.getdoc(getattr(getattr(nf, name), member))


def test_importing_imports_nothing_that_numpy_does_not(run_python):
    added = run_python(
        """
        import sys, numpy
        before = set(sys.modules)
        import ndfile
        print(*sorted(name for name in set(sys.modules) - before if name.split(".")[0] != "ndfile"))
        """
    ).stdout.split()
    assert set(added) <= LIGHT


def test_importing_starts_no_thread_and_takes_no_signal(run_python):
    run_python(
        """
        import os, signal, sys, threading, numpy

        def state():
            with open("/proc/self/status") as status:
                caught = [line for line in status if line.startswith(("SigCgt", "SigBlk", "SigIgn"))]
            handlers = [signal.getsignal(number) for number in signal.valid_signals()]
            return caught, handlers, len(os.listdir("/proc/self/task")), os.listdir("/proc/self/fd")

        before = state()
        import ndfile
        assert state() == before
        """
    )


def test_importing_maps_nothing_but_its_own_code(run_python):
    mapped = run_python(
        """
        import numpy, fcntl
        def files():
            with open("/proc/self/maps") as maps:
                return {line.split(None, 5)[5].strip() for line in maps if "/" in line}
        before = files()
        import ndfile
        print(*sorted(files() - before))
        """
    ).stdout.split()
    assert [os.path.basename(name).split(".")[0] for name in mapped] == ["_core"]


def test_the_types_of_the_core_name_their_module():
    from ndfile import _core

    assert {thing.__module__ for thing in vars(_core).values() if inspect.isclass(thing)} == {"ndfile._core"}
