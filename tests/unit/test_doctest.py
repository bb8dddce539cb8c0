"""The examples in docstrings, in the README and in the documents."""

import builtins
import doctest
import glob
import inspect
import os
import tempfile

import pytest

import ndfile as nf

ROOT = os.path.join(os.path.dirname(__file__), os.pardir, os.pardir)
# Not where the tests run on an installed package alone.
DOCUMENTS = [
    os.path.relpath(path, ROOT)
    for path in [os.path.join(ROOT, "README.md"), *sorted(glob.glob(os.path.join(ROOT, "docs", "*.md")))]
    if os.path.exists(path)
]


def examples():
    finder = doctest.DocTestFinder(exclude_empty=True)
    found = finder.find(nf, "ndfile", globs={})
    for name in nf.__all__:
        thing = getattr(nf, name)
        if inspect.isclass(thing) or inspect.isroutine(thing):
            found += finder.find(thing, f"ndfile.{name}", module=False, globs={})
    for name in nf.dask.__all__:
        found += finder.find(getattr(nf.dask, name), f"ndfile.dask.{name}", module=False, globs={})
    for name in DOCUMENTS:
        path = os.path.join(ROOT, name)
        with open(path) as file:
            found.append(doctest.DocTestParser().get_doctest(file.read(), {"__name__": "__main__"}, name, path, 0))
    return [test for test in found if test.examples]


EXAMPLES = examples()


@pytest.fixture
def own_folder(tmp_path, monkeypatch):
    """Examples write where they like: into relative paths and temporary folders."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


@pytest.mark.usefixtures("own_folder")
@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.name)
def test_examples_print_what_they_show(example):
    result = doctest.DocTestRunner(verbose=False).run(example)
    vars(builtins).pop("_", None)  # the last value shown, left as the interactive interpreter does
    assert result.attempted > 0
    assert result.failed == 0


def test_numpys_whole_documented_example_is_among_them():
    (example,) = (example for example in EXAMPLES if example.name == "ndfile.memmap")
    sources = [step.source for step in example.examples]
    assert len(sources) > 15
    for part in ('mode="w+"', "fp[:] = data", "fp.filename ==", "flags.writeable", 'mode="c"', "offset=16"):
        assert any(part in source for source in sources)


def test_an_example_that_prints_something_else_is_found():
    wrong = doctest.DocTestParser().get_doctest(">>> 1 + 1\n3\n", {}, "wrong", "wrong", 0)
    assert doctest.DocTestRunner(verbose=False).run(wrong, out=[].append).failed == 1
