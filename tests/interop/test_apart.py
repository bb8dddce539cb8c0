"""The control of `apart`: what goes wrong in the other process goes wrong here."""

import os

import apart
import pytest

PROGRAM = """
import pytest

def test_that_passes(): pass
def test_that_fails(): assert 1 == 2, "so it is"
@pytest.mark.skip(reason="no need")
def test_that_is_skipped(): pass
@pytest.fixture
def what_leaks():
    yield
    raise RuntimeError("so it is")
@pytest.mark.parametrize("x", [1])
def test_that_leaks(x, what_leaks): pass
"""


def test_each_test_has_its_own_outcome(tmp_path):
    (tmp_path / "test_some.py").write_text(PROGRAM)
    outcomes, said = apart.run_file(str(tmp_path / "test_some.py"))
    assert {name: how for name, (how, _) in outcomes.items()} == {
        "test_that_passes": "passed",
        "test_that_fails": "failure",
        "test_that_is_skipped": "skipped",
        "test_that_leaks[1]": "error",
    }, said
    for name in ("test_that_fails", "test_that_leaks[1]"):
        assert "so it is" in outcomes[name][1]


def test_a_process_that_dies_has_no_outcomes_and_says_where(tmp_path):
    (tmp_path / "test_some.py").write_text("import ctypes\ndef test_that_dies(): ctypes.string_at(0)\n")
    outcomes, said = apart.run_file(str(tmp_path / "test_some.py"))
    assert not outcomes
    assert "Segmentation fault" in said


@pytest.mark.parametrize("how", ["failure", "error", None])
def test_what_did_not_pass_there_does_not_pass_here(how, monkeypatch):
    if apart.IS_APART:
        pytest.skip("tests are not apart twice")
    file, _, name = os.environ["PYTEST_CURRENT_TEST"].removesuffix(" (call)").partition("::")
    outcomes = {} if how is None else {name: (how, "so it is")}
    monkeypatch.setitem(apart._outcomes, file, (outcomes, "so it is"))
    with pytest.raises((AssertionError, pytest.fail.Exception), match="so it is"):
        apart.apart(lambda: None)()
