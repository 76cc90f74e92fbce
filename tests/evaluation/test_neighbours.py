import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.neighbors import NearestNeighbors
from threadpoolctl import threadpool_info

from hcs_utils.errors import InputError
from hcs_utils.evaluation import neighbours
from hcs_utils.evaluation.metrics import kbet
from hcs_utils.evaluation.neighbours import largest, nearest, over_blocks, unit
from tests import oracles
from tests.evaluation.planted import clusters, quick, rotation, seeds


@pytest.mark.parametrize("similarity", ["cosine", "dot"])
@pytest.mark.parametrize("k", [1, 7, 90])
def test_nearest_agrees_with_the_loop(similarity, k):
    bank, query = clusters(0, 90)[0] * [[3.0]], clusters(1, 40)[0]
    value, row = nearest(query, bank, k, similarity=similarity)
    loop = oracles.nearest(query, bank, k, similarity)
    np.testing.assert_array_equal(row, [[j for j, _ in found] for found in loop])
    np.testing.assert_allclose(
        value, [[s for _, s in found] for found in loop], rtol=1e-5, atol=1e-6
    )
    assert value.dtype == np.float32 and row.dtype == np.intp


def test_nearest_agrees_with_scikit_learn_with_and_without_itself():
    bank, query = clusters(0, 300)[0], clusters(1, 100)[0]
    search = NearestNeighbors(n_neighbors=9, metric="cosine").fit(bank)
    far, row = search.kneighbors(query)
    np.testing.assert_array_equal(nearest(query, bank, 9)[1], row)
    np.testing.assert_allclose(nearest(query, bank, 9)[0], 1 - far, atol=1e-6)
    np.testing.assert_array_equal(
        nearest(bank, bank, 9, exclude_self=True)[1], search.kneighbors(return_distance=False)
    )
    assert (nearest(bank, bank, 1)[1][:, 0] == np.arange(300)).all()


def test_planted_twins_find_each_other():
    rng = np.random.default_rng(0)
    one = rng.normal(size=(50, 8))
    both = np.concatenate([one, one * rng.uniform(0.1, 9, (50, 1)) + 1e-3])
    value, row = nearest(both, both, 1, exclude_self=True)
    assert row[:, 0].tolist() == [*range(50, 100), *range(50)]
    assert (value > 0.999).all()


@given(seeds, st.integers(1, 60), st.sampled_from([60, 1_100, 5_000]), st.booleans())
@quick
def test_largest_sorts_as_a_stable_sort_does(seed, k, width, ties):
    values = np.random.default_rng(seed).normal(size=(7, width)).astype(np.float32)
    if ties:
        values = values.round(1)
    values[3] = 0  # all the same
    values[4, 5:] = -np.inf
    expected = np.argsort(-values, axis=1, kind="stable")[:, :k]
    np.testing.assert_array_equal(largest(values, k), expected)


def test_largest_looks_at_few_candidates_of_a_wide_row():
    values = np.random.default_rng(0).normal(size=(20, 60_000)).astype(np.float32)
    for k in (10, 300):
        reach = (values >= neighbours._bound(values, k)[:, None]).sum(axis=1)
        assert (reach >= k).all() and (reach < 1.5 * k + 10).all()


@given(seeds)
@quick
def test_nearest_ignores_rotation_lengths_and_the_order_of_rows(seed):
    bank, query = clusters(seed, 80)[0], clusters(seed + 1, 30)[0]
    value, row = nearest(query, bank, 5)
    rng = np.random.default_rng(seed)
    order, turn = rng.permutation(80), rotation(seed)
    np.testing.assert_allclose(nearest(query @ turn, bank @ turn, 5)[0], value, atol=1e-5)
    longer = nearest(query, bank * rng.uniform(0.1, 10, (80, 1)), 5)[0]
    np.testing.assert_allclose(longer, value, atol=1e-5)
    again, at = nearest(query, bank[order], 5)
    np.testing.assert_allclose(again, value, atol=1e-6)
    assert (order[at] == row).mean() > 0.99  # equal but for rounding


def test_blocks_come_in_order_whole_and_from_threads(monkeypatch):
    monkeypatch.setattr(neighbours, "CHUNK_BYTES", 4 * 50 * 7)  # seven rows at a time
    query, bank = clusters(0, 41)[0], clusters(1, 50)[0]
    found = over_blocks(lambda rows, block: (rows, block), query, bank)
    assert [rows.start for rows, _ in found] == [0, 7, 14, 21, 28, 35]
    blocks = np.concatenate([block for _, block in found])
    np.testing.assert_allclose(blocks, query @ bank.T, atol=1e-6)


def test_blocks_hold_blas_to_one_thread_and_let_it_go():
    def limits():
        return [p["num_threads"] for p in threadpool_info() if p["user_api"] == "blas"]

    before = limits()
    inside = over_blocks(lambda rows, block: limits(), np.ones((3, 2)), np.ones((3, 2)))
    assert set(inside[0]) == {1}
    assert limits() == before
    with pytest.raises(ZeroDivisionError):
        over_blocks(lambda rows, block: 1 // 0, np.ones((3, 2)), np.ones((3, 2)))
    assert limits() == before


@pytest.mark.parametrize("threads", [1, 3])
def test_threads_change_nothing(monkeypatch, threads):
    monkeypatch.setattr(neighbours, "CHUNK_BYTES", 4 * 300 * 11)
    bank, _ = clusters(0, 300)
    whole = nearest(bank, bank, 20, exclude_self=True)[1]
    monkeypatch.setattr(neighbours, "_threads", lambda: threads)
    np.testing.assert_array_equal(nearest(bank, bank, 20, exclude_self=True)[1], whole)


def test_memory_stays_far_below_a_table_of_all_pairs(monkeypatch):
    monkeypatch.setattr(neighbours, "CHUNK_BYTES", 2**20)
    monkeypatch.setattr(neighbours, "_threads", lambda: 2)
    rows = np.random.default_rng(0).standard_normal((6_000, 8), dtype=np.float32)
    tracemalloc.start()
    try:
        nearest(rows, rows, 10, exclude_self=True)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 16 * 2**20 < 4 * 6_000**2 / 8


def test_no_block_exceeds_the_chunk():
    rows = list(neighbours.chunks(59_050, 59_050))
    assert max(r.stop - r.start for r in rows) * 59_050 * 4 <= neighbours.CHUNK_BYTES
    assert sum(r.stop - r.start for r in rows) == 59_050


def test_unit_rows_have_length_one_and_zeros_stay():
    rows = unit(np.array([[3.0, 4.0], [0.0, 0.0]]))
    np.testing.assert_allclose(rows, [[0.6, 0.8], [0, 0]])


def test_errors_say_what_to_do():
    bank, _ = clusters(0, 12)
    with pytest.raises(InputError, match=r"bank of 12 rows; choose 1 to 12"):
        nearest(bank, bank, 13)
    with pytest.raises(InputError, match=r"each finds the others; choose 1 to 11"):
        nearest(bank, bank, 12, exclude_self=True)
    with pytest.raises(InputError, match=r"same rows twice; the query has 4"):
        nearest(bank[:4], bank, 2, exclude_self=True)
    with pytest.raises(InputError, match=r'"cosine" or "dot", got "?\'?l2'):
        nearest(bank, bank, 2, similarity="l2")
    with pytest.raises(InputError, match=r"All 12 rows of bank are the same"):
        nearest(bank, np.ones((12, 8)), 2)
    with pytest.raises(InputError, match=r"8 features and the query 7"):
        nearest(bank[:, :7], bank, 2)
    with pytest.raises(InputError, match=r"label is missing in 2 of 3 rows: 0, 2"):
        neighbours.checked_labels(np.array([None, "a", np.nan], object), bank[:3], "label")
    bank[[5, 7], 0] = np.nan
    with pytest.raises(InputError, match=r"2 of 12 rows of query hold NaN .* row 5"):
        nearest(bank, bank, 2)


def test_neighbours_of_rows_that_all_point_one_way_are_those_of_float64():
    rng = np.random.default_rng(0)
    bank = (5 + 1e-3 * rng.normal(size=(600, 16))).astype(np.float32)  # cosines: 1 - 1e-7
    query = (5 + 1e-3 * rng.normal(size=(40, 16))).astype(np.float32)
    found, row = neighbours.nearest(query, bank, 10)
    one, two = (x.astype(np.float64) / np.linalg.norm(x.astype(np.float64), axis=1)[:, None]
                for x in (query, bank))  # fmt: skip
    exact = np.argsort(-(one @ two.T), axis=1)[:, :10]
    assert np.mean([np.isin(a, b).mean() for a, b in zip(row, exact, strict=True)]) > 0.995
    np.testing.assert_allclose(found, np.take_along_axis(one @ two.T, exact, axis=1), atol=1e-6)
    rough = np.argsort(-(one.astype(np.float32) @ two.astype(np.float32).T), axis=1)[:, :10]
    assert np.mean([np.isin(a, b).mean() for a, b in zip(rough, exact, strict=True)]) < 0.9


def test_batches_in_blocks_do_not_look_set_apart_where_all_rows_point_one_way():
    rng = np.random.default_rng(0)
    features = (5 + 1e-3 * rng.normal(size=(800, 16))).astype(np.float32)
    assert kbet(features, np.repeat(list("abcd"), 200)) > 0.9  # pure noise, rows sorted by batch
