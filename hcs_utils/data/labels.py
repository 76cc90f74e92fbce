"""Labels given by people, one line each, on the disk the moment they are given."""

import csv
import getpass
import io
import os
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd

from hcs_utils import files
from hcs_utils.data.manifest import nearest
from hcs_utils.errors import InputError

NORMAL, ABNORMAL = "normal", "abnormal"
LABELS = (NORMAL, ABNORMAL)
WITHDRAWN = "withdrawn"  # takes back all that was said of a site before
COLUMNS = ("site_id", "label", "when", "who")


class LabelFile:
    """An append-only CSV of answers: `site_id`, `label`, `when` (UTC), `who`.

    Each answer is flushed and synced to the disk before the call returns, so that it survives
    whatever happens to this process. Nothing is overwritten: who changes their mind withdraws.
    A last line that a crash cut short never was an answer: it is told in `told` and left out, and
    the next answer takes its place.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self.told: list[str] = []
        self._read()

    def answer(self, site_id: str, label: str, who: str = "") -> None:
        """Write one answer, "normal" or "abnormal"; on return it is on the disk."""
        if label not in LABELS:
            raise InputError(f"{label!r} is no label{nearest(str(label), LABELS)}: say "
                             f"{NORMAL!r} or {ABNORMAL!r}.")  # fmt: skip
        self._append(site_id, label, who)

    def withdraw(self, site_id: str, who: str = "") -> None:
        """Take back every answer about a site; the lines stay, and a line says so."""
        if site_id not in set(self.history()["site_id"]):
            raise InputError(f"No answer about {site_id!r} is in {self.path} to be taken back.")
        self._append(site_id, WITHDRAWN, who)

    def settle(self, site_id: str, label: str, who: str = "") -> None:
        """Answer anew: what was said of the site before is withdrawn."""
        if label not in LABELS:
            self.answer(site_id, label)
        self.withdraw(site_id, who)
        self.answer(site_id, label, who)

    def history(self) -> pd.DataFrame:
        """Every line, oldest first, with `COLUMNS`; the file is read again at each call."""
        return pd.DataFrame(self._read(), columns=list(COLUMNS), dtype=str)

    def standing(self) -> pd.DataFrame:
        """The answers that have not been withdrawn, contradictions and repetitions among them."""
        lines = self.history()
        taken_back = lines["label"].eq(WITHDRAWN)
        last = lines.index.to_series().where(taken_back).groupby(lines["site_id"]).transform("max")
        return lines[~taken_back & ~(lines.index < last.fillna(-1))].reset_index(drop=True)

    def table(self) -> pd.DataFrame:
        """The label of each site that has one, in the order of the first answers.

        A site answered twice alike counts once; one answered both ways has no label until it is
        settled (`contradictions`).
        """
        answers = self.standing()
        both = answers.groupby("site_id")["label"].transform("nunique") > 1
        return answers[~both].drop_duplicates("site_id").reset_index(drop=True)

    def contradictions(self) -> pd.DataFrame:
        """The answers about each site that was called normal and abnormal, side by side."""
        answers = self.standing()
        both = answers.groupby("site_id")["label"].transform("nunique") > 1
        return answers[both].sort_values("site_id", kind="stable").reset_index(drop=True)

    def duplicates(self) -> pd.DataFrame:
        """The answers about each site that was answered more than once, always alike."""
        answers = self.standing()
        by_site = answers.groupby("site_id")["label"]
        alike = (by_site.transform("nunique") == 1) & (by_site.transform("size") > 1)
        return answers[alike].sort_values("site_id", kind="stable").reset_index(drop=True)

    def _append(self, site_id: str, label: str, who: str) -> None:
        line = [site_id, label, datetime.now(UTC).isoformat(timespec="milliseconds"), who or _who()]
        if not site_id or any(mark in text for text in line for mark in "\r\n\0"):
            raise InputError(f"{site_id!r} cannot be written as the name of a site: one line each.")
        with files.storage_errors(self.path), files.locked(self.path.parent):
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644)
            try:
                whole = _whole(os.pread(descriptor, os.fstat(descriptor).st_size, 0))
                os.ftruncate(descriptor, whole)  # what a crash cut short
                lines = [line] if whole else [list(COLUMNS), line]
                _write(descriptor, "".join(map(_csv, lines)).encode(), whole)
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            if not whole:
                _sync_folder(self.path.parent)

    def _read(self) -> list[list[str]]:
        self.told = []
        content = self.path.read_bytes() if self.path.exists() else b""
        whole = _whole(content)
        if whole < len(content):
            cut = content[whole:].decode("utf-8", "replace")
            self.told.append(f"The last line of {self.path} was cut short and is left out: {cut!r}")
        try:
            lines = list(csv.reader(io.StringIO(content[:whole].decode("utf-8"), newline="")))
        except (UnicodeDecodeError, csv.Error) as error:
            raise InputError(f"{self.path} is no table of labels: {error}.") from error
        if lines and lines[0] != list(COLUMNS):
            raise InputError(
                f"{self.path} is no table of labels: its first line must be {','.join(COLUMNS)}. "
                "Choose another folder, or move that file away."
            )
        for number, line in enumerate(lines[1:], 2):
            if len(line) != len(COLUMNS) or line[1] not in (*LABELS, WITHDRAWN):
                raise InputError(
                    f"{self.path}, line {number}, is no answer: {','.join(line)!r}. Write "
                    f"{','.join(COLUMNS)} with the label {NORMAL} or {ABNORMAL}, or delete it."
                )
        return lines[1:]


def _whole(content: bytes) -> int:
    """Bytes up to the end of the last finished line."""
    return content.rfind(b"\n") + 1


def _csv(line: list[str]) -> str:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerow(line)
    return text.getvalue()


def _write(descriptor: int, content: bytes, at: int) -> None:
    while content:
        done = os.pwrite(descriptor, content, at)
        content, at = content[done:], at + done


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError:  # some network disks cannot
        pass
    finally:
        os.close(descriptor)


def _who() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):
        return ""
