"""Labels are on the disk when the call returns, and what is contradictory is shown, not guessed."""

import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pandas as pd
import pytest

from hcs_utils.data.labels import COLUMNS, LabelFile
from hcs_utils.errors import InputError


@pytest.fixture
def labels(tmp_path):
    return LabelFile(tmp_path / "session" / "labels.csv")


def pairs(table: pd.DataFrame) -> list[tuple[str, str]]:
    return list(zip(table["site_id"], table["label"], strict=True))


def test_no_file_is_no_answers(labels):
    assert not labels.path.exists() and labels.told == []
    for table in (labels.table(), labels.contradictions(), labels.duplicates(), labels.history()):
        assert table.empty and list(table.columns) == list(COLUMNS)


def test_an_answer_is_read_by_another_with_time_and_name(labels):
    labels.answer("P1_A01_s1", "normal", who="Ada")
    labels.answer('a,b "quoted" ü', "abnormal")
    table = LabelFile(labels.path).table()
    assert pairs(table) == [("P1_A01_s1", "normal"), ('a,b "quoted" ü', "abnormal")]
    assert table["who"][0] == "Ada"
    assert pd.to_datetime(table["when"]).dt.tz is not None
    assert labels.path.read_text("utf-8").splitlines()[0] == "site_id,label,when,who"


SCRIPT = """
import os, sys
from hcs_utils.data.labels import LabelFile
labels = LabelFile(sys.argv[1])
for k in range(1000):
    labels.answer(f"site{k}", "normal")
    print(k, flush=True)
"""


def test_every_answer_whose_call_returned_survives_kill_9(labels):
    command = [sys.executable, "-c", SCRIPT, str(labels.path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout:
            if int(line) == 12:
                process.kill()
                break
        last = int((process.stdout.read().split() or [12])[-1])
    kept = labels.table()["site_id"].tolist()
    assert kept[: last + 1] == [f"site{k}" for k in range(last + 1)] and len(kept) <= last + 2


def test_it_is_synced_before_the_call_returns(labels, monkeypatch):
    synced = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append(os.fstat(descriptor).st_size))
    labels.answer("a", "normal")
    size = labels.path.stat().st_size
    assert size in synced  # after the last byte
    labels.answer("b", "normal")
    assert labels.path.stat().st_size in synced


@pytest.mark.parametrize("cut", [1, 5, 20, 30])
def test_a_last_line_cut_short_is_told_left_out_and_replaced(labels, cut):
    labels.answer("kept", "normal")
    labels.answer("torn", "abnormal")
    content = labels.path.read_bytes()
    labels.path.write_bytes(content[:-cut])
    again = LabelFile(labels.path)
    assert len(again.told) == 1 and "torn" in again.told[0] and "cut short" in again.told[0]
    assert pairs(again.table()) == [("kept", "normal")]
    again.answer("next", "abnormal")
    assert pairs(LabelFile(labels.path).table()) == [("kept", "normal"), ("next", "abnormal")]
    assert LabelFile(labels.path).told == []


def test_a_header_cut_short_is_no_harm(labels):
    labels.path.parent.mkdir()
    labels.path.write_text("site_id,la")
    labels.answer("a", "normal")
    assert pairs(LabelFile(labels.path).table()) == [("a", "normal")]


def test_alike_twice_counts_once_and_is_listed(labels):
    for site in ("a", "b", "a"):
        labels.answer(site, "normal")
    assert pairs(labels.table()) == [("a", "normal"), ("b", "normal")]
    assert pairs(labels.duplicates()) == [("a", "normal")] * 2
    assert labels.contradictions().empty


def test_a_contradiction_has_no_label_until_it_is_settled(labels):
    labels.answer("a", "normal", who="Ada")
    labels.answer("b", "abnormal")
    labels.answer("a", "abnormal", who="Bob")
    assert pairs(labels.table()) == [("b", "abnormal")]
    shown = labels.contradictions()
    assert pairs(shown) == [("a", "normal"), ("a", "abnormal")]
    assert shown["who"].tolist() == ["Ada", "Bob"] and labels.duplicates().empty
    labels.settle("a", "normal")
    assert labels.contradictions().empty
    assert pairs(labels.table()) == [("b", "abnormal"), ("a", "normal")]
    assert len(labels.history()) == 5  # nothing was deleted


def test_withdrawn_answers_no_longer_count(labels):
    labels.answer("a", "abnormal")
    labels.withdraw("a")
    assert labels.table().empty
    labels.answer("a", "normal")
    assert pairs(labels.table()) == [("a", "normal")]
    with pytest.raises(InputError, match="No answer about 'b'"):
        labels.withdraw("b")


def test_what_is_no_answer_is_refused(labels):
    with pytest.raises(InputError, match=r"'abnorml' is no label.*nearest: abnormal"):
        labels.answer("a", "abnorml")
    for name in ("", "two\nlines"):
        with pytest.raises(InputError, match="cannot be written"):
            labels.answer(name, "normal")
    labels.answer("a", "normal")
    with pytest.raises(InputError, match="is no label"):
        labels.settle("a", "bad")
    assert pairs(labels.table()) == [("a", "normal")]


@pytest.mark.parametrize("line", ["a,normal", "a,good,2026-01-01,me", "a,normal,x,y,z"])
def test_a_wrong_line_is_named(labels, line):
    labels.answer("first", "normal")
    with labels.path.open("a") as file:
        file.write(f"{line}\n")
    with pytest.raises(InputError, match=rf"line 3, is no answer: '{re.escape(line)}'"):
        LabelFile(labels.path)


def test_another_table_is_refused(labels):
    labels.path.parent.mkdir()
    labels.path.write_text("x,y\n1,2\n")
    with pytest.raises(InputError, match=r"no table of labels.*site_id,label,when,who"):
        LabelFile(labels.path)
    with pytest.raises(InputError, match="no table of labels"):
        labels.table()


def test_several_at_once_write_to_one_file(labels):
    def answer_many(name):
        for k in range(20):
            LabelFile(labels.path).answer(f"{name}{k}", "normal", who=name)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(answer_many, "xy"))
    assert sorted(labels.table()["site_id"]) == sorted(f"{n}{k}" for n in "xy" for k in range(20))


def test_a_folder_that_cannot_be_written_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="not a folder"):
        LabelFile(tmp_path / "file" / "mine" / "labels.csv").answer("a", "normal")
