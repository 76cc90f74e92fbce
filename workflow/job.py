"""One job of a workflow: of the grid, or of preprocessing; it ends when its parent does.

A workflow that is killed must leave no job behind that works on the same files as its successor.
On a cluster the parent is the scheduler's own step on that machine: the job ends with it, not
with the command that submitted it.

    job.py prepare SCREEN SIZE IMAGE_PX        the grid: a screen in its store
    job.py cdcl OUTPUT PRESET NAME=VALUE …     the grid: notebook 22
    job.py crossmodal OUTPUT PRESET NAME=VALUE …  notebook 32
    job.py qc OUTPUT PRESET NAME=VALUE …       notebook 12
    job.py crops PRESET NAME=VALUE …           the grid: crops of notebook 12, cut before its runs
    job.py plan OUT REQUEST                    preprocessing: its plan, from settings as JSON
    job.py plate OUT FOLDER [allow_missing]    preprocessing: one plate
    job.py join OUT [allow_missing] [tidy]     preprocessing: all plates
"""

import json
import os
import sys
import threading
import time
from functools import partial
from pathlib import Path

from hcs_utils import files
from hcs_utils.errors import InputError

NOTEBOOKS = {
    "cdcl": "notebooks/22_cdcl_run.ipynb",
    "crossmodal": "notebooks/32_crossmodal_run.ipynb",
    "qc": "notebooks/12_qc_run.ipynb",
}


def follow_parent(every_sec: float = 1.0) -> None:
    """End this process as soon as the one that started it is gone."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(every_sec)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


# The grid


def prepare(screen: str, size: str, image_px: str) -> None:
    from hcs_utils import experiments

    print(experiments.prepare(screen, size, int(image_px)).store.path)


def crops(preset: str, *pairs: str) -> None:
    from hcs_utils import qc_assemble, qc_settings, runs

    given = runs.preset(preset) | runs.parsed(list(pairs))
    print(qc_assemble.ready(qc_settings.from_parameters(given)).crops.store.path)


def run(experiment: str, output: str, preset: str, *pairs: str) -> None:
    import yaml

    from hcs_utils import runs

    given = dict(pair.split("=", 1) for pair in pairs)
    parameters = {name: yaml.safe_load(value) for name, value in given.items()}
    try:
        print(runs.execute(NOTEBOOKS[experiment], output, parameters, preset, progress=False))
    except runs.NotebookError as error:
        sys.exit(f"Error: {error}")


# Preprocessing


def plan(out: str, request: str) -> None:
    """The plan of what `request` asks for; `out/request.json` then tells that it stands."""
    from hcs_utils.data import plates

    asked = json.loads(request)
    table, root, um = screen(asked["screen"], asked.get("root"), asked.get("size"))
    recipe = {name: value for name, value in asked.items() if name not in NOT_RECIPE}
    if "image_px" in asked:
        recipe["size"] = asked["image_px"]
    um = asked.get("pixel_size_um", um)
    plates.plan(table, root, out, plates.Recipe(**recipe), pixel_size_um=um)
    planned = plates.read_plan(out)["plates"]
    print(f"{len(planned)} plates, {sum(entry['sites'] for entry in planned)} fields")
    files.write_json(Path(out) / "request.json", asked)


NOT_RECIPE = ("screen", "root", "size", "image_px", "pixel_size_um")


def screen(name: str, root: str | None, size: str | None):
    """Manifest, root and pixel size (µm) of a screen by its name, screen.yaml or manifest."""
    from hcs_utils.data import manifest as manifests
    from hcs_utils.data.screens import own, public, simulated

    if name.endswith(".parquet"):
        table = manifests.read(name)
        root = root or table.attrs.get("root") or str(Path(name).parent)
    elif name.endswith((".yaml", ".yml")):
        table = own.from_yaml(name)
        root = root or table.attrs["root"]
    elif name == "simulated":
        config = simulated.SIZES.get(size or "quick")
        if config is None:
            near = manifests.nearest(str(size), list(simulated.SIZES))
            known = ", ".join(simulated.SIZES)
            raise InputError(
                f"There is no simulated screen of size {size!r}{near}; there are {known}. "
                "The side of the stored images, in pixels, is image_px."
            )
        root = root or str(simulated.home(size or "quick"))
        simulated.draw(root, config)
        table = simulated.manifest(root)
        table.attrs["pixel_size_um"] = simulated.PIXEL_SIZE_UM
    elif name in public.NAMES:
        root = root or str(files.data_root() / name)
        table = public.fetched(name, root)
    else:
        near = manifests.nearest(name, ["simulated", *public.NAMES])
        raise InputError(
            f"screen is {name!r}{near}; give the path of a screen.yaml or of a manifest "
            f"(.parquet), or one of simulated, {', '.join(public.NAMES)}."
        )
    return table, root, table.attrs.get("pixel_size_um")


def plate(out: str, folder: str, *words: str) -> None:
    from hcs_utils.data import plates

    planned = {entry["folder"]: entry["plate"] for entry in plates.read_plan(out)["plates"]}
    report = plates.run_plate(out, planned[folder], allow_missing="allow_missing" in words)
    print(f"{report.done} fields done, {report.skipped} were, {len(report.failed)} failed")
    for site, why in report.failed[:20]:
        print(f"    {site}: {why}")


def join(out: str, *words: str) -> None:
    from hcs_utils.data import plates

    flags = {name: name in words for name in ("allow_missing", "tidy")}
    print(plates.join(out, **flags))


def main(command: str, *arguments: str) -> int:
    os.environ["JUPYTER_PREFER_ENV_PATH"] = "1"
    follow_parent()
    jobs = {"prepare": prepare, "crops": crops, "plan": plan, "plate": plate, "join": join}
    jobs |= {name: partial(run, name) for name in NOTEBOOKS}
    try:
        jobs[command](*arguments)
    except InputError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
