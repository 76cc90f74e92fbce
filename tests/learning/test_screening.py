"""Screening: every crop once, whatever the chunks, gone on with where it stopped."""

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from hcs_utils.data.store import open_store, write_store
from hcs_utils.errors import InputError
from hcs_utils.learning import screening
from hcs_utils.learning.backbones import encoder
from hcs_utils.learning.minibatches import Stored
from hcs_utils.learning.views import Normaliser, colour

pytestmark = pytest.mark.usefixtures("one_thread")
RGB = ("red", "green", "blue")
COUNT, PX = 53, 16


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    images = np.random.default_rng(0).integers(0, 256, (COUNT, 3, PX, PX), dtype=np.uint8)
    path = tmp_path_factory.mktemp("crops") / "crops.zarr"
    write(path, images)
    return open_store(path)


def write(path, images, channels=RGB):
    ids = [f"crop{k:03d}" for k in range(len(images))]
    write_store(
        path, images, ids, channels, pixel_size_um=None, manifest_sha256="0" * 64, parameters={}
    )  # fmt: skip


def net(seed=0, channels=RGB):
    torch.manual_seed(seed)
    return encoder("tiny", channels), nn.Linear(64, 2)


def levels():
    return Normaliser(torch.tensor([[99.0] * 3, [140.0] * 3]), torch.tensor([[60.0] * 3] * 2))


PLATE = np.arange(COUNT) % 2


def whole(store, network, head):
    x = colour(
        torch.from_numpy(store.read(range(COUNT))).float(), torch.from_numpy(PLATE), levels()
    )
    with torch.no_grad():
        return torch.softmax(head(network.eval()(x)), 1)[:, 1].numpy()


@pytest.mark.parametrize("chunk", [1, 7, 256])
def test_scores_are_those_of_all_crops_at_once(store, chunk):
    network, head = net()
    network.train()
    found = list(screening.scores(network, head, Stored(store), PLATE, levels(), chunk=chunk))
    assert network.training and len(found[0][0]) == min(chunk, COUNT)
    np.testing.assert_array_equal(np.concatenate([rows for rows, _ in found]), np.arange(COUNT))
    values = np.concatenate([value for _, value in found])
    np.testing.assert_allclose(values, whole(store, network, head), atol=1e-5)


def test_some_rows_in_any_order_and_heads_of_one_logit(store):
    network, head = net()
    rows = np.array([9, 3, 3, 50])
    one = nn.Linear(64, 1)
    one.weight.data = head.weight.data[1:] - head.weight.data[:1]
    one.bias.data = head.bias.data[1:] - head.bias.data[:1]
    for kind in (one, lambda h: one(h)[:, 0]):
        ((own, values),) = screening.scores(
            network, kind, Stored(store), PLATE, levels(), rows=rows
        )
        np.testing.assert_array_equal(own, rows)
        np.testing.assert_allclose(values, whole(store, network, head)[rows], atol=1e-5)
    with pytest.raises(InputError, match=r"gives \[4, 64\] for 4 crops"):
        list(screening.scores(network, lambda h: h, Stored(store), PLATE, levels(), rows=rows))


def screened(store, folder, seed=0, **changes):
    options = dict(plate=PLATE, normaliser=levels(), per_part=20, chunk=8, progress=False)
    return screening.screen(store, *net(seed), folder=folder, **(options | changes))


def test_parts_hold_every_crop_once(store, tmp_path):
    folder = screened(store, tmp_path / "scores")
    tables = list(screening.parts(folder))
    assert [len(table) for table in tables] == [20, 20, 13]
    table = pd.concat(tables, ignore_index=True)
    assert list(table) == ["site_id", "qc_score"]
    np.testing.assert_array_equal(table["site_id"], store.site_ids)
    np.testing.assert_allclose(table["qc_score"], whole(store, *net()), atol=1e-5)


def test_a_stopped_run_goes_on_with_the_first_part_that_is_missing(store, tmp_path, monkeypatch):
    judged, seen = screening._judged, []

    def until(encoder, head, crops, *rest):
        seen.append(len(crops))
        if sum(seen) > 30:
            raise KeyboardInterrupt
        return judged(encoder, head, crops, *rest)

    folder = tmp_path / "scores"
    monkeypatch.setattr(screening, "_judged", until)
    with pytest.raises(KeyboardInterrupt):
        screened(store, folder)
    assert sorted(p.name for p in folder.iterdir()) == ["part-00000.parquet", "screen.json"]
    with pytest.raises(InputError, match=r"lacks 2 of 3 parts \(part-00001"):
        list(screening.parts(folder))
    kept = (folder / "part-00000.parquet").stat().st_mtime_ns
    monkeypatch.setattr(screening, "_judged", judged)
    screened(store, folder)
    assert (folder / "part-00000.parquet").stat().st_mtime_ns == kept
    fresh = screened(store, tmp_path / "fresh")
    for a, b in zip(screening.parts(folder), screening.parts(fresh), strict=True):
        pd.testing.assert_frame_equal(a, b)


def test_a_folder_of_another_run_is_refused(store, tmp_path):
    screened(store, tmp_path)
    other = Normaliser(levels().mean + 1, levels().std)
    for changes, said in (
        ({"seed": 1}, "weights"), ({"normaliser": other}, "levels"), ({"per_part": 30}, "per_part"),
        ({"plate": 1 - PLATE}, "levels"),
    ):  # fmt: skip
        with pytest.raises(InputError, match=f"another run .*{said}"):
            screened(store, tmp_path, **changes)


def test_what_cannot_be_screened_is_said(store, tmp_path):
    with pytest.raises(InputError, match="made for"):
        screening.screen(
            store, *net(channels=("red", "blue", "green")), PLATE, levels(), tmp_path / "a"
        )
    with pytest.raises(InputError, match="5 plates were given for 53 crops"):
        screened(store, tmp_path / "b", plate=PLATE[:5])
    with pytest.raises(InputError, match="no scores"):
        list(screening.parts(tmp_path / "c"))


def test_constant_crops_have_scores_that_are_numbers(tmp_path):
    images = np.stack([np.full((3, PX, PX), value, np.uint8) for value in (0, 128, 255)])
    write(tmp_path / "flat.zarr", images)
    folder = screened(open_store(tmp_path / "flat.zarr"), tmp_path / "s", plate=np.zeros(3, int))
    (table,) = screening.parts(folder)
    assert np.isfinite(table["qc_score"]).all()
