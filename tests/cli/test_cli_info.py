"""`ndfile info`: what it says, and that it reads headers alone."""

import json
import os
import subprocess
import sys
import textwrap

import numpy as np
import pytest
from command_line import golden

import ndfile as nf

PAGE = os.sysconf("SC_PAGESIZE")
MAGIC = b"NDFJRNL1"


def leave_pending(path):
    """Bring a file to where a block that changes it is complete in its journal, and nowhere else."""
    with open(path, "rb") as file:
        before = file.read()
    array = nf.open(path, "r+")
    with array.atomic():
        array[...] = 7
    with open(f"{path}.ndfile-journal", "rb") as file:
        journal = file.read()
    array.close()
    for name, content in ((path, before), (f"{path}.ndfile-journal", MAGIC + journal[8:])):
        with open(os.open(name, os.O_WRONLY | os.O_CREAT), "wb") as file:
            file.write(content)


def stable(text):
    """Without the lines that depend on the file system and on memory."""
    return "".join(line for line in text.splitlines(True) if not line.startswith(("on disk", "in memory")))


def test_a_recording(recording, fine):
    golden("info_recording", stable(fine("info", recording)))


def test_structured_items(events, fine):
    golden("info_events", stable(fine("info", events)))


def test_an_archive(weights, fine):
    golden("info_weights", stable(fine("info", weights)))


def test_a_member_of_an_archive(weights, fine):
    golden("info_member", stable(fine("info", weights, "--key", "encoder/kernel")))


def test_members_that_cannot_be_mapped(fine):
    np.savez_compressed("packed.npz", x=np.arange(1000), y=np.eye(3))
    golden("info_packed", fine("info", "packed.npz").split("\n\n")[1])


def test_raw_bytes_by_what_is_said_of_them(samples, fine):
    words = ["--dtype", ">i2", "--shape", "300,4", "--order", "F"]
    golden("info_samples", stable(fine("info", samples, *words)))


@pytest.mark.parametrize("name", ["recording", "weights", "events"])
def test_json_is_what_the_library_says_and_what_the_disk_has(name, request, document):
    path = request.getfixturevalue(name)
    found = document("info", path)
    status = os.stat(path)
    assert found["disk_nbytes"] == status.st_blocks * 512
    assert found["size"] == status.st_size
    assert found["resident_share"] == 1.0
    assert (found["holes"], found["hole_nbytes"], found["journal"], found["lock"]) == (0, 0, None, None)
    about = json.loads(json.dumps(nf.info(path).to_dict()))
    members = found.pop("members")
    for key, member in about.pop("members").items():
        assert members[key].pop("alignment") in (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, PAGE)
        assert members[key] == member
    assert {key: found[key] for key in about} == about


@pytest.mark.parametrize(
    ("offset", "alignment", "said"),
    [
        (0, PAGE, f"aligned to pages of {PAGE:,} bytes"),
        (16 * PAGE, PAGE, f"aligned to pages of {PAGE:,} bytes"),
        (192, 64, "aligned to 64 bytes"),
        (6, 2, "aligned to 2 bytes"),
        (7, 1, "not aligned"),
    ],
)
def test_alignment_is_the_largest_power_of_two_up_to_a_page(offset, alignment, said, fine, document):
    with open("x.dat", "wb") as file:
        file.write(bytes(offset + 100))
    words = ["info", "x.dat", "--dtype", "u1", "--offset", offset]
    assert document(*words)["members"]["data"]["alignment"] == alignment
    assert said in fine(*words)


def test_holes_are_counted_and_a_file_of_100_gib_is_not_read(fine, document):
    with nf.create("sparse.npy", (100, 1 << 27), "f8", sparse=True) as array:
        array[50, :1000] = 1
    found = document("info", "sparse.npy")
    assert found["size"] == (100 << 30) + 128
    assert found["holes"] == 2
    assert found["hole_nbytes"] > (100 << 30) - (1 << 20)
    assert found["disk_nbytes"] < 1 << 20
    assert found["resident_nbytes"] < 64 << 20
    assert "2 holes of 100 GiB" in fine("info", "sparse.npy")


def test_space_that_is_reserved_is_no_hole(fine):
    nf.create("reserved.npy", (1 << 20,), "f8").close()
    text = fine("info", "reserved.npy")
    assert "holes" not in text
    assert "of it reserved and not written yet" in text


def test_no_data_is_read(document):
    np.save("x.npy", np.ones(4 << 20))
    fd = os.open("x.npy", os.O_RDONLY)
    os.fsync(fd)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(fd)
    if nf.open("x.npy").residency(1).share > 0.5:
        pytest.skip("the file system keeps all in memory")
    # The header is, and what the kernel reads ahead behind it.
    assert document("info", "x.npy")["resident_share"] < 0.5
    assert document("info", "x.npy")["resident_share"] < 0.5


@pytest.mark.parametrize("lock", ["shared", "exclusive"])
def test_a_lock_and_its_holder_are_told(lock, recording, fine, document):
    program = """
    import sys, ndfile as nf
    a = nf.memmap(sys.argv[1], mode="r+", lock=sys.argv[2])
    print("locked", flush=True)
    sys.stdin.read()
    """
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program), recording, lock], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout.readline() == b"locked\n"
        assert f"{lock}, held by process {other.pid} (" in fine("info", recording)
        assert document("info", recording)["lock"] == lock
        other.stdin.close()
        other.wait()
    assert document("info", recording)["lock"] is None


def test_a_commit_that_was_interrupted_is_told_and_recovered(fine, document, ndfile):
    np.save("x.npy", np.arange(1000))
    leave_pending("x.npy")
    assert document("info", "x.npy")["journal"] == "interrupted"
    text = fine("info", "x.npy")
    assert "a commit was interrupted; ndfile recover FILE completes it" in text
    assert text.count("commit") == 1
    refused = ndfile("head", "x.npy")
    assert refused.code == 1
    assert "Run ndfile recover FILE" in refused.err
    assert fine("recover", "x.npy") == "x.npy: the commit is complete now\n"
    assert (np.load("x.npy") == 7).all()
    assert document("info", "x.npy")["journal"] is None
    assert document("recover", "x.npy")["answer"] is None


def test_the_journal_of_another_file_is_told_and_what_to_do_about_it(document, ndfile, fine):
    for name in ("x.npy", "y.npy"):
        np.save(name, np.arange(1000))
    leave_pending("x.npy")
    os.rename("x.npy.ndfile-journal", "y.npy.ndfile-journal")
    assert document("info", "y.npy")["journal"] == "of another file"
    assert "run ndfile recover --copied FILE; if the file is a new one, run ndfile recover --replaced FILE" in (
        ndfile("recover", "y.npy").err
    )
    assert "was discarded" in fine("recover", "y.npy", "--replaced")
    np.testing.assert_array_equal(np.load("y.npy"), np.arange(1000))


def test_an_empty_array_has_no_pages_to_speak_of(fine, document):
    np.save("x.npy", np.zeros((0, 3)))
    assert "(0, 3), 0 items" in fine("info", "x.npy")
    assert document("info", "x.npy")["members"]["data"]["nbytes"] == 0
