"""What is asked for is what is left; what is not there is named with the nearest."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hcs_utils.data.download import Item
from hcs_utils.data.selection import items_of, select, with_checksums
from hcs_utils.errors import InputError


def screen():
    rows = [
        (f"s{s}", f"b{b}", f"P{b}{p}", w, k, c)
        for s in (1, 2)
        for b in (1, 2)
        for p in (1, 2)
        for w, c in (("A01", "DMSO"), ("B02", "aspirin"), ("C03", "taxol, 2,4-nitro"))
        for k in (1, 2)
    ]
    table = pd.DataFrame(rows, columns=["source", "batch", "plate", "well", "site", "compound"])
    table["treatment"] = table["compound"] + "@1"
    stem = (
        table["source"] + "/" + table["plate"] + "/" + table["well"] + "_" + table["site"].map(str)
    )
    return table.assign(path_DNA=stem + "_dna.tif", path_ER=stem + "_er.tif")


def test_every_choice_narrows_and_all_hold_at_once():
    got = select(
        screen(), sources=["s1"], batches=["b2"], plates=["P21"], wells=["b2", "C03"], sites=[1],
        channels=["dna"],
    )  # fmt: skip
    assert got["well"].tolist() == ["B02", "C03"]
    assert got["path_DNA"].tolist() == ["s1/P21/B02_1_dna.tif", "s1/P21/C03_1_dna.tif"]
    assert "path_ER" not in got
    assert len(select(screen(), compounds=["taxol, 2,4-nitro"])) == 16
    assert len(select(screen(), treatments=["aspirin@1"], sites=["2"])) == 8
    pd.testing.assert_frame_equal(select(screen()), screen())


@given(
    st.sets(st.sampled_from(["P11", "P12", "P21", "P22"]), min_size=1),
    st.sets(st.sampled_from([1, 2]), min_size=1),
)
def test_a_choice_is_the_rows_that_a_loop_would_keep(plates, sites):
    table = screen()
    keep = [row.plate in plates and row.site in sites for row in table.itertuples()]
    got = select(table, plates=plates, sites=sites)
    np.testing.assert_array_equal(got["path_DNA"], table["path_DNA"][keep])


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        (dict(plates=["P13", "P11"]), r"no such plate:\n.*- P13 \(nearest: P"),
        (dict(compounds=["Asprin"]), r"no such compound:\n.*- Asprin \(nearest: aspirin"),
        (dict(channels=["DAN"]), r"no such channel:\n- DAN \(nearest: DNA\)\nIt has: DNA, ER"),
        (dict(wells=["H12"]), r"no such well"),
        (dict(plate=["P11"]), r"Cannot choose by plate \(nearest: plates"),
        (
            dict(batches=["b1"], plates=["P21"]),
            r"No site is in all of these.*batch: b1; plate: P21",
        ),
    ],
)
def test_what_is_not_there_is_told_with_the_nearest(asked, told):
    with pytest.raises(InputError, match=told):
        select(screen(), **asked)


def test_each_file_is_one_item_at_the_path_of_the_manifest():
    table = screen().iloc[:2].assign(path_ER=["a b/x#0.tif#0", "a b/x#0.tif#1"])
    got = {item.path: item.url for item in items_of(table, "https://host/base/")}
    assert got == {
        "s1/P11/A01_1_dna.tif": "https://host/base/s1/P11/A01_1_dna.tif",
        "s1/P11/A01_2_dna.tif": "https://host/base/s1/P11/A01_2_dna.tif",
        "a b/x#0.tif": "https://host/base/a%20b/x%230.tif",
    }
    s3 = {item.url for item in items_of(table, "s3://bucket/p")}
    assert "s3://bucket/p/a b/x#0.tif" in s3


def test_a_column_of_addresses_stands_before_the_base():
    table = screen().iloc[:1].assign(url_ER="https://elsewhere/1")
    got = {item.path.rsplit("_")[-1]: item.url for item in items_of(table, "s3://bucket")}
    assert got["er.tif"] == "https://elsewhere/1" and got["dna.tif"].startswith("s3://bucket/s1")
    with pytest.raises(InputError, match="Where is channel DNA"):
        items_of(table)
    assert "url_ER" not in select(table, channels=["DNA"])


def test_illumination_functions_come_when_asked_for():
    table = screen().iloc[:4].assign(illum_DNA="illum/P11/P11_IllumDNA.npy", illum_ER="")
    plain, more = items_of(table, "s3://b"), items_of(table, "s3://b", illumination=True)
    assert {i.path for i in more} - {i.path for i in plain} == {"illum/P11/P11_IllumDNA.npy"}
    assert "illum_DNA" not in select(table, channels=["ER"])


def test_a_list_of_checksums_is_read_and_a_bad_one_told(tmp_path):
    listed = tmp_path / "SHA256SUMS"
    listed.write_text("A" * 64 + "  ./x/a.tif\n" + "b" * 32 + " *y.tif\n\n" + "c" * 64 + "  no\n")
    items = [Item("s3://b/a", "x/a.tif"), Item("s3://b/y", "y.tif"), Item("s3://b/z", "z.tif")]
    got = with_checksums(items, listed)
    assert [(i.sha256, i.md5) for i in got] == [("a" * 64, None), (None, "b" * 32), (None, None)]
    listed.write_text("abc  x\n" * 30)
    with pytest.raises(InputError, match=r"line 1: 'abc  x'[\s\S]*and 10 more"):
        with_checksums(items, listed)
    with pytest.raises(InputError, match="cannot be read"):
        with_checksums(items, tmp_path / "none")
