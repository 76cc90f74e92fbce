"""Preprocessing: a plan, one job a plate, and what joins them; the profile says where they run.

    snakemake --snakefile workflow/preprocess.smk --profile workflow/profiles/local \
        --config screen=my/screen.yaml out=my/out image_px=256 scale=plate

Killed, the same command finishes what is left. A plate that fails stops only itself, and `join`.
Settings, all with --config; those of the recipe as in hcs_utils/data/recipe.py:

screen         a screen.yaml, a manifest.parquet, simulated, or a public screen by its name
out            where the results go: images.zarr or images/, statistics, failures, a report
root           folder of the images; that of the screen.yaml, beside the manifest, or in $HCS_DATA
size           of the simulated screen: smoke, quick, standard, full
pixel_size_um  of the files; the screen's own
image_px       side of the stored square; 0, as cut
crop_px, scale, low, high, illumination, form, distance, treatment_fields, control_fields, seed
allow_missing  true: join without the plates of which nothing can be read
tidy           true: remove the plates' own stores once they are joined
"""

import difflib
import json
import os
import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError

JOB = str(Path(workflow.basedir) / "job.py")
PLACES = ("screen", "root", "out")
RECIPE = ("crop_px", "scale", "low", "high", "illumination", "form", "distance")
RECIPE += ("treatment_fields", "control_fields", "seed")
KEYS = (*PLACES, "size", "pixel_size_um", "image_px", *RECIPE, "allow_missing", "tidy")


def refuse_unknown():
    """Stop at a setting that does not exist, or that is lacking: nothing runs by default instead."""
    wrong = []
    for name in [name for name in config if name not in KEYS]:
        near = difflib.get_close_matches(name, KEYS, n=2, cutoff=0.6)
        wrong.append(f"Unknown setting {name}" + (f" (nearest: {', '.join(near)})" if near else ""))
    wrong += [f"{name} is not given" for name in ("screen", "out") if not config.get(name)]
    if wrong:
        raise WorkflowError("\n".join([*wrong, f"Settings: {', '.join(KEYS)}."]))


def absolute(name):
    """A path as given, from the folder where the command was started."""
    value = str(config[name])
    named = name == "screen" and not value.endswith((".yaml", ".yml", ".parquet"))
    return value if named else str(Path(value).resolve())


refuse_unknown()
out = absolute("out")
request = {name: config[name] for name in KEYS if name in config}
request |= {name: absolute(name) for name in PLACES if name in config}
flags = [name for name in ("allow_missing", "tidy") if str(request.pop(name, "")).lower() == "true"]
del request["out"]
planned = Path(out) / "request.json"
if planned.exists() and (there := json.loads(planned.read_text("utf-8"))) != request:
    told = [
        f"{name}: {there.get(name)!r} there, {request.get(name)!r} asked for"
        for name in {**there, **request}
        if there.get(name) != request.get(name)
    ]
    raise WorkflowError("\n".join([f"{out} was made with other settings. Choose another.", *told]))


workdir: out


localrules:
    all,


wildcard_constraints:
    plate="[A-Za-z0-9_-]+",


rule all:
    input:
        f"{out}/report.csv",


checkpoint plan:
    input:
        [request["screen"]] if os.path.isabs(request["screen"]) else [],
    output:
        f"{out}/request.json",
    params:
        out=out,
        request=json.dumps(request),
    log:
        f"{out}/logs/plan.log",
    threads: 2  # those that draw a simulated screen
    resources:
        mem_mb=4000,
        runtime=240,
    shell:
        "exec {sys.executable:q} {JOB:q} plan {params.out:q} {params.request:q} > {log:q} 2>&1"


rule plate:
    input:
        ancient(f"{out}/request.json"),
    output:
        f"{out}/plates/{{plate}}.json",
    params:
        out=out,
        flags=flags,
    log:
        f"{out}/logs/plate-{{plate}}.log",
    resources:
        mem_mb=2000,
        runtime=240,
    shell:
        "export OMP_NUM_THREADS={threads} OPENBLAS_NUM_THREADS={threads};"
        " exec {sys.executable:q} {JOB:q} plate {params.out:q} {wildcards.plate} {params.flags}"
        " > {log:q} 2>&1"


def plates(_):
    """What `join` waits for: a file of each plate that the plan names."""
    checkpoints.plan.get()
    entries = json.loads((Path(out) / "plan.json").read_text("utf-8"))["plates"]
    return [f"{out}/plates/{entry['folder']}.json" for entry in entries]


rule join:
    input:
        plates,
    output:
        f"{out}/report.csv",
    params:
        out=out,
        flags=flags,
    log:
        f"{out}/logs/join.log",
    resources:
        mem_mb=4000,
        runtime=240,
    shell:
        "exec {sys.executable:q} {JOB:q} join {params.out:q} {params.flags} > {log:q} 2>&1"
