"""A run of notebook 22, 32 or 12 without the notebook: on one device, or several by ``torchrun``.

    python workflow/train.py -f workflow/presets/full.yaml -p method cdcl
    torchrun --nproc-per-node 4 workflow/train.py -f workflow/presets/full.yaml -p method cdcl
    torchrun --nproc-per-node 4 workflow/train.py --crossmodal \
        -f workflow/presets/full.yaml -p crossmodal_method emm
    python workflow/train.py --qc -f workflow/presets/standard.yaml -p qc_method simclr -p seed 1

Parameters are given as to papermill, and misspelt ones refused. The first process prepares the
screen, writes the checkpoints, embeds, judges and saves the record; the others share the training.
Killed, the same command goes on where it was.
"""

import argparse
import dataclasses
import os
import sys

from hcs_utils import (
    crossmodal,
    crossmodal_settings,
    experiments,
    qc,
    qc_assemble,
    qc_settings,
    runs,
)
from hcs_utils.errors import InputError
from hcs_utils.learning import ranks
from job import follow_parent

CROSSMODAL = ("m2i_hr1", "m2i_hr10", "m2i_mrr", "i2m_mrr")
Settings = experiments.Settings | crossmodal.CrossmodalSettings | qc.QCSettings


def asked(words: list[str] | None = None) -> Settings:
    """Settings from the command line: those of a file, then those of ``-p``."""
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("-f", "--parameters_file", help="YAML, such as workflow/presets/full.yaml")
    parser.add_argument(
        "-p", "--parameters", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"),
        help="goes before the file; as often as needed",
    )  # fmt: skip
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument("--crossmodal", action="store_true", help="notebook 32, not 22")
    kind.add_argument("--qc", action="store_true", help="notebook 12, not 22")
    given = parser.parse_args(words)
    known = {field.name for field in dataclasses.fields(experiments.Settings)}
    module = crossmodal_settings if given.crossmodal else qc_settings if given.qc else None
    if module:
        known = set(module.parameters())
    chosen = runs.parsed([f"{name}={value}" for name, value in given.parameters])
    runs.refuse(chosen, known)
    if given.parameters_file:
        settings = runs.read_settings(given.parameters_file)
        others = set().union(*(runs.read_settings(path) for path in runs.presets().values()))
        runs.refuse(set(settings) - others, known)  # a preset serves other notebooks, too
        chosen = {name: value for name, value in settings.items() if name in known} | chosen
    if module:
        return module.from_parameters(chosen)
    return experiments.Settings(**chosen)


def train(settings: Settings) -> None:
    if ranks.count() > 1:
        follow_parent()  # torchrun killed: nothing is left that writes to the same run
    if isinstance(settings, qc.QCSettings):
        return quality_control(settings)
    place = (settings.screen, settings.size, settings.image_px)
    if ranks.this() == 0:
        experiments.prepare(*place, progress=True)
    ranks.wait()
    screen = experiments.prepare(*place)
    other = isinstance(settings, crossmodal.CrossmodalSettings)
    module = crossmodal if other else experiments
    if ranks.this():
        return module.assist(settings, screen)
    result = module.run(settings, screen)
    for name in CROSSMODAL if other else ("knn", "knn_znorm", "chance"):
        if name not in result.metrics:  # a pool of fewer than ten has no HR@10
            continue
        value, *interval = result.metrics[name] if name != "chance" else [result.metrics[name]]
        spread = " ({:.3f} to {:.3f})".format(*interval) if interval else ""
        print(f"{name:<10} {value:.3f}{spread}")
    print(result.record)


def quality_control(settings: qc.QCSettings) -> None:
    if ranks.this() == 0:
        qc_assemble.ready(settings, progress=True)
    ranks.wait()
    of = qc_assemble.ready(settings)
    if ranks.this():
        return qc.assist(settings, of)
    result, most = qc.run(settings, True, of), settings.label_budgets[0]
    for task in ("knn", "linear", "logistic", "finetuned"):
        for name in (f"{task}_accuracy_{most}", f"shift_{task}_accuracy_{most}"):
            if name in result.metrics:
                print("{:<34} {:.3f} ({:.3f} to {:.3f})".format(name, *result.metrics[name]))
    print(result.record)


def main() -> int:
    rank = int(os.environ.get("RANK", 0))
    try:
        settings = asked()
    except InputError as error:  # the same in all processes
        return _told(error) if rank == 0 else 2
    try:
        with ranks.joined():
            train(settings)
    except InputError as error:
        return _told(error, f" in process {rank}" if rank else "")
    return 0


def _told(error: InputError, where: str = "") -> int:
    print(f"Error{where}: {error}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
