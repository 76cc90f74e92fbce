"""What was flagged is beside the screen; a store without it has the pixels of the rest."""

import numpy as np
import pandas as pd
import pytest

from hcs_utils.data import manifest as manifests
from hcs_utils.data import quality, store
from hcs_utils.errors import InputError

CHANNELS = ("DNA", "AGP")


@pytest.fixture
def manifest():
    """Three plates of four fields."""
    n = 12
    plate = [f"P{k // 4 + 1}" for k in range(n)]
    table = pd.DataFrame(
        {
            "site_id": [f"s{k:02d}" for k in range(n)], "source": "x", "batch": "b", "plate": plate,
            "well": "A01", "site": range(n), "treatment": "t", "compound": "c", "smiles": "",
            "dose_um": np.nan, "role": "trt", "moa": "", "target": "",
        }
    )  # fmt: skip
    for name in CHANNELS:
        table[f"path_{name}"] = [f"{name}{k}.tif" for k in range(n)]
    return manifests.validate(table)


@pytest.fixture
def images(manifest, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (12, 2, 8, 8), np.uint8)
    ids = manifest["site_id"].tolist()
    return store.write_store(tmp_path / "images.zarr", pixels, ids, CHANNELS)


def judged(*rows):
    return pd.DataFrame(rows, columns=list(quality.COLUMNS))


def test_no_file_judges_nothing(manifest, tmp_path):
    assert quality.read(tmp_path).empty
    table = quality.with_quality(manifest, tmp_path)
    assert table["qc_flag"].dtype == bool and not table["qc_flag"].any()
    assert table["qc_score"].isna().all() and table["qc_score"].dtype == float
    assert quality.told(table, "drop") == ""


def test_what_is_written_is_read_and_joined_by_name(manifest, tmp_path):
    quality.write(tmp_path, judged(("s03", True, 0.9), ("s01", False, 0.2), ("s05", True, None)))
    shuffled = manifest.sample(frac=1, random_state=0)
    table = quality.with_quality(shuffled, tmp_path).set_index("site_id")
    assert table.index.tolist() == shuffled["site_id"].tolist()
    assert sorted(table.index[table["qc_flag"]]) == ["s03", "s05"]
    assert table["qc_score"].dropna().to_dict() == {"s03": 0.9, "s01": 0.2}
    back = manifests.validate(table.reset_index())  # a manifest still, of the same digest
    assert manifests.digest(back) == manifests.digest(manifest)
    assert "qc_flag" not in manifest  # the one given is as it was


def test_earlier_rows_stay_and_the_same_field_is_judged_anew(tmp_path):
    quality.write(tmp_path, judged(("a", True, 0.9), ("b", False, 0.1)))
    quality.write(tmp_path, judged(("b", True, 0.8), ("c", False, 0.3)))
    found = quality.read(tmp_path)
    assert found.to_numpy().tolist() == [["a", True, 0.9], ["b", True, 0.8], ["c", False, 0.3]]
    assert [path.name for path in tmp_path.iterdir()] == [quality.FILE]
    assert quality.clear(tmp_path) == 3 and quality.read(tmp_path).empty
    assert quality.clear(tmp_path) == 0


def test_a_table_from_csv_is_taken(tmp_path):
    (tmp_path / "qc.csv").write_text("site_id,qc_flag,qc_score\na,true,0.5\nb,0,\n")
    quality.write(tmp_path, pd.read_csv(tmp_path / "qc.csv", dtype=str))
    found = quality.read(tmp_path)
    assert found["qc_flag"].tolist() == [True, False] and found["qc_score"].isna()[1]


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ([("a", True, 0.5), ("a", False, 0.5)], "1 fields twice: a"),
        ([("a", True, 1.5)], "qc_score of a is no number from 0 to 1"),
        ([("a", "perhaps", 0.5)], "qc_flag is 'perhaps'"),
        ([("a", True, "high")], "qc_score of a is no number"),
        ([("", True, 0.5)], "a row has no site_id"),
    ],
)
def test_what_is_no_judgement_is_refused_and_nothing_written(tmp_path, rows, told):
    with pytest.raises(InputError, match=told):
        quality.write(tmp_path, judged(*rows))
    with pytest.raises(InputError, match="lacks qc_flag, qc_score"):
        quality.write(tmp_path, pd.DataFrame({"site_id": ["a"]}))
    assert list(tmp_path.iterdir()) == []


def test_a_place_or_file_that_is_none_is_told(tmp_path):
    with pytest.raises(InputError, match=r"no folder .*nowhere"):
        quality.write(tmp_path / "nowhere", judged(("a", True, 0.5)))
    (tmp_path / quality.FILE).write_text("no parquet")
    with pytest.raises(InputError, match=r"no readable Parquet.*judge the screen again"):
        quality.read(tmp_path)


def test_names_that_the_manifest_has_not_are_told(manifest, tmp_path):
    quality.write(tmp_path, judged(("s01__n0001", True, 0.9), ("s02__n0004", True, 0.8)))
    line = quality.told(quality.with_quality(manifest, tmp_path), "drop")
    assert line == "2 fields judged are not here: s01__n0001, s02__n0004."
    with pytest.raises(
        InputError, match=r"2 of 2 fields are not in the screen: s01__n0001.*as in s00"
    ):
        quality.refuse_unknown(quality.read(tmp_path), manifest)
    quality.write(tmp_path, judged(("s01", True, 0.9)))
    table = quality.with_quality(manifest, tmp_path)
    assert table.attrs["qc_unknown"] == ["s01__n0001", "s02__n0004"]
    line = quality.told(table, "drop")
    assert "1 of 12 fields are flagged and left out." in line and "s01__n0001" in line
    assert "\n" not in line


def test_kept_fields_have_their_own_pixels_under_any_index(manifest, images):
    flagged = manifest["site_id"].isin(["s00", "s04", "s07", "s11"])
    table = manifest.assign(qc_flag=flagged, qc_score=0.5)
    kept, part = quality.without_flagged(table, images)
    rest = np.flatnonzero(~flagged)
    assert kept["site_id"].tolist() == list(part.site_ids) == manifest["site_id"][rest].tolist()
    assert len(part) == 8 and part.shape == (8, 2, 8, 8) and part.channels == images.channels
    np.testing.assert_array_equal(part.read(np.arange(8)), images.read(rest))
    for rows in ([3], [7, 0, 0, 5], []):
        np.testing.assert_array_equal(part.read(rows), images.read(rest[rows]))
    np.testing.assert_array_equal(part.rows(["s01", "s10"]), [0, 7])
    chunks = [bytes(chunk) for chunk in images.encoded()]
    assert [bytes(chunk) for chunk in part.encoded()] == [chunks[row] for row in rest]
    assert part.manifest_sha256 == manifests.digest(kept) != manifests.digest(manifest)
    with pytest.raises(InputError, match=r"8 fields of .* are kept"):
        part.read([8])
    with pytest.raises(InputError, match="lacks 1 of 1 sites: s00"):
        part.rows(["s00"])


def test_nothing_flagged_changes_nothing_and_all_flagged_is_an_error(manifest, images):
    table = manifest.assign(qc_flag=False, qc_score=np.nan)
    same, whole = quality.without_flagged(table, images)
    assert same is table and whole is images
    with pytest.raises(InputError, match="Every one of the 12 fields is flagged"):
        quality.without_flagged(table.assign(qc_flag=True), images)


def test_plates_are_summed_up(manifest, tmp_path):
    quality.write(tmp_path, judged(("s00", True, 0.9), ("s01", False, 0.1), ("s05", True, None)))
    found = quality.by_plate(quality.with_quality(manifest, tmp_path)).set_index("plate")
    assert found["fields"].tolist() == [4, 4, 4]
    assert found["judged"].tolist() == [2, 1, 0] and found["flagged"].tolist() == [1, 1, 0]
    assert found["mean_score"]["P1"] == 0.5 and found["mean_score"].isna()["P3"]
