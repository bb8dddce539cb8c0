"""xarray's engine: names, laziness, indexing, closing, and dask."""

import asyncio
import concurrent.futures
import copy
import inspect
import json
import pickle

import h5py
import nibabel
import numpy as np
import pyarrow
import pytest
import scipy.io.wavfile
import tifffile
import xarray as xr
from astropy.io import fits
from cold_files import cool, pages_in_memory
from hypothesis import given, settings
from hypothesis import strategies as st

import ndfile as nf
from ndfile.interop.xarray import FileArray, NdfileBackendEntrypoint

CUBE = np.arange(2 * 3 * 4, dtype="f4").reshape(2, 3, 4)


def opened(path, **arguments):
    return xr.open_dataset(path, engine="ndfile", **arguments)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Names of files are relative to a folder of the test's own."""
    monkeypatch.chdir(tmp_path)
    return str(tmp_path)


@pytest.fixture
def weather():
    """A dataset with everything that metadata can say."""
    return xr.Dataset(
        {
            "temperature": (("time", "x"), np.arange(12.0).reshape(3, 4), {"units": "K"}),
            "wind": (("time", "x", "level"), np.arange(24, dtype="i2").reshape(3, 4, 2)),
            "count": ((), np.int64(7)),
        },
        {"x": ("x", [10, 20, 30, 40], {"units": "km"}), "place": ("x", [5, 6, 7, 8])},
        {"title": "weather"},
    )


def save(path, dataset):
    nf.save(path, {n: dataset[n].values for n in dataset.variables}, metadata=dataset.to_dict(data=False))


# What a file says


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("suffix", ["npz", "safetensors"])
def test_a_dataset_comes_back_as_its_to_dict_says_it(suffix, weather):
    save(f"w.{suffix}", weather)
    with opened(f"w.{suffix}") as found:
        xr.testing.assert_identical(found.load(), weather)


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("name", ["x.npy", "x.bin"])
def test_an_array_comes_back_as_its_to_dict_says_it(name):
    array = xr.DataArray(
        CUBE, {"y": [1, 2, 3], "label": ("x", [1.5, 2.5])}, ("x", "y", "z"), "cube", {"units": "V", "gain": [1, 2]}
    )
    words = array.to_dict(data=False) | {"coords": {n: array[n].to_dict() for n in array.coords}}
    nf.save(name, array.values, metadata=json.loads(json.dumps(words)))
    with xr.open_dataarray(name, engine="ndfile") as found:
        xr.testing.assert_identical(found.load(), array)


@pytest.mark.usefixtures("folder")
def test_without_words_dimensions_are_named_as_xarray_does():
    np.save("x.npy", CUBE)
    np.savez("x.npz", a=CUBE, b=CUBE[0])
    with opened("x.npy") as one, opened("x.npz") as several:
        assert one["data"].dims == ("dim_0", "dim_1", "dim_2")
        assert several["a"].dims == ("a_dim_0", "a_dim_1", "a_dim_2")
        assert several["b"].dims == ("b_dim_0", "b_dim_1")
        xr.testing.assert_identical(one.load(), xr.Dataset({"data": (one["data"].dims, CUBE)}))


@pytest.mark.usefixtures("folder")
def test_short_words_do():
    nf.save("x.npy", CUBE[0], metadata={"dims": ["y", "x"], "coords": {"x": [1, 2, 3, 4]}, "unit": "mV"})
    nf.save("x.npz", {"a": CUBE[0], "y": np.arange(3)}, metadata={"dims": {"a": ["y", "x"]}, "who": "me"})
    with opened("x.npy") as one, opened("x.npz") as several:
        assert one["data"].dims == several["a"].dims == ("y", "x")
        assert one["data"].attrs == {"unit": "mV"}
        assert one.x.values.tolist() == [1, 2, 3, 4]
        assert set(several.coords) == {"y"}  # as it is 1-D, and named and as long as a dimension
        assert several.attrs == {"who": "me"}


@pytest.mark.usefixtures("folder")
def test_one_name_and_two_lengths_are_two_dimensions():
    words = {"dims": {"a": ["x"], "b": ["x"], "c": ["y", "x"], "x": ["x"]}}
    nf.save("x.npz", {"a": np.zeros(3), "b": np.zeros(4), "c": np.zeros((2, 5)), "x": np.arange(4)}, metadata=words)
    with opened("x.npz") as found:
        assert [found[n].dims for n in "abc"] == [("a_x",), ("x",), ("y", "c_x")]
        assert set(found.coords) == {"x"}
        assert found.sizes == {"a_x": 3, "x": 4, "y": 2, "c_x": 5}


@pytest.mark.usefixtures("folder")
def test_the_users_dims_go_before_the_files():
    nf.save("x.npy", CUBE, metadata={"dims": ["a", "b", "c"]})
    np.savez("x.npz", a=CUBE, time=np.arange(2))
    with opened("x.npy", dims=["t", None, "x"]) as one, opened("x.npz", dims={"a": ["time", "y", "x"]}) as several:
        assert one["data"].dims == ("t", "dim_1", "x")
        assert several["a"].dims == ("time", "y", "x")
        assert several.time.values.tolist() == [0, 1]
        assert several.a.sel(time=1).values.tolist() == CUBE[1].tolist()


@pytest.mark.usefixtures("folder")
def test_dims_that_do_not_fit_are_refused():
    np.save("x.npy", CUBE)
    np.savez("x.npz", a=CUBE, b=CUBE)
    nf.save("wrong.npy", CUBE, metadata={"dims": ["x", "y"]})
    cases = [
        ("x.npy", {"dims": ["a", "b"]}, r"2 dimensions, 'data' has 3"),
        ("x.npy", {"dims": ["a", "b", "b"]}, "has a name twice"),
        ("x.npy", {"dims": "abc"}, "must be a list of names"),
        ("x.npz", {"dims": ["a", "b", "c"]}, "the file has 2"),
        ("x.npz", {"dims": {"c": ["a"]}}, "no variable of the file"),
        ("wrong.npy", {}, "Pass dims= with as many"),
    ]
    for path, arguments, message in cases:
        with pytest.raises(nf.LayoutError, match=message):
            opened(path, **arguments)
    with opened("wrong.npy", dims=["x", "y", "z"]) as found:
        assert found.sizes == {"x": 2, "y": 3, "z": 4}


@pytest.mark.usefixtures("folder")
def test_a_coordinate_that_the_array_has_outgrown_is_left_out_with_a_warning():
    nf.save("x.npy", np.zeros(2), metadata={"dims": ["x"], "coords": {"x": [1, 2]}})
    with nf.open("x.npy", mode="r+") as a:
        a.append([3.0])
    with pytest.warns(UserWarning, match="2 values along 'x', the array 3"):
        found = opened("x.npy")
    with found:
        assert not found.coords
        assert found.sizes == {"x": 3}


# Formats with names of their own


@pytest.mark.usefixtures("folder")
def test_dimension_scales_of_hdf5_are_dimensions():
    with h5py.File("x.h5", "w", userblock_size=512) as file:
        file["time"], file["g/y"], file["g/v"], file["plain"] = np.arange(2.0), np.arange(3), CUBE, CUBE
        file.create_dataset("z", (4,), "f4").make_scale("This is a netCDF dimension but not a netCDF variable.   4")
        for axis, scale in enumerate(("time", "g/y", "z")):
            if scale != "z":
                file[scale].make_scale()
            file["g/v"].dims[axis].attach_scale(file[scale])
        file["g/v"].attrs["units"] = np.bytes_("K")
        file["g/v"].attrs["scale"] = [2.5]
        file["plain"].attrs["_ARRAY_DIMENSIONS"] = np.array([b"p", b"q", b"r"])
        file.attrs["title"] = np.bytes_("T")
    with opened("x.h5") as whole, opened("x.h5", group="g") as group:
        assert whole["g/v"].dims == ("time", "g/y", "z")
        assert whole["plain"].dims == ("p", "q", "r")
        assert set(whole.coords) == {"time", "g/y"}
        assert set(whole.data_vars) == {"g/v", "plain"}
        assert whole.attrs == {"title": "T"}
        assert whole["g/v"].attrs == {"units": "K", "scale": 2.5}
        assert group["v"].dims == ("time", "y", "z")
        assert set(group.coords) == {"y"}
        assert group["v"].values.tolist() == CUBE.tolist()


@pytest.mark.usefixtures("folder")
def test_nifti_has_x_y_z_and_t():
    nibabel.Nifti1Image(CUBE.reshape(2, 3, 2, 2), np.diag([2, 3, 4, 1])).to_filename("x.nii")
    with opened("x.nii") as found:
        assert found["data"].dims == ("x", "y", "z", "t")
        assert found["data"].attrs["zooms"][:3] == [2, 3, 4]
        np.testing.assert_array_equal(found["data"], nibabel.load("x.nii").get_fdata())


@pytest.mark.usefixtures("folder")
def test_tiff_has_the_axes_that_its_writer_named():
    stack = np.arange(2 * 3 * 16 * 16, dtype="u2").reshape(2, 3, 16, 16)
    tifffile.imwrite("x.tif", stack, ome=False, metadata={"axes": "ZCYX"}, photometric="minisblack")
    with tifffile.TiffWriter("two.tif") as file:
        file.write(stack[0, 0], metadata=None)
        file.write(stack[0, 0, :8, :8], metadata=None)
    with opened("x.tif") as one, opened("two.tif") as two:
        assert one["data"].dims == ("Z", "C", "Y", "X")
        np.testing.assert_array_equal(one["data"], stack)
        assert [two[n].dims for n in "01"] == [("Y", "X"), ("1_Y", "1_X")]


@pytest.mark.usefixtures("folder")
def test_wav_has_time_and_channel():
    scipy.io.wavfile.write("x.wav", 8000, np.arange(20, dtype="i2").reshape(10, 2))
    with opened("x.wav") as found:
        assert found["data"].dims == ("time", "channel")
        assert found["data"].attrs["rate"] == 8000
        assert found["data"].isel(channel=1).values.tolist() == list(range(1, 20, 2))


@pytest.mark.usefixtures("folder")
def test_arrow_has_rows():
    table = pyarrow.table({"a": np.arange(5), "b": np.arange(5) * 0.5})
    with pyarrow.OSFile("x.arrow", "wb") as sink, pyarrow.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    with pyarrow.OSFile("many.arrow", "wb") as sink, pyarrow.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=3)
    with opened("x.arrow") as one, opened("many.arrow") as many:
        assert one.sizes == {"row": 5}
        assert one.b.values.tolist() == [0, 0.5, 1, 1.5, 2]
        assert many.sizes == {"row_0": 3, "row_1": 2}


@pytest.mark.usefixtures("folder")
def test_fits_is_read_in_the_machines_byte_order():
    fits.PrimaryHDU(CUBE).writeto("x.fits")
    with opened("x.fits") as found:
        (name,) = found.data_vars
        assert found[name].dtype.isnative
        np.testing.assert_array_equal(found[name], CUBE)


@pytest.mark.usefixtures("folder")
def test_raw_bytes_are_taken_by_what_nf_open_takes():
    CUBE.tofile("x.dat")
    arguments = {"dtype": "f4", "shape": (2, 4), "order": "F", "offset": 8, "dims": ["y", "x"], "max_rss": "1 GiB"}
    with opened("x.dat", **arguments, backend="map", format="raw") as found:
        np.testing.assert_array_equal(found["data"], nf.open("x.dat", dtype="f4", shape=(2, 4), order="F", offset=8))
        assert found["data"].dims == ("y", "x")


@pytest.mark.usefixtures("folder")
def test_key_is_one_member():
    np.savez("x.npz", a=CUBE, b=CUBE[0])
    with opened("x.npz", key="b", dims=["y", "x"]) as found:
        assert list(found.variables) == ["b"]
        assert found.sizes == {"y": 3, "x": 4}
    with pytest.raises(nf.MemberError, match="'c' is not one of its 2 members"):
        opened("x.npz", key="c")
    with pytest.raises(nf.MemberError):
        opened("x.npz", group="c")


@pytest.mark.usefixtures("folder")
def test_what_cannot_be_mapped_is_an_error_unless_it_is_dropped():
    with h5py.File("x.h5", "w") as file:
        file["a"] = CUBE
        file.create_dataset("b", data=CUBE, compression="gzip")
        file.create_dataset("c", data=CUBE, chunks=True)
    with pytest.raises(nf.FormatError, match=r"ndfile.convert.* drop_variables=\['b', 'c'\]") as caught:
        opened("x.h5")
    assert caught.value.member == "b"
    with opened("x.h5", drop_variables=["b", "c", "d"]) as found:
        assert list(found.variables) == ["a"]
    with opened("x.h5", key="a") as found:
        assert list(found.variables) == ["a"]
    nf.convert("x.h5", "x.npz")
    with opened("x.npz", drop_variables="a") as found:
        np.testing.assert_array_equal(found["b"], CUBE)


# Which files are ours


@pytest.mark.usefixtures("folder")
def test_without_an_engine_only_files_that_no_other_has_are_taken():
    np.save("x.npy", CUBE)
    np.savez("x.npz", a=CUBE)
    nf.save("x.safetensors", {"a": CUBE})
    nf.save("x.bin", CUBE)
    for path in ("x.npy", "x.npz", "x.safetensors", "x.bin"):
        with xr.open_dataset(path) as found:
            assert len(found.data_vars) == 1
    CUBE.tofile("bare.dat")
    with open("odd.dat", "wb"), open("odd.dat.json", "w") as file:
        file.write("{}")
    guess = NdfileBackendEntrypoint().guess_can_open
    others = ["x.nc", "x.h5", "x.tif", "x.zarr", "bare.dat", "odd.dat", "no.dat", b"x.npy", 3, "https://h/x.nc"]
    assert not any(map(guess, others))


def test_the_entry_point_names_its_parameters():
    engine = xr.backends.list_engines()["ndfile"]
    assert isinstance(engine, NdfileBackendEntrypoint)
    assert engine.description
    assert ("self", *engine.open_dataset_parameters) == tuple(inspect.signature(type(engine).open_dataset).parameters)


def test_only_paths_to_files_are_taken(folder):
    with pytest.raises(TypeError, match="by their names, not bytes"):
        opened(b"\x93NUMPY")
    with pytest.raises(FileNotFoundError):
        opened("none.npy")


# Reading


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """16 MiB of rows of one page, and their path."""
    path = str(tmp_path_factory.mktemp("large") / "x.npy")
    values = np.random.default_rng(0).standard_normal((4096, 512))
    nf.save(path, values, metadata={"dims": ["row", "column"], "coords": {"column": list(range(512))}})
    return path, values


def test_nothing_is_read_before_values_are_asked_for(large):
    path, values = large
    cool(path)
    with opened(path) as found, opened(path, chunks={"row": 256}) as chunked:
        rows = found["data"].isel(row=slice(2000, 3000)).sel(column=[3, 5]).transpose()
        assert "..." in repr(found)
        repr(chunked)
        repr(rows.to_dataset())
        assert chunked["data"].mean().dtype == "f8"
        # The header is read, and with it what the kernel reads ahead.
        assert pages_in_memory(path)[512:].sum() == 0
        wanted = found["data"].isel(row=[2000, 3000, 4000])
        np.testing.assert_array_equal(wanted, values[[2000, 3000, 4000]])
        assert 3 <= pages_in_memory(path)[512:].sum() <= 3 * 2 + 2


def test_loading_copies_nothing(large):
    path, values = large
    with opened(path) as found:
        data = found["data"].isel(row=slice(1, None, 2)).data
        assert isinstance(data, nf.memmap)
        assert data.filename == path
        np.testing.assert_array_equal(data, values[1::2])


def test_columns_of_a_large_array_are_read_in_one_pass(large):
    path, values = large
    with opened(path, cache=False) as found:
        data = found["data"]
        np.testing.assert_array_equal(data.isel(column=[5, -3, 5]), values[:, [5, -3, 5]])
        np.testing.assert_array_equal(data.isel(column=[5, 3], row=slice(9, None, -2)), values[9::-2, [5, 3]])
        np.testing.assert_array_equal(data.isel(column=[5, 3], row=slice(1, None, 2)), values[1::2, [5, 3]])
        np.testing.assert_array_equal(data.isel(column=[5, 3], row=[4, 8, 0]), values[[4, 8, 0]][:, [5, 3]])


indexer = st.one_of(
    st.integers(-3, 2),
    st.builds(slice, *[st.none() | st.integers(-4, 4)] * 2, st.sampled_from([None, 1, 2, -1])),
    st.lists(st.integers(-3, 2), max_size=4).map(lambda numbers: np.array(numbers, int)),
)


@pytest.fixture(scope="module", params=["C", "F"])
def cubes(request, tmp_path_factory):
    path = str(tmp_path_factory.mktemp("cube") / "x.npy")
    values = np.asarray(np.arange(3**4).reshape(3, 3, 3, 3), order=request.param)
    nf.save(path, values, metadata={"dims": list("abcd")})
    with xr.open_dataarray(path, engine="ndfile", cache=False) as ours:
        yield ours, xr.DataArray(values, dims=tuple("abcd"), name="data", attrs=ours.attrs)


@settings(max_examples=150)
@given(st.dictionaries(st.sampled_from("abcd"), indexer), st.dictionaries(st.sampled_from("abcd"), indexer))
def test_an_index_gives_what_it_gives_in_memory(cubes, first, second):
    ours, theirs = cubes
    expected, found = theirs.isel(first), ours.isel(first)
    second = {dim: one for dim, one in second.items() if expected.sizes.get(dim, 0) == 3}
    xr.testing.assert_identical(found.isel(second).load(), expected.isel(second))


@settings(max_examples=80)
@given(
    st.lists(st.tuples(*[st.integers(-3, 2)] * 3), min_size=1, max_size=5),
    st.permutations("abcd"),
    st.integers(1, 3),
    indexer,
)
def test_points_give_what_they_give_in_memory(cubes, points, dims, count, other):
    ours, theirs = cubes
    numbers = np.array(points).T
    index = {dim: xr.DataArray(one, dims="point") for dim, one in zip(dims[:count], numbers, strict=False)}
    for more in ({}, {dims[3]: other}):
        xr.testing.assert_identical(ours.isel(index | more).load(), theirs.isel(index | more))
        xr.testing.assert_identical(ours.isel(more).isel(index).load(), theirs.isel(more).isel(index))


@pytest.mark.usefixtures("folder")
def test_edges_of_shapes_and_types_are_read():
    arrays = {
        "single": np.array(3.5),
        "empty": np.zeros((0, 3)),
        "text": np.array(["ab", "c"]),
        "letters": np.array([[b"a", b"b"]], "S1"),
        "when": np.array(["2000-01-01", "NaT"], "M8[ns]"),
        "yes": np.array([True, False]),
        "record": np.array([(1, 2.0)], "i4,f8"),
        "big": np.array([1, 2], ">i4"),
    }
    np.savez("x.npz", **arrays)
    with opened("x.npz") as found:
        for name, values in arrays.items():
            assert found[name].shape == values.shape
            np.testing.assert_array_equal(found[name].values, values)
        assert found["single"].isel().item() == 3.5
        assert found["big"].dtype == "i4"


@pytest.mark.usefixtures("folder")
def test_cf_attributes_are_decoded_where_there_are_any():
    data = {"time": np.arange(3), "t": np.array([1, 2, -9], "i2"), "plain": np.array([1, 2, -9], "i2")}
    words = {
        "time": {"units": "days since 2000-01-01"},
        "t": {"scale_factor": 0.5, "add_offset": 10.0, "_FillValue": -9},
    }
    words = {"data_vars": {name: {"dims": ["time"], "attrs": words.get(name, {})} for name in data}}
    nf.save("x.npz", data, metadata=words)
    bare, some = opened("x.npz", decode_cf=False), opened("x.npz", decode_times=False)
    with opened("x.npz") as found, bare, some:
        assert found.time.dtype.kind == "M"
        assert found.t.values[:2].tolist() == [10.5, 11]
        assert np.isnan(found.t.values[2])
        assert found["plain"].dtype == bare.t.dtype == "i2"
        assert bare.t.attrs["scale_factor"] == 0.5
        assert some.time.values.tolist() == [0, 1, 2]
        assert some.t.dtype.kind == "f"


def test_threads_read_without_a_lock(large):
    path, values = large
    with opened(path, cache=False) as found, concurrent.futures.ThreadPoolExecutor(8) as pool:
        sums = pool.map(lambda i: float(found["data"].isel(row=slice(i, None, 32)).sum()), range(32))
        np.testing.assert_allclose(list(sums), [values[i::32].sum() for i in range(32)])


@pytest.mark.skipif(not hasattr(xr.Dataset, "load_async"), reason="this xarray has no load_async")
def test_load_async_gives_the_same(large):
    path, values = large
    with opened(path) as found:
        loaded = asyncio.run(found.isel(row=[5, 3]).load_async())
        np.testing.assert_array_equal(loaded["data"], values[[5, 3]])


# Closing


def test_after_close_nothing_can_be_computed(large):
    path, _ = large
    with opened(path, chunks={"row": 1024}) as chunked:
        mean = chunked["data"].mean()
    with opened(path) as found:
        part = found["data"].isel(row=0)
    for late in (mean, part, found["data"]):
        with pytest.raises(nf.ClosedError, match="the mapping is closed"):
            late.compute(scheduler="synchronous")
    with pytest.raises(nf.ClosedError):
        pickle.dumps(found)
    assert repr(_file_array(found)) == f"<FileArray {path}: closed>"
    found.close()


def _file_array(dataset, name="data"):
    inside = dataset[name].variable._data
    while not isinstance(inside, FileArray):
        inside = inside.array
    return inside


def _is_mapped(path):
    with open("/proc/self/maps") as maps:
        return any(line.rstrip().endswith(path) for line in maps)


def test_close_unmaps_the_file(large):
    path, _ = large
    found = opened(path)
    float(found["data"].isel(row=[1, 2]).sum())
    assert _is_mapped(path)
    found.close()
    assert not _is_mapped(path)


def test_values_that_were_loaded_outlive_close(large):
    path, values = large
    found = xr.load_dataset(path, engine="ndfile")
    np.testing.assert_array_equal(found["data"], values)
    assert _is_mapped(path)
    del found
    assert not _is_mapped(path)


def test_an_open_that_fails_keeps_nothing(tmp_path):
    path = str(tmp_path / "x.npy")
    nf.save(path, np.arange(3), metadata={"dims": ["x"], "attrs": {"units": "days since nonsense"}})
    with pytest.raises(ValueError, match="unable to decode time"):
        opened(path)
    assert not _is_mapped(path)


# Changing


@pytest.mark.usefixtures("folder")
def test_changes_stay_in_memory():
    np.save("x.npy", CUBE)
    with opened("x.npy") as found:
        found["data"][0] = 7  # xarray copies what it has not loaded yet
        assert (found["data"][0] == 7).all()
    with opened("x.npy") as found, pytest.raises(ValueError, match="read-only"):
        found["data"].values[0] = 7
    with opened("x.npy", mode="c") as found:
        found["data"].values[0] = 7
        found["data"][1] = 8
        assert found["data"].values[:, 0, 0].tolist() == [7, 8]
        copied = pickle.loads(pickle.dumps(found))  # by value, for no file has them
    np.testing.assert_array_equal(copied["data"][0], np.full((3, 4), 7))
    np.testing.assert_array_equal(np.load("x.npy"), CUBE)
    with pytest.raises(nf.LayoutError, match=r"ndfile.open\(path, mode='r\+'\)"):
        opened("x.npy", mode="r+")


@pytest.mark.usefixtures("folder")
def test_a_file_that_is_replaced_is_kept_as_it_was():
    nf.save("x.npy", CUBE, metadata={"dims": list("abc")})
    with opened("x.npy") as old:
        nf.save("x.npy", CUBE[0] + 1, metadata={"dims": ["y", "x"]})
        with opened("x.npy") as new:
            np.testing.assert_array_equal(old["data"], CUBE)
            np.testing.assert_array_equal(new["data"], CUBE[0] + 1)
            assert new["data"].dims == ("y", "x")


# Sending


def test_a_pickle_holds_a_reference(large):
    path, values = large
    with opened(path) as found, opened(path, chunks={"row": 64}) as chunked:
        sent = pickle.dumps(found)
        graph = pickle.dumps(chunked["data"].data)
        np.testing.assert_array_equal(copy.deepcopy(found)["data"], values)
    assert len(sent) < 20_000  # of which 8 kB are the coordinate
    assert len(graph) < 100_000
    np.testing.assert_array_equal(pickle.loads(sent)["data"], values)
    np.testing.assert_array_equal(pickle.loads(graph).compute(scheduler="synchronous"), values)


@pytest.mark.parametrize("suffix", ["npz", "h5"])
def test_members_are_sent_as_references_too(tmp_path, suffix):
    path = str(tmp_path / f"x.{suffix}")
    if suffix == "npz":
        np.savez(path, a=CUBE, b=CUBE + 1)
    else:
        with h5py.File(path, "w") as file:
            file["a"], file["b"] = CUBE, CUBE + 1
    with opened(path) as found:
        sent = pickle.dumps(found.isel(b_dim_0=[1, 0]))
    np.testing.assert_array_equal(pickle.loads(sent)["b"], CUBE[::-1] + 1)


def test_dask_computes_the_same_in_threads(large, run_python):
    path, values = large
    program = """
        import sys, numpy as np, xarray as xr
        with xr.open_dataset(sys.argv[1], engine="ndfile", chunks="auto") as ds:
            print(repr(float((ds["data"] * 2).sum())), repr(float(ds["data"].isel(row=[5, 9]).max())))
        """
    total, most = map(float, run_python(program, path).stdout.split())
    np.testing.assert_allclose(total, values.sum() * 2)
    assert most == values[[5, 9]].max()


def test_dask_computes_the_same_in_processes(large, run_python):
    path, values = large
    program = """
        import sys, dask, xarray as xr
        with xr.open_dataset(sys.argv[1], engine="ndfile", chunks={"row": 1024}) as ds:
            with dask.config.set(scheduler="processes", num_workers=2):
                print(repr(float(ds["data"].max())), repr(ds["data"].isel(row=1).compute().values[:3].tolist()))
        """
    most, _, first = run_python(program, path).stdout.partition(" ")
    assert float(most) == values.max()
    assert json.loads(first) == values[1, :3].tolist()


def test_dask_computes_the_same_on_a_cluster(large, run_python):
    path, values = large
    program = """
        import sys, warnings, xarray as xr
        from distributed import Client, LocalCluster
        warnings.filterwarnings("ignore", category=ResourceWarning)
        with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as cluster, Client(cluster):
            with xr.open_dataset(sys.argv[1], engine="ndfile", chunks={"row": 1024}) as ds:
                print(repr(float(ds["data"].max())), repr(ds["data"].isel(row=1).compute().values[:3].tolist()))
        """
    most, _, first = run_python(program, path).stdout.partition(" ")
    assert float(most) == values.max()
    assert json.loads(first) == values[1, :3].tolist()


def test_many_files_are_one_dataset(tmp_path, run_python):
    for number in range(3):
        words = {"dims": ["time", "x"], "coords": {"time": [2 * number, 2 * number + 1]}, "name": "v"}
        nf.save(tmp_path / f"{number}.npy", CUBE[:, 0] + number, metadata=words)
    program = """
        import sys, xarray as xr
        with xr.open_mfdataset(sys.argv[1], engine="ndfile") as ds:
            print(ds.v.sel(time=5).values.tolist(), ds.v.chunks[0])
        """
    expected = (CUBE[1, 0] + 2).tolist()
    assert run_python(program, tmp_path / "*.npy").stdout.strip() == f"{expected} (2, 2, 2)"


def test_importing_ndfile_imports_no_xarray(run_python):
    run_python("import sys, ndfile; assert 'xarray' not in sys.modules")
