import math
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hcs_utils import records
from hcs_utils.data import planner
from hcs_utils.errors import InputError

SCREEN = dict(
    plates=4, wells=384, fields=9, channels=5, px_in=1000, bit_depth=16, px_out=500, fields_kept=3
)


@st.composite
def screens(draw):
    fields, px_in = draw(st.integers(1, 60)), draw(st.integers(16, 5000))
    return dict(
        plates=draw(st.integers(1, 10**5)), wells=draw(st.integers(1, 1536)), fields=fields,
        channels=draw(st.integers(1, 20)), px_in=px_in, bit_depth=draw(st.sampled_from([8, 16])),
        px_out=draw(st.integers(1, px_in)), fields_kept=draw(st.integers(1, fields)),
        form=draw(st.sampled_from(list(planner.FORMS))),
    )  # fmt: skip


def test_a_screen_worked_out_by_hand():
    """4 × 384 wells, 9 fields of 5 × 1000² × 2 B: 138.24 GB; a third of the fields: 46.08 GB."""
    cost = planner.cost(
        **SCREEN, form_factor=2, read_mpx_per_sec=50, write_mpx_per_sec=25, network_mb_per_sec=80,
        cores=4, dollars_per_cpu_hour=0.10, dollars_per_tb_egress=90, dollars_per_tb_month=20,
    )  # fmt: skip
    assert cost.tb_in == pytest.approx(0.13824)
    assert cost.tb_fetched == pytest.approx(0.04608)
    assert cost.tb_cropped == pytest.approx(0.01152)
    assert cost.tb_8bit == pytest.approx(0.00576)
    assert cost.tb_out == pytest.approx(0.00288)
    assert cost.download_hours == pytest.approx(0.16)  # 46,080 MB at 80 MB/s: 576 s
    planes = 4 * 384 * 3 * 5  # each 1 Mpx read at 50, 0.25 Mpx written at 25 Mpx/s: 0.03 s
    assert cost.cpu_hours == pytest.approx(planes * 0.03 / 3600) == pytest.approx(0.192)
    assert cost.hours == pytest.approx(0.048)
    assert cost.dollars_cpu == pytest.approx(0.0192)
    assert cost.dollars_download == pytest.approx(4.1472)
    assert cost.dollars_storage_month == pytest.approx(0.0576)


@given(screens())
def test_bytes_are_those_of_counting_planes_one_by_one(screen):
    planes = screen["plates"] * screen["wells"] * screen["channels"]
    before = Fraction(planes * screen["fields"] * screen["px_in"] ** 2 * screen["bit_depth"], 8)
    pixels = Fraction(planes * screen["fields_kept"] * screen["px_out"] ** 2)
    after = pixels / Fraction(planner.FORMS[screen["form"]].factor)
    cost = planner.cost(**screen)
    assert cost.tb_in == pytest.approx(float(before / 10**12), rel=1e-12)
    assert cost.tb_out == pytest.approx(float(after / 10**12), rel=1e-12)


@given(screens())
def test_steps_lead_from_the_first_to_the_last_and_never_up(screen):
    cost = planner.cost(**screen | {"form": "png"})
    steps = cost.steps()
    assert math.prod(step.factor for step in steps) == pytest.approx(cost.tb_in / cost.tb_out)
    assert (steps[0].tb, steps[-1].tb) == (cost.tb_in, cost.tb_out)
    assert all(step.factor >= 1 for step in steps)
    assert steps[1].factor == pytest.approx(screen["fields"] / screen["fields_kept"])
    assert steps[2].factor == pytest.approx((screen["px_in"] / screen["px_out"]) ** 2)
    assert steps[3].factor == pytest.approx(screen["bit_depth"] / 8)


@given(screens(), st.integers(2, 9))
def test_twice_the_plates_cost_twice_and_twice_the_cores_save_hours_only(screen, times):
    one = planner.cost(**screen)
    many = planner.cost(**screen | {"plates": screen["plates"] * times})
    for name in planner.Cost.__annotations__:
        assert getattr(many, name) == pytest.approx(times * getattr(one, name), rel=1e-9), name
    spread = planner.cost(**screen, cores=2 * times)
    assert spread.hours == pytest.approx(one.hours / times)
    assert (spread.cpu_hours, spread.dollars_cpu) == (one.cpu_hours, one.dollars_cpu)


def test_faster_forms_cost_less_time_and_smaller_ones_less_storage():
    costs = {form: planner.cost(**SCREEN, form=form) for form in planner.FORMS}
    by_size = sorted(costs, key=lambda form: costs[form].tb_out)
    assert by_size == sorted(costs, key=lambda form: -planner.FORMS[form].factor)
    by_time = sorted(costs, key=lambda form: costs[form].cpu_hours)
    assert by_time == sorted(costs, key=lambda form: -planner.FORMS[form].write_mpx_per_sec)
    assert costs["raw"].tb_out == costs["raw"].tb_8bit


def test_the_rates_are_those_on_record():
    root = Path(__file__).resolve().parents[2] / "book" / "results"
    found = records.load_records(root, preset="real", experiment="preprocessing")
    found = found[found["screen"] == "bbbc006"].set_index("method")
    if found.empty:
        pytest.skip("no record of forms in book/results yet: python benchmarks/formats.py")
    names = {"png": "png", "zarr": "zarr", "jxl": "jxl", "jxl_1": "jxl_d1", "raw": "tiff"}
    for form, method in names.items():
        said, row = planner.FORMS[form], found.loc[method]
        if form != "raw":
            assert said.factor == pytest.approx(row["factor"], rel=0.02)
        assert 1 / 3 < said.write_mpx_per_sec / row["write_mpx_per_cpu_sec"] < 3  # other processors
    tiff = found.loc["tiff"]
    read = 1 / (1 / tiff["read_mpx_per_cpu_sec"] + 1 / tiff["rescale_mpx_per_cpu_sec"])
    assert 1 / 3 < planner.READ_MPX_PER_SEC / read < 3


def test_the_papers_steps_are_the_papers():
    steps = planner.paper_steps()
    assert [step.factor for step in steps] == [1, 2.0, 1.9, 1.7, 1.8]
    assert [round(step.tb, 1) for step in steps] == [84.7, 42.4, 22.3, 13.1, 7.3]
    product = math.prod(step.factor for step in steps)
    assert round(product, 1) == 11.6 and round(84.7 / 7.4, 1) == 11.4
    assert round((1000 / 768) ** 2, 2) == 1.70 and round((1080 / 768) ** 2, 2) == 1.98


def test_the_papers_own_counts_lead_near_its_terabytes():
    """8 million fields of 5 × 1000² × 2 B are 80 TB; 4.4 million of 768² in PNG 6.8 TB."""
    fields = 8_000_000 / (384 * 9)
    cost = planner.cost(round(fields), 384, 9, 5, 1000, 16, 768, 9 * 4.4 / 8, form_factor=1.9)
    assert cost.tb_in == pytest.approx(80, rel=1e-3)
    assert cost.tb_out == pytest.approx(6.83, rel=1e-2)
    assert 0.85 < cost.tb_out / 7.4 < 1


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"plates": 0}, "plates is 0; it must be above 0"),
        ({"wells": -384}, "wells is -384"),
        ({"fields_kept": 10}, "fields_kept is 10, more than fields, 9"),
        ({"fields_kept": math.nan}, "fields_kept is nan"),
        ({"px_out": 1001}, "px_out is 1001, more than px_in, 1000"),
        ({"bit_depth": 12}, "bit_depth is 12; files hold 8 or 16"),
        ({"form": "jpg"}, "form is 'jpg'; there are: raw, png"),
        ({"network_mb_per_sec": 0}, "network_mb_per_sec is 0; it must be above 0"),
        ({"cores": 0}, "cores is 0"),
        ({"form_factor": math.inf}, "form_factor is inf"),
        ({"dollars_per_cpu_hour": -0.1}, "dollars_per_cpu_hour is -0.1; it must be 0 or more"),
    ],
)
def test_nonsense_is_refused_by_name(change, said):
    with pytest.raises(InputError, match=said.replace("'", ".").replace("(", ".")):
        planner.cost(**SCREEN | change)


def test_all_that_is_wrong_is_told_at_once():
    with pytest.raises(InputError) as error:
        planner.cost(0, 384, 3, 5, 100, 12, 200, 4, "gif", cores=0)
    words = ("plates", "px_out", "fields_kept", "bit_depth", "form", "cores")
    assert all(f"\n  {word} is " in str(error.value) for word in words)
    assert str(error.value).count("\n") == len(words)


def test_money_may_be_nothing():
    cost = planner.cost(**SCREEN, dollars_per_cpu_hour=0, dollars_per_tb_month=0)
    assert cost.dollars_cpu == cost.dollars_storage_month == cost.dollars_download == 0
