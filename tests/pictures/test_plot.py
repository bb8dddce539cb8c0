"""Pictures by matplotlib, whose axes show the array's own indices."""

import subprocess
import sys

import numpy as np
import pytest

import ndfile as nf

figure_module = pytest.importorskip("matplotlib.figure")


@pytest.fixture
def ax():
    return figure_module.Figure().add_subplot()


@pytest.fixture
def saved(tmp_path):
    def save(values):
        np.save(tmp_path / "x.npy", values)
        return nf.open(tmp_path / "x.npy")

    return save


def test_an_image_has_the_indices_of_the_array_on_its_axes(saved, ax):
    values = np.random.default_rng(0).random((30, 40))
    assert nf.plot.image(saved(values), ax=ax, cmap="viridis") is ax
    (image,) = ax.images
    assert image.get_extent() == [-0.5, 39.5, 29.5, -0.5]
    assert np.array_equal(image.get_array(), values)
    assert image.get_cmap().name == "viridis"
    assert ax.get_title().startswith("x.npy: float64 (30, 40)")


def test_an_image_of_a_large_array_is_small_and_its_axes_are_large(path, ax):
    with nf.memmap(path, "f4", "w+", shape=(100_000, 268_435), sparse=True) as a:
        a[70_000:70_010, 200_000:200_100] = 1
        nf.plot.image(a, ax=ax, size=(200, 300))
        (image,) = ax.images
        assert image.get_array().size <= 60_000
        assert image.get_extent() == [-0.5, 268_434.5, 99_999.5, -0.5]
        ax.figure.canvas.draw()
        assert ax.get_ylim() == (99_999.5, -0.5)


def test_nan_is_masked_and_the_scale_is_that_of_the_percentiles(saved, ax):
    values = np.random.default_rng(0).random((50, 60))
    values[3, 4] = np.nan
    nf.plot.image(saved(values), ax=ax)
    (image,) = ax.images
    assert image.get_array().mask[3, 4]
    assert image.get_array().mask.sum() == 1
    assert image.get_clim() == tuple(np.nanpercentile(values, [1, 99]))


def test_colours_are_drawn_as_they_are(saved, ax):
    values = np.random.default_rng(0).integers(0, 256, (20, 30, 3), "u1")
    nf.plot.image(saved(values), ax=ax)
    np.testing.assert_allclose(ax.images[0].get_array(), values / 255)


def test_a_line_is_drawn_between_its_extremes(saved, ax):
    values = np.sin(np.arange(10_000) / 500)
    nf.plot.image(saved(values), ax=ax, size=(100, 200))
    assert ax.get_xlim() == (-0.5, 9999.5)
    (band,) = ax.collections
    corners = band.get_paths()[0].vertices
    assert (corners[:, 1].min(), corners[:, 1].max()) == (values.min(), values.max())


def test_a_short_line_is_drawn_item_by_item_and_times_as_times(saved, ax):
    values = np.datetime64("2020-01-01") + np.arange(50)
    values[7] = "NaT"
    nf.plot.image(saved(values), ax=ax)
    (line,) = ax.lines
    np.testing.assert_array_equal(line.get_ydata(), values)


def test_a_slice_and_a_field_are_drawn(saved, ax):
    values = np.zeros((5, 6, 7), [("a", "f4"), ("b", "f4")])
    values["b"] = np.random.default_rng(0).random((5, 6, 7))
    nf.plot.image(saved(values), ax=ax, field="b", index=3)
    assert np.array_equal(ax.images[0].get_array(), values["b"][3])


def test_an_empty_array_has_no_image(saved, ax):
    with pytest.raises(nf.LayoutError, match="no items"):
        nf.plot.image(saved(np.zeros((0, 3))), ax=ax)


def test_a_histogram_is_numpys(saved, ax):
    values = np.random.default_rng(0).normal(size=100_000).astype("f4")
    assert nf.plot.histogram(saved(values), bins=50, ax=ax, range=(-2, 2)) is ax
    counts, edges = np.histogram(values, 50, (-2, 2))
    (patch,) = ax.patches
    data = patch.get_data()
    assert np.array_equal(data.values, counts)
    assert np.array_equal(data.edges, edges)
    ax.clear()
    nf.plot.histogram(saved(values.astype("c8").real[::3]), bins="sturges", ax=ax, density=True)
    assert ax.get_ylabel() == "density"


def test_residency_is_drawn_by_parts(saved, ax):
    a = saved(np.zeros(1 << 18))
    assert nf.plot.residency(a, ax=ax) is ax
    (patch,) = ax.patches
    assert (patch.get_data().values == 1).all()
    assert ax.get_xlim() == (0, a.residency().nbytes)


def test_dollars_in_names_are_no_formulas(tmp_path, ax):
    np.save(tmp_path / "$\\frac{$.npy", np.zeros((3, 3)))
    nf.plot.image(nf.open(tmp_path / "$\\frac{$.npy"), ax=ax)
    ax.figure.canvas.draw()


def test_without_ax_the_current_axes_of_pyplot_are_taken(saved):
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    try:
        ax = pyplot.figure().add_subplot()
        assert nf.plot.image(saved(np.zeros((3, 3)))) is ax
    finally:
        pyplot.close("all")


def test_matplotlib_is_imported_when_something_is_drawn(run_python):
    program = """
    import sys
    import ndfile as nf
    nf.plot
    assert "matplotlib" not in sys.modules
    sys.modules["matplotlib"] = None
    import numpy as np
    try:
        nf.plot.image(np.zeros((3, 3)))
    except nf.LibraryError as error:
        assert "pip install 'ndfile[plot]'" in str(error), error
    else:
        raise SystemExit("drawn without matplotlib")
    """
    run_python(program)


def test_importing_ndfile_imports_no_pictures():
    program = "import sys, ndfile; sys.exit(any('pictures' in name or 'plot' in name for name in sys.modules))"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
