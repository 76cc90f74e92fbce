"""A manifest is accepted whole, or refused with every bad row named."""

import hashlib
import json
import os

import numpy as np
import pandas as pd
import pyarrow
import pytest

from hcs_utils.data import columns, manifest
from hcs_utils.errors import InputError


def table(n=4, **columns):
    k = np.arange(n)
    frame = pd.DataFrame(
        {
            "site_id": [f"s{i}" for i in k],
            "source": "lab",
            "batch": "b1",
            "plate": "p1",
            "well": "B02",
            "site": k,
            "treatment": "x@1",
            "compound": "x",
            "smiles": "CCO",
            "dose_um": 1.0,
            "role": "trt",
            "moa": "",
            "target": None,
            "path_dna": [f"im/{i}.tif" for i in k],
            "path_actin": [f"im/{i}.tif#1" for i in k],
        }
    )
    return frame.assign(**columns)


def refusal(frame, **arguments):
    with pytest.raises(InputError) as caught:
        manifest.validate(frame, **arguments)
    return str(caught.value)


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "screen"
    (folder / "im").mkdir(parents=True)
    for k in range(4):
        (folder / "im" / f"{k}.tif").write_bytes(b"x")
    return folder


def test_a_good_manifest_is_normalised_and_keeps_what_is_beyond_the_contract():
    frame = table(plate=[1.0] * 4, site=["1", "2", "3", "4"], replicate=3)
    frame.attrs["screen"] = "mine"
    got = manifest.validate(frame)
    assert list(got.columns) == [*manifest.COLUMNS, "path_dna", "path_actin", "replicate"]
    assert got["site"].dtype == np.int64 and got["dose_um"].dtype == np.float64
    assert (got["target"] == "").all() and (got["plate"] == "1").all()
    assert manifest.channels(got) == ("dna", "actin")
    assert got.attrs == {"screen": "mine"}
    assert manifest.validate(got).equals(got)


@pytest.mark.parametrize("write", ["{}{}", "{}{:02d}", " {}{:03d} "])
def test_every_well_of_a_1536_plate_has_one_form(write):
    rows = [*map(chr, range(65, 91)), "AA", "AB", "AC", "AD", "AE", "AF"]
    wells = [(row, column) for row in rows for column in range(1, 49)]
    written = [write.format(row.lower(), column) for row, column in wells]
    got = manifest.validate(table(len(wells), well=written))["well"]
    assert got.tolist() == [f"{row}{column:02d}" for row, column in wells]


@pytest.mark.parametrize("well", ["Z99", "A00", "A49", "AG01", "07", "B", "", "B2B"])
def test_what_is_no_well_is_named_with_its_row_and_the_legal_range(well):
    message = refusal(table(well=["B02", "C03", well, "D04"]))
    assert f"row 3 (s2): {well!r}" in message
    assert "A01 to AF48" in message
    assert "1 bad rows of 4" in message


def test_missing_columns_are_all_named_with_the_nearest():
    frame = table().rename(columns={"well": "Wells", "batch": "bach"})
    message = refusal(frame)
    assert "- well (nearest: Wells)" in message and "- batch (nearest: bach" in message
    message = refusal(table().drop(columns=["path_dna", "path_actin"]))
    assert "path_<channel>" in message
    assert "no rows" in refusal(table(0))
    assert "twice: well" in refusal(pd.concat([table(), table()[["well"]]], axis=1))


@pytest.mark.parametrize(
    ("change", "column", "words"),
    [
        ({"site_id": ["s0", "s1", "s1", "s3"]}, "site_id", "Name each site once"),
        ({"site_id": ["s0", "s1", "", "s3"]}, "site_id", "empty"),
        ({"batch": ["b1", "b1", None, "b1"], "plate": list("abcd")}, "batch", "empty"),
        ({"plate": "p", "batch": ["b1", "b2", "b1", "b1"]}, "plate", "more than one batch"),
        ({"role": "control"}, "role", "trt, negcon, poscon"),
        ({"site": [0, 1, 2.5, 3]}, "site", "whole number"),
        ({"site": [0, 1, None, 3]}, "site", "whole number"),
        ({"site": ["0", "one", "2", "3"]}, "site", "whole number"),
        ({"dose_um": [1, -1, 1, 1]}, "dose_um", "from 0 up"),
        ({"dose_um": [1, np.inf, 1, 1]}, "dose_um", "from 0 up"),
        ({"dose_um": ["1", "1 uM", "1", "1"]}, "dose_um", "from 0 up"),
        ({"dose_um": [1, np.nan, 1, 1]}, "dose_um", "other rows of the same compound"),
        ({"path_dna": ["a", "b", "", "d"]}, "path_dna", "no file"),
        ({"path_dna": ["a", "/b", "c", "d"]}, "path_dna", "Leaves"),
        ({"path_dna": ["a", "b/../../c", "c", "d"]}, "path_dna", "Leaves"),
        ({"path_dna": ["a", "..", "c", "d"]}, "path_dna", "Leaves"),
        ({"path_dna": ["a", "C:\\b", "c", "d"]}, "path_dna", "Leaves"),
        ({"path_dna": ["a", "~/b", "c", "d"]}, "path_dna", "Leaves"),
        ({"path_dna": list("aacd"), "path_actin": list("aacd")}, "path_dna", "several rows"),
    ],
)
def test_each_rule_names_its_column_and_how_to_mend_it(change, column, words):
    message = refusal(table(**change))
    line = next(line for line in message.splitlines() if line.startswith(f"- {column}:"))
    assert words in line
    assert "row 2" in message or "row 3" in message


def test_doses_may_be_missing_for_controls_and_for_treatments_that_have_none():
    frame = table(
        compound=["dmso", "siRNA", "x", "dmso"],
        role=["negcon", "trt", "trt", "negcon"],
        dose_um=[np.nan, np.nan, 1.0, 0.0],
    )
    assert manifest.validate(frame)["dose_um"].isna().tolist() == [True, True, False, False]


def test_names_with_two_dots_inside_are_legal():
    manifest.validate(table(path_dna=["a..b.tif", "..a/x.tif", "a../x.tif", "a.b"]))


def test_all_rules_report_at_once_and_long_lists_end_in_a_count():
    frame = table(100, well="Z99", role="what", site_id="same")
    message = refusal(frame)
    assert [line.split(":")[0] for line in message.splitlines() if line.startswith("- ")] == [
        "- site_id",
        "- well",
        "- role",
    ]
    assert message.count("… and 80 more") == 3
    assert len(message.splitlines()) == 1 + 3 * 22


def test_files_must_exist_inside_the_root(root, tmp_path):
    assert len(manifest.validate(table(), root=root)) == 4
    (root / "im" / "2.tif").unlink()
    message = refusal(table(), root=root)
    assert "row 3 (s2): 'im/2.tif'" in message and "row 3 (s2): 'im/2.tif#1'" in message
    (root / "im" / "2.tif").mkdir()
    assert "row 3 (s2)" in refusal(table(), root=root)
    assert "4 bad rows" in refusal(table(), root=tmp_path / "nowhere")


def test_links_are_followed_and_must_stay_within_the_root(root, tmp_path):
    outside = tmp_path / "secret.tif"
    outside.write_bytes(b"x")
    (root / "im" / "1.tif").unlink()
    (root / "im" / "1.tif").symlink_to(root / "im" / "0.tif")
    manifest.validate(table(), root=root)
    (root / "im" / "1.tif").unlink()
    (root / "im" / "1.tif").symlink_to(outside)
    assert "row 2 (s1)" in refusal(table(), root=root)
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "3.tif").write_bytes(b"x")
    (root / "away").symlink_to(tmp_path / "folder")
    message = refusal(table(path_dna=["im/0.tif", "im/2.tif", "im/3.tif", "away/3.tif"]), root=root)
    assert "row 4 (s3): 'away/3.tif'" in message
    alias = tmp_path / "alias"
    alias.symlink_to(root)
    (root / "im" / "1.tif").unlink()
    (root / "im" / "1.tif").write_bytes(b"x")
    manifest.validate(table(), root=alias)


def test_parquet_keeps_values_types_and_metadata(tmp_path):
    frame = manifest.validate(table())
    frame.attrs["pixel_size_um"] = 0.65
    manifest.write(frame, tmp_path / "m.parquet")
    got = manifest.read(tmp_path / "m.parquet")
    pd.testing.assert_frame_equal(got, frame)
    assert got.attrs == {"pixel_size_um": 0.65}
    assert os.listdir(tmp_path) == ["m.parquet"]


def test_a_bad_manifest_is_neither_written_nor_read(tmp_path):
    with pytest.raises(InputError):
        manifest.write(table(well="Z99"), tmp_path / "m.parquet")
    assert os.listdir(tmp_path) == []
    table(well="Z99").to_parquet(tmp_path / "bad.parquet")
    with pytest.raises(InputError, match="AF48"):
        manifest.read(tmp_path / "bad.parquet")
    (tmp_path / "text.parquet").write_text("site_id,well\n")
    with pytest.raises(InputError, match="no readable Parquet"):
        manifest.read(tmp_path / "text.parquet")
    with pytest.raises(InputError, match="There is no manifest"):
        manifest.read(tmp_path / "none.parquet")


def test_the_digest_depends_on_content_alone():
    frame = manifest.validate(table())
    shuffled = frame.sample(frac=1, random_state=0).reset_index(drop=True)
    assert manifest.digest(shuffled) == manifest.digest(frame)
    assert manifest.digest(frame.assign(note="more")) == manifest.digest(frame)
    for column, value in {"well": "C03", "dose_um": 2.0, "site": 9, "path_dna": "z"}.items():
        changed = frame.copy()
        changed.loc[2, column] = value
        assert manifest.digest(changed) != manifest.digest(frame)


def test_the_digest_is_that_of_the_whole_table_as_json(monkeypatch):
    monkeypatch.setattr(columns, "BLOCK", 3)
    frame = manifest.validate(table(11, smiles='C\\C"é', site_id=[f"s{i}" for i in range(11)]))
    frame.loc[4, "dose_um"] = np.nan
    names = [*manifest.COLUMNS, "path_dna", "path_actin"]
    rows = frame.sort_values("site_id")
    rows["site"] = rows["site"].astype(float)
    content = json.dumps([[name, rows[name].tolist()] for name in names])
    assert manifest.digest(frame) == hashlib.sha256(content.encode()).hexdigest()


def test_what_is_right_already_is_not_copied():
    """At millions of rows a copy of the text columns is gigabytes."""

    def places(frame):
        arrays = {name: pyarrow.array(frame[name].array) for name in frame if name not in numbers}
        return {
            name: [part.buffers()[2].address for part in getattr(array, "chunks", [array])]
            for name, array in arrays.items()
        }

    numbers = ("site", "dose_um")
    frame = manifest.validate(table(100))
    assert places(manifest.validate(frame)) == places(frame)
    other = manifest.validate(frame.assign(well=" B02"))
    assert places(other)["well"] != places(frame)["well"]
    assert places(other)["path_dna"] == places(frame)["path_dna"]
