from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest
from sklearn.cluster import KMeans

from hcs_utils import crossmodal_judging as judging
from hcs_utils.data.molecule_properties import properties
from hcs_utils.data.screens import molecules as library
from hcs_utils.errors import InputError
from hcs_utils.learning.embed import as_table

PARTS = {"train": 60, "val": 24, "test": 120}
BATCHES, SOURCES, FIELDS, CONTROLS, WIDTH = 6, 3, 2, 3, 32


@dataclass(frozen=True)
class Settings:
    pool: int = 100
    seed: int = 0


SETTINGS = Settings()


@pytest.fixture(scope="module")
def table():
    return screen()


def screen(fields=FIELDS):
    """A screen in which every compound has one well a batch, and each batch its own layout."""
    smiles = np.random.default_rng(0).permutation(library.library())[: sum(PARTS.values())]
    part = np.repeat([*PARTS], [*PARTS.values()])
    rows = []
    for batch in range(BATCHES):
        layout = np.random.default_rng(batch).permutation(len(smiles) + CONTROLS)
        for k in range(len(smiles) + CONTROLS):
            treated = k < len(smiles)
            about = {
                "source": f"S{batch % SOURCES}", "batch": f"B{batch}", "plate": f"B{batch}P0",
                "well": f"{chr(65 + layout[k] // 24)}{layout[k] % 24 + 1:02d}",
                "compound": f"C{k:03d}" if treated else "DMSO", "role": "trt",
                "smiles": smiles[k] if treated else "CS(C)=O",
                "target": f"T{k % 11}" if treated else "", "split": part[k] if treated else "train",
            }  # fmt: skip
            about["role"] = "trt" if treated else "negcon"
            rows += [about | {"site": site} for site in range(fields)]
    table = pd.DataFrame(rows)
    table["site_id"] = table["plate"] + table["well"] + "s" + table["site"].astype(str)
    return table.sample(frac=1, random_state=0).reset_index(drop=True)


def planted(table, *, noise=0.0, seed=0, knows=("compound",)):
    """Projections of molecules and of fields: sums of a direction for each thing they know."""
    rng = np.random.default_rng(seed)
    names = sorted(table.loc[table["role"] == "trt", "compound"].unique())
    truth = pd.DataFrame(rng.normal(size=(len(names), WIDTH)), names)
    z = noise * rng.normal(size=(len(table), WIDTH))
    for what in knows:
        if what == "compound":
            z += truth.reindex(table["compound"]).fillna(0).to_numpy()
        elif what == "target in its batch":
            code = (table["target"] + table["batch"]).astype("category").cat.codes
            z += rng.normal(size=(code.max() + 1, WIDTH))[code]
        else:
            code = table[what].astype("category").cat.codes
            z += 3 * rng.normal(size=(code.max() + 1, WIDTH))[code]
    molecules = as_table(truth.to_numpy(), names).rename(columns={"site_id": "compound"})
    return molecules, as_table(z, table["site_id"])


def value(metric):
    return metric[0] if isinstance(metric, tuple) else metric


@pytest.fixture(scope="module")
def perfect(table):
    return judging.judge(*planted(table, noise=0.05), table, SETTINGS)


@pytest.fixture(scope="module")
def nothing(table):
    return judging.judge(*planted(table, noise=1.0, knows=()), table, SETTINGS)


# What each embedding scores


def test_a_perfect_space_finds_every_partner_both_ways_and_in_every_form(perfect):
    for way in ("m2i", "i2m"):
        for suffix in ("", "_matched", "_unmatched", "_well", "_mean", "_blocks"):
            for metric in ("hr1", "hr3", "hr5", "hr10", "mrr"):
                assert value(perfect[f"{way}_{metric}{suffix}"]) == 1, (way, metric, suffix)
        assert value(perfect[f"{way}_hr10_shuffled"]) < 0.25
        assert value(perfect[f"{way}_hr10_inverted"]) == 0
        assert value(perfect[f"val_{way}_hr1"]) == 1
    assert (perfect["compounds"], perfect["pool"], perfect["val_pool"]) == (120, 100, 24)
    assert perfect["chance_hr10"] == 0.1 and round(perfect["chance_mrr"], 4) == 0.0519
    assert perfect["target_random_logistic"][0] > 0.99 and perfect["g_nss_logistic"][0] > 0.99


def test_a_space_that_knows_nothing_is_at_chance_and_in_its_own_intervals(nothing):
    for way in ("m2i", "i2m"):
        assert abs(nothing[f"{way}_hr1_matched"][0] - 1 / 15) < 0.04
        for suffix in ("", "_well", "_shuffled", "_blocks", "_inverted"):
            score = nothing[f"{way}_hr10{suffix}"]
            assert abs(score[0] - 0.1) < 0.06 and score[1] <= score[0] <= score[2]
        assert nothing[f"{way}_hr10"][1] < 0.1 < nothing[f"{way}_hr10"][2]
    chance = nothing["target_chance"]
    assert nothing["targets"] == 9 and 1 / 9 <= chance < 0.13
    for split in ("random", "well", "plate", "batch", "source"):
        for kind in ("logistic", "knn"):
            assert abs(nothing[f"target_{split}_{kind}"][0] - chance) < 0.06
    assert abs(nothing["target_well_knn_shuffled"][0] - chance) < 0.06


def test_knowing_the_batch_alone_finds_no_molecule_and_no_target(table):
    scores = judging.judge(*planted(table, noise=0.3, knows=("batch",)), table, SETTINGS)
    for way in ("m2i", "i2m"):
        assert value(scores[f"{way}_hr10"]) < 0.2 and value(scores[f"{way}_hr10_mean"]) < 0.3
    assert value(scores["target_random_logistic"]) < scores["target_chance"] + 0.08


def test_knowing_the_position_finds_the_well_again_where_fields_of_it_are_on_both_sides():
    table = screen(fields=4)
    scores = judging.judge(*planted(table, noise=0.3, knows=("plate", "well")), table, SETTINGS)
    assert value(scores["m2i_hr10"]) < 0.2
    assert value(scores["target_random_knn"]) > 0.5  # the other field of the same well
    assert value(scores["target_well_knn"]) < 0.2 and value(scores["target_plate_knn"]) < 0.2
    assert value(scores["g_nsw_knn"]) < 0.4
    assert value(scores["g_nss_knn"]) < 0.4 < 0.7 < value(scores["g_nss_knn_wells"])


def test_what_is_learned_in_each_batch_apart_does_not_generalise(table):
    embedded = planted(table, noise=0.3, knows=("target in its batch",))
    scores = judging.judge(*embedded, table, SETTINGS)
    assert value(scores["target_well_logistic"]) > 0.9
    for name in ("g_nsb", "g_nsp", "g_nss"):
        for kind in ("logistic", "knn"):
            assert value(scores[f"{name}_{kind}"]) < 0.35
            assert value(scores[f"{name}_{kind}_wells"]) < 0.35
    assert value(scores["g_nsw_logistic"]) > 0.9


def test_property_matching_takes_what_properties_give(table):
    """Molecules and images know which of eight groups of alike molecules they belong to."""
    about = table[table["role"] == "trt"].drop_duplicates("compound").set_index("compound")
    known = properties(about["smiles"].tolist()).set_axis(about.index)
    known = (known - known.mean()) / known.std()
    group = pd.Series(KMeans(8, random_state=0, n_init=3).fit_predict(known), about.index)
    molecules = as_table(np.eye(8)[group], group.index).rename(columns={"site_id": "compound"})
    z = np.eye(9)[group.reindex(table["compound"]).fillna(8).astype(int), :8]
    scores = judging.retrieved(molecules, as_table(z, table["site_id"]), table, SETTINGS)
    assert scores["matched_pool"] == 15 and scores["chance_hr1_matched"] == 1 / 15
    for way in ("m2i", "i2m"):
        for metric in ("hr1", "hr3", "mrr"):
            hard, easy = (value(scores[f"{way}_{metric}_{s}"]) for s in ("matched", "unmatched"))
            chance = scores[f"chance_{metric}_matched"]
            assert easy - chance > 0.2 and hard - chance < 0.4 * (easy - chance)


# What may not matter, and what must


def test_order_of_rows_and_scale_do_not_matter(table, perfect):
    molecules, fields = planted(table, noise=0.05)
    turned = judging.judge(
        molecules.sample(frac=1, random_state=1), fields.sample(frac=1, random_state=2), table,
        SETTINGS,
    )  # fmt: skip
    assert turned == perfect


def test_more_fields_of_a_compound_find_more(table):
    scores = judging.retrieved(*planted(table, noise=2.5), table, SETTINGS)
    for way in ("m2i", "i2m"):
        one, well, mean = (value(scores[f"{way}_mrr{s}"]) for s in ("", "_well", "_mean"))
        assert one + 0.03 < well < mean - 0.03


def test_training_compounds_are_not_asked(table):
    """What is known of compounds that were trained on moves nothing but what is named for it."""
    molecules, fields = planted(table, noise=1.0, knows=())
    z = fields.copy()
    seen = table["split"].eq("train").to_numpy()
    truth = planted(table)[1]
    z.loc[seen] = truth[seen]
    one, other = (judging.judge(molecules, f, table, SETTINGS) for f in (fields, z))
    differ = {name for name in one if one[name] != other[name]}
    assert differ and all("_seen" in name or "_dmso" in name for name in differ)


def test_a_thousand_compounds_have_the_larger_pools():
    smiles = [*library.library()][:1010]
    about = {"compound": [f"C{k:04d}" for k in range(1010)], "smiles": smiles, "split": "test",
             "role": "trt", "plate": "P1", "well": [f"W{k}" for k in range(1010)], "target": "",
             "batch": "B1", "source": "S1", "site_id": [f"s{k}" for k in range(1010)]}  # fmt: skip
    table = pd.DataFrame(about)
    scores = judging.judge(*planted(table, noise=1.5), table, SETTINGS)
    assert value(scores["m2i_hr1_1000"]) < value(scores["m2i_hr1"])
    assert round(scores["chance_mrr_1000"], 5) == 0.00749 and scores["chance_hr10_1000"] == 0.01
    assert not any(name.startswith(("target", "g_", "val_")) for name in scores)


def test_few_compounds_make_smaller_pools(table):
    few = table[~table["split"].eq("test") | table["compound"].isin(["C084", "C085", "C086"])]
    scores = judging.judge(*planted(few), few, SETTINGS)
    assert scores["pool"] == scores["compounds"] == 3 and scores["chance_hr3"] == 1
    assert "m2i_hr5" not in scores and value(scores["m2i_hr1"]) == 1


def test_names_of_one_molecule_are_one_compound(table, perfect):
    molecules, fields = planted(table, noise=0.05)
    twin = table["compound"].eq("C090") & table["batch"].isin(["B1", "B3"])
    named = table.assign(compound=table["compound"].mask(twin, "C090b"))
    both = pd.concat(
        [molecules, molecules[molecules["compound"] == "C090"].assign(compound="C090b")]
    )
    assert judging.retrieved(both, fields, named, SETTINGS)["m2i_hr1"] == perfect["m2i_hr1"]
    grouped = table.assign(molecule=table["smiles"].str[:0] + table["compound"])
    pair = grouped.assign(molecule=grouped["molecule"].replace({"C091": "C090"}))
    assert judging.retrieved(molecules, fields, pair, SETTINGS)["compounds"] == 119


def test_faults_are_told(table):
    molecules, fields = planted(table)
    with pytest.raises(InputError, match=r"1 compounds of the test part have no molecule: C090"):
        judging.judge(molecules[molecules["compound"] != "C090"], fields, table, SETTINGS)
    with pytest.raises(InputError, match=r"1 molecules are in more than one part .*: C090"):
        torn = table.copy()
        torn.loc[torn.index[torn["compound"] == "C090"][0], "split"] = "train"
        judging.judge(molecules, fields, torn, SETTINGS)
    with pytest.raises(InputError, match="has 0 compounds with SMILES"):
        judging.judge(molecules, fields, table[table["split"] != "test"], SETTINGS)
    with pytest.raises(InputError, match="fields of the table were not embedded"):
        judging.judge(molecules, fields[fields["site_id"] != table.loc[
            table["split"] == "test", "site_id"].iloc[0]], table, SETTINGS)  # fmt: skip
    with pytest.raises(InputError, match="one row a compound"):
        judging.judge(pd.concat([molecules, molecules]), fields, table, SETTINGS)
