"""One job of the grid: prepare a screen, or run notebook 22; it ends when its parent does.

A grid that is killed must leave no run behind that works on the same files as its successor.
"""

import os
import sys
import threading
import time

from hcs_utils.errors import InputError

NOTEBOOK = "notebooks/22_cdcl_run.ipynb"


def follow_parent(every_sec: float = 1.0) -> None:
    """End this process as soon as the one that started it is gone."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(every_sec)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def prepare(screen: str, size: str, image_px: str) -> None:
    from hcs_utils import experiments

    print(experiments.prepare(screen, size, int(image_px)).store.path)


def run(output: str, preset: str, *pairs: str) -> None:
    import yaml

    from hcs_utils import runs

    given = dict(pair.split("=", 1) for pair in pairs)
    parameters = {name: yaml.safe_load(value) for name, value in given.items()}
    print(runs.execute(NOTEBOOK, output, parameters, preset, progress=False))


def main(command: str, *arguments: str) -> int:
    from hcs_utils.runs import NotebookError

    os.environ["JUPYTER_PREFER_ENV_PATH"] = "1"
    follow_parent()
    try:
        {"prepare": prepare, "run": run}[command](*arguments)
    except (InputError, NotebookError) as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
