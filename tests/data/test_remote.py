"""Where screens live: every address is one, and tables and archives follow from it."""

import re

import pandas as pd
import pytest

from hcs_utils.data import remote
from hcs_utils.data.screens import public
from hcs_utils.data.selection import check_address, check_paths
from hcs_utils.errors import InputError


def plates(root):
    """A table of plates as JUMP's."""
    rows = [("source_4", "2021_04_26_Batch1", "BR00117035"), ("source_4", "Batch2", "BR2"),
            ("source_1", "Batch1", "UL1")]  # fmt: skip
    columns = ["Metadata_Source", "Metadata_Batch", "Metadata_Plate"]
    (root / "metadata").mkdir(parents=True)
    pd.DataFrame(rows, columns=columns).to_csv(root / "metadata" / "plate.csv.gz", index=False)


@pytest.mark.parametrize("name", remote.HOMES)
def test_every_place_is_below_the_root_and_every_address_is_one(name, tmp_path):
    where = remote.home(name)
    items = remote.tables(where) + remote.archives(where, plates=["P1"])
    assert items or name in ("jump", "cpg0004")
    check_paths([item.path for item in items], tmp_path)
    for item in items:
        check_address(item.url)
        assert re.match(r"https://|s3://", item.url)
    assert where.note


def test_another_base_holds_everything_at_its_place():
    where = remote.home("jump")
    items = remote.tables(where, "s3://mirror/jump")
    assert {i.url for i in items} == {f"s3://mirror/jump/{i.path}" for i in items}
    assert any("github.com" in i.url for i in remote.tables(where))


def test_the_tables_of_chosen_plates_are_named(tmp_path):
    plates(tmp_path)
    where = remote.home("jump")
    (item,) = remote.plate_tables(where, tmp_path, plates=["BR00117035"])
    assert item.url == (
        "s3://cellpainting-gallery/cpg0016-jump/source_4/workspace/load_data_csv/"
        "2021_04_26_Batch1/BR00117035/load_data_with_illum.parquet"
    )
    assert item.path == item.url.removeprefix("s3://cellpainting-gallery/cpg0016-jump/")
    assert len(remote.plate_tables(where, tmp_path)) == 3
    assert len(remote.plate_tables(where, tmp_path, sources=["source_4"])) == 2
    with pytest.raises(InputError, match=r"no such plate:\n.*BR00117053 \(nearest: BR00117035"):
        remote.plate_tables(where, tmp_path, plates=["BR00117053"])
    (tmp_path / "metadata" / "plate.csv.gz").write_bytes(b"broken")
    with pytest.raises(InputError, match="cannot be read"):
        remote.plate_tables(where, tmp_path)


def test_the_real_table_of_plates_names_every_plate_once(shared_data, tmp_path):
    (tmp_path / "metadata").symlink_to(shared_data("metadata") / "jump")
    items = remote.plate_tables(remote.home("jump"), tmp_path)
    assert len({item.path for item in items}) == len(items) == 2525
    (tmp_path / "metadata").unlink()
    (tmp_path / "metadata").symlink_to(shared_data("metadata") / "lincs")
    items = remote.plate_tables(remote.home("cpg0004"), tmp_path, plates=["SQ00015201"])
    assert [i.path for i in items] == [
        "broad/workspace/load_data_csv/2016_04_01_a549_48hr_batch1/SQ00015201/load_data.csv"
    ]


def test_archives_hold_the_chosen_plates_and_channels():
    where = remote.home("bbbc022")
    names = [i.path for i in remote.archives(where, plates=["20585"], channels=["Hoechst", "Mito"])]
    assert names == [f"archives/BBBC022_v1_images_20585w{k}.zip" for k in (1, 5)]
    assert len(remote.archives(where, plates=["20585", "20586"])) == 10
    where = remote.home("bbbc021")
    (item,) = remote.archives(where, plates=["Week1_22123"], channels=["DNA", "actin"])
    assert item.url == (
        "https://data.broadinstitute.org/bbbc/BBBC021/BBBC021_v1_images_Week1_22123.zip"
    )
    assert [i.path for i in remote.archives(remote.home("rxrx1"), plates=["any"])] == [
        "archives/rxrx1-metadata.zip", "archives/rxrx1-images.zip",
    ]  # fmt: skip


def test_an_unknown_screen_is_told_with_the_nearest():
    with pytest.raises(InputError, match=r"Unknown screen 'jmup' \(nearest: jump"):
        remote.home("jmup")


def test_every_screen_with_a_home_has_a_reader_and_the_other_way_round():
    assert set(remote.HOMES) == set(public.NAMES)
    with pytest.raises(InputError, match=r"nearest: rxrx1.*there are"):
        public.tables("rxrx", "anywhere")
