"""Spherical k-means against scikit-learn's, one iteration at a time, and at its edges."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score

from hcs_utils.errors import InputError
from hcs_utils.learning.kmeans import spherical_kmeans


def blobs(n=600, k=7, d=5, spread=0.15, seed=0):
    """Rows around k directions, of lengths that tell nothing; and which is whose."""
    g = torch.Generator().manual_seed(seed)
    middle = F.normalize(torch.randn(k, d, generator=g), dim=1)
    own = torch.randint(k, (n,), generator=g)
    x = F.normalize(middle[own] + spread * torch.randn(n, d, generator=g), dim=1)
    return x * (0.5 + torch.rand(n, 1, generator=g)), own


@pytest.mark.parametrize("iterations", [0, 1, 2, 10])
def test_assignments_are_scikit_learns_on_unit_vectors_from_the_same_starts(iterations):
    """Its Lloyd step, each time from our unit starts: nearest in angle is nearest in distance."""
    x, _ = blobs(spread=0.5)
    unit = F.normalize(x, dim=1).numpy()
    starts = unit[:7]
    for _ in range(iterations):
        peer = KMeans(7, init=starts, n_init=1, max_iter=1, tol=0).fit(unit)
        starts = peer.cluster_centers_ / np.linalg.norm(peer.cluster_centers_, axis=1)[:, None]
    expected = ((unit[:, None] - starts[None]) ** 2).sum(2).argmin(1)
    centroids, found = spherical_kmeans(x, 7, iterations, starts=torch.from_numpy(unit[:7].copy()))
    np.testing.assert_array_equal(found.numpy(), expected)
    np.testing.assert_allclose(centroids.numpy(), starts, atol=1e-5)


@pytest.mark.filterwarnings("ignore:Number of distinct clusters")
def test_planted_groups_are_found_as_scikit_learn_finds_them():
    x, own = blobs()
    starts = torch.stack([x[own == group][0] for group in range(7)])
    centroids, found = spherical_kmeans(x, 7, starts=starts)
    unit = F.normalize(x, dim=1).numpy()
    peer = KMeans(7, init=F.normalize(starts, dim=1).numpy(), n_init=1).fit(unit)
    assert adjusted_rand_score(own, found) > 0.99
    np.testing.assert_array_equal(found.numpy(), peer.labels_)
    torch.testing.assert_close(centroids.norm(dim=1), torch.ones(7))


@pytest.mark.parametrize("chunk", [1, 7, 600, 10_000])
def test_chunks_change_nothing(chunk):
    x, _ = blobs(spread=0.5)
    a, b = spherical_kmeans(x, 9, seed=3), spherical_kmeans(x, 9, seed=3, chunk=chunk)
    assert torch.equal(a[1], b[1])
    torch.testing.assert_close(a[0], b[0])


def test_half_precision_and_lengths_change_next_to_nothing():
    x, _ = blobs()
    a = spherical_kmeans(x, 7, seed=1)[1]
    assert adjusted_rand_score(a, spherical_kmeans(x.half(), 7, seed=1)[1]) > 0.98
    assert torch.equal(a, spherical_kmeans(4 * x, 7, seed=1)[1])


def test_the_seed_decides_and_nothing_else():
    x, _ = blobs(spread=0.8)
    torch.manual_seed(5)
    a = spherical_kmeans(x, 20, seed=1)
    torch.manual_seed(6)
    b = spherical_kmeans(x, 20, seed=1)
    assert torch.equal(a[0], b[0]) and torch.equal(a[1], b[1])
    assert not torch.equal(a[1], spherical_kmeans(x, 20, seed=2)[1])


def test_an_empty_cluster_begins_anew_where_rows_fit_worst():
    """Two of three starts coincide: one of them gets no row, and then the third group."""
    x = torch.eye(3).repeat_interleave(10, 0) + 0.01 * torch.arange(30)[:, None]
    starts = torch.stack([x[0], x[0], x[10]])
    assert len(spherical_kmeans(x, 3, 0, starts=starts)[1].unique()) == 2
    found = spherical_kmeans(x, 3, 3, starts=starts)[1]
    assert adjusted_rand_score(found, np.repeat(range(3), 10)) == 1


def test_as_many_clusters_as_rows_and_one_row_in_a_cluster():
    x = torch.eye(6)
    centroids, found = spherical_kmeans(x, 6)
    assert sorted(found.tolist()) == list(range(6))
    torch.testing.assert_close(centroids[found], x)


def test_rows_that_are_all_alike_or_zero_make_no_nan():
    for x in (torch.ones(10, 4), torch.zeros(10, 4), torch.tensor([[1.0], [-1.0]] * 5)):
        centroids, found = spherical_kmeans(x, 3)
        assert centroids.isfinite().all() and ((found >= 0) & (found < 3)).all()


@pytest.mark.parametrize("k", [0, 11])
def test_more_clusters_than_rows_are_refused(k):
    with pytest.raises(InputError, match=f"10 rows cannot be put into {k} clusters"):
        spherical_kmeans(torch.eye(10), k)
