"""Converting: the arrays of one file in another format, with what the file says about itself; errors change nothing."""

import hashlib
import importlib.util
import itertools
import json
import os
import pathlib
import subprocess
import sys
import time
import warnings
import zipfile

import numpy as np
import pytest
from devices import MIB, memory_disk

import ndfile as nf

SUFFIXES = ["npy", "npz", "safetensors", "bin"]
VALUES = np.arange(12, dtype="<f4").reshape(3, 4)


def values_of(path):
    opened = nf.open(path)
    if isinstance(opened, nf.Archive):
        (array,) = opened.values()
    else:
        array = opened
    try:
        return np.array(array)
    finally:
        array.close()


def noise(nbytes):
    """Bytes that cannot be packed. Not by numpy.random, whose import would stay."""
    return np.frombuffer(hashlib.shake_128(b"noise").digest(nbytes), np.uint8)


def snapshot(folder):
    return {name: pathlib.Path(folder, name).read_bytes() for name in os.listdir(folder)}


# ---- Every pair ----


@pytest.mark.parametrize(("source", "destination"), list(itertools.product(SUFFIXES, SUFFIXES)))
@pytest.mark.parametrize(
    "array",
    [VALUES, np.array(5.5), np.zeros((0, 3), "u1"), np.array([True, False]), np.arange(6, dtype="c8")],
    ids=["2-d", "0-d", "empty", "bool", "complex"],
)
def test_every_format_becomes_every_other(tmp_path, source, destination, array):
    nf.save(tmp_path / f"x.{source}", array)
    nf.convert(tmp_path / f"x.{source}", tmp_path / f"y.{destination}")
    found = values_of(tmp_path / f"y.{destination}")
    assert (found.dtype, found.shape) == (array.dtype, array.shape)
    np.testing.assert_array_equal(found, array)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("is_mapped", [False, True])
def test_a_file_can_be_converted_into_itself(tmp_path, suffix, is_mapped):
    path = tmp_path / f"x.{suffix}"
    nf.save(path, VALUES, metadata={"unit": "m"})
    opened = nf.open(path) if is_mapped else None
    nf.convert(path, path)
    np.testing.assert_array_equal(values_of(path), VALUES)
    assert nf.info(path).metadata == {"unit": "m"}
    if opened is not None:
        array = opened["data"] if isinstance(opened, nf.Archive) else opened
        np.testing.assert_array_equal(array, VALUES)
        opened.close()


def test_a_file_can_become_another_format_under_its_own_name(tmp_path):
    path = tmp_path / "x"
    nf.save(path, VALUES, format="npy")
    nf.convert(path, path, format="npz")
    assert zipfile.is_zipfile(path)
    np.testing.assert_array_equal(values_of(path), VALUES)


def test_the_order_is_kept_where_the_format_has_it_and_the_values_everywhere(tmp_path):
    nf.save(tmp_path / "x.npy", np.asfortranarray(VALUES))
    for suffix, order in (("npy", "F"), ("npz", "F"), ("bin", "F"), ("safetensors", "C")):
        nf.convert(tmp_path / "x.npy", tmp_path / f"y.{suffix}")
        (member,) = nf.info(tmp_path / f"y.{suffix}").members.values()
        assert member.order == order
        np.testing.assert_array_equal(values_of(tmp_path / f"y.{suffix}"), VALUES)


@pytest.mark.parametrize("dtype", [">f4", "M8[ns]", "U3", "S2", [("a", "<i4"), ("b", "<f8")], "V5", "g"])
def test_types_are_kept_and_refused_where_they_cannot_be(tmp_path, dtype):
    array = np.zeros((2, 3), dtype)
    nf.save(tmp_path / "x.npy", array)
    for suffix in ("npy", "npz", "bin"):
        nf.convert(tmp_path / "x.npy", tmp_path / f"y.{suffix}")
        assert values_of(tmp_path / f"y.{suffix}").dtype == array.dtype
    with pytest.raises(nf.LayoutError, match=r"no dtype.*\.npz"):
        nf.convert(tmp_path / "x.npy", tmp_path / "y.safetensors")
    assert not (tmp_path / "y.safetensors").exists()


@pytest.mark.parametrize("wrap", [str, os.fsencode, pathlib.Path], ids=["str", "bytes", "Path"])
def test_every_kind_of_path_is_taken(tmp_path, wrap):
    nf.save(tmp_path / "x.npy", VALUES)
    nf.convert(wrap(str(tmp_path / "x.npy")), wrap(str(tmp_path / "y.npz")))
    np.testing.assert_array_equal(values_of(tmp_path / "y.npz"), VALUES)


def test_hints_are_those_of_the_source(tmp_path):
    VALUES.tofile(tmp_path / "x.bin")
    nf.convert(tmp_path / "x.bin", tmp_path / "y.npy", dtype="<f4", shape=(2, 2), order="F", offset=16)
    assert values_of(tmp_path / "y.npy").tolist() == [[4, 6], [5, 7]]


# ---- Several arrays ----


@pytest.mark.parametrize(("source", "destination"), list(itertools.product(["npz", "safetensors"], repeat=2)))
def test_all_arrays_are_converted(tmp_path, source, destination):
    arrays = {"a": VALUES, "b/c": np.arange(5), "none": np.zeros((0, 2))}
    nf.save(tmp_path / f"x.{source}", arrays)
    nf.convert(tmp_path / f"x.{source}", tmp_path / f"y.{destination}")
    with nf.open(tmp_path / f"y.{destination}") as archive:
        assert set(archive) == set(arrays)
        for name, array in arrays.items():
            np.testing.assert_array_equal(archive[name], array)


def test_a_key_converts_one(tmp_path):
    nf.save(tmp_path / "x.npz", {"a": VALUES, "b": np.arange(5)})
    nf.convert(tmp_path / "x.npz", tmp_path / "y.npy", key="b")
    assert values_of(tmp_path / "y.npy").tolist() == [0, 1, 2, 3, 4]
    nf.convert(tmp_path / "x.npz", tmp_path / "y.npz", key="b")
    with nf.open(tmp_path / "y.npz") as archive:
        assert list(archive) == ["b"]


def test_a_file_of_one_array_wants_to_know_which(tmp_path):
    nf.save(tmp_path / "x.npz", {"a": VALUES, "b": np.arange(5)})
    for suffix in ("npy", "bin"):
        with pytest.raises(nf.MemberError, match=r"2 members, and no key was given\. Pass key=, such as 'a', 'b'"):
            nf.convert(tmp_path / "x.npz", tmp_path / f"y.{suffix}")
    with pytest.raises(nf.MemberError):
        nf.convert(tmp_path / "x.npz", tmp_path / "y.npz", key="c")
    assert os.listdir(tmp_path) == ["x.npz"]


def test_more_arrays_than_descriptors_are_converted(tmp_path, run_python):
    nf.save(tmp_path / "x.npz", {str(i): np.full(3, i) for i in range(300)}, sync=False)
    program = """
        import resource, sys
        import ndfile as nf
        resource.setrlimit(resource.RLIMIT_NOFILE, (100, 100))
        nf.convert(sys.argv[1], sys.argv[2])
        with nf.open(sys.argv[2]) as archive:
            assert len(archive) == 300
            assert all((array == int(name)).all() for name, array in archive.items())
    """
    run_python(program, tmp_path / "x.npz", tmp_path / "y.npz")


def test_one_map_serves_all_arrays(tmp_path):
    nf.save(tmp_path / "x.npz", {str(i): np.full(3, i) for i in range(20)})
    counts = []

    def count(done, total):
        with open("/proc/self/maps") as maps:
            counts.append(sum(line.rstrip().endswith(str(tmp_path / "x.npz")) for line in maps))

    nf.convert(tmp_path / "x.npz", tmp_path / "y.npz", progress=count)
    assert max(counts) == 1


# ---- What cannot be mapped ----


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("shape", [(), (0, 3), (3, 4), (1 << 20, 3)])
def test_a_compressed_npz_becomes_one_that_can_be_mapped(tmp_path, order, shape):
    array = np.array(np.arange(np.prod(shape, dtype=int)).reshape(shape), order=order)
    np.savez_compressed(tmp_path / "x.npz", a=array, b=VALUES)
    for suffix in ("npz", *(["safetensors"] if order == "C" else [])):
        nf.convert(tmp_path / "x.npz", tmp_path / f"y.{suffix}", sync=False)
        with nf.open(tmp_path / f"y.{suffix}") as archive:
            np.testing.assert_array_equal(archive["a"], array)
            np.testing.assert_array_equal(archive["b"], VALUES)
    nf.convert(tmp_path / "x.npz", tmp_path / "y.npy", key="a", sync=False)
    np.testing.assert_array_equal(values_of(tmp_path / "y.npy"), array)


def test_a_compressed_npz_is_converted_in_its_own_place(tmp_path):
    np.savez_compressed(tmp_path / "x.npz", a=VALUES)
    nf.convert(tmp_path / "x.npz", tmp_path / "x.npz")
    np.testing.assert_array_equal(values_of(tmp_path / "x.npz"), VALUES)


def test_a_decoded_order_that_the_format_does_not_have_is_refused_with_the_way_out(tmp_path):
    np.savez_compressed(tmp_path / "x.npz", a=np.asfortranarray(VALUES))
    with pytest.raises(nf.LayoutError, match=r"order 'F'.*\.npy first"):
        nf.convert(tmp_path / "x.npz", tmp_path / "y.safetensors")
    nf.convert(tmp_path / "x.npz", tmp_path / "y.npy")
    nf.convert(tmp_path / "y.npy", tmp_path / "y.safetensors")
    np.testing.assert_array_equal(values_of(tmp_path / "y.safetensors"), VALUES)


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_the_way_out_of_a_refusal_works(tmp_path, method):
    np.save(tmp_path / "x.npy", VALUES)
    with zipfile.ZipFile(tmp_path / "x.npz", "w", method) as archive:
        archive.write(tmp_path / "x.npy", "a.npy")
    with pytest.raises(nf.FormatError, match="Unpack it with another program") as caught:
        nf.open(tmp_path / "x.npz", key="a")
    assert "ndfile.convert" not in str(caught.value)
    with zipfile.ZipFile(tmp_path / "x.npz") as archive:
        archive.extractall(tmp_path / "unpacked")
    np.testing.assert_array_equal(values_of(tmp_path / "unpacked" / "a.npy"), VALUES)


def test_objects_are_refused_and_the_others_can_be_had(tmp_path):
    np.savez(tmp_path / "x.npz", good=VALUES, bad=np.array([None]))
    (tmp_path / "y.npz").write_bytes(b"precious")
    before = snapshot(tmp_path)
    with pytest.raises(nf.FormatError, match=r"'bad'.*Python objects"):
        nf.convert(tmp_path / "x.npz", tmp_path / "y.npz")
    assert snapshot(tmp_path) == before
    nf.convert(tmp_path / "x.npz", tmp_path / "y.npz", key="good")


@pytest.mark.parametrize("at", [0.2, 0.5, 0.9])
def test_damaged_data_is_an_error_and_the_destination_stays(tmp_path, at):
    path = tmp_path / "x.npz"
    np.savez_compressed(path, a=noise(100_000) % 50)
    content = bytearray(path.read_bytes())
    place = int(len(content) * at)
    content[place : place + 20] = bytes(byte ^ 0x55 for byte in content[place : place + 20])
    path.write_bytes(content)
    nf.save(tmp_path / "y.npy", [1, 2, 3])
    before = snapshot(tmp_path)
    with pytest.raises(nf.FormatError):
        nf.convert(path, tmp_path / "y.npy")
    assert snapshot(tmp_path) == before


def made_by(library, tmp_path, name, program):
    """A file made by a library, in another process: what it imports is not to stay in this one."""
    if importlib.util.find_spec(library) is None:
        pytest.skip(f"{library} is not installed")
    text = f"import sys, numpy as np, {library}\npath = sys.argv[1]\n{program}"
    subprocess.run([sys.executable, "-c", text, tmp_path / name], check=True)


def test_hdf5_is_converted_chunked_and_compressed_too(tmp_path, run_python):
    made_by(
        "h5py",
        tmp_path,
        "x.h5",
        "values = np.arange(1000.0).reshape(20, 50)\n"
        "with h5py.File(path, 'w') as file:\n"
        "    file['plain'] = values\n"
        "    file.create_dataset('chunked', data=values, chunks=(7, 9))\n"
        "    file.create_dataset('group/packed', data=values, chunks=(5, 50), compression='gzip', shuffle=True)\n",
    )
    program = """
        import sys
        import numpy as np, ndfile as nf
        folder = sys.argv[1]
        nf.convert(f"{folder}/x.h5", f"{folder}/y.npz")
        nf.convert(f"{folder}/x.h5", f"{folder}/y.safetensors")
        nf.convert(f"{folder}/x.h5", f"{folder}/y.npy", key="chunked")
        wanted = np.arange(1000.0).reshape(20, 50)
        for name in ("y.npz", "y.safetensors"):
            with nf.open(f"{folder}/{name}") as archive:
                assert set(archive) == {"plain", "chunked", "group/packed"}
                for array in archive.values():
                    np.testing.assert_array_equal(array, wanted)
        np.testing.assert_array_equal(np.load(f"{folder}/y.npy"), wanted)
    """
    run_python(program, tmp_path)


@pytest.mark.parametrize(
    ("library", "name", "make", "wanted"),
    [
        (
            "tifffile",
            "x.tif",
            "tifffile.imwrite(path, np.arange(4096).astype('u2').reshape(64, 64), compression='zlib')",
            4095,
        ),
        (
            "astropy",
            "x.fits",
            "from astropy.io import fits\nfits.PrimaryHDU(np.arange(50, dtype='u2')).writeto(path)",
            49,
        ),
        (
            "nibabel",
            "x.nii",
            "image = nibabel.Nifti1Image(np.arange(24.0).reshape(2, 3, 4), np.eye(4))\n"
            "image.header.set_data_dtype('i2')\nimage.header.set_slope_inter(0.5, 0)\nnibabel.save(image, path)",
            11.5,
        ),
    ],
    ids=["tiff", "fits", "nifti"],
)
def test_compressed_and_scaled_images_are_converted(tmp_path, run_python, library, name, make, wanted):
    made_by(library, tmp_path, name, make)
    program = """
        import sys, warnings
        import numpy as np, ndfile as nf
        source, destination, wanted = sys.argv[1:]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            (key,) = list(nf.info(source).members)[:1]
            nf.convert(source, destination, key=key)
        found = np.load(destination)
        assert found.max() == float(wanted), found
        assert found.min() == 0, found
    """
    run_python(program, tmp_path / name, tmp_path / "y.npy", wanted)


# ---- What the file says about itself ----

METADATA = {"unit": "m", "made": {"by": ["me", 1, None]}}


@pytest.mark.parametrize(("source", "destination"), list(itertools.product(["npy", "npz", "bin"], repeat=2)))
def test_metadata_is_carried(tmp_path, source, destination):
    nf.save(tmp_path / f"x.{source}", VALUES, metadata=METADATA)
    nf.convert(tmp_path / f"x.{source}", tmp_path / f"y.{destination}")
    assert nf.info(tmp_path / f"y.{destination}").metadata == METADATA


def test_metadata_becomes_text_where_the_format_knows_nothing_else(tmp_path):
    nf.save(tmp_path / "x.npy", VALUES, metadata=METADATA)
    nf.convert(tmp_path / "x.npy", tmp_path / "y.safetensors")
    metadata = nf.info(tmp_path / "y.safetensors").metadata
    assert metadata["unit"] == "m"
    assert json.loads(metadata["made"]) == METADATA["made"]


def test_metadata_without_room_is_left_out_with_a_warning(tmp_path):
    metadata = {"first": "x", "large": "y" * 20_000, "last": "z"}
    nf.save(tmp_path / "x.bin", VALUES, metadata=metadata)
    with pytest.warns(UserWarning, match="'npy' has no room for metadata, 'large' is left out") as caught:
        nf.convert(tmp_path / "x.bin", tmp_path / "y.npy")
    assert [warning.filename for warning in caught] == [__file__]
    assert nf.info(tmp_path / "y.npy").metadata == {"first": "x", "last": "z"}
    np.testing.assert_array_equal(values_of(tmp_path / "y.npy"), VALUES)


def test_such_a_warning_as_an_error_leaves_the_destination(tmp_path):
    nf.save(tmp_path / "x.bin", VALUES, metadata={"large": "y" * 20_000})
    nf.save(tmp_path / "y.npy", [1])
    before = snapshot(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(UserWarning):
            nf.convert(tmp_path / "x.bin", tmp_path / "y.npy")
    assert snapshot(tmp_path) == before


def test_metadata_without_room_beside_a_long_dtype_is_left_out_too(tmp_path):
    array = np.zeros(3, [(f"a_field_with_a_long_name_{i}", "<f4") for i in range(60)])
    nf.save(tmp_path / "x.bin", array, metadata={"a": "y" * 8500})
    with pytest.warns(UserWarning, match="'npy' has no room for metadata, 'a' is left out"):
        nf.convert(tmp_path / "x.bin", tmp_path / "y.npy")
    assert nf.info(tmp_path / "y.npy").metadata == {}
    assert values_of(tmp_path / "y.npy").dtype == array.dtype


def test_much_metadata_is_carried_in_time_that_grows_with_it(tmp_path):
    def seconds(count):
        nf.save(tmp_path / "x.safetensors", VALUES, metadata={f"key{i}": "x" * 20 for i in range(count)}, sync=False)
        started_s = time.process_time()
        nf.convert(tmp_path / "x.safetensors", tmp_path / "y.safetensors", sync=False)
        return time.process_time() - started_s

    few = min(seconds(200) for _ in range(3))
    assert seconds(3200) < 64 * few


def test_metadata_of_several_arrays_is_not_dropped_in_silence(tmp_path, run_python):
    made_by(
        "h5py",
        tmp_path,
        "x.h5",
        "with h5py.File(path, 'w') as file:\n"
        "    for name in 'ab':\n"
        "        file[name] = np.arange(3)\n"
        "        file[name].attrs['scale'] = 2.5\n",
    )
    program = """
        import sys, warnings
        import ndfile as nf
        members = nf.info(sys.argv[1]).members
        assert members["a"].metadata == {"scale": 2.5}, members
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            nf.convert(sys.argv[1], sys.argv[2])
        (warning,) = caught
        assert "that of array 'a', that of array 'b' is left out" in str(warning.message), warning
    """
    run_python(program, tmp_path / "x.h5", tmp_path / "y.npz")


# ---- Errors ----


@pytest.mark.parametrize(
    ("source", "destination", "arguments", "error"),
    [
        ("no.npy", "y.npy", {}, FileNotFoundError),
        (".", "y.npy", {}, IsADirectoryError),
        ("odd.txt", "y.npy", {}, nf.FormatError),
        ("x.npy", "y.txt", {}, nf.LayoutError),
        ("x.npy", "y", {}, nf.LayoutError),
        ("x.npy", "y.h5", {}, nf.LayoutError),
        ("x.npy", "no/y.npy", {}, FileNotFoundError),
        ("x.npy", "y.npy", {"format": "nothing"}, nf.LayoutError),
        ("x.npy", "y.npy", {"key": "b"}, nf.MemberError),
        ("x.npy", "y.npy", {"shape": 3}, nf.LayoutError),
        ("x.npy", "y.npy", {"dtype": "f4"}, nf.FormatError),
        ("x.npy", "y.npy", {"progress": 7}, TypeError),
        (5, "y.npy", {}, TypeError),
        ("x.npy", None, {}, TypeError),
    ],
    ids=str,
)
def test_a_bad_argument_is_refused_and_nothing_is_made(tmp_path, monkeypatch, source, destination, arguments, error):
    monkeypatch.chdir(tmp_path)
    nf.save("x.npy", VALUES)
    (tmp_path / "odd.txt").write_bytes(b"nothing that anybody knows")
    before = snapshot(tmp_path)
    with pytest.raises(error):
        nf.convert(source, destination, **arguments)
    assert snapshot(tmp_path) == before


def test_a_source_that_is_cut_meanwhile_keeps_the_destination(tmp_path):
    nf.create(tmp_path / "x.npy", 30 * MIB, "u1", sparse=True).close()
    nf.save(tmp_path / "y.npy", [1, 2, 3])

    def cut(done, total):
        if done:
            os.truncate(tmp_path / "x.npy", 12 * MIB)

    with pytest.raises(nf.FaultError, match="cut"):
        nf.convert(tmp_path / "x.npy", tmp_path / "y.npy", progress=cut)
    assert values_of(tmp_path / "y.npy").tolist() == [1, 2, 3]
    assert sorted(os.listdir(tmp_path)) == ["x.npy", "y.npy"]


def test_a_compressed_source_that_is_cut_meanwhile_keeps_the_destination(tmp_path):
    np.savez_compressed(tmp_path / "x.npz", a=noise(30 * MIB))
    nf.save(tmp_path / "y.npy", [1, 2, 3])

    def cut(done, total):
        if done:
            os.truncate(tmp_path / "x.npz", 12 * MIB)

    with pytest.raises((nf.FormatError, nf.FaultError)):
        nf.convert(tmp_path / "x.npz", tmp_path / "y.npy", progress=cut)
    assert values_of(tmp_path / "y.npy").tolist() == [1, 2, 3]
    assert sorted(os.listdir(tmp_path)) == ["x.npz", "y.npy"]


@pytest.mark.parametrize("is_packed", [False, True])
def test_a_full_disk_keeps_the_destination(tmp_path, is_packed):
    (np.savez_compressed if is_packed else np.savez)(tmp_path / "x.npz", a=np.zeros(8 * MIB, "u1"))
    with memory_disk(str(tmp_path / "disk"), 4 * MIB) as disk:
        nf.save(f"{disk}/y.npy", [1, 2, 3])
        with pytest.raises(OSError, match="No space left"):
            nf.convert(tmp_path / "x.npz", f"{disk}/y.npy")
        assert values_of(f"{disk}/y.npy").tolist() == [1, 2, 3]
        assert os.listdir(disk) == ["y.npy"]


@pytest.mark.parametrize("is_packed", [False, True])
def test_progress_rises_from_nothing_to_all_and_may_stop_it(tmp_path, is_packed):
    (np.savez_compressed if is_packed else np.savez)(tmp_path / "x.npz", a=np.zeros(20 * MIB, "u1"))
    calls = []
    nf.convert(tmp_path / "x.npz", tmp_path / "y.npy", progress=lambda *numbers: calls.append(numbers), sync=False)
    assert calls[0] == (0, 20 * MIB)
    assert calls[-1] == (20 * MIB, 20 * MIB)
    assert calls == sorted(set(calls))
    before = os.stat(tmp_path / "y.npy").st_ino

    def stop(done, total):
        if done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        nf.convert(tmp_path / "x.npz", tmp_path / "y.npy", progress=stop)
    assert os.stat(tmp_path / "y.npy").st_ino == before
    assert sorted(os.listdir(tmp_path)) == ["x.npz", "y.npy"]


def test_a_large_compressed_array_is_converted_in_little_memory(tmp_path, run_python):
    """256 MiB of zeros."""
    with zipfile.ZipFile(tmp_path / "x.npz", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        header = pathlib.Path(tmp_path / "h.npy")
        np.save(header, np.zeros((0,), "u1"))
        text = header.read_bytes().replace(b"(0,), }" + b" " * 8, b"(268435456,), }")
        with archive.open("a.npy", "w") as file:
            file.write(text)
            for _ in range(256):
                file.write(bytes(MIB))
    program = """
        import sys
        import numpy as np, ndfile as nf

        def kib(key):
            with open("/proc/self/status") as file:
                return next(int(line.split()[1]) for line in file if line.startswith(key))

        source, destination = sys.argv[1:]
        nf.save(destination, [1])
        with open("/proc/self/clear_refs", "w") as file:
            file.write("5")
        before = kib("VmRSS")
        nf.convert(source, destination, sync=False)
        print((kib("VmHWM") - before) // 1024)
        assert nf.info(destination).shape == (1 << 28,)
    """
    assert int(run_python(program, tmp_path / "x.npz", tmp_path / "y.npy").stdout) < 64
    os.unlink(tmp_path / "y.npy")
