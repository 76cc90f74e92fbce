"""BBBC021: MCF-7 cells, 113 compounds in eight doses, 55 plates in 10 weeks, three channels.

Below the root: `BBBC021_v1_image.csv`, `_moa.csv`, `_compound.csv`, and the images of a plate, as
the archives unpack (`Week4_27481/…`) or below their week, as the table says
(`Week4/Week4_27481/…`); either may lie in `images/`.

On the real tables all compounds and doses agree in spelling: 13,200 fields, 1,320 of DMSO, 1,332
of taxol at 0.3 µM, the positive control of every plate. The table of mechanisms has 104 rows, 103
and DMSO. 15 of 113 compounds have no SMILES.

Source: Caie et al. 2010; Ljosa et al. 2012, 2013.
"""

from pathlib import Path

import pandas as pd

from hcs_utils.data.screens import tables

CHANNELS = {"DNA": "DAPI", "tubulin": "Tubulin", "actin": "Actin"}  # name → name in the table
POSITIVE = "taxol@0.3"

_ORIGIN = "bbbc.broadinstitute.org/BBBC021"
_PLATE, _WELL = "Image_Metadata_Plate_DAPI", "Image_Metadata_Well_DAPI"
_COMPOUND, _DOSE = "Image_Metadata_Compound", "Image_Metadata_Concentration"
_FILES = [f"Image_{a}Name_{c}" for c in CHANNELS.values() for a in ("File", "Path")]


def manifest(
    root: str | Path, *, tables_at: tables.Tables = None, check: bool = True
) -> pd.DataFrame:
    """The manifest; batch: the week. `replicate` is kept.

    DMSO is the negative control, taxol at 0.3 µM the positive one; taxol's other doses are
    treatments. `tables_at`: `{"image": path, "moa": path, "compound": path}`.
    """
    image, moa, compound = (
        tables.read(path, columns)
        for path, columns in (
            (_find(root, "image", tables_at), [_PLATE, _WELL, _COMPOUND, _DOSE, *_FILES]),
            (_find(root, "moa", tables_at), ["compound", "concentration", "moa"]),
            (_find(root, "compound", tables_at), ["compound", "smiles"]),
        )
    )
    dose = pd.to_numeric(image[_DOSE], errors="coerce")
    negative = image[_COMPOUND] == "DMSO"
    dose = dose.mask(negative)
    treatment = tables.dosed(image[_COMPOUND], dose)
    moa = moa[moa["compound"] != "DMSO"]
    of = tables.dosed(moa["compound"], pd.to_numeric(moa["concentration"], errors="coerce"))
    tables.refuse(
        of[~of.isin(set(treatment))].tolist(),
        "compounds and doses have a mechanism and no image",
        "Names and doses must be spelt alike in both tables.",
    )
    smiles = compound.drop_duplicates("compound").set_index("compound")["smiles"]
    tables.refuse(
        sorted(set(image[_COMPOUND]) - set(smiles.index)),
        "compounds are not in the table of compounds",
        "Names must be spelt alike in both tables.",
    )
    folder = image["Image_PathName_DAPI"]
    role = pd.Series("trt", image.index).mask(negative, "negcon")
    frame = pd.DataFrame(
        {
            "source": "BBBC021",
            "batch": folder.str.split("/").str[0],
            "plate": image[_PLATE],
            "well": image[_WELL],
            "site": image["Image_FileName_DAPI"].str.extract(r"_s(\d+)_w")[0],
            "treatment": treatment,
            "compound": image[_COMPOUND],
            "smiles": image[_COMPOUND].map(smiles),
            "dose_um": dose,
            "role": role.mask(treatment == POSITIVE, "poscon"),
            "moa": treatment.map(pd.Series(moa["moa"].to_numpy(), of)).fillna(""),
            "replicate": image.get("Replicate", ""),
        }
    )
    frame["site_id"] = frame["plate"] + "_" + frame["well"] + "_" + frame["site"]

    def below(first, weeks):
        def layout(part):
            row = image.loc[part.index]
            paths = {n: row[f"Image_PathName_{c}"] for n, c in CHANNELS.items()}
            if not weeks:
                paths = {n: path.str.rsplit("/", n=1).str[-1] for n, path in paths.items()}
            return {n: first + paths[n] + "/" + row[f"Image_FileName_{CHANNELS[n]}"] for n in paths}

        return layout

    layouts = [below(first, weeks) for first in ("images/", "") for weeks in (False, True)]
    frame = tables.placed(root, frame, layouts)
    return tables.finished(frame, "bbbc021", root, None, check)


def _find(root: str | Path, name: str, given: tables.Tables) -> Path | None:
    places = [f"{folder}BBBC021_v1_{name}.csv" for folder in ("", "metadata/")]
    return tables.find("bbbc021", root, name, places, _ORIGIN, given)


def with_moa(manifest: pd.DataFrame) -> pd.DataFrame:
    """The fields of the 103 compound–dose pairs that have one of 12 mechanisms of action."""
    return manifest[manifest["moa"] != ""]
