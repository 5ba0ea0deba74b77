"""Names of exported files: those of the slides' files, so that a batch import finds them."""

from collections import Counter
from collections.abc import Mapping
from pathlib import PurePath

from noctile.pipeline.slides.names import fold_name, slide_id_problem


def file_stems(paths: Mapping[str, str | PurePath]) -> dict[str, str]:
    """Return the name, without suffix, of the exported files of each slide.

    It is the stem of the slide's file. A slide has its slide_id instead if another slide has the
    same stem, or has this stem as its id, or if the stem cannot name a file everywhere. All names
    differ, also in file systems that ignore case.

    Args:
        paths: path of each slide's file, by slide_id.
    """
    stems = {slide_id: PurePath(path).stem for slide_id, path in paths.items()}
    users = Counter(map(fold_name, stems.values()))
    owners = {fold_name(slide_id): slide_id for slide_id in paths}
    return {
        slide_id: stem
        if users[fold_name(stem)] == 1
        and owners.get(fold_name(stem), slide_id) == slide_id
        and not slide_id_problem(stem)
        else slide_id
        for slide_id, stem in stems.items()
    }
