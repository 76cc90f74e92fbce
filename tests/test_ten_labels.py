"""From a few answers to a screen without its spoilt fields, on planted truth."""

import inspect
import shutil
import subprocess
import sys

import imagecodecs
import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from hcs_utils import prepare, ten_labels
from hcs_utils.data import image_quality, qc_crops, quality, store
from hcs_utils.data.screens import simulated
from hcs_utils.errors import InputError

FAULTS = 5  # kinds, each rare, each of three features of its own
FIELDS, CROPS, WIDTH = 200, 3, 24


def planted(seed: int) -> tuple[pd.DataFrame, pd.DataFrame, pd.Series]:
    """Crops of fields, a quarter of them spoilt in one of five ways; features; what is true."""
    rng = np.random.default_rng(seed)
    fault = np.where(rng.random(FIELDS) < 0.25, rng.integers(1, FAULTS + 1, FIELDS), 0)
    field = np.repeat(np.arange(FIELDS), CROPS)
    name = [f"P{k // 50 + 1}_{'ABCDE'[k // 10 % 5]}{k % 10 + 1:02d}_s1" for k in range(FIELDS)]
    crops = pd.DataFrame({"parent": np.array(name)[field]})
    crops["site_id"] = (
        crops["parent"] + "__n" + pd.Series(np.arange(len(field)) % CROPS).astype(str)
    )
    crops["plate"] = crops["parent"].str[:2]
    crops["well"] = crops["parent"].str.split("_").str[1]
    x = rng.normal(size=(len(field), WIDTH)) + 0.7 * rng.normal(size=(FIELDS, WIDTH))[field]
    own = 3 * (fault[field, None] - 1) + np.arange(3)
    x[np.arange(len(field))[:, None], own] += np.where(fault[field, None] > 0, 4.0, 0)
    features = pd.DataFrame(x, columns=[f"m{k}" for k in range(WIDTH)])
    return crops, features, pd.Series(fault[field] > 0, crops["site_id"])


@pytest.fixture
def session(tmp_path):
    crops, features, _ = planted(0)
    return ten_labels.begin(tmp_path / "labels", crops, features)


def label(truth: pd.Series, session, count: int, how: str = "informative") -> None:
    """Answer by the truth until there are so many answers, six suggestions at a time."""
    while (given := len(session.labels.table())) < count:
        for site in ten_labels.suggest(session, min(6, count - given), how):
            ten_labels.answer(session, site, "abnormal" if truth[site] else "normal")


def auc(session, truth: pd.Series) -> float:
    """Of the crops that were not asked about."""
    found = ten_labels.scores(session)
    found = found[found["label"] == ""]
    return roc_auc_score(truth[found["site_id"]], found["qc_score"])


def gains(sources, folder) -> tuple[np.ndarray, np.ndarray]:
    """AUC after ten suggested and after ten random labels, once a source."""
    found = {how: [] for how in ten_labels.HOW}
    for seed, (crops, features, truth) in enumerate(sources):
        for how, values in found.items():
            session = ten_labels.begin(folder / f"{how}{seed}", crops, features, seed)
            label(truth, session, 10, how)
            try:
                values.append(auc(session, truth))
            except InputError:  # ten random labels can all be normal
                values.append(0.5)
    return tuple(np.array(values) for values in found.values())


def clearly_better(a: np.ndarray, b: np.ndarray) -> bool:
    """By more than two standard errors of the paired difference."""
    return (a - b).mean() > 2 * (a - b).std(ddof=1) / len(a) ** 0.5


def test_ten_suggested_labels_are_worth_more_than_ten_random_ones(tmp_path):
    asked, lot = gains((planted(seed) for seed in range(20)), tmp_path)
    assert clearly_better(asked, lot) and asked.mean() > 0.75


@pytest.fixture(scope="module")
def drawn(places, tmp_path_factory):
    """Crops of the smallest screen of quality control, their measures, what is true, the screen."""
    root, folder = simulated.home("qc-smoke"), tmp_path_factory.mktemp("crops") / "crops.zarr"
    simulated.draw(root, simulated.SIZES["qc-smoke"])
    qc_crops.cut(simulated.manifest(root), root, folder, progress=False)
    crops, images = qc_crops.read(folder), store.open_store(folder)
    features = image_quality.measures(images.read(range(len(images))), images.channels)
    truth = qc_crops.truth(crops, root)["abnormal"]
    return crops, features, truth.set_axis(crops["site_id"]), root


def test_on_drawn_faults_as_well(drawn, tmp_path):
    crops, features, truth, _ = drawn
    fields = crops["parent"].unique()

    def half(seed):
        kept = np.random.default_rng(seed).permutation(fields)[: len(fields) // 2]
        own = crops["parent"].isin(kept).to_numpy()
        return crops[own], features[own], truth

    asked, lot = gains(map(half, range(12)), tmp_path)
    assert clearly_better(asked, lot)


@pytest.fixture(scope="module")
def mitocheck(shared_data):
    """Real nuclei: of five, four in interphase and one out of focus or dying; measures, truth."""
    folder, rows, pixels = shared_data("mitocheck_cells"), [], []
    for kind in ("Interphase", "OutOfFocus", "Apoptosis"):
        for path in sorted((folder / kind).rglob("*.png")):
            image = imagecodecs.png_decode(path.read_bytes())
            pixels.append(image if image.ndim == 2 else image[..., 0])
            rows.append((f"{kind}_{path.stem}", path.stem.split("_")[0], kind != "Interphase"))
    table = pd.DataFrame(rows, columns=["site_id", "plate", "abnormal"])
    measures = image_quality.measures(np.stack(pixels)[:, None], ["DNA"])
    return table.assign(parent=table["site_id"], well="A01"), measures


@pytest.mark.parametrize("share", [0.2, 0.6])
def test_on_real_nuclei_as_well(mitocheck, tmp_path, share):
    table, measures = mitocheck
    bad, good = np.flatnonzero(table["abnormal"]), np.flatnonzero(~table["abnormal"])
    few = min(len(bad), round(len(good) * share / (1 - share)))

    def some(seed):
        rng = np.random.default_rng(seed)
        rows = np.sort(np.concatenate([rng.permutation(good), rng.permutation(bad)[:few]]))
        own = table.iloc[rows].reset_index(drop=True)
        return own, measures.iloc[rows], own.set_index("site_id")["abnormal"]

    asked, lot = gains(map(some, range(12)), tmp_path)
    print(f"abnormal {share:.0%}: {asked.mean():.3f} ± {asked.std():.3f} from ten chosen labels, "
          f"{lot.mean():.3f} ± {lot.std():.3f} from ten by lot")  # fmt: skip
    assert asked.mean() > 0.75
    if share < 0.5:  # as of a screen; where spoilt crops are the most, a draw by lot does as well
        assert clearly_better(asked, lot)
    else:
        assert asked.mean() > lot.mean() - 0.1


def test_more_labels_find_more(tmp_path):
    crops, features, truth = planted(3)
    session = ten_labels.begin(tmp_path, crops, features)
    found = []
    for count in (10, 25, 60):
        label(truth, session, count)
        found.append(auc(session, truth))
    assert found[0] < found[1] < found[2] and found[2] > 0.9


def test_no_answer_is_asked_for_twice_and_fields_come_in_turn(session):
    asked = []
    for _ in range(12):
        new = ten_labels.suggest(session, 5)
        assert new == ten_labels.suggest(session, 5)  # the same until there is an answer
        for site in new:
            ten_labels.answer(session, site, "abnormal" if len(asked) % 3 else "normal")
            asked.append(site)
    assert len(set(asked)) == 60
    parents = session.crops.set_index("site_id").loc[asked, "parent"]
    assert parents.nunique() == 60  # of 200 fields
    lot = ten_labels.suggest(session, 700, "random")
    assert len(lot) == FIELDS * CROPS - 60 and not set(lot) & set(asked)
    first = session.crops.set_index("site_id").loc[lot[:140], "parent"]
    assert not set(first) & set(parents)
    with pytest.raises(InputError, match="how is 'best'; choose one of informative, random"):
        ten_labels.suggest(session, how="best")


SCRIPT = """
import sys
sys.path.insert(0, {tests!r})
from test_ten_labels import planted, label, ten_labels
crops, features, truth = planted(1)
session = ten_labels.begin(sys.argv[1], crops, features)
for k in range(30):
    label(truth, session, k + 1)
    print(k, flush=True)
"""


def test_a_session_killed_goes_on_where_it_was(tmp_path):
    crops, features, truth = planted(1)
    tests = str(ten_labels.Path(__file__).parent)
    command = [sys.executable, "-c", SCRIPT.format(tests=tests), str(tmp_path / "killed")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout:
            if int(line) >= 7:
                process.kill()
                break
        process.stdout.read()
    again = ten_labels.begin(tmp_path / "killed", crops, features)
    assert 8 <= len(again.labels.table()) <= 30
    straight = ten_labels.begin(tmp_path / "straight", crops, features)
    for k in range(20):
        label(truth, again, k + 1) if len(again.labels.table()) <= k else None
        label(truth, straight, k + 1)
    a, b = (s.labels.table().iloc[:20][["site_id", "label"]] for s in (again, straight))
    pd.testing.assert_frame_equal(a, b)
    if len(again.labels.table()) == 20:
        pd.testing.assert_frame_equal(ten_labels.scores(again), ten_labels.scores(straight))


# Fields, plates, what to drop


def test_fields_plates_and_the_list_to_drop_follow_from_the_crops(tmp_path):
    crops, features, truth = planted(2)
    session = ten_labels.begin(tmp_path, crops, features)
    label(truth, session, 40)
    found = ten_labels.scores(session).set_index("site_id")
    table = ten_labels.fields(session).set_index("site_id")
    assert table["crops"].eq(CROPS).all() and table["answered"].sum() == 40
    assert table.index.tolist() == crops["parent"].unique().tolist()
    for parent in table.index[::17]:
        own = found.loc[crops.loc[crops["parent"] == parent, "site_id"], "qc_score"]
        assert table.loc[parent, "qc_score"] == own.max()
    told = found["label"].ne("")
    assert found.loc[told, "qc_score"].eq(truth[found.index][told].astype(float)).all()
    drop = ten_labels.to_drop(session, 0.8)
    assert drop["qc_score"].is_monotonic_decreasing and (drop["qc_score"] >= 0.8).all()
    assert set(drop["site_id"]) == set(table.index[table["qc_score"] >= 0.8])
    spoilt = truth.groupby(crops["parent"].to_numpy()).any()
    assert spoilt[drop["site_id"]].mean() > 2 * spoilt.mean()
    plates = ten_labels.plate_map(session, 0.8)
    assert plates["fields"].sum() == FIELDS and plates["abnormal"].between(0, 1).all()
    assert plates["abnormal"] @ plates["fields"] == pytest.approx(len(drop))


def test_what_is_written_is_read_by_every_chapter(tmp_path):
    crops, features, truth = planted(2)
    session = ten_labels.begin(tmp_path / "labels", crops, features)
    label(truth, session, 12)
    (tmp_path / "screen").mkdir()
    path = ten_labels.write(session, tmp_path / "screen", at=0.7)
    assert path == tmp_path / "screen" / quality.FILE
    found = quality.read(tmp_path / "screen").set_index("site_id")
    table = ten_labels.fields(session).set_index("site_id")
    assert set(found.index) == set(crops["parent"])
    pd.testing.assert_series_equal(found["qc_score"], table["qc_score"], check_like=True)
    assert found["qc_flag"].sum() == len(ten_labels.to_drop(session, 0.7))
    for at in (0, 1.2):
        with pytest.raises(InputError, match=rf"at is {at}"):
            ten_labels.write(session, tmp_path / "screen", at=at)


@pytest.mark.parametrize("model", ten_labels.MODELS)
def test_both_models_judge(tmp_path, model):
    crops, features, truth = planted(2)
    session = ten_labels.begin(tmp_path, crops, features)
    label(truth, session, 30)
    found = ten_labels.scores(session, model)
    assert roc_auc_score(truth[found["site_id"]], found["qc_score"]) > 0.7


# Answers that teach nothing


def test_the_screen_is_prepared_without_what_was_dropped(drawn, tmp_path, monkeypatch):
    crops, features, truth, root = drawn
    shutil.copytree(root, tmp_path / "simulated" / "qc-smoke")
    monkeypatch.setenv("HCS_DATA", str(tmp_path))
    session = ten_labels.begin(tmp_path / "labels", crops, features)
    label(truth, session, 30)
    ten_labels.write(session, simulated.home("qc-smoke"), at=0.6)
    screen, dropped = prepare.prepare("simulated", "qc-smoke"), ten_labels.to_drop(session, 0.6)
    assert screen.left_out == len(dropped) > 0 and screen.table["qc_score"].max() < 0.6
    assert not set(screen.table["site_id"]) & set(dropped["site_id"])
    faulty = simulated.truth(root).set_index("site_id")["fault"].ne("")
    assert faulty[screen.table["site_id"]].mean() < faulty.mean() / 1.5


def test_too_few_labels_and_one_class_are_told(session):
    a, b, c, d = session.crops["site_id"].iloc[:4]
    with pytest.raises(InputError, match=r"fewer labels \(0\) than classes \(2\)"):
        ten_labels.scores(session)
    ten_labels.answer(session, a, "normal")
    with pytest.raises(InputError, match=r"fewer labels \(1\) than classes"):
        ten_labels.scores(session)
    ten_labels.answer(session, b, "normal")
    with pytest.raises(InputError, match=r"All 2 labels are normal: one class only.*is abnormal"):
        ten_labels.to_drop(session)
    ten_labels.answer(session, c, "abnormal")
    assert len(ten_labels.scores(session)) == FIELDS * CROPS
    ten_labels.settle(session, c, "normal")
    with pytest.raises(InputError, match="All 3 labels are normal"):
        ten_labels.scores(session)
    ten_labels.settle(session, a, "abnormal")
    ten_labels.answer(session, d, "abnormal")
    assert ten_labels.so_far(session) == {
        "normal": 2, "abnormal": 2, "contradictory": 0, "repeated": 0
    }  # fmt: skip


def test_a_contradiction_teaches_nothing_and_stops_the_writing(tmp_path):
    crops, features, truth = planted(0)
    session = ten_labels.begin(tmp_path / "labels", crops, features)
    label(truth, session, 12)
    before = ten_labels.scores(session).set_index("site_id")
    free = before.index[before["label"] == ""]
    ten_labels.answer(session, free[0], "normal")
    ten_labels.answer(session, free[0], "abnormal")
    after = ten_labels.scores(session).set_index("site_id")
    pd.testing.assert_frame_equal(after, before)  # neither of the two is believed
    assert ten_labels.so_far(session)["contradictory"] == 1
    assert session.labels.contradictions()["label"].tolist() == ["normal", "abnormal"]
    assert free[0] not in ten_labels.suggest(session, FIELDS * CROPS)
    (tmp_path / "screen").mkdir()
    with pytest.raises(InputError, match=rf"called normal and abnormal: {free[0]}\. Settle"):
        ten_labels.write(session, tmp_path / "screen")
    assert list((tmp_path / "screen").iterdir()) == []
    ten_labels.settle(session, free[0], "normal")
    ten_labels.write(session, tmp_path / "screen")


# What cannot be a session


def test_tables_that_cannot_be_judged_are_told(tmp_path):
    crops, features, _ = planted(0)
    with pytest.raises(InputError, match=r"lacks parent, well; it needs site_id, parent"):
        ten_labels.begin(tmp_path, crops.drop(columns=["parent", "well"]), features)
    with pytest.raises(InputError, match="has no rows"):
        ten_labels.begin(tmp_path, crops.iloc[:0], features.iloc[:0])
    twice = pd.concat([crops, crops.iloc[[4]]])
    with pytest.raises(
        InputError, match=f"1 crops are there more than once.*{crops['site_id'][4]}"
    ):
        ten_labels.begin(tmp_path, twice, np.zeros((len(twice), 2)))
    with pytest.raises(InputError, match=r"shape \(599, 24\) do not fit 600 crops"):
        ten_labels.begin(tmp_path, crops, features.iloc[1:])
    named = features.assign(site_id=crops["site_id"])
    with pytest.raises(InputError, match=f"lack 1 crops, such as {crops['site_id'][0]}"):
        ten_labels.begin(tmp_path, crops, named.iloc[1:])
    assert list(tmp_path.iterdir()) == []


def test_features_with_names_are_joined_by_them(tmp_path):
    crops, features, _ = planted(0)
    named = features.assign(site_id=crops["site_id"]).sample(frac=1, random_state=0)
    joined = ten_labels.begin(tmp_path, crops, named)
    np.testing.assert_array_equal(joined.x, ten_labels.begin(tmp_path, crops, features).x)


def test_answers_about_other_crops_are_not_taken_for_these(tmp_path):
    crops, features, _ = planted(0)
    session = ten_labels.begin(tmp_path, crops, features)
    ten_labels.answer(session, crops["site_id"][0], "normal")
    with pytest.raises(InputError, match=r"answers about 1 crops that are not among these 599"):
        ten_labels.begin(tmp_path, crops.iloc[1:], features.iloc[1:])
    with pytest.raises(InputError, match=r"no crop 'P1_A01_s1__n9'.*nearest: P1_A01_s1__n"):
        ten_labels.answer(session, "P1_A01_s1__n9", "normal")
    with pytest.raises(InputError, match="'good' is no label"):
        ten_labels.answer(session, crops["site_id"][0], "good")


def test_pictures_are_those_of_the_crops_asked_for(session, tmp_path):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (FIELDS * CROPS, 3, 40, 40), np.uint8)
    ids = session.crops["site_id"].tolist()
    for of in (
        images,
        store.write_store(tmp_path / "c.zarr", images, ids, ["red", "green", "blue"]),
    ):
        found = ten_labels.pictures(session, of, [ids[7], ids[2]])
        np.testing.assert_array_equal(found, images[[7, 2]].transpose(0, 2, 3, 1))
    stained = store.write_store(tmp_path / "d.zarr", images, ids, ["DNA", "AGP", "Mito"])
    assert ten_labels.pictures(session, stained, ids[:1])[0].shape == (40, 40, 3)
    with pytest.raises(InputError, match="crops are 40×40 pixels, smaller than the 48 asked for"):
        ten_labels.pictures(session, images, ids[:1], least=48)
    with pytest.raises(InputError, match="10 images do not fit 600 crops"):
        ten_labels.pictures(session, images[:10], ids[:1])


def test_no_function_needs_a_notebook():
    source = inspect.getsource(ten_labels)
    assert "ipywidgets" not in source and "IPython" not in source
