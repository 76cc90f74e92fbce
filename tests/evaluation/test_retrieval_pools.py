"""Pools of molecules that are alike, and pairs with several rows."""

import numpy as np
import pandas as pd
import pytest

from hcs_utils.errors import InputError
from hcs_utils.evaluation import neighbours
from hcs_utils.evaluation.retrieval import alike, retrieval
from tests import oracles_retrieval as oracles


def screen(n=300, fields=3, knows="identity", seed=0, noise=0.3):
    """Molecules, their fields, whose they are, and properties; both sides know the same thing."""
    rng = np.random.default_rng(seed)
    properties = rng.normal(size=(n, 3)) * [100, 1, 5]
    known = properties / [100, 1, 5] if knows == "properties" else rng.normal(size=(n, 12))
    lift = rng.normal(size=(known.shape[1], 12))
    molecule = np.tanh(known @ lift / 2)
    owner = np.repeat(np.arange(n), fields)
    image = molecule[owner] + noise * rng.normal(size=(n * fields, 12))
    return molecule, image, owner, properties


# Which pairs stand in a pool


def test_the_alike_are_those_of_a_loop_and_each_is_first(monkeypatch):
    properties = screen(80)[3]
    scaled = (properties - properties.mean(0)) / properties.std(0)
    distance = np.linalg.norm(scaled[:, None] - scaled, axis=2)
    np.fill_diagonal(distance, -1)
    near = alike(properties, 20)
    np.testing.assert_array_equal(near, np.argsort(distance, axis=1, kind="stable")[:, :20])
    monkeypatch.setattr(neighbours, "CHUNK_BYTES", 4 * 2 * 80 * 7)  # seven rows a block
    np.testing.assert_array_equal(alike(properties, 20), near)
    constant = np.c_[properties, np.full(80, 3.0)]
    np.testing.assert_array_equal(alike(constant, 20), near)


def test_no_table_of_all_by_all_is_held():
    import tracemalloc

    properties = np.random.default_rng(0).normal(size=(12_000, 4))
    tracemalloc.start()
    alike(properties, 50)
    held = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert held < 12_000**2 * 8 / 4


def test_matched_pools_agree_with_the_loop():
    molecule, image, _, properties = screen(60, fields=1)
    table = retrieval(molecule, image, 10, (1, 3), form="matched", properties=properties)
    found = []
    for row, pool in enumerate(alike(properties, 10)):
        order = np.r_[row, pool[1:]]
        found.append(oracles.pool_scores(molecule[order], image[order], (1, 3))[0])
    np.testing.assert_allclose(table["value"], np.mean(found, axis=0), atol=1e-12)
    assert (table["low"] <= table["value"]).all() and (table["value"] <= table["high"]).all()


# What matching asks


def test_properties_alone_find_much_in_random_pools_and_little_in_matched_ones():
    molecule, image, owner, properties = screen(5000, 2, "properties", noise=1.0)
    options = {"names": (np.arange(5000), owner), "pools": 40}
    easy = retrieval(molecule, image, **options)
    hard = retrieval(molecule, image, form="matched", properties=properties, **options)
    assert easy.value["hr@1"] > 7 * easy.chance["hr@1"] and easy.value["hr@10"] > 0.4
    assert hard.value["hr@1"] < 2 * hard.chance["hr@1"] and hard.value["hr@10"] < 0.15
    back = retrieval(
        image, molecule, form="matched", properties=properties, pools=40,
        names=(owner, np.arange(5000)),
    )  # fmt: skip
    assert back.value["hr@1"] < 2 * back.chance["hr@1"]


def test_an_embedding_that_knows_the_molecule_loses_nothing_in_matched_pools():
    molecule, image, owner, properties = screen(400)
    options = {"names": (np.arange(400), owner), "pools": 60}
    easy = retrieval(molecule, image, **options)
    hard = retrieval(molecule, image, form="matched", properties=properties, **options)
    assert easy.value["hr@1"] > 0.6
    np.testing.assert_allclose(hard.value, easy.value, atol=0.05)


def test_one_point_scores_chance_in_matched_pools_too():
    molecule, image, owner, properties = screen(150)
    image[:] = image[0]
    options = {"pool": 30, "form": "matched", "properties": properties, "pools": 20}
    table = retrieval(molecule, image, names=(np.arange(150), owner), **options)
    np.testing.assert_allclose(table["value"], [*np.array([1, 3, 5, 10]) / 30, table.chance["mrr"]])


# Several rows a pair


def test_rows_of_a_name_are_drawn_anew_and_all_of_them():
    """Of four fields one is like the molecule: it is drawn a quarter of the time."""
    rng = np.random.default_rng(0)
    molecule = rng.normal(size=(100, 32))
    image = rng.normal(size=(400, 32))
    owner = np.repeat(np.arange(100), 4)
    image[::4] = molecule
    there = retrieval(molecule, image, 50, names=(np.arange(100), owner))
    back = retrieval(image, molecule, 50, names=(owner, np.arange(100)))
    for table in (there, back):
        assert table.value["hr@1"] == pytest.approx(0.25 + 0.75 / 50, abs=0.03)
        assert table.low["hr@1"] < table.value["hr@1"] < table.high["hr@1"]
    # one row a name is the plain form
    one = retrieval(molecule, image[::4], 50, names=(np.arange(100), np.arange(100)))
    np.testing.assert_array_equal(one["value"], retrieval(molecule, image[::4], 50)["value"])


def test_names_may_stand_in_any_order_and_be_words():
    molecule, image, owner, properties = screen(90)
    names = np.array([f"compound {k:02d}" for k in range(90)])
    turned = np.random.default_rng(3).permutation(len(image))
    options = {"pool": 90, "pools": 400, "k": (1, 5)}
    first = retrieval(molecule, image, names=(names, names[owner]), **options)
    second = retrieval(molecule, image[turned], names=(names, names[owner[turned]]), **options)
    np.testing.assert_allclose(first["value"], second["value"], atol=0.01)
    matched = {"form": "matched", "properties": properties, "pool": 20}
    one = retrieval(molecule, image[::3], **matched)
    other = retrieval(molecule, image[::3], names=(names, names), **matched)
    pd.testing.assert_series_equal(one["value"], other["value"])
    there = retrieval(image[turned], molecule, names=(names[owner[turned]], names), **matched)
    back = retrieval(image, molecule, names=(names[owner], names), **matched)
    np.testing.assert_allclose(there["value"], back["value"], atol=0.03)


def test_faulty_input_is_an_error():
    molecule, image, owner, properties = screen(60)
    names = (np.arange(60), owner)
    for options, words in (
        ({"form": "matched"}, "needs properties"),
        ({"properties": properties}, "needs properties, and no other form"),
        ({"form": "matched", "properties": properties[1:]}, "59 rows for 60 pairs"),
        ({"unit": np.arange(60)}, "leave unit out"),
        ({"names": (np.arange(60), owner + 1)}, "2 names are in one table only: 0, 60"),
        ({"names": (np.arange(59), owner)}, "names of the query has shape"),
    ):
        with pytest.raises(InputError, match=words):
            retrieval(molecule, image, **{"pool": 20, "names": names, **options})
    with pytest.raises(InputError, match="or give names"):
        retrieval(molecule, image, pool=20)
    with pytest.raises(InputError, match="rows of properties hold NaN"):
        alike(np.full((5, 2), np.nan), 3)
