"""Real profiles: seven plates of CPJUMP1, read, judged, corrected.

Runs where the plates are on this machine; nothing of them is copied. The full comparison, with
intervals, is benchmarks/real_cpjump1.py.
"""

import numpy as np
import pandas as pd
import pytest

from benchmarks import real_cpjump1 as real
from hcs_utils.data import profiles
from hcs_utils.evaluation import leaks
from hcs_utils.evaluation import postprocess as correct
from hcs_utils.evaluation.mixing import kbet
from hcs_utils.evaluation.replicates import replicate_map


@pytest.fixture(scope="module")
def screen(shared_data):
    return real.Screen(shared_data("cpjump1_profiles"))


@pytest.fixture(scope="module")
def sphered(screen):
    return correct.sphere(screen.features, screen.control, real.SHARE)


def test_seven_plates_of_one_layout(screen):
    table = screen.table
    assert screen.features.shape == (7 * 384, 904) and np.isfinite(screen.features).all()
    assert table.groupby("plate")["well"].nunique().tolist() == [384] * 7
    assert table.groupby("plate")["role"].value_counts().unstack().drop_duplicates().to_dict(
        "records"
    ) == [{"negcon": 64, "poscon": 60, "trt": 260}]
    assert table.groupby("well")["compound"].nunique().max() == 1
    assert table[screen.treated]["compound"].nunique() == 302
    about = table.groupby("plate")[["time_h", "anomaly"]].first().value_counts()
    assert about.to_dict() == {(24, "WGA"): 3, (48, "Mitotracker"): 2, (48, "none"): 2}
    assert (table.loc[screen.treated, "target_list"] != "").mean() > 0.99


def test_plates_go_out_and_come_back_unchanged(screen, tmp_path):
    for end in (".parquet", ".csv.gz"):
        features = pd.DataFrame(screen.features[::7], columns=list(screen.names))
        profiles.write(tmp_path / f"p{end}", screen.table[::7], features)
        table, values = profiles.read(tmp_path / f"p{end}")
        np.testing.assert_array_equal(values, screen.features[::7])
        assert table["compound"].tolist() == screen.compound[::7].tolist()


def test_replicates_find_each_other_far_above_the_null(screen):
    own = replicate_map(
        screen.features, screen.compound, screen.plate, screen.control, null_size=1000
    )
    rng = np.random.default_rng(0)
    dealt = replicate_map(
        screen.features[rng.permutation(len(screen.features))], screen.compound, screen.plate,
        screen.control, null_size=1000,
    )  # fmt: skip
    assert len(own) == 302 and 0.4 < own["mean_average_precision"].mean() < 0.6
    assert dealt["mean_average_precision"].mean() < 0.05
    assert (own["corrected_p_value"] < 0.05).mean() > 0.8
    assert (dealt["corrected_p_value"] < 0.05).mean() < 0.02


def test_the_well_alone_answers_the_compound(screen):
    rows = screen.treated
    table = leaks.audit(
        screen.compound[rows],
        screen.plate[rows] != "BR00117011",
        screen.plate[rows] == "BR00117011",
        {"well": screen.well[rows], "plate": screen.plate[rows]},
    )
    assert table.loc["well", "value"] == 1
    assert table.loc["plate", "value"] < 0.02
    assert table.loc["shuffled labels", "value"] < 0.02


def test_controls_are_told_apart_by_their_position_only(screen):
    """All hold DMSO, so their wells should not be found on other plates, and are."""
    found = real.across_plates(screen, screen.features, screen.control, screen.well)
    assert found.mean() > 8 / 64


def test_a_compound_is_found_less_often_where_its_position_does_not_help(screen, sphered):
    same, other = real.same_or_other_position(screen, screen.features).mean(axis=1)
    assert same - other > 0.15
    assert real.same_or_other_position(screen, sphered)[1].mean() > other  # sphering helps there
    compound = real.across_plates(screen, sphered, screen.treated, screen.compound).mean()
    given = real.across_plates(screen, screen.features, screen.treated, screen.compound).mean()
    assert compound < given  # and the usual score does not show it


def test_harmony_mixes_plates_best_and_finds_no_more_compounds(screen, sphered):
    harmonised = correct.harmony(screen.features, screen.plate)
    mixed = {
        name: kbet(x, screen.plate, real.NEIGHBOURS)
        for name, x in (("given", screen.features), ("sphere", sphered), ("harmony", harmonised))
    }
    assert mixed["sphere"] < mixed["given"] < mixed["harmony"]
    given, after = (
        real.across_plates(screen, x, screen.treated, screen.compound).mean()
        for x in (screen.features, harmonised)
    )
    assert 0.4 < after < given + 0.01


def test_what_crosses_time_is_less_than_what_crosses_plates(screen):
    found = real.crossing(screen, screen.features)
    assert found["between_24h_and_48h"][2] < found["within_48h"][1]  # intervals apart
    assert found["between_24h_and_48h"][1] > 0.1  # chance is 1 / 302
    assert len([name for name in found if name.startswith("from_BR")]) == 42


def test_the_benchmark_says_when_the_plates_are_not_here(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("HCS_SHARED", str(tmp_path))
    assert real.main() == 0
    assert capsys.readouterr().out.startswith("The profiles of CPJUMP1 are not on this machine")
