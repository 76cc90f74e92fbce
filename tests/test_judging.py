"""Every metric of a run, on embeddings made by hand: what each must and must not see."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy.stats import chi2

from hcs_utils import experiments, judging
from hcs_utils.evaluation import metrics
from hcs_utils.settings import Settings

SETTINGS = Settings(folds=6, kbet_fraction=0.1)
NAMES = {
    "chance", "knn", "knn_znorm", "knn_znorm_all", "knn_znorm_minibatch", "knn_znorm_moved",
    "knn_caron", "knn_shuffled", "val_knn_znorm", "linear", "linear_znorm", "kbet_train", "kbet",
    "kbet_znorm", "kbet_released", "kbet_by_treatment", "kbet_znorm_by_treatment", "grit_train",
    "grit", "grit_znorm", "nsc_moa", "nsc_moa_chance", "nsc_moa_released",
}  # fmt: skip


@pytest.fixture(scope="module")
def table():
    """Six batches of two plates: 8 treatments of 4 mechanisms, and DMSO, 10 fields each a batch.

    Wells of a treatment move with the plate, so that some stand elsewhere in the test batches.
    """
    names = ["DMSO", *(f"t{k}@1um" for k in range(8))]
    rows = [
        (f"B{b}", f"B{b}P{p}", f"A{(k + b * p) % 9 + 1:02d}", site, name)
        for b in range(6) for p in (1, 2) for k, name in enumerate(names) for site in range(1, 6)
    ]  # fmt: skip
    table = pd.DataFrame(rows, columns=["batch", "plate", "well", "site", "treatment"])
    kind = table["treatment"].map({name: k - 1 for k, name in enumerate(names)})
    table["site_id"] = table["plate"] + table["well"] + table["site"].astype(str)
    table["compound"] = table["treatment"].str[:2].where(kind >= 0, "DMSO")
    table["role"] = np.where(kind >= 0, "trt", "negcon")
    table["moa"] = np.where(kind >= 0, "moa" + (kind % 4).astype(str), "")
    part = {"B0": "val", "B1": "test", "B2": "test"}
    return table.assign(split=table["batch"].map(part).fillna("train").astype(str))


def planted(table, *columns, spread=6.0, noise=1.0):
    """Features that know the columns, each a random direction a value, and else are noise."""
    rng = np.random.default_rng(0)
    z = noise * rng.standard_normal((len(table), 24))
    for name in columns:
        code = pd.factorize(table[name], sort=True)[0]
        z += spread * rng.standard_normal((code.max() + 1, 24))[code]
    return z


def judged(z, table, settings=SETTINGS):
    return judging.judge(experiments.as_table(z, table["site_id"]), table, settings)


def value(scores, name):
    return np.ravel(scores[name])[0]


# Against slow loops


def test_the_minibatch_score_is_the_released_codes(table):
    z = planted(table, "treatment", "batch", spread=1)
    row, batch = table.reset_index(drop=True), table["batch"].to_numpy()
    part, treated = row["split"].to_numpy(), row["role"].eq("trt").to_numpy()

    def scaled(rows):
        x = z[rows] / np.linalg.norm(z[rows], axis=1, keepdims=True)
        for name in set(batch[rows]):
            own = batch[rows] == name
            x[own] = (x[own] - x[own].mean(0)) / (x[own].std(0, ddof=1) + 1e-8)
        return x / np.linalg.norm(x, axis=1, keepdims=True)

    test = np.flatnonzero(part == "test")
    train = np.flatnonzero(part == "train")
    bank = scaled(train)[treated[train]]
    query = np.concatenate([scaled(test[k : k + 92]) for k in range(0, len(test), 92)])
    label = row["treatment"].to_numpy()
    found = metrics.knn_predict(bank, label[train][treated[train]], query[treated[test]])
    right = np.mean(found == label[test][treated[test]])
    assert value(judged(z, table), "knn_znorm_minibatch") == pytest.approx(right)
    assert 0.1 < right < 1


# What each must see


def test_features_of_treatments_and_mechanisms_get_the_best_of_everything(table):
    scores = judged(planted(table, "treatment") + 3 * planted(table, "moa", noise=0), table)
    assert set(scores) == NAMES
    for name in NAMES:
        if name.startswith(("knn", "linear")) and name != "knn_shuffled":
            few_controls = name in ("knn_znorm", "knn_znorm_moved", "knn_caron", "linear_znorm")
            assert value(scores, name) > 0.9 if few_controls else scores[name] == (1, 1, 1), name
    assert scores["chance"] == 1 / 8 and value(scores, "knn_shuffled") < 0.4
    assert scores["kbet_train"] > 0.85 and scores["kbet"] > 0.85
    assert scores["kbet_by_treatment"] < 0.05  # the treatments stand apart
    assert scores["kbet_znorm_by_treatment"] > 0.9  # what that Z-norm removes
    for name in ("grit_train", "grit", "grit_znorm"):
        low, high = scores[name][1:]
        assert 1 < low < value(scores, name) < high
    assert scores["nsc_moa"] == (1, 1, 1)
    assert scores["nsc_moa_released"] == 8 / 9  # DMSO is asked too, and cannot be right
    assert scores["nsc_moa_chance"] == pytest.approx(1 / 7, abs=0.03)


def test_features_of_the_batch_alone_are_worth_nothing_and_unmixed(table):
    scores = judged(planted(table, "batch", "plate"), table)
    for name in ("knn", "linear", "knn_znorm", "knn_znorm_minibatch", "val_knn_znorm"):
        assert value(scores, name) < 0.3, name
    for name in ("kbet_train", "kbet", "kbet_released"):
        assert scores[name] < 0.05, name
    assert scores["kbet_by_treatment"] > 0.8  # no treatment is told apart: mixed, by that number
    assert abs(value(scores, "grit")) < 0.3


def test_few_controls_bring_a_batch_effect_that_many_take_away(table):
    """Z-norm by ten fields a batch puts the chance in their means into all fields."""
    of_batch = planted(table, "batch")
    few, all_ = (judged(of_batch, table, replace(SETTINGS, znorm=z)) for z in ("controls", "all"))
    assert few["kbet"] < 0.05 and all_["kbet_znorm"] > 0.85
    assert few["kbet"] < few["kbet_znorm"] < all_["kbet_znorm"] - 0.2


def test_shuffled_treatments_leave_chance_everywhere(table):
    z = planted(table, "treatment")
    treated = np.flatnonzero(table["role"] == "trt")
    order = np.arange(len(table))
    order[treated] = np.random.default_rng(1).permutation(treated)
    scores = judged(z[order], table)
    for name in ("knn", "knn_znorm", "linear", "linear_znorm", "val_knn_znorm", "knn_znorm_moved"):
        assert scores[name][1] < scores["chance"] + 0.05 and value(scores, name) < 0.25, name
    assert value(scores, "grit") < 0.5 * value(judged(z, table), "grit")  # not 0: all leave DMSO


def test_order_of_the_embedding_does_not_matter(table):
    embedding = experiments.as_table(planted(table, "treatment", spread=1), table["site_id"])
    shuffled = embedding.sample(frac=1, random_state=0)
    first = judging.judge(embedding, table, SETTINGS)
    assert judging.judge(shuffled, table, SETTINGS) == first


# Against slow loops of the released code


def test_released_mixing_is_that_of_a_loop_over_fields(table):
    z = planted(table, "treatment", "batch", spread=0.3)
    test = (table["split"] == "test").to_numpy()
    k = int(SETTINGS.kbet_fraction * test.sum())

    def released(x, group):
        names, share = np.unique(group, return_counts=True)
        accepted = []
        for row in x:
            near = group[np.argsort(-(x @ row), kind="stable")[1:k]]
            seen = np.array([(near == name).sum() for name in names])
            expected = k * share / len(group)
            accepted.append(((seen - expected) ** 2 / expected).sum())
        return np.mean(chi2.sf(accepted, len(names) - 1) >= 0.05)

    x, batch, treatment = z[test], *(table[c].to_numpy()[test] for c in ("batch", "treatment"))
    own = x / np.linalg.norm(x, axis=1, keepdims=True)
    for name in set(treatment):
        rows = own[treatment == name]
        own[treatment == name] = (rows - rows.mean(0)) / (rows.std(0, ddof=1) + 1e-8)
    own /= np.linalg.norm(own, axis=1, keepdims=True)
    scores = judged(z, table)
    assert 0 < scores["kbet_by_treatment"] < 1 and 0 < scores["kbet_released"] < 1
    assert scores["kbet_released"] == pytest.approx(released(x, batch))
    assert scores["kbet_by_treatment"] == pytest.approx(released(x, treatment))
    assert scores["kbet_znorm_by_treatment"] == pytest.approx(released(own, treatment))


def test_grit_weighs_treatments_alike(table):
    """Half of the fields of one treatment left out: its mean counts as much as any other's."""
    few = table.drop(table.index[table["treatment"].eq("t0@1um") & (table["site"] > 2)])
    z = planted(few, "treatment", spread=1)
    part = (few["split"] == "train").to_numpy()
    control = few["role"].to_numpy() == "negcon"
    each = []
    for name in sorted(set(few["treatment"]) - {"DMSO"}):
        own = np.flatnonzero(part & (few["treatment"] == name).to_numpy())
        grit = []
        for i in own:
            c = [np.corrcoef(z[i], z[j])[0, 1] for j in np.flatnonzero(part & control)]
            r = [np.corrcoef(z[i], z[j])[0, 1] for j in own if j != i]
            grit.append((np.mean(r) - np.mean(c)) / np.std(c))
        each.append(np.mean(grit))
    assert value(judged(z, few), "grit_train") == pytest.approx(np.mean(each), rel=1e-4)


def mechanism_loop(z, table, control, own, rows):
    """1-NN over means of treatments, scaled a plate by `control`; `own` may not answer."""
    x = z.copy()
    for plate in set(table["plate"]):
        here = (table["plate"] == plate).to_numpy()
        x[here] = (x[here] - x[here & control].mean(0)) / x[here & control].std(0)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    names = sorted(set(table.loc[rows, "treatment"]))
    mean = np.array([x[(table["treatment"] == name).to_numpy()].mean(0) for name in names])
    mean /= np.linalg.norm(mean, axis=1, keepdims=True)
    about = table.drop_duplicates("treatment").set_index("treatment").loc[names]
    right = []
    for i in range(len(names)):
        others = [j for j in range(len(names)) if about[own].iloc[j] != about[own].iloc[i]]
        best = max(others, key=lambda j: mean[i] @ mean[j])
        right.append(about["moa"].iloc[best] == about["moa"].iloc[i])
    return np.mean(right)


def test_mechanisms_are_those_of_a_loop_and_the_released_form_finds_other_doses(table):
    """Two doses of four compounds, two of each mechanism: only the code takes the other dose."""
    kind = table["treatment"].str[1].where(table["role"] == "trt", "")
    number = pd.to_numeric(kind, errors="coerce")
    dosed = table.assign(
        compound=("c" + (number % 4).astype("Int64").astype(str)).where(kind != "", "DMSO"),
        moa=("m" + (number % 2).astype("Int64").astype(str)).where(kind != "", ""),
    )
    z = planted(dosed, "compound", "treatment", "plate", spread=1.5)
    scores = judged(z, dosed)
    test = (dosed["split"] == "test").to_numpy()
    part, x = dosed[test], z[test]
    control, treated = ((part["role"] == role).to_numpy() for role in ("negcon", "trt"))
    assert value(scores, "nsc_moa") == mechanism_loop(x, part, control, "compound", treated)
    named = part.assign(moa=part["moa"].where(~control, "DMSO"), name=part["treatment"])
    every = np.ones(len(part), bool)
    assert scores["nsc_moa_released"] == mechanism_loop(x, named, control, "name", every)


def test_label_0_is_whatever_sorts_first(table):
    renamed = table.replace({"treatment": {"t0@1um": "A@1um"}})
    z = planted(table, "treatment", "moa")
    test = (renamed["split"] == "test").to_numpy()
    part = renamed[test].assign(name=renamed["treatment"])
    first = (part["treatment"] == "A@1um").to_numpy()
    expected = mechanism_loop(z[test], part, first, "name", np.ones(len(part), bool))
    assert judged(z, renamed)["nsc_moa_released"] == expected


# What a screen does not allow


def test_metrics_that_a_screen_does_not_allow_are_left_out(table):
    z = planted(table, "treatment", spread=1)
    gone = {name: NAMES - set(judged(z, one, settings)) for name, one, settings in (
        ("no mechanisms", table.assign(moa=""), SETTINGS),
        ("one mechanism repeats", table.assign(moa=table["moa"].where(table["moa"] != "moa1", "")
            .where(table["moa"] < "moa2", table["treatment"])), SETTINGS),
        ("no val", table.assign(split=table["split"].replace("val", "")), SETTINGS),
        ("one test batch", table.assign(split=table["split"].where(table["batch"] != "B1", "")),
            SETTINGS),
        ("no controls", table.assign(role="trt"), replace(SETTINGS, znorm="all")),
    )}  # fmt: skip
    nsc = {name for name in NAMES if name.startswith("nsc")}
    assert gone["no mechanisms"] == gone["one mechanism repeats"] == nsc
    assert gone["no val"] == {"val_knn_znorm"}
    assert gone["one test batch"] == {"kbet", "kbet_znorm", "kbet_released"}
    assert gone["no controls"] == {name for name in NAMES if name.startswith("grit")}


def test_where_controls_are_alike_there_is_no_grit_and_all_else_is_judged(table):
    z = planted(table, "treatment", spread=1)
    z[(table["role"] == "negcon").to_numpy()] = np.arange(24)
    scores = judged(z, table, replace(SETTINGS, znorm="all"))
    assert NAMES - set(scores) == {"grit_train", "grit"}


def test_sirna_without_a_compound_are_compounds_each(table):
    z = planted(table, "treatment", "moa")
    assert judged(z, table.assign(compound=""))["nsc_moa"] == judged(z, table)["nsc_moa"]
