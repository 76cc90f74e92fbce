import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import label_ranking_average_precision_score, top_k_accuracy_score
from torchmetrics.retrieval import RetrievalHitRate, RetrievalMRR

from hcs_utils.errors import InputError
from hcs_utils.evaluation.metrics import generalisation, ranks, retrieval
from tests import oracles_retrieval as oracles
from tests.evaluation.planted import quick, rotation, seeds


def pairs(seed=0, n=60, noise=1.0, d=8):
    """Molecules and their images, the more alike the less the noise."""
    rng = np.random.default_rng(seed)
    molecule = rng.normal(size=(n, d))
    return molecule, molecule + noise * rng.normal(size=(n, d))


def blocks(table, pool):
    return [table[i : i + pool] for i in range(0, len(table) - pool + 1, pool)]


def test_blocks_agree_with_the_loop_with_torchmetrics_and_with_scikit_learn():
    query, gallery = pairs(n=70, noise=2.0)
    table = retrieval(query, gallery, pool=20, k=(1, 3, 10), form="blocks")  # drops the last ten
    loop = [
        oracles.pool_scores(q, g, (1, 3, 10)).mean(axis=0)
        for q, g in zip(blocks(query, 20), blocks(gallery, 20), strict=True)
    ]
    np.testing.assert_allclose(table.value, np.mean(loop, axis=0), atol=1e-12)
    np.testing.assert_allclose(table.low, np.quantile(loop, 0.025, axis=0), atol=1e-12)
    np.testing.assert_allclose(table.high, np.quantile(loop, 0.975, axis=0), atol=1e-12)
    theirs, raw, ranking, top = [], [], [], []
    for q, g in zip(blocks(query, 20), blocks(gallery, 20), strict=True):
        cosine = (q @ g.T) / np.outer(np.linalg.norm(q, axis=1), np.linalg.norm(g, axis=1))
        wanted = np.eye(20)
        rows = torch.arange(20).repeat_interleave(20)
        metrics = [*(RetrievalHitRate(top_k=k) for k in (1, 3, 10)), RetrievalMRR()]
        for found, similarity in ((theirs, (1 + cosine) / 2), (raw, cosine)):
            flat = torch.tensor(similarity).ravel(), torch.tensor(wanted).bool().ravel()
            found.append([float(metric(*flat, indexes=rows)) for metric in metrics])
        ranking.append(label_ranking_average_precision_score(wanted, cosine))
        top.append(top_k_accuracy_score(np.arange(20), cosine, k=3))
    np.testing.assert_allclose(table.value, np.mean(theirs, axis=0), atol=1e-6)
    np.testing.assert_allclose(table.value[:3], np.mean(raw, axis=0)[:3], atol=1e-6)
    # given cosines, torchmetrics counts a partner at or below 0 as not found
    assert np.mean(raw, axis=0)[3] < table.value["mrr"] - 0.001
    np.testing.assert_allclose(table.value["mrr"], np.mean(ranking), atol=1e-12)
    np.testing.assert_allclose(table.value["hr@3"], np.mean(top), atol=1e-12)
    assert 0.1 < table.value["hr@1"] < table.value["hr@10"] < 1


@given(seeds, st.integers(2, 6))
@quick
def test_ties_take_the_mean_over_their_orders(seed, pool):
    rng = np.random.default_rng(seed)
    query, gallery = rng.choice([-1.0, 1.0], (2, pool, 4))
    table = retrieval(query, gallery, pool=pool, k=(1, 2), form="blocks")
    loop = oracles.pool_scores(query, gallery, (1, 2)).mean(axis=0)
    np.testing.assert_allclose(table.value, loop, atol=1e-12)


@pytest.mark.parametrize("collapsed", ["query", "gallery", "both", "zero"])
def test_an_embedding_of_one_point_scores_chance_exactly(collapsed):
    query, gallery = pairs(n=120)
    point = np.random.default_rng(1).normal(size=8)
    if collapsed in ("query", "both"):
        query = np.tile(point, (120, 1)) * (
            np.arange(1, 121)[:, None] if collapsed == "both" else 1
        )
    if collapsed in ("gallery", "both"):
        gallery = np.tile(point, (120, 1))
    if collapsed == "zero":
        gallery = np.zeros((120, 8))
    table = retrieval(query, gallery, pools=400)
    np.testing.assert_allclose(table.value, table.chance, atol=1e-12)
    np.testing.assert_allclose(table.high - table.low, 0, atol=1e-12)


def test_chance_is_that_of_the_paper_and_of_unrelated_embeddings():
    query, _ = pairs(0, 500)
    table = retrieval(query, pairs(1, 500)[1], pools=150)
    paper = [0.010, 0.030, 0.050, 0.100, 0.052]
    np.testing.assert_array_equal(table.chance.round(3), paper)
    assert table.index.tolist() == ["hr@1", "hr@3", "hr@5", "hr@10", "mrr"]
    np.testing.assert_allclose(table.value, table.chance, atol=0.012)
    assert round(retrieval(*pairs(0, 1000), pool=1000, pools=1).chance["mrr"], 5) == 0.00749


def test_paired_embeddings_score_1_both_ways_and_noise_takes_it_away():
    query, gallery = pairs(noise=0.0)
    for table in (retrieval(query, gallery, pool=50), retrieval(gallery, query, pool=50)):
        assert (table[["value", "low", "high"]] == 1).all(axis=None)
    scores = [retrieval(*pairs(n=200, noise=n)).value["mrr"] for n in (0.2, 1, 3, 30)]
    assert scores == sorted(scores, reverse=True) and scores[0] > 0.95 and scores[-1] < 0.12


def test_the_two_directions_differ():
    query, gallery = pairs()
    gallery[10:30] = gallery[10]  # images that look alike, molecules that do not
    there, back = retrieval(query, gallery, pool=60), retrieval(gallery, query, pool=60)
    assert abs(there.value["hr@1"] - back.value["hr@1"]) > 0.01


def test_harder_pools_are_larger():
    query, gallery = pairs(n=300, noise=2)
    small, large = (retrieval(query, gallery, pool=p, pools=50) for p in (20, 300))
    assert (small.value > large.value).all() and (small.chance > large.chance).all()
    np.testing.assert_allclose(
        large.low, large.high, atol=1e-12
    )  # one pool of all pairs, drawn 50 times
    rank = ranks(query, gallery)
    np.testing.assert_allclose(large.value["mrr"], np.mean(1 / rank), atol=1e-12)
    np.testing.assert_allclose(large.value["hr@10"], np.mean(rank <= 10), atol=1e-12)


def test_pools_are_drawn_without_replacement_and_by_the_seed():
    """A pool that held a pair twice would tie, and miss half the hits of both."""
    query, gallery = pairs(n=30, noise=0.01)
    assert retrieval(query, gallery, pool=30, k=(1,), pools=20).value["hr@1"] == 1
    query, gallery = pairs(n=100, noise=2)
    first, again, other = (retrieval(query, gallery, pool=40, seed=s) for s in (0, 0, 1))
    pd.testing.assert_frame_equal(first, again)
    assert (first.value != other.value).any()
    np.testing.assert_allclose(first.value, other.value, atol=0.03)


def test_intervals_of_pools_hold_single_pools_and_those_of_units_hold_the_mean():
    """The first is as wide for 4,000 pairs as for 400; the second shrinks with their number."""
    few, many = pairs(0, 400, 2), pairs(0, 4000, 2)
    options = {"k": (1,), "pool": 50}
    one_pool = retrieval(*many, **options)
    fresh = [retrieval(*many, **options, pools=1, seed=s).value["mrr"] for s in range(100, 200)]
    held = np.mean((one_pool.low["mrr"] <= fresh) & (fresh <= one_pool.high["mrr"]))
    assert 0.88 < held < 1
    width = {
        (n, by): np.ptp(retrieval(*p, **options, unit=u).loc["mrr", ["low", "high"]].astype(float))
        for n, p in ((400, few), (4000, many))
        for by, u in (("pool", None), ("pair", np.arange(n)), ("family", np.arange(n) // 20))
    }
    assert 0.6 < width[400, "pool"] / width[4000, "pool"] < 1.6
    assert 2 < width[400, "pair"] / width[4000, "pair"] < 5  # the root of ten
    assert width[4000, "pair"] < width[4000, "pool"] / 3
    truth = retrieval(*pairs(1, 20_000, 2), **options, pools=800).value["mrr"]
    table = retrieval(*few, **options, unit=np.arange(400))
    assert table.low["mrr"] < truth < table.high["mrr"]
    assert (table.value == retrieval(*few, **options).value).all()


def test_units_that_fail_together_widen_the_interval():
    query, gallery = pairs(n=400, noise=0.1)
    family = np.arange(400) // 20
    gallery[family % 2 == 0] = -gallery[family % 2 == 0]  # ten families out of twenty are lost
    by_pair, by_family = (
        retrieval(query, gallery, pool=50, unit=u).loc["hr@1"] for u in (np.arange(400), family)
    )
    assert by_family.high - by_family.low > 2.5 * (by_pair.high - by_pair.low)


@given(seeds)
@quick
def test_ignores_order_rotation_and_scale(seed):
    query, gallery = pairs(noise=1.5)
    rng = np.random.default_rng(seed)
    whole = retrieval(query, gallery, pool=60, pools=2).value
    order, turn = rng.permutation(60), rotation(seed)
    scale = rng.uniform(0.1, 10, (60, 1))
    again = retrieval((query * scale @ turn)[order], (gallery @ turn)[order], pool=60, pools=2)
    np.testing.assert_allclose(again.value, whole, atol=1e-12)
    np.testing.assert_array_equal(ranks(query @ turn, gallery @ turn), ranks(query, gallery))


def test_ranks_share_ties():
    query = np.array([[1.0, 0], [0, 1], [1, 1], [-1, 0]])
    gallery = np.array([[1.0, 0], [2, 0], [0, 1], [0, 1]])
    # the partner's cosine against all four: 1 (1 1 0 0), 0 (0 0 1 1), .7 (all), 0 (-1 -1 0 0)
    assert ranks(query, gallery).tolist() == [1.5, 3.5, 2.5, 1.5]


def test_generalisation_is_the_ratio_of_the_paper():
    assert generalisation(0.36, 0.5) == pytest.approx(0.72)
    assert generalisation(0.4, 0.4) == 1.0 and generalisation(0, 0.4) == 0.0
    with pytest.raises(InputError, match="random split is 0"):
        generalisation(0.3, 0.0)
    for separated, random in ((0.3, -0.1), (0.3, 55.0), (30.0, 0.5), (-0.1, 0.5), (0.3, np.nan)):
        with pytest.raises(InputError, match=r"must lie in \[0, 1\]"):
            generalisation(separated, random)


def test_faulty_input_is_an_error():
    query, gallery = pairs()
    with pytest.raises(InputError, match="pool = 100, and there are 60 pairs"):
        retrieval(query, gallery)
    with pytest.raises(InputError, match="pool = 1,"):
        retrieval(query, gallery, pool=1)
    with pytest.raises(InputError, match="60 and 59 rows"):
        retrieval(query, gallery[1:], pool=20)
    with pytest.raises(InputError, match="8 features and the gallery 7"):
        retrieval(query, gallery[:, 1:], pool=20)
    for k in ((0, 1), (21,), ()):
        with pytest.raises(InputError, match="Every k must lie in 1 to pool = 20"):
            retrieval(query, gallery, pool=20, k=k)
    with pytest.raises(InputError, match="pools must be 1"):
        retrieval(query, gallery, pool=20, pools=0)
    with pytest.raises(InputError, match='"pools", "matched" or "blocks"'):
        retrieval(query, gallery, pool=20, form="sorted")
    with pytest.raises(InputError, match="unit has shape"):
        retrieval(query, gallery, pool=20, unit=np.arange(3))
    with pytest.raises(InputError, match="one unit"):
        retrieval(query, gallery, pool=20, unit=np.zeros(60))
    query[2, 2] = np.nan
    with pytest.raises(InputError, match="rows of query hold NaN or infinite values, the first"):
        retrieval(query, gallery, pool=20)
    with pytest.raises(InputError, match="rows of gallery hold NaN"):
        ranks(gallery, query)
