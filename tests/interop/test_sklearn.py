"""Arrays in scikit-learn's estimators: what they learn is what they learn from memory."""

import numpy as np
import pytest
from apart import IS_APART, apart

import ndfile as nf

if IS_APART:
    import joblib
    from joblib.externals.loky import get_reusable_executor
    from sklearn.cluster import MiniBatchKMeans
    from sklearn.decomposition import PCA, IncrementalPCA
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.linear_model import LinearRegression, SGDClassifier
    from sklearn.model_selection import cross_val_score
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    def let_processes_go():
        get_reusable_executor().shutdown(wait=True)

    joblib.Parallel(n_jobs=2)(joblib.delayed(abs)(i) for i in range(2))  # what watches over all that come stays
    let_processes_go()


@pytest.fixture
def table(tmp_path):
    """Rows and their classes in memory, and paths of files of them; 5 MiB, so that NumPy's functions work by blocks."""
    generator = np.random.default_rng(11)
    rows = generator.normal(size=(40_000, 16))
    classes = (rows[:, 0] + rows[:, 1] ** 2 > 1).astype("i8")
    np.save(tmp_path / "rows.npy", rows)
    np.save(tmp_path / "classes.npy", classes)
    return rows, classes, tmp_path / "rows.npy", tmp_path / "classes.npy"


def both(table, count=None):
    """Rows and classes, in memory and on files."""
    rows, classes, *paths = table
    return (rows[:count], classes[:count]), tuple(nf.open(path)[:count] for path in paths)


@apart
def test_transformers(table):
    (rows, _), (a, _) = both(table)
    assert not a.flags.writeable
    for make in (StandardScaler, lambda: PCA(4, random_state=1), lambda: IncrementalPCA(4, batch_size=5000)):
        assert np.array_equal(make().fit_transform(a), make().fit_transform(rows))


@apart
def test_estimators(table):
    (rows, classes), (a, b) = both(table, 4000)

    def learned(x, y):
        yield LinearRegression().fit(x, y).coef_
        yield SGDClassifier(random_state=1).fit(x, y).coef_
        yield MiniBatchKMeans(5, random_state=1, n_init=1).fit(x).cluster_centers_
        yield RandomForestClassifier(8, random_state=1, n_jobs=2).fit(x, y).predict_proba(x)
        yield KNeighborsClassifier(n_jobs=2).fit(x, y).predict(x[:200])
        yield make_pipeline(StandardScaler(), SGDClassifier(random_state=1)).fit(x, y).predict(x)

    for of_file, of_memory in zip(learned(a, b), learned(rows, classes), strict=True):
        assert np.array_equal(of_file, of_memory)


@apart
def test_learning_batch_by_batch(table):
    (rows, classes), (a, b) = both(table)

    def learned(batches):
        model, clusters = SGDClassifier(random_state=1), MiniBatchKMeans(5, random_state=1, n_init=1)
        for x, y in batches:
            model.partial_fit(x, y, classes=[0, 1])
            clusters.partial_fit(x)
        return np.vstack([model.coef_, clusters.cluster_centers_])

    def of_memory():
        return ((rows[start : start + 5000], classes[start : start + 5000]) for start in range(0, len(rows), 5000))

    assert np.array_equal(learned(nf.batches((a, b), batch_size=5000)), learned(of_memory()))


@apart
def test_processes_of_joblib_learn_the_same(table):
    (rows, classes), (a, b) = both(table)
    try:
        scores = [
            cross_val_score(SGDClassifier(random_state=1), x, y, n_jobs=2, cv=2) for x, y in ((rows, classes), (a, b))
        ]
    finally:
        let_processes_go()
    assert np.array_equal(*scores)
    assert scores[0].min() > 0.5


@apart
def test_a_prediction_can_be_put_into_a_file(table, tmp_path):
    (rows, classes), (a, _) = both(table, 4000)
    model = SGDClassifier(random_state=1).fit(rows, classes)
    out = nf.create(tmp_path / "predicted.npy", shape=4000, dtype="i8")
    out[:] = model.predict(a)
    assert np.array_equal(np.load(tmp_path / "predicted.npy"), model.predict(rows))
