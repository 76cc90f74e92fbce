"""From parameters to crops, their truth and parts, encoders and methods."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
import torch

from hcs_utils import qc_assemble as assemble
from hcs_utils.errors import InputError
from hcs_utils.qc_settings import SELF_SUPERVISED, QCSettings

SMOKE = QCSettings(
    preset="smoke", size="qc-smoke", shift_size="qc-smoke-shift", encoder="tiny", budgets="20,10",
    test_crops=40, shift_crops=40, test_share=0.34, val_share=0.25, minibatch=16, hidden=16,
    width=16, cluster_width=8, prototypes=6, queue=32, epochs=2, weights="procedural:2",
)  # fmt: skip


@pytest.fixture(scope="module")
def of(places):
    return assemble.ready(SMOKE)


def test_no_plate_straddles_and_truth_is_the_simulation_s(of):
    table = of.crops.table
    assert (table.groupby("plate")["split"].nunique() == 1).all()
    assert set(table["split"]) == {"train", "val", "test"}
    assert table["abnormal"].eq(table["fault"].ne("")).all() and table["labelled"].all()
    assert 0.1 < table["abnormal"].mean() < 0.6
    assert set(table["site_id"].iloc[of.trained]) == set(
        table.loc[table["split"] == "train", "site_id"]
    )
    again = assemble.ready(dataclasses.replace(SMOKE, fold=2)).crops.table
    assert (again["split"] != table["split"]).any()


def test_the_question_s_rows_are_the_crops_they_say(of):
    question, table = of.question, of.crops.table
    assert question.images.shape[1:] == (3, 48, 48) and question.channels == assemble.CHANNELS
    pool = np.flatnonzero(table["split"] == "train")
    assert (question.images[question.pool] == of.crops.images[torch.from_numpy(pool)]).all()
    for part, count in (("", 40), ("shift", 40)):
        rows = question.asked[part]
        assert len(rows) == count and question.abnormal[rows].sum() == count // 2
    shift = question.asked["shift"]
    assert not set(question.field[shift]) & set(question.field[question.pool])
    of_shift = question.normaliser.mean[question.plate[shift]]
    assert not torch.isin(of_shift, of.crops.normaliser.mean).any()  # by its own plates
    assert (question.plate[question.pool] == of.crops.plate[pool]).all()


def test_the_other_cell_line_can_be_left_out():
    alone = assemble.ready(dataclasses.replace(SMOKE, shift_screen=""))
    assert alone.shift is None and "shift" not in alone.question.asked


def test_labels_of_people_go_before_the_truth(of, tmp_path):
    from hcs_utils.data.labels import LabelFile

    path, table = tmp_path / "labels.csv", of.crops.table
    file = LabelFile(path)
    rng = np.random.default_rng(0)
    chosen = table[table["split"].isin(["train", "test"])].sample(160, random_state=0)
    wrong = rng.random(len(chosen)) < 0.5
    for site, bad in zip(chosen["site_id"], wrong, strict=True):
        file.answer(site, "abnormal" if bad else "normal", who="test")
    given = dataclasses.replace(SMOKE, labels=str(path), test_crops=20, shift_screen="")
    ready = assemble.ready(given)
    told = ready.crops.table.set_index("site_id")
    assert told["labelled"].sum() == 160
    assert (told.loc[chosen["site_id"], "abnormal"].to_numpy() == wrong).all()
    assert set(ready.question.fault) == {"", "abnormal"}
    assert len(ready.trained) == len(of.trained)  # without labels, all are learned from
    pd.DataFrame({"site_id": ["x"], "label": ["normal"], "when": [""], "who": [""]}).to_csv(
        tmp_path / "none.csv", index=False
    )
    with pytest.raises(InputError, match=r"labels none of the .* crops"):
        assemble.ready(dataclasses.replace(given, labels=str(tmp_path / "none.csv")))


def test_a_screen_without_truth_or_labels_is_told(of, tmp_path):
    bare = dataclasses.replace(of.crops, root=tmp_path)
    with pytest.raises(InputError, match="give the file as qc_labels"):
        assemble._label(bare, "", 0.02, "qc_labels")


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"size": "qc-smokey"}, "Unknown size 'qc-smokey'"),
        ({"screen": "bbbc022"}, r"bbbc022 is not on this disk.*\$HCS_DATA/bbbc022"),
        ({"screen": "elsewhere"}, "Unknown screen 'elsewhere'"),
        ({"composite": "AGP,Mito,DAPI"}, "There is no channel 'DAPI'"),
        ({"test_crops": 40_000}, "40000 labels want 20000 normal"),
    ],
)
def test_what_there_is_not_is_told(changed, told):
    with pytest.raises(InputError, match=told):
        _ = assemble.ready(dataclasses.replace(SMOKE, shift_screen="", **changed)).question


@pytest.mark.parametrize("name", SELF_SUPERVISED)
def test_every_method_has_the_settings_and_learns_a_step(of, name):
    settings = dataclasses.replace(SMOKE, method=name)
    made = assemble.method(settings, assemble.network(settings), len(of.trained))
    stream = assemble.stream(settings, of)
    config = assemble.train_config(settings, stream.per_epoch)
    assert config.steps == 2 * stream.per_epoch and config.optimizer == "adamw"
    assert config.clip_norm == 3
    as_in_the_paper = dataclasses.replace(settings, optimizer="sgd")
    assert assemble.train_config(as_in_the_paper, stream.per_epoch).clip_norm == 0
    assert made.config.hidden == 16
    if name == "swav":
        assert (made.config.queue_starts, made.config.frozen_share) == (0.5, 0.5)
    if name == "deepcluster":
        made.begin(stream, "cpu")
    loss, _ = made.loss(stream(0, "cpu"), 0.0)
    loss.backward()
    assert torch.isfinite(loss)


def test_the_library_s_queue_never_starts_in_five_epochs():
    late = dataclasses.replace(SMOKE, method="swav", epochs=5, queue_starts=15)
    assert assemble.method(late, assemble.network(late), 100).config.queue_starts == 1


def test_encoders_begin_as_their_method_says(tmp_path):
    same = [assemble.network(dataclasses.replace(SMOKE, method=m)) for m in ("random", "simclr")]
    pairs = zip(*(network.parameters() for network in same), strict=True)
    assert all((a == b).all() for a, b in pairs)
    drawn = assemble.network(dataclasses.replace(SMOKE, method="procedural"))
    assert (next(drawn.parameters()) != next(same[0].parameters())).any()
    resnet = assemble.network(dataclasses.replace(SMOKE, method="resnet18", weights="procedural:1"))
    assert resnet.num_features == 512 and resnet.channels == assemble.CHANNELS
