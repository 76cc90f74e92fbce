"""The interactive twin of a map: hover, arrow keys, colours by choice; static HTML with plotly.

Pages load nothing from afar. In the book plotly's script is one file in `_static`, which
`workflow/book.py` puts there and names in `$HCS_PLOTLY`; in Colab it comes from the network that
Colab is on anyway; everywhere else it is written into the figure, 4.8 MB.
"""

import base64
import json
import os
import sys
from collections.abc import Sequence
from html import escape
from importlib import resources

import imagecodecs
import numpy as np
import pandas as pd
from matplotlib.colors import to_hex
from numpy.typing import ArrayLike

from hcs_utils.errors import InputError
from hcs_utils.evaluation.figure_style import INK, colours, names

SYMBOLS = ("circle", "square", "triangle-up", "diamond", "triangle-down", "cross", "x", "star")


def twin(
    xy: ArrayLike,
    table: pd.DataFrame,
    hover: Sequence[str] = ("site_id", "plate", "well", "treatment"),
    colour: Sequence[str] = ("batch", "treatment", "role"),
    thumbnails: ArrayLike | None = None,
    title: str = "Map of fields",
    most: int = 5000,
    seed: int = 0,
    script: str | None = None,
) -> str:
    """A map `[n, 2]` as HTML: `hover` columns of `table` in words, `colour` columns by buttons.

    `thumbnails` uint8 `[n y x 3]` are shown beside the map for the field under the pointer; they
    cost a few kB each. Above `most` rows a random part is drawn, and the figure says so.
    `script`: where plotly's script is: a relative address, "inline", or "cdn"; None chooses.
    """
    xy, n = np.asarray(xy, dtype=float), len(table)
    if xy.shape != (n, 2) or not n or not np.isfinite(xy).all():
        raise InputError(f"A map of {n} rows needs finite points [{n}, 2], got shape {xy.shape}.")
    if missing := sorted({*hover, *colour} - set(table.columns)):
        has = ", ".join(map(str, table.columns))
        raise InputError(f"The table lacks the columns {', '.join(missing)}; it has {has}.")
    if not colour:
        raise InputError("Name at least one column to colour by.")
    pictures = None if thumbnails is None else _checked(thumbnails, n)
    rows = np.arange(n)
    if n > most:
        rows = np.sort(np.random.default_rng(seed).permutation(n)[:most])
    shown = table.iloc[rows]
    low, span = xy.min(axis=0), max(np.ptp(xy, axis=0).max(), 1e-12)
    data = {
        "x": np.round((xy[rows, 0] - low[0]) / span, 4).tolist(),
        "y": np.round((xy[rows, 1] - low[1]) / span, 4).tolist(),
        "columns": {name: _column(shown[name]) for name in dict.fromkeys([*colour, *hover])},
        "hover": list(hover),
        "colour": list(colour),
        "ink": INK,
        "symbols": SYMBOLS,
        "pictures": None if pictures is None else [_picture(pictures[row]) for row in rows],
    }
    part = "" if len(rows) == n else f" A random {len(rows):,} of {n:,} are drawn."
    said = f"{title}: {len(rows):,} points, one a row, coloured by {' or '.join(colour)}.{part}"
    return _PAGE % {
        "title": escape(title),
        "label": escape(said, quote=True),
        "note": escape(part),
        "buttons": "".join(
            f'<button type="button" data-by="{escape(name, quote=True)}" '
            f'aria-pressed="{str(name == colour[0]).lower()}">{escape(name)}</button>'
            for name in colour
        ),
        "plotly": _script(script),
        "data": json.dumps(data, separators=(",", ":")).replace("</", "<\\/"),
        "code": _CODE,
        "ink": INK,
    }


def plotly_script() -> str:
    """Plotly's script, whole, from the installed package."""
    return resources.files("plotly").joinpath("package_data/plotly.min.js").read_text("utf-8")


def _script(script: str | None) -> str:
    if script is None:
        script = "cdn" if "google.colab" in sys.modules else os.environ.get("HCS_PLOTLY", "inline")
    if script == "inline":
        return f"<script>{plotly_script()}</script>"
    if script == "cdn":
        from plotly.offline import get_plotlyjs_version

        script = f"https://cdn.plot.ly/plotly-{get_plotlyjs_version()}.min.js"
    return f'<script src="{escape(script, quote=True)}"></script>'


def _column(values: pd.Series) -> dict:
    """Distinct values as words, a code for each row, and a colour for each value."""
    text = values.map(lambda v: f"{v:.4g}" if isinstance(v, float) else str(v))
    order = names(text)
    code = pd.Index(order).get_indexer(text)
    return {"names": order, "code": code.tolist(), "hues": [to_hex(c) for c in colours(len(order))]}


def _checked(thumbnails: ArrayLike, n: int) -> np.ndarray:
    thumbnails = np.asarray(thumbnails)
    if thumbnails.dtype != np.uint8 or thumbnails.ndim != 4 or len(thumbnails) != n:
        raise InputError(
            f"thumbnails must be uint8 [{n} y x 3], got {thumbnails.dtype} {thumbnails.shape}."
        )
    return thumbnails


def _picture(pixels: np.ndarray) -> str:
    jpeg = imagecodecs.jpeg_encode(np.ascontiguousarray(pixels), level=70)
    return "data:image/jpeg;base64," + base64.b64encode(jpeg).decode()


_PAGE = """\
<figure class="hcs-twin" aria-label="%(label)s">
<style>
.hcs-twin { color: inherit; margin: 0; max-width: 46rem; font-size: 0.95em; }
html[data-theme="dark"] .text_html:has(> .hcs-twin) { padding: 0 !important;
  background: transparent !important; color: var(--pst-color-text-base) !important; }
.hcs-twin .bar { display: flex; flex-wrap: wrap; gap: 0.5rem; align-items: center;
  margin: 0.3rem 0; }
.hcs-twin button { font: inherit; color: inherit; background: transparent; cursor: pointer;
  border: 1px solid currentColor; border-radius: 3px; padding: 0.15rem 0.7rem; }
.hcs-twin button[aria-pressed="true"] { font-weight: 700; border-width: 2px;
  text-decoration: underline; text-underline-offset: 0.25em; }
.hcs-twin :focus-visible { outline: 2px solid #386BB8; outline-offset: 2px; }
.hcs-twin .map { width: 100%%; height: 30rem; }
.hcs-twin .told { display: flex; gap: 0.8rem; min-height: 6.5rem; align-items: flex-start; }
.hcs-twin .told img { width: 6.5rem; height: 6.5rem; image-rendering: pixelated; margin: 0; }
.hcs-twin figcaption { color: inherit; font-weight: 600; text-align: left; }
</style>
<figcaption>%(title)s</figcaption>
<div class="bar" role="group" aria-label="Colour by"><span>Colour by</span>%(buttons)s</div>
<div class="map" tabindex="0" role="group"
 aria-label="%(label)s Left and right arrow keys go from point to point."></div>
<div class="told"><img alt="" hidden><span role="status">Point at a mark, or reach the map with
 the tabulator key and go from point to point with the arrow keys.%(note)s</span></div>
<noscript>This map needs a script. The figure before it shows the same points.</noscript>
<script type="application/json">%(data)s</script>
%(plotly)s
<script>
%(code)s
</script>
</figure>
"""

_CODE = """\
(() => {
const start = (root) => {
  const data = JSON.parse(root.querySelector('script[type="application/json"]').textContent);
  const map = root.querySelector(".map"), said = root.querySelector("[role=status]");
  const picture = root.querySelector("img"), n = data.x.length;
  let by = data.colour[0], at = -1;
  const words = (i) => data.hover.map((c) =>
    c + ": " + data.columns[c].names[data.columns[c].code[i]]);
  const clean = (text) => text.replace(/&/g, "&amp;").replace(/</g, "&lt;");
  const traces = () => {
    const column = data.columns[by];
    const rows = column.names.map(() => []);
    column.code.forEach((c, i) => rows[c].push(i));
    return column.names.map((name, c) => ({
      type: "scatter", mode: "markers", name: clean(name), customdata: rows[c],
      x: rows[c].map((i) => data.x[i]), y: rows[c].map((i) => data.y[i]),
      text: rows[c].map((i) => words(i).map(clean).join("<br>")), hoverinfo: "text",
      marker: { color: column.hues[c], symbol: data.symbols[c % data.symbols.length],
        size: n > 1500 ? 5 : 7, opacity: 0.75 },
    }));
  };
  const bare = { visible: false, fixedrange: false };
  const layout = {
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", font: { color: data.ink },
    margin: { l: 4, r: 4, t: 4, b: 4 }, hovermode: "closest", xaxis: bare,
    yaxis: { visible: false, scaleanchor: "x" }, showlegend: true,
    legend: { orientation: "h", y: -0.02, font: { color: data.ink } },
    hoverlabel: { bgcolor: "#323232", bordercolor: "#767676", font: { color: "#ffffff" } },
  };
  const settings = { displaylogo: false, responsive: true, scrollZoom: false,
    modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d"] };
  const tell = (i) => {
    at = i;
    said.textContent = words(i).join(" · ");
    if (data.pictures) {
      picture.src = data.pictures[i];
      picture.alt = "Field " + words(i)[0];
      picture.hidden = false;
    }
  };
  const draw = () => Plotly.react(map, traces(), layout, settings);
  const failed = "This map needs plotly's script, which was not found; the figure before it "
    + "shows the same points.";
  if (!window.Plotly) { said.textContent = failed; return; }
  root.dataset.live = "yes";
  draw().then(() => {
    map.on("plotly_hover", (event) => tell(event.points[0].customdata));
  });
  root.querySelectorAll("button").forEach((button) => button.addEventListener("click", () => {
    by = button.dataset.by;
    root.querySelectorAll("button").forEach((b) =>
      b.setAttribute("aria-pressed", String(b === button)));
    draw();
  }));
  map.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    event.preventDefault();
    const i = (at + step + n) % n, curve = data.columns[by].code[i];
    tell(i);
    Plotly.Fx.hover(map, [{ curveNumber: curve,
      pointNumber: map.data[curve].customdata.indexOf(i) }]);
  });
};
const all = () => document.querySelectorAll(".hcs-twin:not([data-live])").forEach(start);
if (window.Plotly || document.readyState !== "loading") {
  let left = 40;  // in a live notebook the script of plotly may come a little later
  const wait = () => (window.Plotly || !left-- ? all() : setTimeout(wait, 250));
  wait();
} else addEventListener("DOMContentLoaded", all);
})();
"""
