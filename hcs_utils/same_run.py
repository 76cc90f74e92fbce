"""The metrics of a run that has its record already, so that it need not be run again."""

from collections.abc import Mapping

import numpy as np

from hcs_utils import files, records


def metrics(place: Mapping, parameters: Mapping, manifest_sha256: str) -> dict | None:
    """The metrics of the record at `place` where it is of this very run, else None.

    That is: the same parameters, manifest and versions of packages, and the commit that is checked
    out, with nothing changed since. `place` is what `records.record_path` takes beside the root.
    A metric is a number, or (value, low, high); NaN where the record has none.
    """
    path = records.record_path(records.results_root(), **place)
    record, now = files.read_json(path) or {}, records.git_revision()
    wanted = {
        "parameters": dict(parameters), "manifest_sha256": manifest_sha256,
        "versions": records.versions(), "git_revision": now,
    }  # fmt: skip
    if not now or now.endswith("+dirty") or any(record.get(k) != v for k, v in wanted.items()):
        return None
    found = {}
    for name, metric in record["metrics"].items():
        value, low, high = (np.nan if v is None else v for v in metric.values())
        found[name] = value if metric["low"] is None else (value, low, high)
    return found
