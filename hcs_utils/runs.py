"""Running notebooks: presets, parameters checked by name, papermill; records are in `records`."""

import ast
import difflib
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from hcs_utils import files
from hcs_utils.errors import InputError
from hcs_utils.records import (
    git_revision,
    load_records,
    results_root,
    save_record,
    summary,
    verdict,
)

__all__ = [
    "NotebookError",
    "execute",
    "git_revision",
    "load_records",
    "preset",
    "presets",
    "read_settings",
    "refuse_unknown",
    "results_root",
    "save_record",
    "summary",
    "verdict",
]


class NotebookError(RuntimeError):
    """A notebook stopped at an error that is not the user's input."""


def presets() -> dict[str, Path]:
    """The presets of this checkout: name -> YAML file."""
    root = files.checkout()
    if root is None:
        raise InputError(
            "Presets are part of the project's checkout (workflow/presets); run from inside it."
        )
    return {path.stem: path for path in sorted((root / "workflow" / "presets").glob("*.yaml"))}


def preset(name: str) -> dict:
    """The settings of a preset, for all notebooks together; each takes those it knows."""
    return _settings(name)


def _settings(name: str) -> dict:
    known = presets()
    if name not in known:
        raise InputError(_unknown("preset", name, known))
    return read_settings(known[name])


def read_settings(path: str | Path) -> dict:
    """A YAML file of names and values."""
    import yaml

    try:
        settings = yaml.safe_load(Path(path).read_text("utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(f"Cannot read {path}: {error}") from error
    if settings is not None and not isinstance(settings, dict):
        raise InputError(f"{path} must hold lines `name: value`, found {type(settings).__name__}.")
    return settings or {}


# Parameters of notebooks


def refuse_unknown(namespace: Mapping) -> None:
    """Stop a notebook that was given a parameter it does not have; call it with `globals()`.

    papermill injects a cell that begins with the line `# Parameters`, and only warns of names
    that no earlier cell assigns, so a misspelt one would silently run the default. Names that any
    preset holds are let through. The notebook's own cell must not begin with that line.
    """
    cells = [str(source) for source in namespace.get("In", [])]
    injected = [i for i, source in enumerate(cells) if source.lstrip().startswith("# Parameters\n")]
    if not injected:
        return
    known = set().union(*(_assigned(source) for source in cells[: injected[-1]]))
    unknown = _assigned(cells[injected[-1]]) - known
    if unknown and files.checkout() is not None:
        unknown -= set().union(*(read_settings(path) for path in presets().values()))
    refuse(unknown, known)


def refuse(names: Iterable[str], known: Iterable[str]) -> None:
    """Stop at parameters that are not among the known ones, each with the nearest names."""
    known = set(known)
    if unknown := sorted(set(names) - known):
        raise InputError("\n".join(_unknown("parameter", name, known) for name in unknown))


def execute(
    notebook: str | Path,
    output: str | Path,
    parameters: Mapping | None = None,
    preset: str | None = None,
    progress: bool = True,
) -> Path:
    """Run a notebook with papermill and write it, executed, to `output`: whole or not at all.

    `parameters` the notebook does not have are refused with the nearest names before anything
    runs. Of a preset it takes the settings that it has; `parameters` go before them.

    Raises `InputError` with the notebook's own message where the user's input was at fault, else
    `NotebookError`; then the notebook as far as it came lies beside `output` as `*.failed.ipynb`.
    """
    import papermill

    notebook, output = Path(notebook), Path(output)
    if notebook.suffix != ".ipynb" or not notebook.is_file():
        raise InputError(
            f"{notebook} is no notebook (.ipynb); `make pair` makes them from .py files."
        )
    known = set(papermill.inspect_notebook(str(notebook)))
    chosen = dict(parameters or {})
    refuse(chosen, known)
    if preset is not None:
        settings = {"preset": preset, **_settings(preset)}
        chosen = {name: value for name, value in settings.items() if name in known} | chosen
    with files.replacing(output) as temporary:
        part = temporary.with_name(temporary.name + ".ipynb")  # papermill wants the suffix
        try:
            papermill.execute_notebook(
                str(notebook), str(part), chosen, progress_bar=progress,
                request_save_on_cell_execute=False,
            )  # fmt: skip
            os.replace(part, temporary)
        except papermill.PapermillExecutionError as error:
            raise _told(error, part, output) from None
        finally:
            part.unlink(missing_ok=True)
    return output


def _told(error: Exception, part: Path, output: Path) -> Exception:
    if error.ename == "InputError":
        return InputError(error.evalue)
    failed = output.with_suffix(".failed.ipynb")
    os.replace(part, failed)
    return NotebookError(
        f"Cell {error.exec_count} stopped with {error.ename}: {error.evalue}\n"
        f"The notebook as far as it came: {failed}"
    )


def _assigned(source: str) -> set[str]:
    """Names that a cell assigns at its top level; none for a cell that is not plain Python."""
    try:
        body = ast.parse(source).body
    except SyntaxError:  # magics
        return set()
    targets = [t for node in body if isinstance(node, ast.Assign) for t in node.targets]
    targets += [node.target for node in body if isinstance(node, ast.AnnAssign)]
    found = [name for target in targets for name in ast.walk(target)]
    return {name.id for name in found if isinstance(name, ast.Name)}


def _unknown(kind: str, name: str, known: Iterable[str]) -> str:
    known = sorted(known)
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    if near:
        return f"Unknown {kind} {name!r}; did you mean {' or '.join(near)}?"
    return f"Unknown {kind} {name!r}; there are: {', '.join(known) or 'none'}."


def parsed(pairs: list[str]) -> dict:
    """Parameters given as NAME=VALUE, each value in the type that its text has."""
    parameters = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name.isidentifier():
            raise InputError(f"--param takes NAME=VALUE, got {pair!r}.")
        parameters[name] = _value(name, value)
    return parameters


def _value(name: str, text: str) -> object:
    """A number, true, false, none, or a [list] where the text is one; else the text."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    if text.lower() in ("true", "false", "none"):
        return {"true": True, "false": False, "none": None}[text.lower()]
    if not text.startswith(("[", "{")):
        return text
    import yaml

    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise InputError(f"--param {name}: {text!r} cannot be read ({error}).") from error
