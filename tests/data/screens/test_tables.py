"""Tables are found, read as text and joined, or it is said which one, and where it comes from."""

import gzip

import pandas as pd
import pytest

from hcs_utils.data.screens import tables
from hcs_utils.errors import InputError


def find(root, **options):
    return tables.find(
        "jump", root, "plate", ["metadata/plate.csv", "plate.csv"], "origin", **options
    )


def test_the_first_place_is_taken_packed_or_not(tmp_path):
    with pytest.raises(InputError, match=r"looked for metadata/plate.csv, plate.csv\. .* origin"):
        find(tmp_path)
    assert find(tmp_path, needed=False) is None
    (tmp_path / "plate.csv.gz").write_bytes(gzip.compress(b"a\n1\n"))
    assert find(tmp_path).name == "plate.csv.gz"
    (tmp_path / "metadata").mkdir()
    (tmp_path / "metadata" / "plate.csv").write_text("a\n2\n")
    assert find(tmp_path) == tmp_path / "metadata" / "plate.csv"
    given = {"plate": tmp_path / "plate.csv.gz"}
    assert find(tmp_path, given=given) == given["plate"]
    with pytest.raises(InputError, match="given as 'plate'"):
        find(tmp_path, given={"plate": tmp_path / "none.csv"})


def test_text_stays_text_and_nothing_becomes_missing(tmp_path):
    (tmp_path / "t.tsv").write_text("plate\tname\n0012\tNA\n0013\t\n")
    got = tables.read(tmp_path / "t.tsv", ["plate"])
    assert got["plate"].tolist() == ["0012", "0013"] and got["name"].tolist() == ["NA", ""]
    pd.DataFrame({"a": [1, 2], "b": [None, "x"]}).to_parquet(tmp_path / "t.parquet")
    got = tables.read(tmp_path / "t.parquet")
    assert got["a"].tolist() == ["1", "2"] and got["b"].tolist() == ["", "x"]


@pytest.mark.parametrize(
    "content",
    [b"", b"\x1f\x8bbroken", gzip.compress(b"a,b\n" * 99)[:20]],
    ids=["empty", "broken", "cut short"],
)
def test_what_cannot_be_read_is_named(tmp_path, content):
    (tmp_path / "t.csv.gz").write_bytes(content)
    with pytest.raises(InputError, match=r"t\.csv\.gz cannot be read: .*Fetch it again"):
        tables.read(tmp_path / "t.csv.gz")


def test_missing_columns_are_told_with_the_nearest(tmp_path):
    (tmp_path / "t.csv").write_text("Plate,Wel\n")
    with pytest.raises(InputError, match=r"- Well \(nearest: Wel"):
        tables.read(tmp_path / "t.csv", ["Plate", "Well"])


def test_rows_are_listed_up_to_twenty():
    tables.refuse([], "rows", "")
    with pytest.raises(InputError, match="25 rows are bad") as caught:
        tables.refuse([f"r{k}" for k in range(25)], "rows are bad", "Mend them.")
    assert "r19" in str(caught.value) and "r20" not in str(caught.value)
    assert "… and 5 more" in str(caught.value)
    frame = pd.DataFrame({"a": ["x", "x", "y"], "b": ["1", "1", "1"]})
    tables.once(frame.drop_duplicates(), ["a", "b"], "rows twice", "")
    with pytest.raises(InputError, match="1 rows twice:\n    x 1"):
        tables.once(frame, ["a", "b"], "rows twice", "")


def test_treatments_are_compound_and_dose():
    dose = pd.Series([10.0, 3.33333, 0.041152, float("nan"), 0.3])
    got = tables.dosed(pd.Series(list("abcde")), dose)
    assert got.tolist() == ["a@10", "b@3.333", "c@0.04115", "d", "e@0.3"]
