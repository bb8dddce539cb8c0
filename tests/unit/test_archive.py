"""The arrays of one file as a mapping: one map of the file under all of them, and what closing it means."""

import collections.abc
import gc
import os
import pickle
import threading
import zipfile

import numpy as np
import pytest

import ndfile as nf


@pytest.fixture
def arrays():
    return {
        "kernel": np.arange(12, dtype="<f4").reshape(3, 4),
        "bias": np.arange(5),
        "layer/0": np.zeros((0, 3)),
        "scalar": np.array(7, "u1"),
    }


@pytest.fixture(params=["npz", "safetensors", "savez"])
def file(request, tmp_path, arrays):
    """The path of a file of the arrays, written by ndfile and by NumPy."""
    path = str(tmp_path / "x.npz")
    if request.param == "savez":
        np.savez(path, **arrays)
    else:
        path = str(tmp_path / f"x.{request.param}")
        nf.save(path, arrays)
    return path


@pytest.fixture
def weights(tmp_path, arrays):
    """A file whose members can be changed in place."""
    nf.save(tmp_path / "w.safetensors", arrays)
    return str(tmp_path / "w.safetensors")


def maps_of(path):
    with open("/proc/self/maps") as maps:
        return [line for line in maps if line.rstrip().endswith(path)]


def descriptors_of(path):
    links = []
    for name in os.listdir("/proc/self/fd"):
        try:
            links.append(os.readlink(f"/proc/self/fd/{name}"))
        except FileNotFoundError:
            continue
    return links.count(path)


def bytes_of(path):
    with open(path, "rb") as opened:
        return opened.read()


# ---- A mapping in the sense of collections.abc ----


def test_it_is_a_mapping_of_names_to_arrays(file, arrays):
    with nf.open(file) as archive:
        assert isinstance(archive, collections.abc.Mapping)
        assert not isinstance(archive, collections.abc.MutableMapping)
        assert len(archive) == 4
        assert set(archive) == set(arrays) == set(archive.keys()) == set(dict(archive))
        assert len(archive.values()) == len(archive.items()) == 4
        for name, array in archive.items():
            assert isinstance(array, nf.memmap)
            assert (array.dtype, array.shape) == (arrays[name].dtype, arrays[name].shape)
            np.testing.assert_array_equal(array, arrays[name])


def test_names_are_in_the_order_of_the_file(tmp_path):
    names = [f"{i * 7 % 10}" for i in range(10)]
    nf.save(tmp_path / "x.npz", {name: np.zeros(1) for name in names})
    with nf.open(tmp_path / "x.npz") as archive:
        assert list(archive) == names


def test_it_says_what_is_in_it(file):
    with nf.open(file) as archive:
        assert "bias" in archive
        assert "layer/0" in archive
        for other in ("biases", "bias.npy", "", 0, None, b"bias", ("bias",)):
            assert other not in archive
            assert archive.get(other) is None
            with pytest.raises(KeyError):
                archive[other]


def test_a_name_that_is_not_there_brings_those_that_are_like_it(file):
    with (
        nf.open(file) as archive,
        pytest.raises(nf.MemberError, match=r"'kernal' is not one of its 4 members.*'kernel'"),
    ):
        archive["kernal"]


def test_an_unhashable_name_is_a_type_error(file):
    with nf.open(file) as archive, pytest.raises(TypeError):
        archive[["bias"]]


def test_it_cannot_be_changed(file):
    with nf.open(file) as archive:
        with pytest.raises(TypeError):
            archive["bias"] = np.zeros(5)
        with pytest.raises(TypeError):
            del archive["bias"]


def test_a_member_is_a_new_array_over_the_same_bytes(file):
    with nf.open(file, "c") as archive:
        one, other = archive["bias"], archive["bias"]
        assert one is not other
        assert np.shares_memory(one, other)
        one[0] = 99
        assert other[0] == 99


@pytest.mark.parametrize("suffix", ["npz", "safetensors"])
def test_a_file_without_arrays_is_an_empty_archive(tmp_path, suffix):
    nf.save(tmp_path / f"x.{suffix}", {})
    with nf.open(tmp_path / f"x.{suffix}") as archive:
        assert len(archive) == 0
        assert list(archive) == []
        with pytest.raises(nf.MemberError, match="no members"):
            archive["a"]


def test_an_empty_npz_of_numpys_is_an_empty_archive(tmp_path):
    np.savez(tmp_path / "x.npz")
    with nf.open(tmp_path / "x.npz") as archive:
        assert len(archive) == 0


def test_it_knows_its_file(file):
    with nf.open(file) as archive:
        assert archive.filename == file
        assert archive.mode == "r"
        assert archive.format == ("npz" if file.endswith("npz") else "safetensors")
        assert archive["bias"].filename == file
        assert repr(archive) == f"<Archive {os.path.basename(file)}: {archive.format}, 4 members, mode 'r'>"
    assert repr(archive) == f"<Archive {os.path.basename(file)}: {archive.format}, 4 members, closed>"


def test_it_has_the_files_metadata(tmp_path):
    for suffix in ("npz", "safetensors"):
        nf.save(tmp_path / f"x.{suffix}", {"a": [1]}, metadata={"unit": "m"})
        with nf.open(tmp_path / f"x.{suffix}") as archive:
            assert dict(archive.metadata) == {"unit": "m"}


def test_a_member_that_cannot_be_mapped_leaves_the_others(tmp_path, arrays):
    nf.save(tmp_path / "x.npz", {"good": arrays["bias"]})
    np.savez_compressed(tmp_path / "y.npz", packed=arrays["kernel"])
    with zipfile.ZipFile(tmp_path / "y.npz") as packed, zipfile.ZipFile(tmp_path / "x.npz", "a") as both:
        both.writestr("packed.npy", packed.read("packed.npy"), zipfile.ZIP_DEFLATED)
    with nf.open(tmp_path / "x.npz") as archive:
        assert "packed" in archive
        np.testing.assert_array_equal(archive["good"], arrays["bias"])
        with pytest.raises(nf.FormatError, match=r"'packed'.*deflate"):
            archive["packed"]
        with pytest.raises(nf.FormatError):
            dict(archive)


# ---- One map ----


def test_all_members_share_one_map_of_the_file(file):
    with nf.open(file) as archive:
        members = [array for _ in range(50) for array in archive.values()]
        assert len(maps_of(file)) == 1
        assert len({id(array._mmap) for array in members}) == 1
    assert maps_of(file) == []


def test_a_map_for_each_member_would_be_seen(file, arrays):
    """The control."""
    opened = [nf.open(file, key=name) for name in ("kernel", "bias")]
    assert len(maps_of(file)) == 2
    for array in opened:
        array.close()


def test_a_reader_keeps_no_descriptor(file):
    for mode in ("r", "c"):
        with nf.open(file, mode) as archive:
            assert descriptors_of(file) == 0
            assert archive["bias"][1] == 1


def test_a_writer_keeps_one(weights):
    """The control."""
    with nf.open(weights, "r+"):
        assert descriptors_of(weights) == 1
    assert descriptors_of(weights) == 0


# ---- Its end ----


def test_closing_it_closes_its_members_at_once(file):
    archive = nf.open(file)
    member, view = archive["bias"], archive["kernel"][1:]
    archive.close()
    assert archive.closed
    assert member.closed
    assert view.closed
    assert maps_of(file) == []
    for touch in (lambda: member[0], lambda: view.sum(), lambda: member + 1, lambda: member.tolist()):
        with pytest.raises(nf.ClosedError):
            touch()


@pytest.mark.at_once
def test_a_plain_view_of_a_member_tells_too_that_the_archive_is_closed(file):
    with nf.open(file) as archive:
        plain = np.asarray(archive["bias"])
    with pytest.raises(nf.ClosedError):
        plain.sum()


def test_closing_a_member_closes_them_all(file):
    archive = nf.open(file)
    member = archive["kernel"]
    archive["bias"].close()
    assert archive.closed
    with pytest.raises(nf.ClosedError):
        member[0, 0]


def test_a_closed_archive_gives_no_member_and_still_knows_the_names(file):
    archive = nf.open(file)
    archive.close()
    with pytest.raises(nf.ClosedError, match="closed"):
        archive["bias"]
    with pytest.raises(nf.ClosedError):
        archive.__enter__()
    with pytest.raises(nf.ClosedError):
        dict(archive)
    assert "bias" in archive
    assert len(archive) == 4
    with pytest.raises(nf.ClosedError):
        archive["nothing"]


def test_closing_again_does_nothing(file):
    archive = nf.open(file)
    archive.close()
    archive.close()
    with nf.open(file) as archive:
        archive.close()


def test_leaving_the_block_closes_it_whatever_was_raised(file):
    with pytest.raises(ZeroDivisionError), nf.open(file) as archive:
        raise ZeroDivisionError
    assert archive.closed


def test_members_outlive_the_archive(file, arrays):
    member = nf.open(file)["kernel"]
    gc.collect()
    np.testing.assert_array_equal(member, arrays["kernel"])
    assert len(maps_of(file)) == 1
    member.close()


def test_forgetting_it_gives_the_file_back(file):
    archive = nf.open(file)
    member = archive["kernel"]
    del archive, member
    gc.collect()
    assert maps_of(file) == []


def test_members_outlive_the_file(file, arrays):
    with nf.open(file) as archive:
        os.unlink(file)
        for name, array in archive.items():
            np.testing.assert_array_equal(array, arrays[name])


# ---- Modes ----


def test_mode_r_refuses_changes(file):
    with nf.open(file) as archive, pytest.raises(ValueError, match="read-only"):
        archive["bias"][0] = 1


def test_mode_c_keeps_changes_to_itself(file, arrays):
    before = bytes_of(file)
    with nf.open(file, "c") as archive, nf.open(file, "c") as other:
        archive["bias"][:] = 99
        assert archive["bias"].sum() == 99 * 5
        np.testing.assert_array_equal(other["bias"], arrays["bias"])
        archive.flush()
    assert bytes_of(file) == before


def test_mode_r_plus_changes_the_file(weights):
    with nf.open(weights, "r+") as archive:
        assert archive.mode == "r+"
        archive["bias"][2] = 99
        archive["kernel"][...] *= 2
        archive.flush()
        with nf.open(weights) as other:
            assert other["bias"].tolist() == [0, 1, 99, 3, 4]
            archive["bias"][2] = 98
            assert other["bias"][2] == 98
    with nf.open(weights) as archive:
        assert archive["kernel"][2, 3] == 22
        assert archive["bias"][2] == 98


def test_a_change_of_a_member_reaches_the_file_without_the_archive(weights):
    size = os.path.getsize(weights)
    member = nf.open(weights, "r+")["bias"]
    member[0] = 55
    member.close()
    with nf.open(weights, key="bias") as array:
        assert array[0] == 55
    assert os.path.getsize(weights) == size


def test_a_file_that_was_cut_is_an_error_for_its_members_and_not_the_end(tmp_path):
    path = str(tmp_path / "x.npz")
    nf.save(path, {"a": np.ones(1000), "b": np.ones(100_000)})
    archive = nf.open(path)
    member = archive["b"]
    os.truncate(path, 20_000)
    with pytest.raises(nf.FaultError):
        member.sum()
    assert archive["a"][5] == 1
    archive.close()


def test_threads_share_an_archive(file, arrays):
    wrong = []

    def work():
        for _ in range(200):
            for name, array in archive.items():
                if not np.array_equal(array, arrays[name]):
                    wrong.append(name)

    with nf.open(file) as archive:
        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert wrong == []


def test_closing_it_under_threads_that_read_it_ends_in_closed_errors(tmp_path):
    path = str(tmp_path / "x.npz")
    nf.save(path, {str(i): np.ones(10_000) for i in range(20)})
    odd = []

    def work(archive, started):
        started.wait()
        while True:
            try:
                odd.extend(name for name, array in archive.items() if array.sum() != 10_000)
            except nf.ClosedError:
                return
            except Exception as error:
                odd.append(repr(error))
                return

    for _ in range(20):
        archive, started = nf.open(path), threading.Barrier(4)
        threads = [threading.Thread(target=work, args=(archive, started)) for _ in range(3)]
        for thread in threads:
            thread.start()
        started.wait()
        archive.close()
        for thread in threads:
            thread.join()
    assert odd == []


def test_members_are_pickled_by_value(file, arrays):
    with nf.open(file) as archive:
        copy = pickle.loads(pickle.dumps(archive["kernel"]))
    np.testing.assert_array_equal(copy, arrays["kernel"])


def test_archives_are_compared_by_what_they_are(file):
    """As with NpzFile: the arrays have no single truth, so that only an archive and itself are equal at no cost."""
    with nf.open(file) as archive:
        assert archive != {}
        assert not archive == 5  # noqa: SIM201  # the other operator
