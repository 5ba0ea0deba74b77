"""Check that a slide has the content that it was planned with: a mask is made of one version."""

from noctile.pipeline.errors import ChangedWhileReadError, StorageError
from noctile.pipeline.slides.fingerprint import fingerprint
from noctile.workflows.jobs.messages import StepJob
from noctile.workflows.results.files import read_required_json
from noctile.workflows.results.layout import SlideFolder


def check_unchanged(job: StepJob, folder: SlideFolder) -> None:
    """Compare a slide's files with the sample of their content that its plan records.

    A time of modification alone is no change. If the content has changed, the plan is removed, so
    that the slide is planned again.

    Args:
        job: step of the slide.
        folder: folder that holds its plan.

    Raises:
        ChangedWhileReadError: if the content has changed, or if the slide's file has gone.
        StorageError: if a file cannot be read.
        StoreError: if the plan cannot be read.
    """
    path, planned = job.entry.path, read_required_json(folder.plan)["slide"]["fingerprint"]
    try:
        if fingerprint(path) == planned:
            return
        change = "was changed"
    except FileNotFoundError:
        change = "was removed"
    except OSError as error:
        raise StorageError(f"slide {job.step.slide_id}: {path} cannot be read: {error}") from error
    folder.plan.unlink(missing_ok=True)
    raise ChangedWhileReadError(
        f"slide {job.step.slide_id}: {path} {change} while it was read, so its mask would mix two "
        "versions. Run the same command again when no program writes to the file"
    )
