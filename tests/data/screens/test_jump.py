"""JUMP's tables, in the true columns of each, become the manifest; splits by what they bring."""

import gzip

import pandas as pd
import pytest

from hcs_utils.data import splits
from hcs_utils.data.screens import jump, load_data
from hcs_utils.errors import InputError

PLATE = """Metadata_Source,Metadata_Batch,Metadata_Plate,Metadata_PlateType
source_4,2021_04_26_Batch1,BR00117035,ORF
source_4,2021_06_07_Batch5,BR00121438,TARGET2
source_7,20210719_Run1,CP1-SC1-04,COMPOUND
source_2,20210607_Batch_2,1053601756,COMPOUND
source_2,20210607_Batch_2,1053601763,DMSO
"""
WELL = """Metadata_Source,Metadata_Plate,Metadata_Well,Metadata_JCP2022
source_4,BR00117035,A01,JCP2022_900002
source_4,BR00117035,A02,JCP2022_915130
source_4,BR00121438,A01,JCP2022_037716
source_4,BR00121438,A02,JCP2022_033924
source_2,1053601756,A01,JCP2022_000001
source_2,1053601756,A02,JCP2022_999999
source_7,CP1-SC1-04,A01,JCP2022_000001
source_7,CP1-SC1-04,A02,JCP2022_033924
"""
COMPOUND = """Metadata_JCP2022,Metadata_InChIKey,Metadata_InChI,Metadata_SMILES
JCP2022_000001,LFQSCWFLJHTTHZ-UHFFFAOYSA-N,"InChI=1S/C2H6O/c1-2-3/h3H,2H2,1H3",CCO
JCP2022_033924,IAZDPXIOMUYVGZ-UHFFFAOYSA-N,"InChI=1S/C2H6OS/c1-4(2)3/h1-2H3",CS(C)=O
JCP2022_037716,UHOVQNZJYSORNB-UHFFFAOYSA-N,"InChI=1S/C6H6/c1-2-4-6-5-3-1/h1-6H",c1ccccc1
"""
CONTROL = """Metadata_JCP2022,Metadata_pert_type,Metadata_Name,Metadata_modality
JCP2022_999999,empty,Empty,any
JCP2022_033924,negcon,DMSO,compound
JCP2022_037716,poscon,AMG900,compound
JCP2022_915130,negcon,LUCIFERASE,orf
"""
ORF = """Metadata_JCP2022,Metadata_broad_sample,Metadata_Symbol,Metadata_pert_type
JCP2022_900002,ccsbBroad304_00001,NAT1,trt
JCP2022_915130,ccsbBroad304_99994,LUCIFERASE,negcon
"""
TARGET2 = """broad_sample	InChIKey	pert_iname	target_list	control_type	smiles
BRD-1	UHOVQNZJYSORNB-UHFFFAOYSA-N	AMG900	AURKA|AURKB	poscon_cp	c1ccccc1
BRD-1	UHOVQNZJYSORNB-UHFFFAOYSA-N	AMG900	AURKC|AURKA	poscon_cp	c1ccccc1
"""


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "metadata"
    folder.mkdir()
    for name, content in {
        "plate": PLATE, "well": WELL, "compound": COMPOUND, "orf": ORF,
    }.items():  # fmt: skip
        (folder / f"{name}.csv.gz").write_bytes(gzip.compress(content.encode()))
    (folder / "perturbation_control.csv").write_text(CONTROL)
    (folder / "JUMP-Target-2_compound_metadata.tsv").write_text(TARGET2)
    return tmp_path


def plate(root, source, batch, name, form="parquet", sites=(1, 2), wells=("A01", "A02")):
    """A load_data table as the gallery has it, and the files it names."""
    images = f"{source}/images/{batch}/images/{name}__2021-05-02T16_02_51-Measurement1/Images"
    (root / images).mkdir(parents=True, exist_ok=True)
    rows = []
    for row, well in enumerate(wells):
        for site in sites:
            fields = {"Metadata_Source": source, "Metadata_Batch": batch, "Metadata_Plate": name}
            fields |= {"Metadata_Well": well, "Metadata_Site": str(site)}
            for k, channel in enumerate(load_data.CHANNELS):
                file = f"r{row + 1:02d}c01f{site:02d}p01-ch{k + 1}sk1fk1fl1.tiff"
                (root / images / file).write_bytes(b"x")
                project = "s3://cellpainting-gallery/cpg0016-jump"
                fields[f"FileName_Orig{channel}"] = file
                fields[f"PathName_Orig{channel}"] = f"{project}/{images}/"
                fields[f"FileName_Illum{channel}"] = f"{name}_Illum{channel}.npy"
                illum = f"{project}/{source}/images/{batch}/illum/{name}"
                fields[f"PathName_Illum{channel}"] = illum
            rows.append(fields)
    folder = root / source / "workspace" / "load_data_csv" / batch / name
    folder.mkdir(parents=True, exist_ok=True)
    table = pd.DataFrame(rows)
    if form == "parquet":
        table.astype({"Metadata_Site": int}).to_parquet(folder / "load_data_with_illum.parquet")
    else:
        illum = [c for c in table if "Illum" in c]
        table.drop(columns=illum).to_csv(folder / "load_data.csv", index=False)


@pytest.fixture
def fetched(root):
    plate(root, "source_4", "2021_04_26_Batch1", "BR00117035")
    plate(root, "source_4", "2021_06_07_Batch5", "BR00121438")
    plate(root, "source_2", "20210607_Batch_2", "1053601756")
    plate(root, "source_7", "20210719_Run1", "CP1-SC1-04")
    return root


def test_tables_join_into_a_manifest_below_the_galleries_folder(fetched):
    got = jump.manifest(fetched)
    assert set(got["source"]) == {"source_2", "source_4"}  # source 7 as in the paper
    first = got.set_index("site_id").loc["source_4__BR00117035__A01__2"]
    images = "source_4/images/2021_04_26_Batch1/images/BR00117035__2021-05-02T16_02_51-Measurement1"
    assert first["path_DNA"] == f"{images}/Images/r01c01f02p01-ch1sk1fk1fl1.tiff"
    illum = "source_4/images/2021_04_26_Batch1/illum/BR00117035/BR00117035_IllumDNA.npy"
    assert first["illum_DNA"] == illum
    assert first["target"] == "NAT1" and first["plate_type"] == "ORF" and first["role"] == "trt"
    by = got.drop_duplicates("treatment").set_index("treatment")
    assert by["role"].to_dict() == {
        "JCP2022_900002": "trt", "JCP2022_915130": "negcon", "JCP2022_037716": "poscon",
        "JCP2022_033924": "negcon", "JCP2022_000001": "trt",
    }  # fmt: skip
    assert by.loc["JCP2022_037716", "target"] == "AURKA|AURKB|AURKC"  # two rows, joined
    assert by.loc["JCP2022_000001", "smiles"] == "CCO"
    assert by.loc["JCP2022_000001", "inchikey"] == "LFQSCWFLJHTTHZ-UHFFFAOYSA-N"
    assert len(got) == 2 * 2 + 2 * 2 + 2  # the empty well is left out
    assert len(jump.manifest(fetched, empty=True)) == 12


def test_what_is_read_can_be_chosen(fetched):
    assert set(jump.manifest(fetched, without=())["source"]) == {"source_2", "source_4", "source_7"}
    assert set(jump.manifest(fetched, plate_types=["TARGET2"])["plate"]) == {"BR00121438"}
    assert set(jump.manifest(fetched, sources=["source_2"])["source"]) == {"source_2"}
    assert set(jump.manifest(fetched, plates=["BR00117035"])["plate"]) == {"BR00117035"}
    with pytest.raises(InputError, match="plate_type TARGET3"):
        jump.manifest(fetched, plate_types=["TARGET3"])
    with pytest.raises(InputError, match="no plate is left"):
        jump.manifest(fetched, sources=["source_7"])


def test_csv_without_illumination_and_plates_that_are_not_here(root):
    plate(root, "source_2", "20210607_Batch_2", "1053601756", form="csv")
    got = jump.manifest(root)
    assert len(got) == 2 and not [c for c in got if c.startswith("illum_")]
    assert got.attrs["left_out"] == [
        "source_4 2021_04_26_Batch1 BR00117035: no load_data table",
        "source_4 2021_06_07_Batch5 BR00121438: no load_data table",
    ]


def test_files_are_checked_only_when_asked(fetched):
    images = next(fetched.glob("source_2/images/*/images/*/Images"))
    (images / "r01c01f01p01-ch3sk1fk1fl1.tiff").unlink()
    with pytest.raises(InputError, match="ch3sk1fk1fl1"):
        jump.manifest(fetched)
    assert len(jump.manifest(fetched, check=False)) == 10


def test_a_release_without_smiles_is_read_by_its_inchi(fetched):
    table = pd.read_csv(fetched / "metadata/compound.csv.gz").drop(columns="Metadata_SMILES")
    table.to_csv(fetched / "metadata/compound.csv.gz", index=False)
    got = jump.manifest(fetched).drop_duplicates("treatment").set_index("treatment")["smiles"]
    assert got["JCP2022_000001"] == "CCO" and got["JCP2022_037716"] == "c1ccccc1"
    assert got["JCP2022_900002"] == ""


def test_rows_that_match_nothing_are_listed(fetched, root):
    with pytest.raises(InputError, match=r"'plate' is not below .*jump-cellpainting/datasets"):
        jump.manifest(root / "metadata" / "none")
    plate(fetched, "source_2", "20210607_Batch_2", "1053601756", wells=("A01", "P24"))
    with pytest.raises(InputError, match="source_2 1053601756 P24"):
        jump.manifest(fetched)
    plate(fetched, "source_2", "20210607_Batch_2", "1053601756")
    (fetched / "metadata/orf.csv.gz").unlink()
    with pytest.raises(InputError, match=r"in none of compound, orf") as caught:
        jump.manifest(fetched)
    assert "JCP2022_900002" in str(caught.value) and "JCP2022_915130" not in str(caught.value)
    (fetched / "metadata/well.csv.gz").unlink()
    (fetched / "metadata/well.csv").write_text(WELL + WELL.splitlines()[1].replace("02", "09"))
    with pytest.raises(InputError, match="several treatments"):
        jump.manifest(fetched)


def test_no_part_of_the_root_is_left_whatever_the_table_says(fetched):
    folder = fetched / "source_2/workspace/load_data_csv/20210607_Batch_2/1053601756"
    table = pd.read_parquet(folder / "load_data_with_illum.parquet")
    table["PathName_OrigDNA"] = "s3://cellpainting-gallery/cpg0016-jump/../../etc/"
    table.to_parquet(folder / "load_data_with_illum.parquet")
    with pytest.raises(InputError, match="Leaves the screen's folder"):
        jump.manifest(fetched)


def test_top_targets_in_both_forms(fetched):
    got = jump.manifest(fetched)
    assert set(jump.top_targets(got)["target"]) == {"AURKA|AURKB|AURKC"}
    many = pd.DataFrame({"target": [f"T{k:02d}" for k in range(12) for _ in range(12 - k)]})
    many["plate_type"] = "TARGET2"
    assert sorted(set(jump.top_targets(many)["target"])) == [f"T{k:02d}" for k in range(9)]
    assert jump.top_targets(many, "released")["target"].nunique() == 10
    with pytest.raises(InputError, match="form is"):
        jump.top_targets(many, "code")
    with pytest.raises(InputError, match="JUMP-Target-1 and -2"):
        jump.target_plate(fetched, 3)


def test_the_real_target_plates(shared_data):
    for number in (1, 2):
        wells = jump.target_plate(shared_data("metadata") / "jump", number)
        assert wells["well"].is_unique and len(wells) == 384
        assert wells["role"].value_counts().to_dict() == {"trt": 260, "negcon": 64, "poscon": 60}
        assert (wells.loc[wells["role"] == "negcon", "compound"] == "DMSO").all()
        treated = wells[wells["role"] != "negcon"]
        assert (treated["target"] != "").all() and (treated["smiles"] != "").all()
        table = treated.assign(plate="p", site_id=treated["well"], treatment="")
        with pytest.raises(InputError, match="SMILES cannot be read") as caught:
            splits.grouped_split(table, "scaffold")
        bad = table["smiles"].str.contains("[PH](=O)(=O)", regex=False)  # two phosphates
        assert 1 <= bad.sum() == str(caught.value).count("[PH](=O)(=O)")
        table.loc[bad, "smiles"] = ""
        split = splits.grouped_split(table, "scaffold")
        assert 0.7 < (split == "train").mean() < 0.9


def test_the_real_table_of_plates(root, shared_data):
    real = shared_data("metadata") / "jump"
    given = {"plate": real / "plate.csv.gz"}
    table = pd.read_csv(given["plate"])
    plate(root, "source_4", "2021_07_12_Batch8", "BR00123523")  # TARGET1
    (root / "metadata/well.csv.gz").unlink()
    (root / "metadata/well.csv").write_text(
        WELL.replace("BR00117035", "BR00123523").replace("900002", "000001")
    )
    given["perturbation_control"] = real / "perturbation_control.csv"
    given["orf"] = real / "orf.csv.gz"
    got = jump.manifest(root, tables_at=given)
    assert set(got["plate_type"]) == {"TARGET1"} and set(got["role"]) == {"trt", "negcon"}
    kept = table[table["Metadata_PlateType"].isin(jump.PLATE_TYPES)]
    assert len(table) == 2_525 and len(kept) == 2_420
    others = kept[kept["Metadata_Source"] != "source_7"]
    assert len(got.attrs["left_out"]) == len(others) - 1 == 2_291
