"""The planner's figure in a browser: the same answers as the package, readable in both modes."""

import itertools
import re
import shutil

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import sync_playwright

from hcs_utils.data import planner
from hcs_utils.evaluation import figure_planner

# As a page of the book: the last two rules are the theme's and the book's own.
PAGE = """<!doctype html><html lang="en" data-theme="{theme}"><head><title>Planner</title>
<meta name="viewport" content="width=device-width"><link rel="icon" href="data:,">
<style>html {{ color-scheme: {theme}; }} body {{ background: {ground}; color: {ink};
font: 16px sans-serif; --pst-color-text-base: {ink}; }}
html[data-theme=dark] .bd-content div.cell_output .text_html:not(:has(table.dataframe)) {{
background-color: {ink}; color: {ground}; padding: .5rem }}
.bd-article table td, .bd-article table th {{ padding: .35rem .6rem; vertical-align: top; }}
</style></head><body><main class="bd-content bd-article"><h1>Planner</h1><div class="cell_output">
<div class="output text_html">{body}</div></div></main></body></html>"""
MODES = {"light": ("#ffffff", "#323232"), "dark": ("#14181e", "#ced6dd")}  # the theme's
JUMP = dict(
    plates=2315, wells=384, fields=9, channels=5, px_in=1000, bit_depth=16, px_out=768,
    fields_kept=4.95, form_factor=1.9,
)  # fmt: skip


@pytest.fixture(scope="module")
def browser():
    names = ("chromium", "chromium-browser", "google-chrome")
    found = next(filter(None, map(shutil.which, names)), None)
    if found is None:
        pytest.skip("no browser on this machine (chromium, chromium-browser, google-chrome)")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser):
    """`open_page(html, theme, script)`: a page, and all it asked for or complained of."""
    contexts = []

    def opened(html=None, theme="light", script=True, width=900):
        viewport = {"width": width, "height": 900}
        context = browser.new_context(java_script_enabled=script, viewport=viewport)
        contexts.append(context)
        page, told = context.new_page(), []
        page.on("request", lambda request: told.append(request.url))
        page.on("console", lambda message: told.append(message.text))
        page.on("pageerror", lambda error: told.append(str(error)))
        ground, ink = MODES[theme]
        body = figure_planner.widget() if html is None else html
        page.set_content(PAGE.format(theme=theme, ground=ground, ink=ink, body=body))
        return page, told

    yield opened
    for context in contexts:
        context.close()


def fill(page, values: dict) -> None:
    page.evaluate("document.querySelector('.hcs-planner details').open = true")
    for name, value in values.items():
        entry = page.locator(f"[name={name}]")
        if name in ("form", "bit_depth"):
            entry.select_option(str(value))
        else:
            entry.fill(str(value))


def shown(page) -> dict[str, str]:
    cells = page.locator("[data-result]").all()
    return {c.get_attribute("data-result"): c.inner_text() for c in cells}


def exact(page) -> dict[str, float]:
    cells = page.locator("[data-result]").all()
    return {c.get_attribute("data-result"): float(c.get_attribute("data-value")) for c in cells}


def expected(cost: planner.Cost) -> dict[str, str]:
    units = {name: unit for name, (_, unit) in figure_planner._RESULTS.items()}
    return {name: figure_planner._with_unit(getattr(cost, name), u) for name, u in units.items()}


def random_screens(n: int) -> list[dict]:
    rng = np.random.default_rng(0)
    screens = []
    for _ in range(n):
        fields, px = int(rng.integers(1, 50)), int(rng.integers(100, 3000))
        screens.append(
            dict(
                plates=int(10 ** rng.uniform(0, 4.5)), wells=int(rng.choice([96, 384, 1536])),
                fields=fields, channels=int(rng.integers(1, 9)), px_in=px,
                bit_depth=int(rng.choice([8, 16])), px_out=int(rng.integers(16, px + 1)),
                fields_kept=round(float(rng.uniform(0.2, fields)), 2),
                form=str(rng.choice(list(planner.FORMS))),
                network_mb_per_sec=round(float(10 ** rng.uniform(-1, 4)), 2),
                read_mpx_per_sec=round(float(10 ** rng.uniform(0, 3)), 1),
                cores=int(rng.integers(1, 500)),
                dollars_per_cpu_hour=round(float(rng.uniform(0, 1)), 3),
                dollars_per_tb_egress=int(rng.integers(0, 90)),
                dollars_per_tb_month=round(float(rng.uniform(0, 50)), 1),
            )
        )  # fmt: skip
    return screens


def test_answers_are_those_of_the_package(open_page):
    page, told = open_page()
    assert shown(page) == expected(planner.cost(**figure_planner.EXAMPLE))
    for values in [JUMP, *random_screens(5)]:
        fill(page, values)
        form = page.locator("[name=form]").input_value()
        keep = dict(form=form) | values
        for name, default in planner.rates().items():  # what an earlier screen has left there
            left = float(page.locator(f"[name={name}]").input_value())
            keep.setdefault(name, type(default)(left) if left == int(left) else left)
        cost = planner.cost(**keep)
        assert exact(page) == pytest.approx({k: getattr(cost, k) for k in exact(page)}, rel=1e-12)
        assert shown(page) == expected(cost)
        for (_, before), (name, tb) in itertools.pairwise(
            [(None, cost.tb_in)] + [(k, getattr(cost, k)) for k in figure_planner._STEPS]
        ):
            row = page.locator(f"[data-step={name}]")
            assert row.locator(".tb").inner_text() == f"{figure_planner.number(tb)} TB"
            assert row.locator(".by").inner_text() == figure_planner._by(before / tb)
            width = float(row.locator("rect").get_attribute("width").rstrip("%"))
            assert width == pytest.approx(100 * tb / cost.tb_in, abs=0.006)
    assert told == []  # nothing loaded, nothing complained of


def test_another_form_brings_its_measured_rates(open_page):
    page, _ = open_page()
    for form in ("jxl", "zarr", "png"):
        fill(page, {"form": form})
        cost = planner.cost(**figure_planner.EXAMPLE, form=form)
        assert shown(page) == expected(cost)


@pytest.mark.parametrize(
    ("values", "told_as"),
    [
        ({"fields_kept": 10}, "More fields kept than there are."),
        ({"px_out": 1081}, "The crop is larger than the field."),
        ({"plates": ""}, "Plates: "),
        ({"plates": "1.5"}, "Plates: "),
        ({"network_mb_per_sec": "0"}, "Network speed MB/s: "),
    ],
)
def test_nonsense_is_told_and_gives_no_number(open_page, values, told_as):
    page, told = open_page()
    fill(page, values)
    assert page.locator(".said").inner_text().startswith(told_as)
    assert set(shown(page).values()) == {"–"}
    assert set(page.locator(".tb").all_inner_texts()) == {"–"}
    fill(page, {name: figure_planner.EXAMPLE.get(name, 100) for name in values})
    assert shown(page) == expected(planner.cost(**figure_planner.EXAMPLE))
    assert told == []


def test_without_script_the_tables_stand_and_print(open_page):
    page, _ = open_page(script=False)
    assert shown(page) == expected(planner.cost(**figure_planner.EXAMPLE))
    assert "need a script" in page.locator("noscript").inner_text()
    page.emulate_media(media="print")
    box = page.locator("[data-step=tb_fetched] rect").bounding_box()
    whole = page.locator("[data-step=tb_in] rect").bounding_box()
    assert box["width"] == pytest.approx(whole["width"] * 6 / 9, abs=1)
    assert page.locator("[name=plates]").input_value() == "50"
    assert page.pdf().startswith(b"%PDF")


def test_every_entry_is_reached_and_changed_by_keys(open_page):
    page, _ = open_page()
    page.evaluate("document.querySelector('.hcs-planner details').open = true")
    reached = []
    for _ in range(40):
        page.keyboard.press("Tab")
        name = page.evaluate("document.activeElement.name || document.activeElement.tagName")
        if name == "BODY":
            break
        reached.append(name)
    wanted = [*figure_planner._SCREEN, *figure_planner._KEPT, "form", "SUMMARY"]
    assert reached == [*wanted, *figure_planner._RATES]
    page.locator("[name=plates]").focus()
    page.keyboard.press("ArrowUp")
    cost = planner.cost(**(figure_planner.EXAMPLE | {"plates": 51}))
    assert shown(page) == expected(cost)


@pytest.mark.parametrize("theme", MODES)
@pytest.mark.parametrize("width", [900, 360])
def test_axe_finds_nothing_and_nothing_runs_over(open_page, theme, width):
    page, _ = open_page(theme=theme, width=width)
    page.evaluate("document.querySelector('.hcs-planner details').open = true")
    found = Axe().run(page)
    assert found.response["violations"] == []
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    frame = page.locator(".text_html")
    assert frame.evaluate("e => getComputedStyle(e).backgroundColor") == "rgba(0, 0, 0, 0)"
    if theme == "light":  # contrast is checked, not skipped
        page.add_style_tag(content=".hcs-planner { color: #bbb !important; }")
        assert any(v["id"] == "color-contrast" for v in Axe().run(page).response["violations"])


def test_two_on_one_page_do_not_mix(open_page):
    two = figure_planner.widget() + figure_planner.widget(plates=7, form="jxl")
    page, told = open_page(two)
    first, second = page.locator(".hcs-planner").all()
    first.locator("[name=plates]").fill("3")
    cell = "[data-result=tb_out]"
    screens = (figure_planner.EXAMPLE | {"plates": 3}, figure_planner.EXAMPLE | {"plates": 7})
    for root, screen, form in zip((first, second), screens, ("png", "jxl"), strict=True):
        tb = planner.cost(**screen, form=form).tb_out
        assert root.locator(cell).inner_text() == f"{figure_planner.number(tb)} TB"
    assert told == []


def test_it_names_no_address():
    assert not re.search(r"https?:|//\w+\.", figure_planner.widget())
