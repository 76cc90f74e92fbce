"""Paths of the gallery's load_data tables, as different releases write them."""

import pandas as pd
import pytest

from hcs_utils.data.screens import load_data
from hcs_utils.errors import InputError

BELOW = "source_4/images/2021_04_26_Batch1/images/BR00117035__2021/Images"


@pytest.mark.parametrize(
    "before",
    [
        "s3://cellpainting-gallery/cpg0016-jump/",
        "https://cellpainting-gallery.s3.amazonaws.com/cpg0016-jump/",
        "/home/ubuntu/bucket/projects/cpg0016-jump/",
        "",
    ],
)
@pytest.mark.parametrize("slash", ["/", ""])
def test_paths_become_relative_to_the_project(tmp_path, before, slash):
    table = pd.DataFrame({"Metadata_Well": ["a1"], "Metadata_Site": [3]})
    for channel in load_data.CHANNELS:
        table[f"FileName_Orig{channel}"] = f"{channel}.tiff"
        table[f"PathName_Orig{channel}"] = f"{before}{BELOW}{slash}"
    table.to_csv(tmp_path / "load_data.csv", index=False)
    (row,) = load_data.sites(tmp_path / "load_data.csv").to_dict("records")
    assert row == {"well": "A01", "site": "3"} | {
        f"path_{channel}": f"{BELOW}/{channel}.tiff" for channel in load_data.CHANNELS
    }


def test_the_table_with_illumination_comes_first(tmp_path):
    folder = tmp_path / "s" / "workspace" / "load_data_csv" / "b" / "p"
    folder.mkdir(parents=True)
    assert load_data.path_of(tmp_path, "s", "b", "p") is None
    for name in ("load_data.csv.gz", "load_data.csv", "load_data_with_illum.parquet"):
        (folder / name).write_bytes(b"x")
        assert load_data.path_of(tmp_path, "s", "b", "p").name == name


def test_a_missing_channel_is_named(tmp_path):
    table = pd.DataFrame({"Metadata_Well": ["A01"], "Metadata_Site": [1]})
    for channel in ("DNA", "ER", "RNA", "AGP", "Brightfield"):
        table[f"FileName_Orig{channel}"] = table[f"PathName_Orig{channel}"] = "x"
    table.to_csv(tmp_path / "load_data.csv", index=False)
    with pytest.raises(InputError, match=r"- FileName_OrigMito"):
        load_data.sites(tmp_path / "load_data.csv")
    assert len(load_data.sites(tmp_path / "load_data.csv", ["DNA", "Brightfield"])) == 1
