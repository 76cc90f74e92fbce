import base64
import io
import json
import re
import sys

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from hcs_utils.errors import InputError
from hcs_utils.evaluation import figure_interactive

BOOK = "../_static/plotly.min.js"


def screen(n=40):
    rng = np.random.default_rng(0)
    table = pd.DataFrame(
        {
            "site_id": [f"s{i}" for i in range(n)],
            "batch": [f"B{i % 11}" for i in range(n)],
            "plate": "P<1>",
            "well": "A01",
            "treatment": [f"t{i % 3}" for i in range(n)],
            "role": "trt",
        }
    )
    return rng.normal(size=(n, 2)), table


def content(html):
    return json.loads(re.search(r'<script type="application/json">(.*?)</script>', html, re.S)[1])


def test_every_point_keeps_its_place_its_words_and_its_colours():
    xy, table = screen()
    data = content(figure_interactive.twin(xy, table, script=BOOK))
    at = np.stack([data["x"], data["y"]], axis=1)
    steps = np.diff(xy, axis=0) / np.ptp(xy, axis=0).max()
    np.testing.assert_allclose(np.diff(at, axis=0), steps, atol=2e-4)
    for name in ("site_id", "plate", "well", "treatment", "batch", "role"):
        column = data["columns"][name]
        words = np.array(column["names"])[column["code"]]
        assert words.tolist() == table[name].astype(str).tolist()
    batch = data["columns"]["batch"]
    assert batch["names"][:3] == ["B0", "B1", "B2"] and batch["names"][-1] == "B10"
    assert len(set(batch["hues"])) == 11


def test_book_colab_and_elsewhere_each_get_plotly_their_own_way(monkeypatch):
    xy, table = screen()
    monkeypatch.setenv("HCS_PLOTLY", BOOK)
    html = figure_interactive.twin(xy, table)
    assert re.findall(r"<script src=\"([^\"]+)\"", html) == [BOOK]
    assert not re.search(r"(src|href)=[\"']?(https?:)?//", html) and len(html) < 20_000
    monkeypatch.delenv("HCS_PLOTLY")
    inline = figure_interactive.twin(xy, table)
    assert "<script src" not in inline and figure_interactive.plotly_script() in inline
    monkeypatch.setitem(sys.modules, "google.colab", sys)
    assert '<script src="https://cdn.plot.ly/plotly-' in figure_interactive.twin(xy, table)


def test_many_points_are_thinned_and_the_figure_says_so():
    xy, table = screen(60)
    html = figure_interactive.twin(xy, table, most=25, script=BOOK)
    data = content(html)
    column = data["columns"]["site_id"]
    sites = [column["names"][c] for c in column["code"]]
    assert len(sites) == len(set(sites)) == 25
    assert html.count("A random 25 of 60 are drawn.") == 3  # to the eye, and to readers of labels
    assert "A random" not in figure_interactive.twin(xy, table, script=BOOK)


def test_thumbnails_are_the_pictures_of_their_rows():
    xy, table = screen(6)
    tiles = (
        np.zeros((6, 8, 8, 3), np.uint8) + np.arange(6, dtype=np.uint8)[:, None, None, None] * 40
    )
    html = figure_interactive.twin(xy, table, thumbnails=tiles, most=3, script=BOOK)
    data = content(html)
    sites = data["columns"]["site_id"]
    for code, uri in zip(sites["code"], data["pictures"], strict=True):
        picture = Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2])))
        wanted = 40 * int(sites["names"][code][1:])
        assert abs(int(np.asarray(picture).mean()) - wanted) <= 2


def test_words_of_the_screen_cannot_break_the_page():
    xy, table = screen(5)
    table["treatment"] = "</script><b>&"
    html = figure_interactive.twin(xy, table, title="<i>&", script=BOOK)
    assert html.count("</script>") == 3 and "<b>" not in html.replace(r"<\/script><b>", "")
    assert content(html)["columns"]["treatment"]["names"] == ["</script><b>&"]
    assert "&lt;i&gt;&amp;" in html and "<i>" not in html


def test_twin_has_words_for_those_who_do_not_see_it_or_run_no_script():
    html = figure_interactive.twin(*screen(), title="A map", script=BOOK)
    assert '<figure class="hcs-twin" aria-label="A map: 40 points' in html
    assert "<noscript>" in html and 'tabindex="0"' in html and 'role="status"' in html
    assert html.count("<button") == 3 and html.count('aria-pressed="true">') == 1


def test_twin_errors():
    xy, table = screen()
    with pytest.raises(InputError, match=r"finite points \[40, 2\], got shape \(39, 2\)"):
        figure_interactive.twin(xy[1:], table)
    with pytest.raises(InputError, match="lacks the columns day, moa; it has site_id"):
        figure_interactive.twin(xy, table, colour=["moa", "day"])
    with pytest.raises(InputError, match="at least one column to colour by"):
        figure_interactive.twin(xy, table, colour=[])
    with pytest.raises(InputError, match=r"thumbnails must be uint8 \[40 y x 3\]"):
        figure_interactive.twin(xy, table, thumbnails=np.zeros((40, 8, 8, 3)))
