"""`ndfile convert`, `checksum` and `verify`."""

import json
import os
import re

import numpy as np
import pytest
from command_line import golden

import ndfile as nf


@pytest.mark.parametrize("suffix", ["npz", "safetensors"])
def test_archives_are_converted(suffix, weights, fine):
    assert f"x.{suffix}: {suffix}, 3 arrays, " in fine("convert", weights, f"x.{suffix}")
    with np.load(weights) as old, nf.open(f"x.{suffix}") as new:
        assert sorted(new) == sorted(old)
        for name in old:
            np.testing.assert_array_equal(new[name], old[name])


def test_a_member_and_raw_bytes_are_converted(weights, samples, fine, document):
    fine("convert", weights, "kernel.npy", "--key", "encoder/kernel")
    np.testing.assert_array_equal(np.load("kernel.npy"), np.load(weights)["encoder/kernel"])
    words = ["--dtype", ">i2", "--shape", "300,4", "--no-sync"]
    assert document("convert", samples, "samples.npy", *words)["destination"]["members"]["data"]["shape"] == [300, 4]
    np.testing.assert_array_equal(np.load("samples.npy"), np.arange(1200).reshape(300, 4))
    fine("convert", samples, "copy", "--to", "npy", *words)
    np.testing.assert_array_equal(np.load("copy"), np.load("samples.npy"))


def test_a_file_that_is_there_is_replaced_only_if_that_is_wanted(recording, ndfile, fine):
    np.save("x.npy", np.zeros(3))
    code, out, err = ndfile("convert", recording, "x.npy")
    assert (code, out) == (1, "")
    assert "Pass --overwrite" in err
    np.testing.assert_array_equal(np.load("x.npy"), np.zeros(3))
    fine("convert", recording, "x.npy", "--overwrite")
    np.testing.assert_array_equal(np.load("x.npy"), np.load(recording))


def test_a_conversion_that_fails_leaves_nothing(recording, ndfile):
    before = os.listdir()
    assert ndfile("convert", recording, "x.unknown").code == 1
    assert ndfile("convert", recording, "missing/x.npy").code == 1
    np.save("wide.npy", np.zeros(3, "M8[s]"))
    assert ndfile("convert", "wide.npy", "x.safetensors").code == 1
    assert sorted(os.listdir()) == sorted([*before, "wide.npy"])


def test_metadata_without_room_is_a_warning_of_one_line(ndfile):
    nf.save("x.bin", np.zeros(3), metadata={"notes": "long " * 2000})
    code, _, err = ndfile("convert", "x.bin", "x.npy")
    assert code == 0
    assert err.startswith("ndfile: warning: convert to 'x.npy'")
    assert err.count("\n") == 1


def without_digests(text):
    return re.sub("[0-9a-f]{32,}", "<digest>", text)


def test_whole_files_are_told(recording, samples, fine, document):
    golden("checksum", without_digests(fine("checksum", recording, samples, "--algorithm", "sha256")))
    golden("verify_whole", fine("verify", recording, samples))
    found = document("verify", recording, samples)
    assert found["are_whole"]
    assert [one["is_whole"] for one in found["files"]] == [True, True]
    (sums,) = document("checksum", samples, "--algorithm", "md5")["files"]
    with open("samples.dat.checksums.json") as file:
        assert json.load(file)["digest"] == sums["digest"]


def test_damage_is_1_and_says_where(ndfile, fine):
    np.save("x.npy", np.zeros((1000, 1000)))
    fine("checksum", "x.npy")
    with open("x.npy", "r+b") as file:
        file.seek(5_000_000)
        file.write(b"!")
    os.utime("x.npy")
    found = ndfile("verify", "x.npy")
    assert (found.code, found.err) == (1, "")
    golden("verify_damaged", found.out)
    code, out, _ = ndfile("verify", "x.npy", "--json")
    assert code == 1
    assert json.loads(out)["files"][0]["damages"] == [
        {"blocks": [1, 2], "bytes": [4194304, 8000128], "is_missing": False, "rows": {"data": [524, 1000]}}
    ]


def test_one_file_that_cannot_be_compared_leaves_the_others(recording, ndfile, fine):
    fine("checksum", recording)
    code, out, err = ndfile("verify", "missing.npy", recording)
    assert (code, out) == (1, "whole    recording.npy\n")
    assert "'missing.npy'" in err.replace(os.getcwd() + "/", "")
    np.save("new.npy", np.zeros(3))
    assert "Make them with ndfile checksum FILE" in ndfile("verify", "new.npy").err
    code, out, _ = ndfile("verify", "missing.npy", recording, "--json")
    assert code == 1
    assert [one["is_whole"] for one in json.loads(out)["files"]] == [None, True]


def test_an_algorithm_that_there_is_not_is_1(recording, ndfile):
    code, out, err = ndfile("checksum", recording, "--algorithm", "crc")
    assert (code, out) == (1, "")
    assert "sha256" in err
