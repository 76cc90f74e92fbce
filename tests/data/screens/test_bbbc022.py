"""BBBC022's one table becomes the manifest, its broken lines told, not guessed."""

import pytest

from hcs_utils.data.screens import bbbc022
from hcs_utils.errors import InputError

HEAD = ["ImageNumber"]
HEAD += [f"Image_FileName_Orig{c}" for c in ("ER", "Hoechst", "Mito", "Ph_golgi", "Syto")]
HEAD += [f"Image_PathName_Orig{c}" for c in ("ER", "Hoechst", "Mito", "Ph_golgi", "Syto")]
HEAD += [
    f"Image_Metadata_{c}"
    for c in ("PlateID", "CPD_WELL_POSITION", "ASSAY_WELL_ROLE", "CPD_PLATE_MAP_NAME", "BROAD_ID",
              "CPD_MMOL_CONC", "SOURCE_COMPOUND_NAME", "CPD_SMILES", "Site")
]  # fmt: skip
NUMBER = {"ER": 2, "Hoechst": 1, "Mito": 5, "Ph_golgi": 4, "Syto": 3}


def line(k, plate, well, site, role="compound", name="cytochalasin D", broad="BRD-K1"):
    files = [f"IXMtest_{well}_s{site}_w{w}AB-{k}.tif" for w in NUMBER.values()]
    about = [plate, well, role, "H-BIOA-001-3", broad, "5", name, "CCO", str(site)]
    return [str(k), *files, *[f"{plate}/"] * 5, *about]


def write(root, lines):
    rows = [",".join(f'"{x}"' if "," in x else x for x in one) for one in [HEAD, *lines]]
    (root / "BBBC022_v1_image.csv").write_text("\n".join(rows) + "\n")
    return root


LINES = [
    line(1, "20585", "A01", 1, "mock", "", ""),
    line(2, "20585", "A02", 1),
    line(3, "20585", "A02", 2),
    line(4, "20586", "A02", 1, name="1,2-dione", broad=""),
]


@pytest.mark.parametrize(
    "layout", ["images/BBBC022_v1_images_{}w{}", "BBBC022_v1_images_{}w{}", "{}"]
)
def test_the_table_becomes_a_manifest_in_every_layout(tmp_path, layout):
    for k, one in enumerate(write(tmp_path, LINES) and LINES):
        for file, w in zip(one[1:6], NUMBER.values(), strict=True):
            folder = tmp_path / layout.format("20586" if k == 3 else "20585", w)
            folder.mkdir(parents=True, exist_ok=True)
            (folder / file).write_bytes(b"x")
    got = bbbc022.manifest(tmp_path)
    assert got["treatment"].tolist() == ["DMSO", "BRD-K1", "BRD-K1", "1,2-dione"]
    assert got["role"].tolist() == ["negcon", "trt", "trt", "trt"]
    assert got["site_id"].tolist()[2] == "20585_A02_2" and got["batch"].tolist()[3] == "20586"
    assert got["path_Syto"][1] == layout.format("20585", 3) + "/IXMtest_A02_s1_w3AB-2.tif"
    assert got["path_PhGolgi"][1] == layout.format("20585", 4) + "/IXMtest_A02_s1_w4AB-2.tif"
    assert got["dose_um"].isna().all() and got["mmol_conc"][1] == "5"
    assert got.attrs["pixel_size_um"] == 0.656 and got.attrs["left_out"] == []


def test_broken_lines_are_left_out_and_told(tmp_path):
    lines = [line(k, "20585", f"A{k % 24 + 1:02d}", k // 24 + 1) for k in range(216)]
    lines[7] = [*lines[7], "one more"]
    write(tmp_path, lines)
    got = bbbc022.manifest(tmp_path, check=False)
    assert len(got) == 215
    assert got.attrs["left_out"] == [
        "BBBC022_v1_image.csv, line 9: 21 fields where the header has 20"
    ]
    lines[8] = ["", *lines[8][:-1]]  # as many fields, shifted
    lines[9], lines[10] = lines[9][1:], lines[10][1:]
    write(tmp_path, lines)
    with pytest.raises(InputError, match="4 lines of the table cannot be read") as caught:
        bbbc022.manifest(tmp_path, check=False)
    assert "is not that of the file 'IXMtest_A09_s1_w2AB-8.tif'" in str(caught.value)


def test_missing_columns_and_unnamed_wells_are_told(tmp_path):
    write(tmp_path, [*LINES, line(5, "20585", "C05", 1, name="", broad="")])
    with pytest.raises(InputError, match="20585 C05"):
        bbbc022.manifest(tmp_path, check=False)
    text = (tmp_path / "BBBC022_v1_image.csv").read_text()
    (tmp_path / "BBBC022_v1_image.csv").write_text(text.replace("OrigSyto", "OrigSyto14"))
    with pytest.raises(InputError, match=r"OrigSyto \(nearest: Image_FileName_OrigSyto14"):
        bbbc022.manifest(tmp_path, check=False)
    (tmp_path / "BBBC022_v1_image.csv").unlink()
    with pytest.raises(InputError, match="hcs fetch bbbc022"):
        bbbc022.manifest(tmp_path)
