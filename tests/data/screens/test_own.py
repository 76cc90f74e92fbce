"""A folder and a table with anyone's column names become a manifest, real screens included."""

import gzip
import os
import re
from pathlib import Path

import imagecodecs
import numpy as np
import pandas as pd
import pytest
import tifffile

from hcs_utils.data import store
from hcs_utils.data.images import read_site
from hcs_utils.data.preprocess import preprocess
from hcs_utils.data.screens import own
from hcs_utils.errors import InputError

COLUMNS = {
    "batch": "Week",
    "plate": "Plate",
    "well": "Well",
    "compound": "Drug",
    "dose_um": "Dose",
    "moa": "MoA",
}
CHANNELS = {"dna": "FileDNA", "actin": "im/{Plate}_{Well}_{row:03d}.png#1"}
ROWS = """Week;Plate;Well;Drug;Dose;MoA;FileDNA
w1;0012;a1;DMSO;;NA;im/0.tif
w1;0012;A01;DMSO;;NA;im/1.tif
w1;0012;b2;taxol;1.0;tubulin;im/2.tif
w2;0013;B02;taxol;1;tubulin;im/3.tif
"""


@pytest.fixture
def root(tmp_path):
    (tmp_path / "im").mkdir()
    (tmp_path / "table.csv").write_text(ROWS)
    for k, name in enumerate(["0012_a1", "0012_A01", "0012_b2", "0013_B02"]):
        tifffile.imwrite(tmp_path / "im" / f"{k}.tif", np.full((9, 9), k, np.uint16))
        rgb = np.full((9, 9, 3), [0, 10 + k, 0], np.uint8)
        (tmp_path / "im" / f"{name}_{k:03d}.png").write_bytes(imagecodecs.png_encode(rgb))
    return tmp_path


def build(root, columns=COLUMNS, channels=CHANNELS, **options):
    return own.manifest(root, root / "table.csv", columns, channels, **options)


def refusal(root, **options):
    with pytest.raises(InputError) as caught:
        build(root, **options)
    return str(caught.value)


def test_the_users_columns_become_the_manifests_and_the_rest_follows(root):
    got = build(root, controls={"negcon": ["DMSO"]})
    assert got["plate"].tolist() == ["0012", "0012", "0012", "0013"]  # zeros stay
    assert got["well"].tolist() == ["A01", "A01", "B02", "B02"]
    assert got["site"].tolist() == [1, 2, 1, 1]
    assert got["site_id"].tolist() == ["0012_A01_1", "0012_A01_2", "0012_B02_1", "0013_B02_1"]
    assert got["treatment"].tolist() == ["DMSO", "DMSO", "taxol@1", "taxol@1"]
    assert got["role"].tolist() == ["negcon", "negcon", "trt", "trt"]
    assert got["moa"].tolist() == ["NA", "NA", "tubulin", "tubulin"]  # NA stays what it is
    assert (got["source"] == "own").all()
    assert read_site(root, got.iloc[2], ("dna", "actin"))[:, 0, 0].tolist() == [2, 12]


def test_constants_patterns_and_given_ids(root):
    columns = COLUMNS | {
        "source": "=lab 7",
        "site_id": "{Plate}-{row}",
        "treatment": "{Drug}/{Dose}",
        "site": "=4",
    }
    got = build(root, columns)
    assert set(got["source"]) == {"lab 7"}
    assert got["site_id"].tolist() == ["0012-0", "0012-1", "0012-2", "0013-3"]
    assert got["treatment"].tolist() == ["DMSO/", "DMSO/", "taxol/1.0", "taxol/1"]
    assert set(got["site"]) == {4}


def test_sites_of_one_name_are_made_unique(root):
    got = build(root, COLUMNS | {"site": "=1"})
    assert got["site_id"].tolist() == ["0012_A01_1", "0012_A01_1-2", "0012_B02_1", "0013_B02_1"]


def test_the_filter_keeps_the_row_numbers_of_the_table(root):
    got = build(root, filter={"Week": "w2", "Drug": ["DMSO", "taxol"]})
    assert got["path_actin"].tolist() == ["im/0013_B02_003.png#1"]
    assert "Week never is w3 (nearest: w" in refusal(root, filter={"Week": "w3"})
    assert "No row" in refusal(root, filter={"Week": "w2", "Drug": "DMSO"})


@pytest.mark.parametrize("sep", [",", "\t", "|", ";"])
@pytest.mark.parametrize("packed", [False, True])
def test_any_separator_is_found(root, sep, packed):
    content = ROWS.replace(";", sep).encode()
    name = "t.csv.gz" if packed else "t.csv"
    (root / name).write_bytes(gzip.compress(content) if packed else content)
    assert own.manifest(root, root / name, COLUMNS, CHANNELS).equals(build(root))


def test_a_table_may_be_a_data_frame_or_parquet(root):
    table = pd.read_csv(root / "table.csv", sep=";", dtype={"Plate": str}, keep_default_na=False)
    assert own.manifest(root, table, COLUMNS, CHANNELS).equals(build(root))
    table.to_parquet(root / "t.parquet")
    assert own.manifest(root, root / "t.parquet", COLUMNS, CHANNELS).equals(build(root))


def test_missing_columns_are_named_with_the_nearest(root):
    message = refusal(root, columns=COLUMNS | {"plate": "plat", "moa": "mode"})
    assert "- plat (nearest: Plate" in message and "- mode" in message
    assert "It has: Week, Plate" in message
    message = refusal(root, channels={"dna": "FileDna", "er": "im/{Wel}.tif"})
    assert "- FileDna (nearest: FileDNA)" in message and "- Wel (nearest: Well" in message


def test_every_other_mistake_says_what_to_do(root):
    assert "bacth" in refusal(root, columns=COLUMNS | {"bacth": "Week"})
    assert "(nearest: batch" in refusal(root, columns=COLUMNS | {"bacth": "Week"})
    lacking = {key: COLUMNS[key] for key in ("plate", "well")}
    assert "batch, treatment (or compound)" in refusal(root, columns=lacking)
    assert "No channels" in refusal(root, channels={})
    assert "is not right" in refusal(root, channels={"dna": "im/{Plate.tif"})
    assert "does not fit" in refusal(root, channels={"dna": "im/{Drug:03d}.tif"})
    assert "no compound is called DMS (nearest: DMSO)" in refusal(
        root, controls={"negcon": ["DMS"]}
    )
    assert "role in controls" in refusal(root, controls={"control": ["DMSO"]})
    with pytest.raises(InputError, match="There is no table"):
        own.manifest(root, root / "none.csv", COLUMNS, CHANNELS)
    (root / "bad.csv").write_bytes(b"\xff\xfe\x00bad")
    with pytest.raises(InputError, match="cannot be read"):
        own.manifest(root, root / "bad.csv", COLUMNS, CHANNELS)
    (root / "im" / "2.tif").unlink()
    assert "row 3 (0012_B02_1): 'im/2.tif'" in refusal(root)


def test_a_path_that_leaves_the_root_is_refused(root):
    (root / "table.csv").write_text(ROWS.replace("im/3.tif", "../secret.tif"))
    assert "'../secret.tif'" in refusal(root)


YAML = """
name: mine
root: .
table: table.csv
columns: {batch: Week, plate: Plate, well: Well, compound: Drug, dose_um: Dose}
channels:
  dna: FileDNA
  actin: "im/{Plate}_{Well}_{row:03d}.png#1"
controls: {negcon: DMSO}
filter: {Week: w1}
pixel_size_um: 0.65
"""


def test_a_screen_file_says_it_all(root, monkeypatch):
    (root / "screen.yaml").write_text(YAML)
    got = own.from_yaml(root / "screen.yaml")
    expected = build(
        root,
        {key: value for key, value in COLUMNS.items() if key != "moa"},
        controls={"negcon": ["DMSO"]},
        filter={"Week": "w1"},
    )
    pd.testing.assert_frame_equal(got, expected, check_flags=False)
    assert got.attrs == {"screen": "mine", "root": str(root), "pixel_size_um": 0.65}
    monkeypatch.chdir(root)
    assert own.from_yaml("screen.yaml").attrs["root"] == "."


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("table: table.csv", "", "lacks table"),
        ("filter:", "filtre:", r"'filtre' \(nearest: filter"),
        ("0.65", "small", "pixel_size_um is 'small'"),
        ("columns: {", "columns: [", "no readable YAML"),
        ("controls: {negcon: DMSO}", "controls: DMSO", "controls must be"),
        ("root: .", "root: nowhere", "not found inside"),
        ("table: table.csv", "table: other.csv", "There is no table"),
    ],
)
def test_a_wrong_screen_file_is_one_clear_message(root, old, new, words):
    (root / "screen.yaml").write_text(YAML.replace(old, new))
    with pytest.raises(InputError, match=words):
        own.from_yaml(root / "screen.yaml")


def test_what_is_no_screen_file_is_refused(root):
    with pytest.raises(InputError, match="There is no screen file"):
        own.from_yaml(root / "none.yaml")
    (root / "list.yaml").write_text("- a\n- b\n")
    with pytest.raises(InputError, match="must hold keys"):
        own.from_yaml(root / "list.yaml")


def shared_data(name):
    """A folder of real screens, or a skip with the reason."""
    checkout = Path(__file__).resolve().parents[3]
    folder = Path(os.environ.get("HCS_SHARED", checkout.parent / "shared" / "data")) / name
    if not folder.is_dir():
        pytest.skip(f"the real screen {name} is not on this machine")
    return folder


def test_bbbc021_fields_in_a_few_lines(tmp_path):
    root = shared_data("bbbc021_fields")
    (tmp_path / "screen.yaml").write_text(
        f"""
root: {root}
table: labels.csv
columns: {{batch: plate, plate: plate, well: well, compound: compound,
          dose_um: concentration, moa: moa}}
channels:
  actin: "images/bbbc021v1_{{row}}.png#0"
  tubulin: "images/bbbc021v1_{{row}}.png#1"
  dna: "images/bbbc021v1_{{row}}.png#2"
"""
    )
    got = own.from_yaml(tmp_path / "screen.yaml")
    assert (len(got), got["plate"].nunique(), got["treatment"].nunique()) == (660, 30, 55)
    assert (got["compound"].nunique(), got["moa"].nunique(), set(got["role"])) == (18, 6, {"trt"})
    assert (got.groupby(["treatment", "plate"]).size() == 4).all()
    part = got[got["plate"] == "Week9_39282"]
    report = preprocess(part, root, tmp_path / "s.zarr", size=96, scale="plate", progress=False)
    assert (report.done, report.failed) == (len(part), [])
    images = store.open_store(tmp_path / "s.zarr")
    assert images.channels == ("actin", "tubulin", "dna")
    assert images.read([0]).std() > 10


def test_bbbc021_cells_have_controls():
    root = shared_data("bbbc021_cells")
    got = own.manifest(
        root,
        root / "labels.csv",
        {
            "batch": "Image_Metadata_Plate_DAPI",
            "plate": "Image_Metadata_Plate_DAPI",
            "well": "Image_Metadata_Well_DAPI",
            "compound": "Image_Metadata_Compound",
            "dose_um": "Image_Metadata_Concentration",
            "moa": "moa",
        },
        {"dna": "{file}#0", "tubulin": "{file}#1", "actin": "{file}#2"},
        controls={"negcon": ["DMSO"]},
    )
    assert len(got) == 2054
    assert got.loc[got["role"] == "negcon", "plate"].nunique() == 6
    assert read_site(root, got.iloc[0], ("dna", "tubulin", "actin")).shape == (3, 68, 68)


def test_mitocheck_cells_by_a_table_of_their_names():
    root = shared_data("mitocheck_cells")
    table = pd.DataFrame({"file": sorted(str(f.relative_to(root)) for f in root.glob("*/*.png"))})
    table["class"] = table["file"].str.split("/").str[0]
    table["plate"] = table["file"].str.extract(r"/(.*?)--")[0]
    number = table["file"].str.extract(r"___P(\d+)_")[0].astype(int) - 1  # 1 … 384, row by row
    table["well"] = (number // 24).map(lambda k: chr(65 + k)) + (number % 24 + 1).astype(str)
    columns = {"batch": "plate", "plate": "plate", "well": "well", "treatment": "class"}
    got = own.manifest(root, table, columns, {"dna": "file"})
    assert (len(got), got["treatment"].nunique(), got["plate"].nunique()) == (3277, 16, 67)
    assert read_site(root, got.iloc[9], ("dna",)).shape == (1, 64, 64)


def test_bbbc006_focus_holds_stacks_and_tiffs_that_are_called_png():
    root = shared_data("bbbc006_focus")
    table = pd.DataFrame({"file": sorted(str(f.relative_to(root)) for f in root.glob("*_focus/*"))})
    table = table[~table["file"].str.contains("cropped")]
    table["class"] = table["file"].str.split("/").str[0]
    table["well"] = table["file"].map(lambda f: re.search(r"_([a-p]\d\d)_+s\d", f)[1])
    columns = {"batch": "=1", "plate": "=1", "well": "well", "treatment": "class"}
    got = own.manifest(root, table, columns, {"dna": "file"})
    shapes = {read_site(root, row, ("dna",)).shape for _, row in got.iterrows()}
    assert shapes == {(1, 520, 696)}
