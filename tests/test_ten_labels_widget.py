"""The widget without a browser: every click is on the disk, and nothing is held but there."""

import re

import numpy as np
import pytest
import yaml
from test_ten_labels import planted

from hcs_utils import files, prepare, qc_assemble, ten_labels
from hcs_utils.data import quality
from hcs_utils.data.screens import simulated
from hcs_utils.errors import InputError
from hcs_utils.qc_settings import QCSettings
from hcs_utils.ten_labels_widget import Panel, panel


@pytest.fixture
def known():
    return planted(1)


@pytest.fixture
def opened(known, tmp_path):
    """`opened()`: the widget on the labels that are there, as after a restart."""
    crops, features, _ = known
    images = np.random.default_rng(0).integers(0, 256, (len(crops), 3, 32, 32), np.uint8)
    (tmp_path / "screen").mkdir()

    def opened(**options) -> Panel:
        session = ten_labels.begin(tmp_path / "labels", crops, features)
        return panel(session, images, tmp_path / "screen", **options)

    return opened


def click(tool: Panel, number: int, label: str) -> None:
    tool.cards[number].buttons[label].click()


def label_all(tool: Panel, truth) -> None:
    for card in list(tool.cards):
        card.buttons["abnormal" if truth[card.site_id] else "normal"].click()


def test_a_click_is_an_answer_on_the_disk(opened, known):
    tool = opened()
    assert len(tool.cards) == 6 and tool.results.layout.display == "none"
    assert "fewer labels (0) than classes" in tool.said.value
    first = tool.cards[0]
    click(tool, 0, "abnormal")
    table = tool.session.labels.table()
    assert table[["site_id", "label"]].to_numpy().tolist() == [[first.site_id, "abnormal"]]
    assert first.buttons["abnormal"].description == "Abnormal ✓"
    assert "1 answers" in tool.told.value and tool.cards[0] is first  # the set is not done yet
    click(tool, 0, "abnormal")  # again: no second line
    assert len(tool.session.labels.history()) == 1
    click(tool, 0, "normal")  # a change of mind
    assert tool.session.labels.table()["label"].tolist() == ["normal"]
    assert tool.session.labels.contradictions().empty
    assert first.buttons["abnormal"].description == "Abnormal"


def test_after_each_set_the_crops_are_ranked_anew_and_the_map_drawn(opened, known):
    tool, truth = opened(), known[2]
    asked = []
    for _ in range(4):
        asked.append([card.site_id for card in tool.cards])
        label_all(tool, truth)
    assert len({site for each in asked for site in each}) == 24
    assert [card.site_id for card in tool.cards] == ten_labels.suggest(tool.session, 6)
    assert tool.results.layout.display == "flex" and tool.said.value == ""
    assert re.match(
        r"<img src='data:image/png;base64,\w+.*alt='Heat map.*worst: P\d", tool.map.value
    )
    drop = ten_labels.to_drop(tool.session, 0.5)
    assert f"To drop: {len(drop)} of 200 fields" in tool.list.value
    assert drop["site_id"][0] in tool.list.value
    tool.at.value = 0.9
    assert f"To drop: {len(ten_labels.to_drop(tool.session, 0.9))} of 200" in tool.list.value


def test_a_restart_shows_the_same_crops_and_answers(opened, known):
    tool = opened()
    label_all(tool, known[2])
    click(tool, 2, "normal")
    shown = [card.site_id for card in tool.cards]
    again = opened()
    assert [card.site_id for card in again.cards] == ten_labels.suggest(again.session, 6)
    assert "7 answers" in again.told.value and shown[2] not in {c.site_id for c in again.cards}


def test_back_and_next_do_not_lose_or_repeat_an_answer(opened, known):
    tool = opened()
    assert tool.back.disabled
    first = [card.site_id for card in tool.cards]
    label_all(tool, known[2])
    second = [card.site_id for card in tool.cards]
    tool.back.click()
    assert [card.site_id for card in tool.cards] == first
    assert all(card.chosen for card in tool.cards)
    mine = tool.cards[3].chosen
    click(tool, 3, "normal" if mine == "abnormal" else "abnormal")
    assert tool.session.labels.contradictions().empty
    assert len(tool.session.labels.table()) == 6
    tool.skip.click()
    third = [card.site_id for card in tool.cards]
    assert not set(third) & set(first) and len(set(second)) == 6
    assert len(tool.session.labels.table()) == 6


def test_a_contradiction_is_shown_first_and_settled_by_a_click(opened, known):
    tool = opened()
    label_all(tool, known[2])
    site = tool.session.labels.table()["site_id"][0]
    label = tool.session.labels.table()["label"][0]
    other = "normal" if label == "abnormal" else "abnormal"
    ten_labels.answer(tool.session, site, other, who="someone else")
    again = opened()
    assert [card.site_id for card in again.cards] == [site] and not again.cards[0].chosen
    assert "called normal and abnormal" in again.told.value
    again.keep.click()
    assert "Settle them first" in again.said.value and "alert" in again.said.value
    click(again, 0, label)
    assert again.session.labels.contradictions().empty and len(again.cards) == 6


def test_written_flags_are_those_of_the_list(opened, known, tmp_path):
    tool = opened(at=0.6)
    for _ in range(3):
        label_all(tool, known[2])
    tool.keep.click()
    found = quality.read(tmp_path / "screen")
    drop = ten_labels.to_drop(tool.session, 0.6)
    assert found["qc_flag"].sum() == len(drop) and len(found) == 200
    assert f"{len(drop)} of 200 fields are flagged" in tool.said.value


def test_every_picture_and_button_says_what_it_is(opened):
    tool = opened(n=4)
    for k, card in enumerate(tool.cards, 1):
        image = card.box.children[1].value
        assert re.search(rf"alt='Crop {k}, plate P\d, well [A-E]\d\d'", image)
        tips = [button.tooltip for button in card.buttons.values()]
        assert tips == [f"Crop {k} is normal", f"Crop {k} is abnormal"]
    with pytest.raises(InputError, match="smaller than the 64 asked for"):
        opened(least=64)


def test_the_steps_of_the_chapter_judge_an_own_screen(tmp_path, monkeypatch):
    source = tmp_path / "drawn"
    simulated.draw(source, simulated.SIZES["qc-smoke"])
    table = simulated.manifest(source)
    truth = simulated.truth(source).set_index("site_id")["fault"].ne("")
    for path in source.glob("truth*"):  # an own screen has none
        files.remove(path)
    table.to_csv(tmp_path / "wells.csv", index=False)
    described = {
        "name": "mine", "root": "drawn", "table": "wells.csv", "pixel_size_um": 2.0,
        "columns": {name: name for name in ("batch", "plate", "well", "compound", "site_id")},
        "channels": {name: f"path_{name}" for name in ("AGP", "Mito", "DNA")},
    }  # fmt: skip
    (tmp_path / "screen.yaml").write_text(yaml.safe_dump(described))
    monkeypatch.setenv("HCS_DATA", str(tmp_path / "data"))

    settings = QCSettings(screen=str(tmp_path / "screen.yaml"), composite="AGP,Mito,DNA")
    crops = qc_assemble.cut(settings, settings.screen, "", settings.channels, progress=False)
    measures = ten_labels.measured(crops.store)
    session = ten_labels.begin(tmp_path / "labels", crops.table, measures)
    tool = panel(session, crops.store, crops.root)
    answers = truth[crops.table["parent"]].set_axis(crops.table["site_id"])
    for _ in range(3):
        label_all(tool, answers)
    tool.keep.click()
    assert "are flagged" in tool.said.value
    screen = prepare.prepare(settings.screen)
    assert screen.left_out == quality.read(source)["qc_flag"].sum() > 0
    assert truth[screen.table["site_id"]].mean() < truth.mean()
