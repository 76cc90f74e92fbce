"""BBBC021's three tables become the manifest; mechanisms match by compound and dose."""

import gzip

import pytest

from hcs_utils.data.screens import bbbc021
from hcs_utils.errors import InputError

CHANNELS = (("DAPI", 1), ("Tubulin", 2), ("Actin", 4))
FIELDS = [  # week, plate, well, site, replicate, compound, concentration
    ("Week4", "Week4_27481", "G10", 1, 1, "emetine", "0.3"),
    ("Week4", "Week4_27481", "G10", 2, 1, "emetine", "0.3"),
    ("Week4", "Week4_27481", "B02", 1, 1, "DMSO", "0.0"),
    ("Week4", "Week4_27481", "B11", 1, 1, "taxol", "0.300"),
    ("Week1", "Week1_22123", "C03", 1, 2, "taxol", "3.0"),
]


def write(root, fields=FIELDS, moa="emetine,0.300000", compounds=("DMSO", "emetine", "taxol")):
    head = "TableNumber,ImageNumber"
    for name, _ in CHANNELS:
        head += f",Image_FileName_{name},Image_PathName_{name}"
    head += ",Image_Metadata_Plate_DAPI,Image_Metadata_Well_DAPI,Replicate"
    lines = [head + ",Image_Metadata_Compound,Image_Metadata_Concentration"]
    for k, (week, plate, well, site, replicate, compound, dose) in enumerate(fields):
        line = f"4,{k}"
        for _, w in CHANNELS:
            line += f",{well}_s{site}_w{w}ABC{k}.tif,{week}/{plate}"
        lines.append(f"{line},{plate},{well},{replicate},{compound},{dose}")
    content = "\n".join(lines).encode()
    (root / "BBBC021_v1_image.csv.gz").write_bytes(gzip.compress(content))
    moas = f'"compound",concentration,"moa"\n{moa},"Protein synthesis"\n"DMSO",0.0,"DMSO"\n'
    (root / "BBBC021_v1_moa.csv").write_text(moas)
    rows = "".join(f'"{name}","{"C" if name == "emetine" else ""}"\n' for name in compounds)
    (root / "BBBC021_v1_compound.csv").write_text('"compound","smiles"\n' + rows)
    return root


def images(root, first="images", weeks=False):
    for k, (week, plate, well, site, *_) in enumerate(FIELDS):
        folder = root / first / (week if weeks else "") / plate
        folder.mkdir(parents=True, exist_ok=True)
        for _, w in CHANNELS:
            (folder / f"{well}_s{site}_w{w}ABC{k}.tif").write_bytes(b"x")


@pytest.mark.parametrize("first", ["images", ""])
@pytest.mark.parametrize("weeks", [False, True])
def test_every_layout_of_the_archives_is_found(tmp_path, first, weeks):
    images(write(tmp_path), first, weeks)
    got = bbbc021.manifest(tmp_path)
    path = "/".join(x for x in (first, "Week4" * weeks, "Week4_27481", "G10_s2_w2ABC1.tif") if x)
    assert got.set_index("site_id").loc["Week4_27481_G10_2", "path_tubulin"] == path


def test_tables_become_a_manifest(tmp_path):
    images(write(tmp_path))
    got = bbbc021.manifest(tmp_path)
    assert got["batch"].tolist() == ["Week4"] * 4 + ["Week1"]
    assert got["treatment"].tolist() == ["emetine@0.3"] * 2 + ["DMSO", "taxol@0.3", "taxol@3"]
    assert got["role"].tolist() == ["trt", "trt", "negcon", "poscon", "trt"]
    assert got["moa"].tolist() == ["Protein synthesis"] * 2 + [""] * 3
    assert got["smiles"].tolist() == ["C", "C", "", "", ""] and got["dose_um"].isna().sum() == 1
    assert bbbc021.with_moa(got)["site"].tolist() == [1, 2]


def test_mismatches_between_the_tables_are_listed(tmp_path):
    write(tmp_path, moa='"Emetine",0.3')
    with pytest.raises(InputError, match="have a mechanism and no image") as caught:
        bbbc021.manifest(tmp_path, check=False)
    assert "Emetine@0.3" in str(caught.value)
    write(tmp_path, compounds=("DMSO", "emetine", "Taxol"))
    with pytest.raises(
        InputError, match=r"compounds are not in the table of compounds:\n    taxol"
    ):
        bbbc021.manifest(tmp_path, check=False)
    (tmp_path / "BBBC021_v1_moa.csv").unlink()
    with pytest.raises(InputError, match=r"'moa' is not below .*bbbc.broadinstitute.org/BBBC021"):
        bbbc021.manifest(tmp_path, check=False)


def test_the_real_tables(shared_data):
    got = bbbc021.manifest(shared_data("metadata") / "bbbc021", check=False)
    assert len(got) == 13_200 and got["plate"].nunique() == 55 and got["batch"].nunique() == 10
    assert got["role"].value_counts().to_dict() == {"trt": 10_548, "poscon": 1_332, "negcon": 1_320}
    assert (got[got["role"] == "negcon"].groupby("plate").size() == 24).all()
    assert (got.groupby(["plate", "well"]).size() == 4).all()
    known = bbbc021.with_moa(got)
    assert known["treatment"].nunique() == 103 and known["moa"].nunique() == 12
    assert known["compound"].nunique() == 38
    compounds = got.drop_duplicates("compound")
    assert len(compounds) == 113 and (compounds["smiles"] == "").sum() == 15
    weeks = got[got["role"] == "trt"].groupby("treatment")["batch"].nunique()
    assert weeks.value_counts().to_dict() == {1: 897, 2: 7}  # treatments are nested in weeks
