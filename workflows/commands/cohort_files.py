"""Folder of a cohort, in which only the command's own, unchanged files are replaced."""

import hashlib
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final

from noctile.pipeline.errors import StoreError, UsageError
from noctile.pipeline.models.folder import sha256_of
from noctile.workflows.results.files import read_json, write_json, write_together

RECORD: Final = "cohort.json"
"""Name of the record, which tells the folder from others and has the sha256 of each file."""

_OWN_FOLDERS: Final = frozenset(
    ("slides", "runs", "failures", "exports", "review", "index_files", "audit")
)
"""Folders that other commands write in a folder of results."""


class CohortFolder:
    """Folder that ``noctile cohort`` writes.

    Args:
        out: the folder.
        results: folder of results that the cohort is made of.

    Raises:
        UsageError: if the folder cannot be used: it lies where Noctile keeps results, or holds
            files of others, or the cohort of other results.
    """

    def __init__(self, out: Path, results: Path) -> None:
        self._out, self._typed = out.resolve(), out
        self._results = results.resolve()
        self._check_place()
        try:
            there = next(path for path in (self._out, *self._out.parents) if path.exists())
            if not there.is_dir():
                raise UsageError(f"--out {out}: {there} is a file; choose a folder")
            filled = self._out.is_dir() and any(self._out.iterdir())
            self._record: dict[str, Any] = read_json(self._out / RECORD) or {}
        except OSError as error:
            raise UsageError(f"--out {out} cannot be used: {error}") from error
        except StoreError as error:
            raise UsageError(
                f"--out {out}: its {RECORD}, which tells files of noctile cohort from yours, "
                "cannot be read; choose another --out"
            ) from error
        if filled and not self._record:
            raise UsageError(
                f"--out {out} holds files that noctile cohort did not write; choose a new or an "
                "empty folder"
            )
        if self._record and self._record.get("results") != str(self._results):
            raise UsageError(f"--out {out} holds the cohort of other results; choose another --out")

    def _check_place(self) -> None:
        if self._results.is_relative_to(self._out):
            raise UsageError(
                f"--out {self._typed} holds the results themselves; choose a folder of its own"
            )
        if self._out.is_relative_to(self._results):
            first = self._out.relative_to(self._results).parts[0]
            if first in _OWN_FOLDERS or first.startswith("."):
                raise UsageError(
                    f"--out {self._typed} lies in {first}, where noctile keeps its results; choose "
                    f"another folder, such as {self._results / 'cohort'}"
                )

    def write(self, files: Mapping[str, bytes], about: Mapping[str, Any]) -> None:
        """Write files, and remove those of an earlier call that are not made any more.

        Args:
            files: content of each file, by its path in the folder.
            about: values of the record.

        Raises:
            UsageError: if a file in the way was changed, or is not the command's own.
            StoreError: if the file system refuses.
        """
        hashes = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
        before = self._known()
        self._check_unchanged(hashes, before)
        both = {n: sorted({hashes[n], *before.get(n, ())}) for n in hashes}
        left = {n: sorted(known) for n, known in before.items() if n not in hashes}
        record = {"results": str(self._results), **about}
        # both states stand in the record while files are replaced, so that a kill locks no one out
        write_json(self._out / RECORD, {**record, "files": {**left, **both}})
        paths = {self._out / n: partial(_write, content=c) for n, c in files.items()}
        write_together(paths)
        for name in left:
            (self._out / name).unlink(missing_ok=True)
        write_json(self._out / RECORD, {**record, "files": {n: [h] for n, h in hashes.items()}})

    def _known(self) -> dict[str, set[str]]:
        """Hashes of the files of earlier calls that stand as they were written."""
        files = self._record.get("files")
        listed = files if isinstance(files, dict) else {}
        known = {n: set(map(str, v)) for n, v in listed.items() if isinstance(v, list)}
        inside = {n: v for n, v in known.items() if (self._out / n).is_relative_to(self._out)}
        return {
            n: v for n, v in inside.items() if ".." not in Path(n).parts and self._sha256(n) in v
        }

    def _check_unchanged(self, hashes: Mapping[str, str], known: Mapping[str, set[str]]) -> None:
        for name, sha256 in hashes.items():
            found = self._sha256(name)
            if found and name not in known and found != sha256:
                raise UsageError(
                    f"{self._typed / name} was changed, or noctile cohort did not write it; move "
                    "it away, or choose another --out"
                )

    def _sha256(self, name: str) -> str:
        """The sha256 of a file; "" if there is none, "other" if it is no file."""
        path = self._out / name
        if not path.exists() and not path.is_symlink():
            return ""
        if path.is_symlink() or not path.is_file():
            return "other"
        try:
            return sha256_of(path)
        except OSError as error:
            raise UsageError(f"{path} cannot be read: {error}") from error


def _write(path: Path, content: bytes) -> None:
    path.write_bytes(content)
