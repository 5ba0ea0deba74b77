"""Staged results: a slide is made in ``.staging/`` and moves to ``slides/`` when it is complete."""

import shutil
from collections.abc import Callable
from contextlib import ExitStack, closing, suppress
from pathlib import Path

from noctile.pipeline.errors import StoreError, UsageError
from noctile.workflows.results.checksums import slide_fault
from noctile.workflows.results.durable import sync_folder
from noctile.workflows.results.files import is_temporary, sweep
from noctile.workflows.results.layout import ResultsFolder, SlideFolder
from noctile.workflows.results.lease import Lease
from noctile.workflows.results.shared_files import locked


def clear(folder: SlideFolder) -> None:
    """Remove every file that Noctile wrote in a slide's folder, the summary first.

    Files of the user stay. Of a link, the link is removed, and nothing where it leads.
    """
    files = (folder.plan, folder.tissue, folder.block_stats_file, folder.preview, folder.tiles)
    trees = (folder.mask, folder.heat, folder.blocks)
    for path in (folder.summary, folder.checksums, *files, folder.roi, folder.failure, *trees):
        _delete(path)


def _delete(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def remove(folder: SlideFolder) -> None:
    """Remove every file that Noctile wrote in a slide's folder, and the folder if it is empty then.

    Raises:
        OSError: if the file system refuses.
    """
    if not folder.path.is_dir():
        return
    clear(folder)
    sweep(folder.path)
    with suppress(OSError):  # a file of the user is in it
        folder.path.rmdir()


def settle(folder: SlideFolder) -> None:
    """Remove the result that a new one has replaced; files of the user move over first.

    Raises:
        OSError: if the file system refuses.
    """
    if folder.replaced.is_symlink() or not folder.replaced.is_dir():
        return
    clear(SlideFolder(folder.replaced))
    for path in sorted(folder.replaced.iterdir()):
        if not is_temporary(path) and not (folder.path / path.name).exists():
            path.replace(folder.path / path.name)
    remove(SlideFolder(folder.replaced))


def promote(staged: SlideFolder, final: SlideFolder) -> None:
    """Move a complete result to its final folder; the result that was there is removed last.

    The old result moves into the new one, the new one moves to the final folder, and the old one is
    removed. A kill or a power cut between two of these steps loses neither: `heal` or `settle` does
    the rest. The new result is on the disk, under its final name, before the old one is removed.

    Args:
        staged: folder of the new result.
        final: folder to which it moves.

    Raises:
        StoreError: if the file system refuses.
    """
    try:
        sync_folder(staged.path)
        if final.path.exists():
            settle(final)
            final.path.replace(staged.replaced)
        final.path.parent.mkdir(exist_ok=True)
        staged.path.replace(final.path)
        for folder in (final.path, final.path.parent, staged.path.parent):
            sync_folder(folder)
        settle(final)
    except OSError as error:
        raise StoreError(
            f"{staged.path} cannot be moved to {final.path}: {error.strerror or error}; fix its "
            "folder and run again"
        ) from error


def heal(results: ResultsFolder) -> None:
    """Finish every promotion that a kill or a power cut interrupted.

    No process may be writing to the folder.

    Raises:
        StoreError: if the file system refuses a promotion.
        OSError: if it refuses anything else.
    """
    for path in sorted(results.staging.glob("*")):
        staged, final = SlideFolder(path), results.slide(path.name)
        if slide_fault(staged) is None:
            promote(staged, final)
        elif staged.replaced.is_dir() and not final.path.exists():
            staged.replaced.replace(final.path)


def clean_up(results: ResultsFolder, slide_id: str) -> None:
    """Remove what a slide that is done needs no more.

    These are reports of its failures, files of killed writers, the result that it has replaced, and
    its staging folder.

    Raises:
        OSError: if the file system refuses.
    """
    folder = results.slide(slide_id)
    for path in (folder.failure, results.failure_report(slide_id)):
        path.unlink(missing_ok=True)
    sweep(folder.path)
    settle(folder)
    remove(results.staged(slide_id))
    remove(results.planned_slide(slide_id))


def _sweep_all(results: ResultsFolder) -> None:
    """Remove temporary files of killed writers; a viewer that is saving a review ends first.

    Folders that a run does not write, of the audit and of cached measures, stay as they are if
    they cannot be swept.

    Raises:
        OSError: if the file system refuses.
        StoreError: if the folder of reviews is a link, or cannot be written.
    """
    for folder in (results.audit, results.measured):
        if folder.is_dir():
            with suppress(StoreError, OSError), locked(folder):
                sweep(folder)
    if not results.review.exists():
        sweep(results.path)
        return
    with locked(results.review, results.review_csv):
        for folder in (results.path, results.review, results.review / ".areas"):
            sweep(folder)


def take_healed(results: ResultsFolder, name: str, on_loss: Callable[[str], None]) -> Lease:
    """Take the lease on a folder of results, and mend what killed processes left there.

    Args:
        results: the folder.
        name: the folder in messages.
        on_loss: called once, in a thread, with the reason, when the lease is lost.

    Raises:
        UsageError: if another run holds the folder, or it cannot be written.
    """
    try:
        with ExitStack() as stack:
            lease = stack.enter_context(closing(Lease(results.path, on_loss)))
            _sweep_all(results)
            heal(results)
            stack.pop_all()
            return lease
    except OSError as error:
        raise UsageError(f"{name} cannot be written: {error.strerror or error}") from error
    except StoreError as error:
        raise UsageError(f"{name} cannot be written: {error}") from error
