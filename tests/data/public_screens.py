"""Public screens in small, file by file where the real ones have them: name → bytes."""

import gzip
import io
import zipfile

import numpy as np
import pandas as pd

BATCH = "2021_04_26_Batch1"
CHANNELS = ("DNA", "ER", "RNA", "AGP", "Mito")
GALLERY = "s3://cellpainting-gallery/cpg0016-jump"
RNG = np.random.default_rng(0)


def image() -> bytes:
    return RNG.bytes(1000)


def jump(plates=("BR00117035", "BR00117036"), wells=("A01", "B02")) -> dict[str, bytes]:
    """cpg0016: tables in metadata/, a load_data table a plate of source_4, two sites a well."""
    metadata = {
        "plate": [
            ("Metadata_Source", "Metadata_Batch", "Metadata_Plate", "Metadata_PlateType"),
            *[("source_4", BATCH, plate, "COMPOUND") for plate in plates],
            *[
                ("source_1", "Batch1", kind, kind)
                for kind in ("ORF", "CRISPR", "TARGET1", "TARGET2")
            ],
        ],
        "well": [
            ("Metadata_Source", "Metadata_Plate", "Metadata_Well", "Metadata_JCP2022"),
            *[
                ("source_4", plate, well, "JCP2022_033924" if k == 0 else f"JCP2022_{k:06d}")
                for plate in plates
                for k, well in enumerate(wells)
            ],
        ],
        "compound": [
            ("Metadata_JCP2022", "Metadata_InChIKey", "Metadata_InChI", "Metadata_SMILES"),
            ("JCP2022_033924", "IAZ", "InChI=1S/C2H6OS", "CS(C)=O"),
            *[(f"JCP2022_{k:06d}", f"K{k}", "", "C" * k) for k in range(1, len(wells))],
        ],
        "orf": [("Metadata_JCP2022", "Metadata_Symbol")],
        "crispr": [("Metadata_JCP2022", "Metadata_Symbol")],
    }
    made = {
        f"metadata/{name}.csv.gz": gzip.compress(table(rows)) for name, rows in metadata.items()
    }
    controls = [("Metadata_JCP2022", "Metadata_pert_type"), ("JCP2022_033924", "negcon")]
    made["metadata/perturbation_control.csv"] = table(controls)
    target = pd.DataFrame({"InChIKey": ["K1"], "target_list": ["BRD4"]})
    made["metadata/JUMP-Target-2_compound_metadata.tsv"] = target.to_csv(
        sep="\t", index=False
    ).encode()
    for plate in plates:
        folder = f"source_4/images/{BATCH}/images/{plate}__2021-05-02T16_02_51-Measurement1/Images"
        rows = []
        for k, well in enumerate(wells, 1):
            for site in (1, 2):
                row = {"Metadata_Well": well, "Metadata_Site": str(site)}
                for c, channel in enumerate(CHANNELS, 1):
                    name = f"r01c{k:02d}f{site:02d}p01-ch{c}sk1fk1fl1.tiff"
                    row[f"FileName_Orig{channel}"] = name
                    row[f"PathName_Orig{channel}"] = f"{GALLERY}/{folder}/"
                    made[f"{folder}/{name}"] = image()
                rows.append(row)
        place = f"source_4/workspace/load_data_csv/{BATCH}/{plate}/load_data_with_illum.parquet"
        made[place] = pd.DataFrame(rows).to_parquet()
    return made


def bbbc021() -> dict[str, bytes]:
    """Two plates, an archive each; a plate holds two wells of two sites."""
    made, rows = {}, []
    for plate in ("Week1_22123", "Week1_22141"):
        members = {}
        for well, compound, dose in (("B02", "DMSO", "0"), ("C03", "taxol", "0.3")):
            for site in (1, 2):
                files = [f"{plate}_{well}_s{site}_w{w}.tif" for w in (1, 2, 4)]
                members |= {f"{plate}/{file}": image() for file in files}
                paths = [x for file in files for x in (file, f"Week1/{plate}")]
                rows.append((*paths, plate, well, "1", compound, dose))
        made[f"BBBC021_v1_images_{plate}.zip"] = packed(members)
    names = [f"Image_{a}Name_{c}" for c in ("DAPI", "Tubulin", "Actin") for a in ("File", "Path")]
    names += ["Image_Metadata_Plate_DAPI", "Image_Metadata_Well_DAPI", "Replicate"]
    names += ["Image_Metadata_Compound", "Image_Metadata_Concentration"]
    made["BBBC021_v1_image.csv"] = table([tuple(names), *rows])
    made["BBBC021_v1_compound.csv"] = table([("compound", "smiles"), ("DMSO", ""), ("taxol", "C")])
    made["BBBC021_v1_moa.csv"] = table([("compound", "concentration", "moa"), ("taxol", 0.3, "x")])
    return made


def rxrx1() -> dict[str, bytes]:
    """Two batches, one archive of tables and one of images."""
    rows = [
        (
            "site_id", "well_id", "cell_type", "dataset", "experiment", "plate", "well", "site",
            "well_type", "sirna", "sirna_id",
        )
    ]  # fmt: skip
    images = {}
    for cell, dataset in (("HUVEC", "train"), ("RPE", "test")):
        for well, kind, sirna, number in (
            ("B02", "treatment", "s1", 0), ("B03", "negative_control", "EMPTY", 1138),
        ):  # fmt: skip
            for site in (1, 2):
                batch = f"{cell}-01"
                name = f"{batch}_1_{well}"
                rows.append(
                    (
                        f"{name}_{site}",
                        name,
                        cell,
                        dataset,
                        batch,
                        1,
                        well,
                        site,
                        kind,
                        sirna,
                        number,
                    )
                )
                stem = f"rxrx1/images/{batch}/Plate1/{well}_s{site}"
                images |= {f"{stem}_w{w}.png": image() for w in range(1, 7)}
    return {
        "rxrx1-metadata.zip": packed({"rxrx1/metadata.csv": table(rows)}),
        "rxrx1-images.zip": packed(images),
    }


def table(rows: list[tuple]) -> bytes:
    return pd.DataFrame(rows[1:], columns=list(rows[0])).to_csv(index=False).encode()


def packed(members: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return file.getvalue()
