import gzip

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hcs_utils.data import profiles
from hcs_utils.errors import InputError


def sample(n=12, d=4, seed=0, kind="float64"):
    rng = np.random.default_rng(seed)
    table = pd.DataFrame(
        {
            "plate": ["0012"] * n,
            "well": [f"{'ABCDEFGH'[k % 8]}{k // 8 + 1:02d}" for k in range(n)],
            "treatment": [f"T{k % 3}, µ" for k in range(n)],
            "moa": ["NA", "", "kinase | x"] * (n // 3),
        }
    )
    names = [f"Cells_{k}" for k in range(d)]
    values = rng.normal(size=(n, d)) * 10.0 ** rng.integers(-9, 9, (n, d))
    return table, pd.DataFrame(values.astype(kind), columns=names)


@given(seed=st.integers(0, 2**31), end=st.sampled_from(profiles.SUFFIXES))
@settings(max_examples=12, deadline=None)
def test_what_is_written_is_read_to_the_last_digit(tmp_path_factory, seed, end):
    path = tmp_path_factory.mktemp("profiles") / f"p{end}"
    table, features = sample(seed=seed)
    profiles.write(path, table, features)
    again, values = profiles.read(path)
    pd.testing.assert_frame_equal(again, table, check_dtype=False)
    pd.testing.assert_frame_equal(values, features)


@pytest.mark.parametrize("end", profiles.SUFFIXES)
def test_float32_keeps_its_values(tmp_path, end):
    table, features = sample(kind="float32")
    profiles.write(tmp_path / f"p{end}", table, features)
    _, values = profiles.read(tmp_path / f"p{end}")
    assert (values.dtypes == ("float32" if end == ".parquet" else "float64")).all()
    pd.testing.assert_frame_equal(values.astype("float32"), features)


def test_the_file_has_the_names_of_the_field(tmp_path):
    table, features = sample()
    profiles.write(tmp_path / "p.csv", table, features)
    header = (tmp_path / "p.csv").read_text("utf-8").splitlines()[0]
    assert header == (
        "Metadata_Plate,Metadata_Well,Metadata_treatment,Metadata_moa,"
        "Cells_0,Cells_1,Cells_2,Cells_3"
    )
    profiles.write(tmp_path / "p.csv.gz", table, features)
    once = (tmp_path / "p.csv.gz").read_bytes()
    assert gzip.decompress(once) == (tmp_path / "p.csv").read_bytes()
    profiles.write(tmp_path / "p.csv.gz", table, features)
    assert (tmp_path / "p.csv.gz").read_bytes() == once  # no time of writing in it


def test_copairs_reads_the_file_unchanged(tmp_path):
    from copairs import map as copairs_map

    table, features = sample(n=24)
    features[:] = np.eye(3, 4)[np.arange(24) % 3] + 0.01 * np.arange(24)[:, None] % 0.03
    profiles.write(tmp_path / "p.parquet", table, features)
    frame = pd.read_parquet(tmp_path / "p.parquet")
    meta = frame.filter(regex="^Metadata_")
    found = copairs_map.average_precision(
        meta, frame.drop(columns=meta.columns).to_numpy(), ["Metadata_treatment"], [], [],
        ["Metadata_treatment"], progress_bar=False,
    )  # fmt: skip
    np.testing.assert_allclose(found["average_precision"], 1)


def test_several_files_stand_below_one_another(tmp_path):
    paths = []
    for k, end in enumerate(profiles.SUFFIXES):
        table, features = sample(seed=k)
        paths.append(tmp_path / f"{k}{end}")
        profiles.write(paths[-1], table.assign(plate=f"P{k}"), features)
    table, features = profiles.read(paths)
    assert table["plate"].tolist() == [f"P{k}" for k in range(3) for _ in range(12)]
    whole = pd.concat([sample(seed=k)[1] for k in range(3)], ignore_index=True)
    pd.testing.assert_frame_equal(features, whole)


def test_order_of_feature_columns_in_a_file_does_not_matter(tmp_path):
    table, features = sample()
    profiles.write(tmp_path / "a.csv", table, features)
    profiles.write(tmp_path / "b.csv", table, features[features.columns[::-1]])
    _, values = profiles.read([tmp_path / "a.csv", tmp_path / "b.csv"])
    np.testing.assert_array_equal(values[:12], values[12:])


def test_differing_features_are_listed_or_joined_as_asked(tmp_path):
    table, features = sample()
    a, b = tmp_path / "a.csv", tmp_path / "b.parquet"
    profiles.write(a, table, features.drop(columns="Cells_2"))
    profiles.write(b, table, features.drop(columns="Cells_0"))
    with pytest.raises(InputError, match=r"(?s)a.csv: lacks Cells_2\n- b.parquet: lacks Cells_0"):
        profiles.read([a, b])
    _, both = profiles.read([a, b], features="intersection")
    assert list(both.columns) == ["Cells_1", "Cells_3"] and both.notna().all().all()
    _, any_of = profiles.read([a, b], features="union")
    assert list(any_of.columns) == ["Cells_0", "Cells_1", "Cells_3", "Cells_2"]
    assert any_of.isna().sum().tolist() == [12, 0, 0, 12]
    profiles.write(b, table, features[["Cells_2"]])
    with pytest.raises(InputError, match="No feature is in all files"):
        profiles.read([a, b], features="intersection")


def test_every_bad_column_is_listed_at_once(tmp_path):
    table, features = sample()
    features = features.assign(empty=np.nan, far=np.inf, words="x", flag=True)
    features.loc[3, "Cells_1"] = np.nan
    frame = pd.concat([table.add_prefix("Metadata_"), features], axis=1)
    frame.to_csv(tmp_path / "a.csv", index=False)
    with pytest.raises(InputError, match=r"a.csv: words: is not numeric, such as 'x'") as error:
        profiles.read(tmp_path / "a.csv")
    assert "flag: is not numeric" in str(error.value)
    numbers = frame.drop(columns=["words", "flag"])
    numbers.to_csv(tmp_path / "a.csv", index=False)
    numbers.drop(columns=["empty", "far"]).to_parquet(tmp_path / "b.parquet")
    with pytest.raises(InputError) as error:
        profiles.read([tmp_path / "a.csv", tmp_path / "b.parquet"])
    assert str(error.value).splitlines() == [
        "There are columns that are no profiles:",
        '- a.csv: Cells_1 has 1 of 12 values NaN or infinite (missing="drop" leaves it out)',
        '- a.csv: empty has 12 of 12 values NaN or infinite (missing="drop" leaves it out)',
        '- a.csv: far has 12 of 12 values NaN or infinite (missing="drop" leaves it out)',
        '- b.parquet: Cells_1 has 1 of 12 values NaN or infinite (missing="drop" leaves it out)',
    ]
    _, kept = profiles.read(tmp_path / "a.csv", missing="drop")
    assert list(kept.columns) == ["Cells_0", "Cells_2", "Cells_3"]
    many = pd.DataFrame({f"f{k}": [np.nan] for k in range(30)}).assign(Metadata_Plate="P")
    many.to_csv(tmp_path / "c.csv", index=False)
    with pytest.raises(InputError, match=r"… and 10 more"):
        profiles.read(tmp_path / "c.csv")
    with pytest.raises(InputError, match="No feature is left of 30"):
        profiles.read(tmp_path / "c.csv", missing="drop")


def test_columns_that_occur_twice_are_told(tmp_path):
    (tmp_path / "a.csv").write_text("Metadata_Plate,x,y,x\nP,1,2,3\n")
    with pytest.raises(InputError, match=r"a.csv: x occurs more than once"):
        profiles.read(tmp_path / "a.csv")
    (tmp_path / "a.csv").write_text("Metadata_Plate,Metadata_plate,y\nP,Q,3\n")
    with pytest.raises(InputError, match="two columns mean plate"):
        profiles.read(tmp_path / "a.csv")
    table, features = sample()
    with pytest.raises(InputError, match=r"(?s)treatment: occurs more than once.*Metadata_x: a f"):
        profiles.write(tmp_path / "b.csv", table, features.assign(treatment=1.0, Metadata_x=2.0))
    with pytest.raises(InputError, match="Metadata_Plate: two columns of the table would be"):
        profiles.write(tmp_path / "b.csv", table.assign(Metadata_Plate="P"), features)
    with pytest.raises(InputError, match="12 rows of metadata but 11 of features"):
        profiles.write(tmp_path / "b.csv", table, features.iloc[1:])
    with pytest.raises(InputError, match="note: is not numeric"):
        profiles.write(tmp_path / "b.csv", table, features.assign(note="a"))
    assert not (tmp_path / "b.csv").exists()


def test_files_that_are_no_profiles_are_told(tmp_path):
    for name, content, told in (
        ("a.csv", "x,y\n1,2\n", "no column begins with Metadata_"),
        ("b.csv", "Metadata_Plate\nP\n", "so no features"),
        ("c.csv", "Metadata_Plate,x\n", "has no rows"),
        ("d.csv", "", "d.csv cannot be read"),
        ("e.csv.gz", "plain", "e.csv.gz cannot be read"),
        ("f.parquet", "plain", "f.parquet cannot be read"),
        ("g.txt", "plain", "g.txt is none of .csv, .csv.gz, .parquet"),
    ):
        (tmp_path / name).write_text(content)
        with pytest.raises(InputError, match=told):
            profiles.read(tmp_path / name)
    whole = gzip.compress(b"Metadata_Plate,x\n" + b"P,1.5\n" * 5000)
    (tmp_path / "h.csv.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"h.csv.gz cannot be read"):
        profiles.read(tmp_path / "h.csv.gz")
    with pytest.raises(InputError, match="There are no profiles at"):
        profiles.read(tmp_path / "none.csv")
    with pytest.raises(InputError, match="no file to read"):
        profiles.read([])
    with pytest.raises(InputError, match='"same", "intersection" or "union"'):
        profiles.read(tmp_path / "a.csv", features="all")
    with pytest.raises(InputError, match='"raise" or "drop"'):
        profiles.read(tmp_path / "a.csv", missing="keep")


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    table, features = sample()
    profiles.write(tmp_path / "p.csv", table, features)
    before = (tmp_path / "p.csv").read_bytes()

    def fails(frame, path, **_):
        path.write_text("half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pd.DataFrame, "to_csv", fails)
    with pytest.raises(InputError, match="no space is left"):
        profiles.write(tmp_path / "p.csv", table, features)
    assert (tmp_path / "p.csv").read_bytes() == before
    assert [f.name for f in tmp_path.iterdir()] == ["p.csv"]


def cpjump1_folder(folder):
    """Two small plates as CPJUMP1 is laid out."""
    for plate in ("BR1", "BR2"):
        pd.DataFrame(
            {
                "Metadata_broad_sample": ["BRD-1", "", "BRD-2"],
                "Metadata_Plate": plate,
                "Metadata_Well": ["A1", "A02", "P24"],
                "Metadata_pert_iname": ["aspirin", "DMSO", "AMG900"],
                "Metadata_gene": ["PTGS1", "", "AURKA"],
                "Metadata_pert_type": ["trt", "control", "control"],
                "Metadata_control_type": ["", "negcon", "poscon_cp"],
                "Metadata_smiles": ["CC", "CS(C)=O", "CCC"],
                "Cells_x": [1.0, 2.0, 3.5],
            }
        ).to_csv(folder / f"{plate}_normalized_feature_select_negcon_batch.csv.gz", index=False)
    rows = [
        f"{batch}\t{plate}\tU2OS\t{time}\t{fault}"
        for plate, time, fault in (("BR1", 24, "WGA"), ("BR2", 48, "none"))
        for batch in ("2020_11_04_CPJUMP1_DL", "2020_11_04_CPJUMP1")
    ]
    header = "Batch\tAssay_Plate_Barcode\tCell_type\tTime\tAnomaly"
    (folder / "experiment-metadata.tsv").write_text("\n".join([header, *rows]))
    (folder / "JUMP-Target-1_compound_metadata_additional_annotations.tsv").write_text(
        "broad_sample\ttarget_list\tmoa_list\nBRD-1\tPTGS1|PTGS2\tCOX inhibitor\n"
        "\tnothing\tnothing\nBRD-2\tAURKA\t\n"
    )


def test_cpjump1_is_joined_with_what_is_known_of_plates_and_compounds(tmp_path):
    cpjump1_folder(tmp_path)
    table, features, names = profiles.cpjump1(tmp_path)
    assert names == ("Cells_x",) and features.tolist() == [[1.0], [2.0], [3.5]] * 2
    assert table["plate"].tolist() == ["BR1"] * 3 + ["BR2"] * 3
    assert table["time_h"].tolist() == [24] * 3 + [48] * 3
    assert table["anomaly"].tolist() == ["WGA"] * 3 + ["none"] * 3
    assert table["role"].tolist() == ["trt", "negcon", "poscon"] * 2
    assert table["well"].tolist() == ["A01", "A02", "P24"] * 2
    assert table["moa"].tolist() == ["COX inhibitor", "", ""] * 2
    assert table["target_list"].tolist() == ["PTGS1|PTGS2", "", "AURKA"] * 2
    assert (table["batch"] == "2020_11_04_CPJUMP1").all() and (table["cell_line"] == "U2OS").all()


def test_cpjump1_says_what_is_missing(tmp_path):
    with pytest.raises(InputError, match=r"lacks experiment-metadata.tsv, JUMP-Target-1.*, \*_neg"):
        profiles.cpjump1(tmp_path)
    cpjump1_folder(tmp_path)
    text = (tmp_path / "experiment-metadata.tsv").read_text().replace("BR2", "BR9")
    (tmp_path / "experiment-metadata.tsv").write_text(text)
    with pytest.raises(InputError, match="does not know the plates BR2"):
        profiles.cpjump1(tmp_path)
