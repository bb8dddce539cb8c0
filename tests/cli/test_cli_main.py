"""The command line as a whole: its verbs, its exit codes, terminals, pipes, signals and bad input."""

import importlib
import os
import shlex
import signal
import subprocess
import sys

import numpy as np
import pytest
from command_line import LONG_S, NDFILE, environment, in_terminal, piped, read_until, without_style

import ndfile as nf
from ndfile import cli

READING = ("info", "head", "tail", "slice", "stats", "residency", "follow", "verify", "checksum", "bench")


def test_the_help_names_every_verb_and_the_exit_codes(fine):
    text = fine("--help")
    for verb in cli.VERBS:
        command = importlib.import_module(f"ndfile.cli.{verb}")
        assert f"    {command.NAME:<9}" in text
        assert command.HELP in " ".join(text.split())
    assert "Exit codes: 0 fine, 1" in text


@pytest.mark.parametrize("verb", cli.VERBS)
def test_the_help_of_a_verb_has_examples_that_parse(verb, fine, monkeypatch):
    text = fine(verb, "--help")
    assert max(map(len, text.splitlines())) <= 80
    examples = [line.strip() for line in text.split("examples:")[1].splitlines() if line.startswith("  ndfile")]
    assert examples
    for example in examples:
        words = shlex.split(example.split(" > ")[0].split(" | ")[0])[1:]
        assert words[0] == verb
        assert cli.parser().parse_args(cli.protected(words)).verb == verb


@pytest.mark.parametrize("verb", READING)
def test_verbs_that_read_have_json(verb, fine):
    assert "--json" in fine(verb, "--help")


def test_the_version_is_told(fine):
    assert fine("--version") == f"ndfile {nf.__version__}\n"


def test_the_installed_command_and_the_module_are_the_same(recording):
    script = os.path.join(os.path.dirname(sys.executable), "ndfile")
    found = subprocess.run([script, "head", recording, "-n", "1"], capture_output=True, text=True, check=True)
    assert (0, found.stdout, found.stderr) == piped("head", recording, "-n", "1")


def test_help_needs_nothing_but_numpy(run_python):
    run_python(
        """
        import sys
        before = {name.partition(".")[0] for name in sys.modules}
        import numpy
        with_numpy = {name.partition(".")[0] for name in sys.modules}
        import ndfile.cli
        assert ndfile.cli.main(["--help"]) == 0
        found = {name.partition(".")[0] for name in sys.modules} - with_numpy - sys.stdlib_module_names
        assert found == {"ndfile"}, found
        unwanted = ("ndfile.compute", "ndfile.formats.npy", "ndfile.interop")
        assert not any(name.startswith(unwanted) for name in sys.modules)
        """
    )


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["inof", "x.npy"],
        ["info"],
        ["head", "x.npy", "-n", "-1"],
        ["head", "x.npy", "-n", "many"],
        ["info", "x", "-q"],
    ]
    + [["slice", "x.npy", index] for index in ("", "1;2", "a", "1:2:3:4", "::0", "...,...", "1.5", "__import__('os')")]
    + [["slice", "x.npy", "9" * 30], ["head", "x", "--csv", "--json"], ["head", "x", "--order", "K"]]
    + [["head", "x", option, "?"] for option in ("--shape", "--offset")]
    + [["head", "x", "--dtype", text] for text in ("flaot32", "M8[0ns]", "[('a', open('x'))]", "[('a', 'i4'")]
    + [["stats", "x", "--percentiles", text] for text in ("101", "-1", "x")]
    + [["stats", "x", "--bins", text] for text in ("0", "x", "1000000")]
    + [["prefetch", "x", "--rows", text] for text in ("...", "1,2", "x")],
    ids=" ".join,
)
def test_misuse_is_2_with_the_usage_on_standard_error(words, ndfile):
    code, out, err = ndfile(*words)
    assert (code, out) == (2, "")
    assert err.startswith("usage: ndfile")
    assert "error:" in err


def broken(path):
    np.save(path, np.arange(1000))
    os.truncate(path, 4000)


@pytest.mark.parametrize(
    "verb",
    ["info", "head", "tail", "stats", "residency", "prefetch", "release", "follow", "recover", "checksum", "bench"],
)
@pytest.mark.parametrize("kind", ["missing", "folder", "pipe", "broken", "unknown"])
def test_a_file_that_cannot_be_used_is_1_and_one_line_that_names_it(verb, kind, ndfile):
    name = f"{kind}.npy"
    makers = {
        "folder": os.mkdir,
        "pipe": os.mkfifo,
        "broken": broken,
        "unknown": lambda _: None,
        "missing": lambda _: None,
    }
    makers[kind](name)
    if kind == "unknown":
        name = "unknown.bin"
        with open(name, "wb") as file:
            file.write(bytes(range(256)))
    code, out, err = ndfile(verb, name)
    if (verb in ("recover", "checksum") and kind in ("broken", "unknown")) or (verb, kind) == ("recover", "pipe"):
        assert code == 0  # these have nothing to do with formats
        return
    assert (code, out) == (1, "")
    assert err.count("\n") == 1
    assert name in err
    assert err.startswith(f"ndfile {verb}: ")


@pytest.mark.parametrize("verb", ["head", "stats", "follow", "bench"])
@pytest.mark.parametrize(("key", "said"), [(None, "Pass --key, such as"), ("encoder/kernal", "'encoder/kernel'")])
def test_a_member_that_is_not_clear_is_asked_for_by_the_option(verb, key, said, weights, ndfile):
    code, out, err = ndfile(verb, weights, *([] if key is None else ["--key", key]))
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert said in err


def test_advice_is_given_in_words_of_the_command_line(samples, ndfile):
    assert "Pass --dtype (and --shape, --order, --offset) to map" in ndfile("info", samples).err
    np.savez_compressed("packed.npz", x=np.zeros(3))
    assert "ndfile convert SOURCE DESTINATION" in ndfile("head", "packed.npz", "--key", "x").err


def test_what_looks_like_advice_in_a_path_stays_as_it_is(ndfile):
    os.mkdir("key=5")
    assert "'key=5/shape=.npy'" in ndfile("info", "key=5/shape=.npy").err


def test_names_from_a_file_cannot_command_the_terminal(ndfile):
    np.savez("x.npz", **{"a\x1b[2Jb\n": np.zeros(3), "c\x9bd": np.zeros(3)})
    for words in (["info"], ["residency"], ["head"], ["head", "--key", "\x1b[2J"]):
        code, out, err = ndfile(words[0], "x.npz", *words[1:])
        assert "\x1b" not in out + err
        assert "\x9b" not in out + err
        assert "\\x1b[2J" in out + err, code


def test_characters_that_the_encoding_has_not_got_are_escaped(fine):
    np.savez("x.npz", größe=np.zeros(3))
    assert "größe" in fine("info", "x.npz")
    assert "gr\\xf6\\xdfe" in fine("info", "x.npz", encoding="ascii")


# Pipes


def test_a_pipe_that_was_closed_ends_it_quietly(folder):
    np.save("long.npy", np.arange(3_000_000))
    command = f"{' '.join(NDFILE)} slice long.npy : --csv | head -1; echo ${{PIPESTATUS[0]}}"
    found = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True, timeout=LONG_S)
    assert (found.stdout, found.stderr) == ("0\n141\n", "")


@pytest.mark.parametrize("redirection", [">&-", ">&- 2>&-"])
def test_without_an_output_it_still_ends_well(redirection, recording):
    found = subprocess.run(
        ["bash", "-c", f"{' '.join(NDFILE)} info {recording} {redirection}"], capture_output=True, check=False
    )
    assert (found.returncode, found.stdout, found.stderr) == (0, b"", b"")


@pytest.mark.parametrize("words", [["--help"], ["head", "recording.npy"], ["info", "recording.npy", "--json"]])
@pytest.mark.usefixtures("recording")
def test_a_reader_that_is_gone_before_the_first_line_is_no_error(words):
    read, write = os.pipe()
    os.close(read)
    with open(write, "wb") as closed:
        found = subprocess.run([*NDFILE, *words], stdout=closed, stderr=subprocess.PIPE, check=False, timeout=LONG_S)
    # Where Python writes at once (PYTHONUNBUFFERED), argparse takes no notice.
    assert found.returncode == 141 or (found.returncode == 0 and words == ["--help"])
    assert found.stderr == b""


def test_an_output_that_takes_nothing_is_an_error_of_one_line(recording):
    command = [*NDFILE, "head", recording]
    with open("/dev/full", "w") as full:
        found = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert (found.returncode, found.stderr) == (1, "ndfile head: No space left on device\n")


# Signals


def test_ctrl_c_is_130_without_a_traceback(folder):
    nf.create("log.npy", (1,), "i4").close()
    with subprocess.Popen(
        [*NDFILE, "follow", "log.npy"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment()
    ) as process:
        assert read_until(process.stdout, "\n") == "0\n"
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=LONG_S)
    assert (process.returncode, err) == (130, b"")


# Terminals


@pytest.mark.parametrize("width", [60, 80, 120])
def test_bars_are_as_wide_as_the_terminal(width, recording):
    code, shown = in_terminal(width, "residency", recording)[:2]
    assert code == 0
    lines = without_style(shown).splitlines()
    assert lines[0] == "recording.npy  int16 (3000, 8)"
    assert lines[2] == f"▕{'█' * (width - 2)}▏"
    assert lines[3] == f"row 0{'3,000 rows':>{width - 5}}"
    _, shown, _ = in_terminal(width, "stats", recording)
    bars = [line for line in without_style(shown).splitlines() if "█" in line]
    assert len(bars) > 5
    assert max(map(len, bars)) in (width - 1, width - 2)


@pytest.mark.parametrize("width", [60, 80])
def test_tables_fit_into_the_terminal_with_whole_names(width):
    np.savez("x.npz", **{f"model.layers.{i}.attention.query.weight": np.zeros((1000, 3), "f4") for i in range(3)})
    _, shown, _ = in_terminal(width, "info", "x.npz")
    table = without_style(shown).splitlines()[-4:]
    assert max(map(len, table)) <= width
    assert [line.split()[0] for line in table[1:]] == [f"model.layers.{i}.attention.query.weight" for i in range(3)]
    assert ("offset" in table[0]) == (width == 80)


def test_colours_are_for_terminals_that_want_them(recording):
    assert in_terminal(80, "info", recording).out.startswith("\x1b[1mrecording.npy\x1b[0m\n")
    plain = in_terminal(80, "info", recording, NO_COLOR="1").out
    assert "\x1b" not in plain
    assert piped("info", recording).out == plain


def test_values_are_as_wide_as_the_terminal(fine):
    np.save("x.npy", np.arange(200))
    for width in (60, 120):
        lines = in_terminal(width, "slice", "x.npy", ":").out.splitlines()
        assert max(map(len, lines)) in range(width - 5, width + 1)


def test_progress_is_shown_on_a_terminal_and_gone_in_the_end(folder):
    np.savez_compressed("x.npz", x=np.zeros(3_000_000))
    read, write = os.pipe()
    with open(read, "rb") as errors, open(write, "wb") as error:
        assert in_terminal(80, "convert", "x.npz", "y.npy", error=error).code == 0
        error.close()
        assert errors.read() == b""  # standard error is no terminal
    shown = in_terminal(80, "convert", "x.npz", "y.npy", "--overwrite", "--progress").out
    assert "convert x.npz" in shown
    assert "%" in shown
    assert shown.splitlines()[-1].rpartition("\r")[2] == "y.npy: npy, 1 array, 22.9 MiB"
    assert in_terminal(80, "stats", "y.npy", "--no-progress").out.count("\r") == 0


def test_progress_needs_no_tqdm(run_python, folder):
    np.save("x.npy", np.zeros(3_000_000))
    found = run_python(
        """
        import sys
        sys.modules["tqdm"] = None
        import ndfile.cli
        assert ndfile.cli.main(["stats", "x.npy", "--progress", "--percentiles", "none"]) == 0
        """
    )
    assert "\ndescribe x.npy:   0%, 0.0 of 22.9 MiB" in found.stderr  # \\r, read as text
    assert found.stderr.endswith("\n\x1b[K")
