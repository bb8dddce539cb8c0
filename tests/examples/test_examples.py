"""Each program in examples/ is run as its reader would run it, on little input, and what it reports is looked at."""

import os
import re
import subprocess
import sys

import numpy as np
import pytest

import ndfile as nf

ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), os.pardir, os.pardir))
EXAMPLES = os.path.join(ROOT, "examples")
NAMES = sorted(name for name in os.listdir(EXAMPLES) if name.endswith(".py")) if os.path.isdir(EXAMPLES) else []

pytestmark = pytest.mark.skipif(not NAMES, reason="an installed package has no examples")


@pytest.fixture
def run(tmp_path):
    """A function that runs an example and gives what it says; neither here nor for temporary files it may leave any."""
    here, temporary = tmp_path / "here", tmp_path / "temporary"
    here.mkdir()
    temporary.mkdir()

    def run(name, *arguments, status=0):
        command = [sys.executable, os.path.join(EXAMPLES, name), *map(str, arguments)]
        environment = os.environ | {"TMPDIR": str(temporary)}
        # It ends when nobody has its output open any more, so no process is left either.
        done = subprocess.run(
            command, cwd=here, env=environment, capture_output=True, text=True, check=False, timeout=60
        )
        assert (done.returncode, done.stderr) == (status, ""), done.stdout
        assert (os.listdir(here), os.listdir(temporary)) == ([], [])
        return done.stdout

    return run


def numbers(pattern, text):
    """The numbers that a pattern finds, as integers or floats; of one place, and there must be one."""
    (found,) = re.findall(pattern, text)
    return [float(one) if "." in one or "e" in one else int(one.replace(",", "")) for one in np.atleast_1d(found)]


def test_the_demo_ends_with_the_file_unchanged_and_the_flipped_bit_found(run):
    said = run("corpus.py", "--small")
    assert "the file is unchanged" in said
    assert "verify: blocks 0:1 differ" in said


def test_the_language_model_learns_and_goes_on_from_its_checkpoint_as_if_nothing_had_been(run):
    said = run("language_model.py", "--small")
    losses = [float(loss) for loss in re.findall(r"unseen (\d\.\d+)", said)]
    assert len(losses) == 5 + 5 + 3
    assert losses[4] < 3 < losses[0] < np.log(256)
    assert losses[4] == losses[-1]
    assert "The two models are equal, bit by bit." in said


def test_the_language_model_can_be_ended_and_gone_on_with_by_hand(run, tmp_path):
    for folder, stops in ((tmp_path / "a", (4, 8)), (tmp_path / "b", (8,))):
        for steps in stops:
            run("language_model.py", "--small", "--folder", folder, "--steps", steps)
    with nf.open(str(tmp_path / "a" / "checkpoint.npz")) as a, nf.open(str(tmp_path / "b" / "checkpoint.npz")) as b:
        assert a["position"] == b["position"] == 8
        assert a["logits"].any()
        assert all(np.array_equal(a[name], b[name]) for name in ("logits", "squares"))


def test_the_language_models_tokens_are_mapped_up_to_the_ceiling_only(run):
    said = run("language_model.py", "--steps", 60)
    mapped = [float(found) for found in re.findall(r"at most (\S+) MB of the training file", said)]
    (whole,) = numbers(r"Without a ceiling the same batches map (\S+) MB", said)
    assert len(mapped) == 3
    assert 0 < max(mapped) <= 8.4
    assert whole > 2 * max(mapped)


def test_the_viewer_of_a_recording_finds_its_statistics_and_all_its_spikes(run):
    said = run("recording.py", "--small")
    assert numbers(r"Followed (\S+) samples of (\d+) channels", said) == [60_000, 8]
    made, found, missed, false = numbers(r"(\d+) were made, (\d+) of them found, (\d+) missed, (\d+) crossings", said)
    assert (made, missed, false) == (found, 0, 0)
    assert made > 50
    assert max(*numbers(r"nf.describe differ by (\S+) at most", said), *numbers(r"integers by (\S+)\.\n", said)) < 1e-9
    before, after = numbers(r"deviation (\S+) before, (\S+) after", said)
    assert 0.5 * before < after < 0.9 * before
    (events,) = numbers(r"Picked (\d+) events", said)
    assert made - 5 < events <= made
    lowest, spike = numbers(r"lowest value at\n-(\d+), the spike that was put in at -(\d+)", said)
    assert 0.85 * spike < lowest < 1.1 * spike


def test_a_recording_that_is_kept_can_be_looked_at(run, tmp_path):
    folder = tmp_path / "kept"
    run("recording.py", "--small", "--folder", folder)
    with nf.open(str(folder / "recording.npy")) as recording, nf.open(str(folder / "filtered.npy")) as filtered:
        centred = recording - np.mean(recording, axis=0)
        assert np.allclose(filtered, centred - np.median(centred, axis=1, keepdims=True), atol=1e-3)


def test_a_follower_sees_whole_rows_only_while_the_writer_is_killed(run):
    said = run("follow.py", "--small")
    assert numbers(r"The writer was killed (\d+) times", said) == [3]
    begun = [int(row) for row in re.search(r"behind\s+rows ([\d,\s]+)\.", said)[1].split(",")]
    assert len(begun) == 3
    assert begun == sorted(begun)
    assert numbers(r"Reader: (\S+) rows in \d+ looks, (\d+) of them wrong; numpy.load failed (\d+)", said) == [
        10_000,
        0,
        0,
    ]
    assert "At the end the file has 10,000 rows, 0 of them wrong, and no rest." in said


def test_the_commands_of_the_follower_work_one_by_one_and_a_wrong_row_is_reported(run, tmp_path):
    path = tmp_path / "log.npy"
    assert "behind row 0" in run("follow.py", "write", path, "--rows", 50, "--pause", 0)
    assert "behind row 50" in run("follow.py", "write", path, "--rows", 90, "--pause", 0)
    assert run("follow.py", "read", path, "--rows", 90).startswith("reader: 90 rows in 0 looks, 0 of them wrong")
    with nf.open(str(path), mode="r+") as log:
        log[7, 32:] = 0
    assert "1 of them wrong" in run("follow.py", "read", path, "--rows", 90, status=1)
    assert "was not made" in run("follow.py", "read", tmp_path / "none.npy", "--timeout", 0.1, status=1)


def test_a_ledger_that_is_changed_in_atomic_blocks_survives_each_kill_and_the_control_does_not(run):
    said = run("atomic_update.py", "--small")
    kills, changes, broken, lost, completed, discarded, nothing = numbers(r"with atomic\(\)" + r"\s+(\d+)" * 7, said)
    assert (kills, broken, lost) == (30, 0, 0)
    assert changes >= kills
    assert completed + discarded + nothing == kills
    kills, changes, broken, lost, *_ = numbers(r"without \(control\)" + r"\s+(\d+)" * 7, said)
    assert kills == 30
    assert 0 < broken <= 30
    assert changes > 30


def test_a_cluster_computes_and_stores_more_than_its_workers_may_hold(run):
    pytest.importorskip("distributed")
    said = run("cluster.py", "--small")
    (limit,) = numbers(r"2 workers with a limit of (\d+) MB each", said)
    (size,) = numbers(r"float32, (\d+) MB, in", said)
    (most,) = numbers(r"The most memory that a worker had: (\d+) MB", said)
    assert most < limit < size
    assert numbers(r"describes it to the cluster: (\S+) bytes", said)[0] < 5000
    assert "None was ended." in said
    assert "1000 rows of it compared: right." in said
    assert "its deviations 1.0000 to 1.0000" in said


def test_without_dask_the_cluster_says_what_to_install(run_python):
    program = """
        import runpy, sys
        sys.modules["dask"] = None
        sys.argv = sys.argv[1:]
        runpy.run_path(sys.argv[0], run_name="__main__")
    """
    said = run_python(program, os.path.join(EXAMPLES, "cluster.py")).stdout
    assert said.startswith("Skipped: ")
    assert "pip install 'ndfile[dask]'" in said


@pytest.mark.parametrize("name", NAMES)
def test_every_example_explains_itself_and_stands_in_the_lists(run, name):
    said = run(name, "--help")
    assert "--small" in said
    for document in ("examples/README.md", "docs/examples.md"):
        with open(os.path.join(ROOT, document)) as file:
            assert name in file.read(), document
