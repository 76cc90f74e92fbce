"""LINCS: barcodes, platemaps and the Repurposing Hub become the manifest, folds and subset."""

import json

import pandas as pd
import pytest

from hcs_utils.data import splits
from hcs_utils.data.screens import cpg0004
from hcs_utils.errors import InputError

BARCODES = """Assay_Plate_Barcode,Plate_Map_Name,Batch_Number,Batch_Date
SQ00000011,C-7161-01-LM6-001,1,2016-03-22
SQ00000012,C-7161-01-LM6-002,1,2016-03-22
SQ00000021,C-7161-01-LM6-001,2,2016-04-05
SQ00000022,C-7161-01-LM6-002,2,2016-04-05
SQ00000031,C-7161-01-LM6-001,3,2016-04-26
"""
SAMPLES = ["", "BRD-K11111111-001-01-1", "BRD-K11111111-001-01-1", "BRD-A22222222-001-02-9"]
SAMPLES += ["BRD-K60230970-001-10-0", "BRD-K60230970-001-10-0"]
DOSES = ["", "10", "3.3333", "0.041152", "19.9991", "19.9991"]
INFO = """broad_id	pert_iname	moa	target	smiles	deprecated_broad_id
BRD-K11111111-001-05-5	alpha	kinase inhibitor	K1|K2	CCO	
BRD-K99999999-001-05-5	beta	ion channel blocker		c1ccccc1	BRD-A22222222-001-01-1|BRD-M3
BRD-K60230970-001-05-5	MG-132	proteasome inhibitor	P	CC	
"""
WELLS = ["A01", "A02", "A03", "B01", "B02", "P24"]


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "metadata" / cpg0004.BATCH
    (folder / "platemap").mkdir(parents=True)
    (folder / "barcode_platemap.csv").write_text(BARCODES)
    for name in ("C-7161-01-LM6-001", "C-7161-01-LM6-002"):
        table = pd.DataFrame(
            {
                "plate_map_name": name,
                "well_position": WELLS,
                "broad_sample": SAMPLES,
                "mg_per_ml": "",
                "mmoles_per_liter": DOSES,
                "solvent": "DMSO",
            }
        )
        table.to_csv(folder / "platemap" / f"{name}.txt", sep="\t", index=False)
    (tmp_path / "metadata" / "repurposing_info.tsv").write_text(INFO)
    return tmp_path


def images(root, plates=("SQ00000011", "SQ00000021"), fields=(1, 2), suffix="png", inner=""):
    for plate in plates:
        folder = root / plate / inner
        folder.mkdir(parents=True)
        for row, column in ((1, 1), (1, 2), (1, 3), (2, 1), (2, 2), (16, 24)):
            for field in fields:
                for ch in range(1, 6):
                    name = f"r{row:02d}c{column:02d}f{field:02d}p01-ch{ch}sk1fk1fl1.{suffix}"
                    (folder / name).write_bytes(b"x")


def test_folders_of_images_as_the_authors_have_them(root):
    images(root)
    got = cpg0004.manifest(root)
    assert len(got) == 2 * 6 * 2 and got.attrs["left_out"] == [
        "plate SQ00000012: no images",
        "plate SQ00000022: no images",
        "plate SQ00000031: no images",
    ]
    row = got.set_index("site_id").loc["SQ00000021_P24_2"]
    assert row["path_RNA"] == "SQ00000021/r16c24f02p01-ch3sk1fk1fl1.png"
    assert row["path_DNA"].endswith("ch1sk1fk1fl1.png")
    assert row["batch"] == row["plate"] and row["replicate"] == 2
    by_well = got.drop_duplicates("well").set_index("well")
    assert by_well["role"].to_dict() == dict(
        zip(WELLS, ["negcon", "trt", "trt", "trt", "poscon", "poscon"], strict=True)
    )
    assert by_well.loc["A01", "treatment"] == "DMSO" and pd.isna(by_well.loc["A01", "dose_um"])
    assert by_well.loc["A02", "treatment"] == "BRD-K11111111@10"
    assert by_well.loc["B01", "treatment"] == "BRD-A22222222@0.04115"
    assert by_well.loc["A03", ["moa", "target", "smiles"]].tolist() == [
        "kinase inhibitor",
        "K1|K2",
        "CCO",
    ]
    assert by_well.loc["B01", "pert_iname"] == "beta"  # by a deprecated id
    assert set(cpg0004.manifest(root, domain="date")["batch"]) == {"2016-03-22", "2016-04-05"}


def test_folders_of_the_microscope_and_a_field_that_lacks_a_channel(root):
    images(root, ["SQ00000031"], suffix="tiff", inner="Images")
    (root / "SQ00000031").rename(root / "SQ00000031__2016-05-12T05_47_03-Measurement1")
    folder = root / "SQ00000031__2016-05-12T05_47_03-Measurement1" / "Images"
    (folder / "r01c02f02p01-ch3sk1fk1fl1.tiff").unlink()
    got = cpg0004.manifest(root)
    assert len(got) == 11 and got["path_AGP"].str.endswith("ch4sk1fk1fl1.tiff").all()
    assert "SQ00000031 A02 field 2: lacks RNA" in got.attrs["left_out"]


def test_load_data_of_the_gallery(root):
    place = root / "broad/workspace/load_data_csv" / cpg0004.BATCH / "SQ00000012"
    place.mkdir(parents=True)
    folder = f"broad/images/{cpg0004.BATCH}/images/SQ00000012__x/Images"
    (root / folder).mkdir(parents=True)
    table = pd.DataFrame({"Metadata_Well": ["A01", "A02"], "Metadata_Site": [1, 1]})
    for k, channel in enumerate(cpg0004.CHANNELS):
        table[f"FileName_Orig{channel}"] = [f"r1f{k}.tiff", f"r2f{k}.tiff"]
        table[f"PathName_Orig{channel}"] = f"s3://cellpainting-gallery/cpg0004-lincs/{folder}/"
        for name in table[f"FileName_Orig{channel}"]:
            (root / folder / name).write_bytes(b"x")
    table.to_csv(place / "load_data.csv", index=False)
    got = cpg0004.manifest(root)
    assert got["path_Mito"].tolist() == [f"{folder}/r1f4.tiff", f"{folder}/r2f4.tiff"]
    assert got["treatment"].tolist() == ["DMSO", "BRD-K11111111@10"]


def test_what_is_missing_is_named_with_where_it_comes_from(root):
    with pytest.raises(InputError, match=r"none of 5 plates has .*hcs fetch cpg0004"):
        cpg0004.manifest(root)
    folder = root / "metadata" / cpg0004.BATCH
    (folder / "platemap" / "C-7161-01-LM6-002.txt").unlink()
    with pytest.raises(InputError, match=r"C-7161-01-LM6-002.txt, for SQ00000012"):
        cpg0004.manifest(root)
    (root / "metadata" / "repurposing_info.tsv").rename(root / "other.tsv")
    text = (folder / "platemap" / "C-7161-01-LM6-001.txt").read_text()
    (folder / "platemap" / "C-7161-01-LM6-002.txt").write_text(text)
    with pytest.raises(InputError, match=r"wells stand on several rows") as caught:
        cpg0004.manifest(root)
    assert "C-7161-01-LM6-001 B02" in str(caught.value)
    text = text.replace("LM6-001", "LM6-002")
    (folder / "platemap" / "C-7161-01-LM6-002.txt").write_text(text)
    with pytest.raises(InputError, match=r"'repurposing_info' is not below .*lincs-cell-painting"):
        cpg0004.manifest(root)
    given = {"repurposing_info": root / "other.tsv"}
    assert len(cpg0004.manifest(root, tables_at=given, check=False))
    with pytest.raises(InputError, match=r"given as 'repurposing_info'"):
        cpg0004.manifest(root, tables_at={"repurposing_info": root / "none.tsv"})


def test_wells_without_a_row_in_the_platemap_are_listed(root):
    images(root, ["SQ00000011"])
    for ch in range(1, 6):
        name = f"r03c07f01p01-ch{ch}sk1fk1fl1.png"
        (root / "SQ00000011" / name).write_bytes(b"x")
    with pytest.raises(InputError, match="SQ00000011 C07"):
        cpg0004.manifest(root)


def test_folds_by_replicate_in_both_forms(root):
    images(root, ["SQ00000011", "SQ00000021", "SQ00000031", "SQ00000012"])
    got = cpg0004.manifest(root)
    paper = cpg0004.replicates(got)
    assert paper.to_dict() == {
        "SQ00000011": 1, "SQ00000012": 1, "SQ00000021": 2, "SQ00000031": 3,
    }  # fmt: skip
    third = {"train": ["SQ00000031"], "val": ["SQ00000011", "SQ00000012"], "test": ["SQ00000021"]}
    assert cpg0004.fold(got, 3) == third
    # every treatment is on both layouts: counted through, the later plates' medians are not whole
    released = cpg0004.replicates(got, "released")
    wells = got.drop_duplicates(["plate", "well"]).sort_values(["date", "plate", "well"])
    seen, by_plate = {}, {}
    for row in wells.itertuples():
        seen[row.treatment] = seen.get(row.treatment, 0) + 1
        by_plate.setdefault(row.plate, []).append(seen[row.treatment])
    for plate, counts in by_plate.items():
        counts = sorted(counts)
        assert released[plate] == (counts[2] + counts[3]) / 2
    outside = set(released.index[released % 1 != 0])
    folded = {p for part in cpg0004.fold(got, 1, "released").values() for p in part}
    assert not outside & folded
    with pytest.raises(InputError, match="choose 1 to 5"):
        cpg0004.fold(got, 6)


def test_the_subset_by_rule_and_by_the_authors_table(root):
    images(root)
    got = cpg0004.manifest(root)
    chosen = cpg0004.subset(got, moas=1)
    assert set(chosen["treatment"]) == {"BRD-A22222222@0.04115", "DMSO"}  # ties by name
    assert set(cpg0004.subset(got, moas=2)["treatment"]) == {
        "BRD-K11111111@10", "BRD-A22222222@0.04115", "DMSO",
    }  # fmt: skip
    paths = [f"SQ00000021/r01c02f01p01-ch{ch}sk1fk1fl1.png" for ch in range(1, 6)]
    table = pd.DataFrame({"Metadata_Plate_ID": [1], "combined_paths": [",".join(paths)]})
    table.to_csv(root / "top50.csv")
    assert cpg0004.subset(got, root / "top50.csv")["site_id"].tolist() == ["SQ00000021_A02_1"]
    table.assign(combined_paths="a/b.png,c").to_csv(root / "top50.csv")
    with pytest.raises(InputError, match="names no image"):
        cpg0004.subset(got, root / "top50.csv")


def test_the_real_tables(shared_data):
    got = cpg0004.manifest(shared_data("metadata") / "lincs", check=False)
    assert len(got) == 140 * 384 * 9 and got["plate"].nunique() == 140
    wells = got[got["site"] == 1]
    assert wells["treatment"].nunique() == 9_411  # with DMSO; the paper says 9,412
    assert (wells.groupby("plate")["role"].value_counts().unstack() == [24, 24, 336]).all(axis=None)
    assert set(wells.loc[wells["role"] == "poscon", "pert_iname"]) == {"bortezomib", "MG-132"}
    each = wells[wells["role"] == "trt"].groupby("treatment").size()
    assert set(each) == {5} and len(each) == 9_408
    compounds = wells.drop_duplicates("compound")
    assert (compounds["pert_iname"] != "").sum() == 1_352 and len(compounds) == 1_571
    assert (compounds["moa"] != "").sum() == 1_351
    chosen = cpg0004.subset(wells)
    treated = chosen[chosen["role"] == "trt"]
    assert treated["treatment"].nunique() == 505 and treated["moa"].nunique() == 50
    for number in cpg0004.FOLDS:
        parts = cpg0004.fold(wells, number)
        assert [len(parts[part]) for part in ("train", "val", "test")] == [84, 28, 28]
        splits.assert_disjoint(wells, splits.split_sites(wells, parts, "plate"), "plate")
        assert json.dumps(parts) == json.dumps(cpg0004.fold(wells, number, "released"))


def test_only_one_replicate_group_is_another_day_on_the_real_tables(shared_data):
    """The trap that the dataset card tells of: most folds test on the days they trained on."""
    got = cpg0004.manifest(shared_data("metadata") / "lincs", check=False)
    treated = got[(got["site"] == 1) & (got["role"] == "trt")]
    days = treated.groupby(["platemap", "replicate"])["date"].first().unstack()
    assert (days[1] == "2016-03-22").all()
    assert (days[[2, 3, 4, 5]].nunique(axis=1) == 1).all() and (days[2] != days[1]).all()
    assert (treated.groupby("treatment")["well"].nunique() == 1).all()
    shared = {}
    for number in cpg0004.FOLDS:
        parts = cpg0004.fold(got, number)
        day = {part: set(got.loc[got["plate"].isin(parts[part]), "date"]) for part in parts}
        shared[number] = bool(day["train"] & day["test"])
    assert shared == {1: True, 2: False, 3: True, 4: True, 5: True}
