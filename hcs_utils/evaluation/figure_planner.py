"""The planner as an interactive figure: HTML that needs nothing else, and reads without script."""

import ast
import inspect
import json
import textwrap
from html import escape

from hcs_utils.data import planner
from hcs_utils.evaluation.figure_style import PALETTE

# name: label, unit, smallest, largest, step
_SCREEN = {
    "plates": ("Plates", "", 1, 100_000, 1),
    "wells": ("Wells", "a plate", 1, 1536, 1),
    "fields": ("Fields", "a well", 1, 100, 1),
    "channels": ("Channels", "", 1, 20, 1),
    "px_in": ("Side of a field", "px", 16, 10_000, 1),
    "bit_depth": ("Bits a pixel", "", 8, 16, 8),
}
_KEPT = {
    "fields_kept": ("Fields kept", "a well, on average", 0.1, 100, "any"),
    "px_out": ("Side of the centre crop", "px", 16, 10_000, 1),
}
_RATES = {
    "form_factor": ("8-bit bytes over stored", "", 0.1, 1000, "any"),
    "read_mpx_per_sec": ("Reading and rescaling", "Mpx/s a core", 0.1, 100_000, "any"),
    "write_mpx_per_sec": ("Writing", "Mpx/s a core", 0.1, 100_000, "any"),
    "network_mb_per_sec": ("Network speed", "MB/s", 0.1, 1_000_000, "any"),
    "cores": ("Cores", "", 1, 1_000_000, 1),
    "dollars_per_cpu_hour": ("Price of a CPU-hour", "$", 0, 1000, "any"),
    "dollars_per_tb_egress": ("Price of download", "$ a TB", 0, 10_000, "any"),
    "dollars_per_tb_month": ("Price of storage", "$ a TB and month", 0, 10_000, "any"),
}
_MEASURED = ("form_factor", "read_mpx_per_sec", "write_mpx_per_sec")
_RESULTS = {
    "tb_out": ("To store", "TB"),
    "tb_fetched": ("To download", "TB"),
    "download_hours": ("Time to download", "h"),
    "cpu_hours": ("Preprocessing", "CPU-hours"),
    "hours": ("Preprocessing, all cores", "h"),
    "dollars_cpu": ("Price of the CPU-hours", "$"),
    "dollars_download": ("Price of the download", "$"),
    "dollars_storage_month": ("Price of storage, a month", "$"),
}
_STEPS = {
    "tb_in": "As written",
    "tb_fetched": "Fields kept",
    "tb_cropped": "Centre crop",
    "tb_8bit": "8 bits a pixel",
    "tb_out": "Stored form",
}
EXAMPLE = dict(
    plates=50, wells=384, fields=9, channels=5, px_in=1080, bit_depth=16, px_out=768, fields_kept=6
)  # a screen of middling size


def widget(form: str = "png", **values) -> str:
    """A form whose answers follow as it is filled in; `values` are arguments of `planner.cost`.

    Its script is `planner.formula`, line by line. Without script the tables show the answers to
    these values. It loads nothing and works on a page, in Jupyter and in Colab.
    """
    values = EXAMPLE | planner.rates(form) | values
    cost = planner.cost(form=form, **values)
    forms = {key: [f.factor, f.write_mpx_per_sec] for key, f in planner.FORMS.items()}
    return _PAGE % {
        "screen": "".join(_field(k, values[k], *about) for k, about in _SCREEN.items()),
        "kept": "".join(_field(k, values[k], *about) for k, about in _KEPT.items()) + _choice(form),
        "rates": "".join(_field(k, values[k], *about) for k, about in _RATES.items()),
        "steps": "".join(_step(k, cost) for k in _STEPS),
        "said": _said(cost),
        "results": "".join(_result(k, cost) for k in _RESULTS),
        "bar": PALETTE["blue"],
        "forms": escape(json.dumps(forms)),
        "script": _SCRIPT % {"formula": javascript(), "steps": json.dumps(list(_STEPS))},
    }


def javascript() -> str:
    """`planner.formula` as a JavaScript function of an object with the same names."""
    (function,) = ast.parse(textwrap.dedent(inspect.getsource(planner.formula))).body
    names = ", ".join(argument.arg for argument in function.args.args)
    lines = [f"const formula = ({{{names}}}) => {{"]
    for line in function.body[1:]:
        if isinstance(line, ast.Assign):
            lines.append(f"  const {line.targets[0].id} = {ast.unparse(line.value)};")
        else:
            given = ", ".join(argument.id for argument in line.value.args)
            lines.append(f"  return {{{given}}};")
    return "\n".join([*lines, "};"])


def number(value: float | int) -> str:
    """Three digits that count, with thousands set apart: 7.41, 0.0852, 1,204."""
    if value == 0:
        return "0"
    digits = 2 - int(f"{value:.2e}".split("e")[1])
    return f"{value:,.{min(max(digits, 0), 20)}f}"


def _field(name, value, label, unit, least, most, step) -> str:
    if name == "bit_depth":
        options = "".join(_option(bits, bits, bits == value) for bits in (8, 16))
        entry = f'<select name="{name}">{options}</select>'
    else:
        entry = (
            f'<input type="number" name="{name}" value="{value}" min="{least}" max="{most}" '
            f'step="{step}" required>'
        )
    known = " <em>measured</em>" if name in _MEASURED else ""
    told = f' <span class="unit">{unit}</span>' if unit else ""
    return f"<label><span>{label}{told}{known}</span>{entry}</label>\n"


def _choice(form: str) -> str:
    options = (_option(key, kind.label, key == form) for key, kind in planner.FORMS.items())
    return f'<label><span>Stored form</span><select name="form">{"".join(options)}</select></label>'


def _option(value, label, chosen) -> str:
    return f'<option value="{value}"{" selected" if chosen else ""}>{label}</option>'


def _step(name: str, cost: planner.Cost) -> str:
    tb, steps = getattr(cost, name), list(_STEPS)
    before = getattr(cost, steps[max(0, steps.index(name) - 1)])
    return (
        f'<tr data-step="{name}"><th scope="row">{_STEPS[name]}</th><td class="bar">'
        f'<svg aria-hidden="true"><rect width="{100 * tb / cost.tb_in:.2f}%" height="100%"/></svg>'
        f'</td><td class="tb">{number(tb)} TB</td><td class="by">{_by(before / tb)}</td></tr>\n'
    )


def _by(factor: float) -> str:
    return f"÷ {number(factor)}"


def _result(name: str, cost: planner.Cost) -> str:
    label, unit = _RESULTS[name]
    value = getattr(cost, name)
    return (
        f'<tr><th scope="row">{label}</th><td data-result="{name}" data-unit="{unit}" '
        f'data-value="{value!r}">{_with_unit(value, unit)}</td></tr>\n'
    )


def _said(cost: planner.Cost) -> str:
    return (
        f"{number(cost.tb_in)} TB become {number(cost.tb_out)} TB: "
        f"{number(cost.download_hours)} h to download, {number(cost.cpu_hours)} CPU-hours for "
        f"${number(cost.dollars_cpu)}, ${number(cost.dollars_storage_month)} a month to keep."
    )


def _with_unit(value: float, unit: str) -> str:
    return f"${number(value)}" if unit == "$" else f"{number(value)} {unit}"


_PAGE = """\
<div class="hcs-planner" data-forms="%(forms)s">
<style>
.hcs-planner { color: inherit; font-size: 0.95em; max-width: 46rem; }
html[data-theme="dark"] .text_html:has(> .hcs-planner) { padding: 0 !important;
  background: transparent !important; color: var(--pst-color-text-base) !important; }
.hcs-planner fieldset { border: 1px solid #8886; border-radius: 4px; margin: 0 0 0.7rem;
  padding: 0.3rem 0.9rem 0.8rem; display: grid; gap: 0.5rem 1.4rem;
  grid-template-columns: repeat(auto-fit, minmax(min(100%%, 17rem), 1fr)); }
.hcs-planner legend { font-size: 1em; font-weight: 600; width: auto; padding: 0 0.4rem;
  margin: 0; float: none; }
.hcs-planner label { display: flex; justify-content: space-between; align-items: center;
  gap: 0.6rem; margin: 0; font-weight: 400; }
.hcs-planner .unit, .hcs-planner em { font-size: 0.85em; }
.hcs-planner input, .hcs-planner select { width: 8.2rem; flex: none; box-sizing: border-box;
  color: inherit; background: transparent; border: 1px solid currentColor; border-radius: 3px;
  padding: 0.2rem 0.4rem; font: inherit; height: 2.1rem; }
.hcs-planner select { width: 11.5rem; }
.hcs-planner select[name="bit_depth"] { width: 8.2rem; }
.hcs-planner option { color: #111; background: #fff; }
.hcs-planner :focus-visible { outline: 2px solid %(bar)s; outline-offset: 2px; }
.hcs-planner :invalid { border: 2px solid #C2410C; }
.hcs-planner summary { cursor: pointer; font-weight: 600; margin-bottom: 0.6rem; }
.hcs-planner .said { font-weight: 600; margin: 0.8rem 0; min-height: 1.5em; }
.hcs-planner table { display: table; width: 100%%; max-width: none; border-collapse: collapse;
  margin: 0 0 1rem; font-size: 1em; color: inherit; background: transparent; }
.hcs-planner caption { caption-side: top; text-align: left; color: inherit; padding: 0.2rem 0;
  font-weight: 600; }
.hcs-planner table tr:nth-child(n) { background: transparent; }
div.hcs-planner table th, div.hcs-planner table td { padding: 0.2rem 0.6rem 0.2rem 0; border: 0;
  color: inherit; border-bottom: 1px solid #8884; text-align: right; font-weight: 400;
  white-space: nowrap; vertical-align: middle; }
div.hcs-planner table th { text-align: left; width: 9rem; }
div.hcs-planner table td.bar { width: 50%%; padding-right: 0.8rem; }
.hcs-planner .tb, .hcs-planner .by { font-variant-numeric: tabular-nums; }
.hcs-planner svg { display: block; width: 100%%; height: 0.9rem; }
.hcs-planner rect { fill: %(bar)s; }
div.hcs-planner .results th { width: auto; }
@media (max-width: 36rem) { div.hcs-planner table.steps th { width: auto; }
  div.hcs-planner table td.bar { width: 26%%; } }
@media print { .hcs-planner tr { break-inside: avoid; }
  .hcs-planner rect { print-color-adjust: exact; -webkit-print-color-adjust: exact; } }
</style>
<fieldset><legend>Your screen</legend>
%(screen)s</fieldset>
<fieldset><legend>What you keep</legend>
%(kept)s</fieldset>
<details><summary>Rates and prices: set your own</summary>
<fieldset><legend>Rates and prices</legend>
%(rates)s</fieldset></details>
<p class="said" role="status">%(said)s</p>
<table class="steps"><caption>What each step leaves</caption><tbody>
%(steps)s</tbody></table>
<table class="results"><caption>What it takes</caption><tbody>
%(results)s</tbody></table>
<noscript>The tables answer the values above as they stand; other values need a script.</noscript>
<script>
%(script)s
</script>
</div>
"""

_SCRIPT = """\
(() => {
%(formula)s
const steps = %(steps)s;
const number = (x) => {
  if (x === 0) return "0";
  const digits = Math.min(20, Math.max(0, 2 - Number(x.toExponential(2).split("e")[1])));
  const [whole, rest] = x.toFixed(digits).split(".");
  return whole.replace(/\\B(?=(\\d{3})+$)/g, ",") + (rest ? "." + rest : "");
};
const unit = (x, name) => (name === "$" ? "$" + number(x) : number(x) + " " + name);
const refusal = (at, x) => {
  for (const [name, entry] of Object.entries(at)) {
    const label = entry.closest("label").firstElementChild.textContent.trim();
    if (!entry.checkValidity()) return label + ": " + entry.validationMessage;
  }
  if (x.fields_kept > x.fields) return "More fields kept than there are.";
  if (x.px_out > x.px_in) return "The crop is larger than the field.";
  return "";
};
const start = (root) => {
  root.dataset.live = "yes";
  const forms = JSON.parse(root.dataset.forms), at = {};
  for (const entry of root.querySelectorAll("input, select")) at[entry.name] = entry;
  const show = () => {
    const x = {};
    for (const [name, entry] of Object.entries(at)) x[name] = Number(entry.value);
    const wrong = refusal(at, x), cost = formula(x), said = root.querySelector(".said");
    steps.forEach((name, k) => {
      const row = root.querySelector(`[data-step="${name}"]`), tb = cost[name];
      const by = cost[steps[Math.max(0, k - 1)]] / tb, share = 100 * tb / cost.tb_in;
      row.querySelector("rect").setAttribute("width", (wrong ? 0 : share.toFixed(2)) + "%%");
      row.querySelector(".tb").textContent = wrong ? "–" : number(tb) + " TB";
      row.querySelector(".by").textContent = wrong ? "" : "÷ " + number(by);
    });
    for (const cell of root.querySelectorAll("[data-result]")) {
      const value = cost[cell.dataset.result];
      cell.dataset.value = wrong ? "" : value;
      cell.textContent = wrong ? "–" : unit(value, cell.dataset.unit);
    }
    said.textContent = wrong || `${number(cost.tb_in)} TB become ${number(cost.tb_out)} TB: `
      + `${number(cost.download_hours)} h to download, ${number(cost.cpu_hours)} CPU-hours for `
      + `$${number(cost.dollars_cpu)}, $${number(cost.dollars_storage_month)} a month to keep.`;
  };
  at.form.addEventListener("change", () => {
    [at.form_factor.value, at.write_mpx_per_sec.value] = forms[at.form.value];
    show();
  });
  root.addEventListener("input", show);
  show();
};
document.querySelectorAll(".hcs-planner:not([data-live])").forEach(start);
})();
"""
