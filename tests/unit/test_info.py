"""What info tells of a file, and that it reads no more than its headers."""

import dataclasses
import gzip
import json
import os
import pathlib

import numpy as np
import pytest

import ndfile as nf


@pytest.fixture
def npy(tmp_path):
    path = str(tmp_path / "x.npy")
    np.save(path, np.asfortranarray(np.arange(12, dtype=">f4").reshape(3, 4)))
    return path


@pytest.fixture
def npz(tmp_path):
    path = str(tmp_path / "x.npz")
    np.savez(path, one=np.zeros((2, 3), "u1"), two=np.zeros(1000))
    return path


def bytes_read():
    with open("/proc/self/io") as file:
        return int(next(line for line in file if line.startswith("rchar")).split()[1])


@pytest.mark.parametrize("wrap", [str, os.fsencode, pathlib.Path], ids=["str", "bytes", "Path"])
def test_a_file_of_one_array_is_described_by_its_attributes(npy, wrap):
    about = nf.info(wrap(npy))
    assert about.shape == (3, 4)
    assert about.dtype == np.dtype(">f4")
    assert about.order == "F"
    assert about.offset == 128
    assert about.format == "npy"
    assert about.size == os.path.getsize(npy)
    assert not about.is_archive
    assert os.fspath(about.path) == npy
    assert about.notes == ()


def test_an_archive_is_described_by_its_members(npz):
    about = nf.info(npz)
    assert about.is_archive
    assert list(about.members) == ["one", "two"]
    assert about.members["two"].nbytes == 8000
    assert about.members["one"].read_only
    with open(npz, "rb") as file:
        file.seek(about.members["one"].offset - 1)
        assert file.read(7) == b"\n" + bytes(6)


@pytest.mark.parametrize("attribute", ["dtype", "shape", "order", "offset"])
def test_an_archive_has_no_shape_of_its_own(npz, attribute):
    with pytest.raises(ValueError, match=r"it holds 2 arrays\. Ask \.members\[name\]"):
        getattr(nf.info(npz), attribute)


def test_it_is_what_open_gives(npy, npz):
    with nf.open(npy) as array:
        about = nf.info(npy)
        assert (array.shape, array.dtype, array.offset, array.flags.fnc) == (
            about.shape,
            about.dtype,
            about.offset,
            True,
        )
    with nf.open(npz) as archive:
        members = nf.info(npz).members
        assert {name: (one.shape, one.dtype) for name, one in archive.items()} == {
            name: (one.shape, one.dtype) for name, one in members.items()
        }


def test_what_cannot_be_mapped_is_described_all_the_same(tmp_path):
    np.savez_compressed(tmp_path / "x.npz", a=np.zeros((5, 6)))
    np.savez(tmp_path / "y.npz", a=np.array([None]))
    packed = nf.info(tmp_path / "x.npz").members["a"]
    assert packed.obstacle == "it is compressed (deflate)"
    assert (packed.shape, packed.dtype, packed.offset) == ((5, 6), np.dtype("f8"), None)
    assert "Python objects" in nf.info(tmp_path / "y.npz").members["a"].obstacle
    for name in ("x.npz", "y.npz"):
        json.dumps(nf.info(tmp_path / name).to_dict())
        assert "not mappable" in repr(nf.info(tmp_path / name))


def test_metadata_comes_back(tmp_path):
    metadata = {"unit": "m", "scale": [1, 2.5, None], "deep": {"a": True, "ü": "} # ndfile {"}}
    for name in ("x.npy", "x.npz", "x.bin"):
        nf.save(tmp_path / name, np.arange(3), metadata=metadata)
        assert nf.info(tmp_path / name).metadata == metadata
    nf.save(tmp_path / "x.safetensors", np.arange(3), metadata={"unit": "m"})
    assert nf.info(tmp_path / "x.safetensors").metadata == {"unit": "m"}


def test_bytes_behind_the_array_are_noted(npy):
    with open(npy, "ab") as file:
        file.write(b"12345")
    assert nf.info(npy).notes == ("5 bytes follow the array",)
    assert "note: 5 bytes follow the array" in repr(nf.info(npy))


@pytest.mark.parametrize("name", ["x.npy", "x.npz", "x.safetensors", "x.bin"])
def test_no_data_is_read(tmp_path, name):
    """The file is 8 MiB; a little of what is read is Python's own."""
    path = tmp_path / name
    nf.save(path, np.ones(1 << 20))
    nf.info(path)
    before = bytes_read()
    nf.info(path)
    assert bytes_read() - before < 1 << 16
    path.read_bytes()  # the control
    assert bytes_read() - before > 8 << 20


def test_a_file_that_may_only_be_read_is_described(npy):
    os.chmod(npy, 0o444)
    assert nf.info(npy).shape == (3, 4)


def test_it_says_everything_in_json(npy, npz, tmp_path):
    nf.save(tmp_path / "s.npy", np.zeros(2, [("a", "<i4"), ("b", "U3", (2, 2))]), metadata={"a": 1})
    for path in (npy, npz, tmp_path / "s.npy"):
        about = nf.info(path)
        values = json.loads(json.dumps(about.to_dict()))
        assert values["path"] == str(path)
        assert values["size"] == os.path.getsize(path)
        assert list(values["members"]) == list(about.members)
    assert values["metadata"] == {"a": 1}
    member = values["members"]["data"]
    assert member["dtype"] == [["a", "<i4"], ["b", "<U3", [2, 2]]]
    assert member["shape"] == [2]
    assert member["nbytes"] == 104


def test_it_prints_what_it_knows(npy, npz):
    assert repr(nf.info(npy)) == f"{npy}: npy, 176 bytes\n  >f4 (3, 4), order F, 48 bytes, at byte 128"
    text = repr(nf.info(npz))
    assert "'one'  uint8 (2, 3), 6 bytes, at byte" in text
    assert "'two'  float64 (1000,), 7.812 KiB, at byte" in text
    assert text.count("read only") == 2


def test_many_members_are_not_all_printed(tmp_path):
    nf.save(tmp_path / "x.npz", {f"a{i}": np.zeros(1) for i in range(1500)})
    lines = repr(nf.info(tmp_path / "x.npz")).splitlines()
    assert len(lines) < 30
    assert "1,480 more" in lines[-1]


def test_a_long_name_is_printed_short(tmp_path):
    nf.save(tmp_path / "x.npz", {"a" * 10_000: np.zeros(1)})
    assert len(repr(nf.info(tmp_path / "x.npz"))) < 500


@pytest.mark.parametrize(
    ("nbytes", "text"), [(0, "0 bytes"), (1023, "1023 bytes"), (1024, "1 KiB"), (1536, "1.5 KiB"), (5 << 20, "5 MiB")]
)
def test_sizes_are_printed_in_units(tmp_path, nbytes, text):
    nf.create(tmp_path / "x.npy", nbytes, "u1", sparse=True).close()
    assert f", {text}, at byte" in repr(nf.info(tmp_path / "x.npy"))


def test_a_description_does_not_change(npy):
    about = nf.info(npy)
    with pytest.raises(dataclasses.FrozenInstanceError):
        about.size = 1
    assert about == nf.info(npy)


def test_hints_describe_raw_bytes(tmp_path):
    path = tmp_path / "x.bin"
    np.arange(6).tofile(path)
    about = nf.info(path, dtype="<i8", shape=(2, 2), offset=8)
    assert (about.shape, about.offset, about.notes) == ((2, 2), 8, ("8 bytes follow the array",))
    assert nf.info(path, format="raw", dtype="u1").shape == (48,)


def test_errors_are_those_of_open(tmp_path, npy):
    (tmp_path / "x.gz").write_bytes(gzip.compress(b"x"))
    for wrong, error in (
        (lambda: nf.info(tmp_path / "no.npy"), FileNotFoundError),
        (lambda: nf.info(tmp_path), IsADirectoryError),
        (lambda: nf.info(tmp_path / "x.gz"), nf.FormatError),
        (lambda: nf.info(npy, format="npz"), nf.FormatError),
        (lambda: nf.info(npy, format="nope"), nf.LayoutError),
        (lambda: nf.info(npy, shape=3), nf.LayoutError),
        (lambda: nf.info(5), TypeError),
    ):
        with pytest.raises(error):
            wrong()


@pytest.mark.parametrize(
    ("name", "suffix"),
    [
        ("bfloat16", "npy"),
        ("bfloat16", "npz"),
        ("bfloat16", "bin"),
        ("bfloat16", "safetensors"),
        ("float8_e3m4", "npy"),
        ("float8_e4m3", "npy"),
        ("float8_e4m3fn", "npy"),
        ("float8_e5m2", "npy"),
        ("float8_e5m2", "npz"),
        ("float8_e5m2", "bin"),
        ("float8_e5m2", "safetensors"),
        ("float8_e5m2fnuz", "npy"),
        ("float8_e8m0fnu", "npy"),
    ],
)
def test_types_of_machine_learning_are_named(tmp_path, run_python, name, suffix):
    run_python(
        """
        import json, sys
        try:
            import ml_dtypes
        except ImportError:
            sys.exit()
        import numpy as np, ndfile as nf
        path, name = sys.argv[1:]
        dtype = np.dtype(getattr(ml_dtypes, name))
        nf.save(path, np.arange(4).astype(dtype))
        about = nf.info(path)
        (member,) = about.members.values()
        assert member.dtype == dtype, member.dtype
        assert json.loads(json.dumps(about.to_dict()))["members"][member.name]["dtype"] == name
        assert name in repr(about)
        if path.endswith(("npy", "npz")):
            np.load(path)
        """,
        tmp_path / f"x.{suffix}",
        name,
    )
