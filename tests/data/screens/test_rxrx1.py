"""RxRx1's own tables become the manifest; the labels' rules and Table 2b's settings hold."""

import pandas as pd
import pytest

from hcs_utils.data import splits
from hcs_utils.data.screens import rxrx1
from hcs_utils.errors import InputError

PLATES = {1: "HUVEC-01", 2: "HUVEC-02", 3: "U2OS-01"}


def release():
    """`metadata.csv` in its true columns: 2 batches of HUVEC and one of U2OS, 2 plates each."""
    rows = []
    for experiment in PLATES.values():
        for plate in (1, 2):
            wells = [("treatment", 10 * plate + k) for k in range(4)]
            wells += [("positive_control", 1108), ("positive_control", 1109)]
            wells += [("negative_control", 1138)]
            for k, (kind, number) in enumerate(wells):
                well = f"{'BCD'[plate]}{k + 2:02d}"
                for site in (1, 2):
                    rows.append(
                        {
                            "site_id": f"{experiment}_{plate}_{well}_{site}",
                            "well_id": f"{experiment}_{plate}_{well}",
                            "cell_type": experiment[:-3],
                            "dataset": "test" if experiment == "HUVEC-02" else "train",
                            "experiment": experiment,
                            "plate": plate,
                            "well": well,
                            "site": site,
                            "well_type": kind,
                            "sirna": "EMPTY" if number == 1138 else f"s{20000 + number}",
                            "sirna_id": number,
                        }
                    )
    return pd.DataFrame(rows)


@pytest.fixture
def root(tmp_path):
    table = release()
    table.to_csv(tmp_path / "metadata.csv", index=False)
    for row in table[table["cell_type"] == "HUVEC"].itertuples():
        folder = tmp_path / "images" / row.experiment / f"Plate{row.plate}"
        folder.mkdir(parents=True, exist_ok=True)
        for w in range(1, 7):
            (folder / f"{row.well}_s{row.site}_w{w}.png").write_bytes(b"x")
    return tmp_path


def test_the_release_becomes_a_manifest_with_named_channels_and_every_file_found(root):
    got = rxrx1.manifest(root)
    assert len(got) == 2 * 2 * 7 * 2 and set(got["batch"]) == {"HUVEC-01", "HUVEC-02"}
    row = got.set_index("site_id").loc["HUVEC-02_1_C03_2"]
    assert row["plate"] == "HUVEC-02_1" and row["treatment"] == "s20011" and row["sirna_id"] == 11
    assert row["path_Hoechst"] == "images/HUVEC-02/Plate1/C03_s2_w1.png"
    assert row["path_WGA"] == "images/HUVEC-02/Plate1/C03_s2_w6.png"
    roles = got.groupby("role")["treatment"].unique().map(sorted).to_dict()
    assert roles["negcon"] == ["EMPTY"] and roles["poscon"] == ["s21108", "s21109"]
    assert got.attrs["screen"] == "rxrx1" and got.attrs["root"] == str(root)
    (root / "images/HUVEC-01/Plate1/C02_s1_w3.png").unlink()
    with pytest.raises(InputError, match=r"C02_s1_w3\.png"):
        rxrx1.manifest(root)
    assert len(rxrx1.manifest(root, check=False)) == len(got)


def test_cell_types_are_chosen(root):
    assert len(rxrx1.manifest(root, cell_type=None, check=False)) == 3 * 28
    assert set(rxrx1.manifest(root, cell_type="U2OS", check=False)["batch"]) == {"U2OS-01"}
    with pytest.raises(InputError, match="no site of RPE"):
        rxrx1.manifest(root, cell_type="RPE", check=False)
    with pytest.raises(InputError, match="choose of HUVEC"):
        rxrx1.manifest(root, cell_type="A549", check=False)


def test_what_is_missing_or_contradicts_itself_is_named(root, tmp_path_factory):
    with pytest.raises(InputError, match=r"rxrx.ai/rxrx1.*hcs fetch rxrx1"):
        rxrx1.manifest(tmp_path_factory.mktemp("empty"))
    table = release()
    table.rename(columns={"sirna_id": "sirna_ID"}).to_csv(root / "metadata.csv", index=False)
    with pytest.raises(InputError, match=r"- sirna_id \(nearest: sirna_ID"):
        rxrx1.manifest(root)
    table.loc[3, "sirna_id"] = 1120
    table.to_csv(root / "metadata.csv", index=False)
    with pytest.raises(InputError, match="whose sirna_id and well_type disagree") as caught:
        rxrx1.manifest(root)
    assert table.loc[3, "site_id"] in str(caught.value)


def test_settings_of_table_2b_in_both_forms(root):
    got = rxrx1.manifest(root)
    train = got[got["batch"] == "HUVEC-01"]
    assert len(rxrx1.subset(train, "all")) == 28
    controls = rxrx1.subset(train, "I")
    assert (controls["role"] != "trt").all() and len(controls) == 12
    assert (rxrx1.subset(train, "II")["role"] == "trt").all()
    paper = rxrx1.subset(train, "III")
    assert set(paper["sirna_id"] % 2) <= {0, 1} and len(paper) == 12 + 8
    assert (paper.loc[paper["role"] == "trt", "sirna_id"] % 2 == 1).all()
    released = rxrx1.subset(train, "III", form="released")
    assert len(released) == 12 + 8  # the second image of each treatment
    assert (released.loc[released["role"] == "trt", "site"] == 2).all()
    first = rxrx1.subset(train, "only_treatments_half_as_many")
    assert (first["site"] == 1).all() and len(first) == 8
    dropped = rxrx1.subset(train, "drop_treatment_duplicates")
    assert (dropped["role"] != "trt").all() and len(dropped) == 6
    shuffled = train.sample(frac=1, random_state=0)
    assert set(rxrx1.subset(shuffled, "III", form="released").index) == set(released.index)
    with pytest.raises(InputError, match="setting is"):
        rxrx1.subset(train, "IV")
    with pytest.raises(InputError, match="form is"):
        rxrx1.subset(train, "I", form="code")


def test_the_competitions_real_tables(shared_data):
    root = shared_data("metadata") / "rxrx1"
    got = rxrx1.manifest(root, check=False)
    assert len(got) == 2 * 17_688 and got["batch"].nunique() == 16
    assert got["sirna_id"].nunique() == 1108 and set(got["role"]) == {"trt"}
    everything = rxrx1.manifest(root, unlabelled=True, check=False)
    assert len(everything) == 2 * 26_534
    batches = sorted(everything["batch"].unique())
    assert batches == [f"HUVEC-{k:02d}" for k in range(1, 25)]
    assert (everything.groupby("batch")["plate"].nunique() == 4).all()
    for number in range(1, 7):
        parts = rxrx1.fold(everything, number)
        first = 4 * (number - 1)
        assert parts["train"] == [batches[(first + k) % 24] for k in range(16)]
        assert parts["test"] == [batches[(first + 20 + k) % 24] for k in range(4)]
        split = splits.split_sites(everything, parts)
        splits.assert_disjoint(everything, split, "batch")
    assert rxrx1.manifest(root, cell_type=None, check=False)["batch"].nunique() == 33


def test_the_same_277_sirnas_share_a_plate_in_every_batch(shared_data):
    """The trap that the dataset card tells of: the plate says which quarter a siRNA is from."""
    got = rxrx1.manifest(shared_data("metadata") / "rxrx1", check=False)
    on = got.groupby("plate")["treatment"].agg(frozenset)
    quarters = [on[f"HUVEC-01_{k}"] for k in (1, 2, 3, 4)]
    assert sorted(len(q) for q in quarters) == [277] * 4
    for together in on:
        assert max(len(together & q) for q in quarters) == len(together)
    wells = got.groupby("treatment")["well"].nunique()
    assert wells.min() >= 13 and wells.median() == 16  # of 16 batches: the well says little
