"""Checks that a run replaces no file that no run has written."""

import os
from pathlib import Path

from noctile.pipeline.errors import StoreError, UsageError
from noctile.workflows.results.files import read_json, read_whole_json
from noctile.workflows.results.layout import ResultsFolder


def check_free(results: ResultsFolder) -> None:
    """Check that a run in a folder replaces no file that no run has written.

    Raises:
        UsageError: if it would replace one.
        OSError: if the folder cannot be read.
    """
    check_links(results)
    if _is_ledger(results.ledger) or results.planned.is_dir() or _has_record(results.runs):
        _check_regions(results)
        return
    foreign = [path.name for path in _tables(results) if path.exists()]
    foreign += [results.review_csv.name] if results.review_csv.exists() else []
    own = (results.slides, results.staging, results.runs, results.index_files, results.review)
    folders = (folder for folder in own if folder.is_dir() and any(folder.iterdir()))
    foreign += [f"a folder {folder.name} that is not empty" for folder in folders]
    if foreign:
        raise UsageError(
            f"--out {results.path} holds {', '.join(foreign)}, and no run of noctile has been "
            "there: it would overwrite files that noctile did not write. Choose another --out, or "
            "move them away"
        )


def _check_regions(results: ResultsFolder) -> None:
    """Check that tables of regions are those that ``columns.json`` describes.

    A run writes them only if a slide has regions, after ``columns.json``.

    Raises:
        UsageError: if they are not.
    """
    tables = (results.regions_csv, results.regions_parquet)
    foreign = [path.name for path in tables if path.exists()]
    if foreign and "regions" not in (read_whole_json(results.columns_json) or {}):
        raise UsageError(
            f"--out {results.path} holds {' and '.join(foreign)}, which noctile did not write and "
            "would overwrite: columns.json describes no regions. Choose another --out, or move "
            f"{'it' if len(foreign) == 1 else 'them'} away"
        )


def check_holds_results(results: ResultsFolder, name: Path) -> None:
    """Check that a run has written to a folder.

    Args:
        results: the folder.
        name: its path as the user typed it.

    Raises:
        UsageError: if it holds no results.
    """
    if not (results.ledger.is_file() or results.slides.is_dir()):
        raise UsageError(f"{name} holds no results of noctile: no ledger.jsonl, no folder 'slides'")


def check_manifest(manifest: Path | None, out: Path) -> None:
    """Check that the manifest is not one of the files that a run writes.

    Raises:
        UsageError: if it is.
    """
    tables = _tables(ResultsFolder(out))
    if manifest and any(path.exists() and path.samefile(manifest) for path in tables):
        raise UsageError(
            f"manifest {manifest} is a file that the run writes, and would be overwritten; rename "
            "it, or choose another --out"
        )


def _tables(results: ResultsFolder) -> tuple[Path, ...]:
    """Files that a run writes beside the folders of its slides."""
    return (
        results.ledger,
        results.plan_table,
        results.cohort_csv,
        results.cohort_parquet,
        results.columns_json,
        results.regions_csv,
        results.regions_parquet,
        results.index,
    )


def _is_ledger(path: Path) -> bool:
    """Tell if a file begins as a ledger does, or as one that was cut short by a crash."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        head = file.read(8)
    return head.startswith((b'{"time":', b"\0")) or not head


def _has_record(runs: Path) -> bool:
    """Tell if a folder holds the record of a run, whose ledger may be lost."""
    try:
        records = (read_json(path) or {} for path in runs.glob("*.json"))
        return any({"settings", "model", "versions"} <= record.keys() for record in records)
    except StoreError:
        return False


def check_links(results: ResultsFolder) -> None:
    """Check that no folder that a run makes is a link, which may lead out of the results.

    Raises:
        UsageError: if one is.
        OSError: if a folder cannot be read.
    """
    made = (results.slides, results.staging, results.planned)
    folders = (*made, results.runs, results.path / "failures", results.review)
    links = [folder for folder in folders if folder.is_symlink()]
    for folder in made:
        if not links and folder.is_dir():
            with os.scandir(folder) as entries:
                links += [Path(entry.path) for entry in entries if entry.is_symlink()]
    if links:
        raise UsageError(
            f"{links[0]} is a link, which no run makes; a run would write where it leads. Delete "
            "it, or replace it by the folder itself"
        )
