"""The map with hover in a browser, as a page of the book holds it: its script from beside it."""

import functools
import http.server
import shutil
import threading

import numpy as np
import pandas as pd
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import sync_playwright

import book
from hcs_utils.evaluation import figure_interactive

PAGE = """<!doctype html><html lang="en" data-theme="{theme}"><head><meta charset="utf-8">
<title>Map</title><link rel="icon" href="data:,"><style>body {{ background: {ground};
color: {ink}; font: 16px sans-serif; }}</style></head><body><main><h1>Map</h1>
<div class="text_html">{body}</div></main></body></html>"""
MODES = {"light": ("#ffffff", "#323232"), "dark": ("#14181e", "#ced6dd")}  # the theme's


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Two pages and plotly's script, served as the book is."""
    root = tmp_path_factory.mktemp("book")
    for folder in ("_static", "notebooks"):
        (root / folder).mkdir()
    (root / "_static" / "plotly.min.js").write_text(figure_interactive.plotly_script(), "utf-8")
    n = 60
    table = pd.DataFrame(
        {
            "site_id": [f"s{i}" for i in range(n)],
            "batch": [f"B{i % 3}" for i in range(n)],
            "treatment": [f"t{i % 4}" for i in range(n)],
        }
    )
    xy = np.stack([np.arange(n) % 10, np.arange(n) // 10], axis=1)
    tiles = np.random.default_rng(0).integers(0, 255, (n, 8, 8, 3), dtype=np.uint8)
    for place, script in (("", "../_static/plotly.min.js"), ("without_", "../_static/none.js")):
        body = figure_interactive.twin(
            xy, table, ["site_id", "treatment"], ["batch", "treatment"], tiles, script=script
        )
        for theme, (ground, ink) in MODES.items():
            text = PAGE.format(theme=theme, ground=ground, ink=ink, body=body)
            (root / "notebooks" / f"{place}{theme}.html").write_text(text, "utf-8")

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Quiet, directory=str(root))
    )
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


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


def opened(browser, site, name):
    page, told = browser.new_page(viewport={"width": 800, "height": 900}), []
    page.on("pageerror", lambda error: told.append(str(error)))
    page.on("request", lambda request: told.append(request.url))
    page.goto(f"{site}/notebooks/{name}.html")
    return page, told


@pytest.mark.parametrize("theme", MODES)
def test_hover_keys_and_colours_answer_and_nothing_comes_from_afar(browser, site, theme):
    page, told = opened(browser, site, theme)
    page.wait_for_selector(".hcs-twin[data-live] .scatterlayer .point")
    assert [url for url in told if not url.startswith((site, "data:"))] == []
    assert page.locator(".legendtext").all_text_contents() == ["B0", "B1", "B2"]

    mark = page.locator(".scatterlayer .point").first
    box = mark.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.wait_for_selector(".hoverlayer .hovertext")
    said = page.locator("[role=status]")
    assert said.inner_text() == "site_id: s0 · treatment: t0"
    assert page.locator(".told img").get_attribute("src").startswith("data:image/jpeg")

    page.locator("button", has_text="treatment").click()
    page.wait_for_function("document.querySelectorAll('.legendtext').length === 4")
    assert page.locator(".legendtext").all_text_contents() == ["t0", "t1", "t2", "t3"]
    pressed = page.locator("button[aria-pressed=true]")
    assert pressed.all_inner_texts() == ["treatment"]

    page.keyboard.press("Tab")  # from the button to the map
    assert page.evaluate("document.activeElement.className").startswith("map")
    page.keyboard.press("ArrowRight")
    assert said.inner_text() == "site_id: s1 · treatment: t1"
    page.keyboard.press("ArrowLeft")
    assert said.inner_text() == "site_id: s0 · treatment: t0"

    found = [v["id"] for v in Axe().run(page).response["violations"]]
    assert [rule for rule in found if rule != "region"] == []
    page.close()


def test_a_page_without_plotly_says_so(browser, site):
    page, _ = opened(browser, site, "without_light")
    page.wait_for_function("document.querySelector('[role=status]').textContent.includes('found')",
                           timeout=20_000)  # fmt: skip
    assert "plotly's script, which was not found" in page.locator("[role=status]").inner_text()
    page.close()


def test_the_book_brings_plotly_beside_its_pages_and_into_no_other(tmp_path):
    site = tmp_path / "site"
    (site / "notebooks").mkdir(parents=True)
    (site / "_static").mkdir()
    (site / "notebooks" / "a.html").write_text("a page")
    book.publish(site, tmp_path / "html")
    script = (tmp_path / "html" / "notebooks" / book.PLOTLY).resolve()
    assert script.read_text("utf-8") == figure_interactive.plotly_script()
    assert script.parent == (tmp_path / "html" / "_static").resolve()
    assert list((site / "_static").iterdir()) == []  # Sphinx would load it on every page
