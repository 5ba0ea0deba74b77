"""Slides that the viewer has open: the result of each, its pixels, and why those may be missing."""

import hashlib
import threading
import weakref
from collections import OrderedDict
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from noctile.pipeline.errors import SlideError
from noctile.pipeline.geometry import Frame
from noctile.pipeline.masks.store import MaskStore
from noctile.pipeline.slides.base import SlideReader
from noctile.pipeline.slides.channel_order import BGR_FLAG
from noctile.pipeline.slides.fingerprint import file_state
from noctile.pipeline.slides.open import open_slide
from noctile.pipeline.spatial.foci import Focus, find_foci
from noctile.pipeline.untrusted import printable
from noctile.workflows.commands.opened import Results
from noctile.workflows.commands.opened_slide import SlideResult
from noctile.workflows.results.layout import ResultsFolder, SlideFolder
from noctile.workflows.viewer.images import FileImage, OverviewImage, SlideImage
from noctile.workflows.viewer.listing import Listing
from noctile.workflows.viewer.masks import HeatTiles, LabelTiles

MOST_FOCI = 1000
"""Largest number of tumor foci that are listed."""

_MOST_OPEN = 4
"""Largest number of slides that are kept open. Each holds up to 64 MiB of decoded tiles."""

_INSTEAD = "The overview in the result, of about 8 um/px, is shown instead of the slide"

State = tuple[int, ...]
"""Sizes and times of files; it changes when they do."""


class SlideView:
    """One slide with its result, as they stood when it was opened.

    Several threads may use it at once. The slide's file is closed when no thread uses the view.

    Args:
        result: result of the slide.
        path: file of the slide.
        state: state of the result's files, see `Views`.

    Attributes:
        slide_id: name of the slide.
        path: file of the slide.
        notice: why the overview stands for the slide; "" if it does not.
        image: pixels of the slide.
        labels: tiles of the label map.
        heat: tiles of the heat maps; None if the result has none.

    Raises:
        StoreError: if the result cannot be read.
    """

    def __init__(self, result: SlideResult, path: Path, state: State) -> None:
        self.slide_id, self.path, self.result = result.slide_id, path, result
        self._state, self._lock = (*state, *file_state(path)), threading.Lock()
        self.store = MaskStore.open(SlideFolder(result.path).mask)
        self.labels, self.heat = LabelTiles(self.store), _heat(self.store)
        reader, self.notice = _open(result, path)
        self.image: SlideImage = OverviewImage(self.store)
        if reader:
            weakref.finalize(self, reader.close)
            self.image = FileImage(reader, self.store)

    def is_current(self, state: State) -> bool:
        """Tell if neither the result nor the slide's file has changed since it was opened."""
        return self._state == (*state, *file_state(self.path))

    @property
    def source(self) -> str:
        """Source of the slide's pixels: "slide" or "overview"."""
        return "overview" if self.notice else "slide"

    @cached_property
    def version(self) -> str:
        """Short hash that changes with the result, the slide's file, and its readability."""
        parts = (self.result.summary.get("key"), self._state, self.source)
        return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]

    def foci(self) -> tuple[Frame, list[Focus]]:
        """Find the tumor foci, the largest first, and the frame of their boxes.

        Raises:
            StoreError: if the label map cannot be read.
        """
        with self._lock:
            return self._foci

    @cached_property
    def _foci(self) -> tuple[Frame, list[Focus]]:
        codes = [info.code for info in self.store.layout.classes if info.role == "tumor"]
        return find_foci(self.store, codes, MOST_FOCI)


class Views:
    """Cache of views; the one unused for longest is dropped first. For several threads.

    A view is made anew when the summary of the slide or the slide's file has another size or time.

    Args:
        results: folder of results.
        listing: rows of all slides.
    """

    def __init__(self, results: Results, listing: Listing) -> None:
        self._results, self._listing = results, listing
        self._views: OrderedDict[str, SlideView] = OrderedDict()
        self._lock = threading.Lock()
        self._opening = [threading.Lock() for _ in range(8)]

    def get(self, slide_id: str) -> SlideView:
        """Return the view of a slide.

        Raises:
            SlideNotDoneError: if the slide has no result.
            StoreError: if its result cannot be read.
        """
        if slide_id not in self._results:
            raise self._listing.not_done(slide_id)
        state = _state(ResultsFolder(self._results.path).slide(slide_id).summary)
        with self._opening[hash(slide_id) % len(self._opening)]:
            with self._lock:
                view = self._views.get(slide_id)
            if view is None or not view.is_current(state):
                result = self._results[slide_id]
                view = SlideView(result, self._path(result), state)
            self._keep(view)
        return view

    def _path(self, result: SlideResult) -> Path:
        """File of a slide: that of its last run if it is there, else that of its result."""
        last = Path(self._listing.path_of(result.slide_id))
        return last if last.is_file() else Path(str(result.summary.get("path", "")))

    def _keep(self, view: SlideView) -> None:
        with self._lock:
            self._views[view.slide_id] = view
            self._views.move_to_end(view.slide_id)
            while len(self._views) > _MOST_OPEN:
                self._views.popitem(last=False)


def _state(path: Path) -> State:
    """Number, size (B) and time of modification (ns) of a file; -1 if there is none."""
    try:
        about = path.lstat()
    except OSError:
        return -1, -1, -1
    return about.st_ino, about.st_size, about.st_mtime_ns


def _heat(store: MaskStore) -> HeatTiles | None:
    """Open the heat maps; None if the result has none."""
    return HeatTiles(store) if store.heat_path.is_dir() else None


def _open(result: SlideResult, path: Path) -> tuple[SlideReader | None, str]:
    """Open a slide as its result describes it.

    Returns:
        the reader, and ""; or None, and why the slide cannot be shown.
    """
    summary, name = result.summary, printable(str(path))
    if not path.exists():
        todo = "Copy the file back to this path to see the slide"
        return None, f"There is no file {name}. {_INSTEAD}. {todo}."
    try:
        reader = open_slide(path, slide_id=result.slide_id, mpp=_mpp(summary), bgr=_bgr(summary))
    except SlideError as error:
        return None, f"The slide's file cannot be read. {_INSTEAD}. The message: {error}"
    if reader.info.fingerprint == summary.get("fingerprint"):
        return reader, ""
    reader.close()
    changed = "is not the one that the result was made from: its content differs"
    return None, f"{name} {changed}. {_INSTEAD}. Run the slide again to have a mask of this file."


def _mpp(summary: Mapping[str, Any]) -> tuple[float, float] | None:
    mpp = summary.get("mpp")
    return (float(mpp[0]), float(mpp[1])) if mpp else None


def _bgr(summary: Mapping[str, Any]) -> bool:
    """Tell if the run took the channels of the file as blue, green, red."""
    return BGR_FLAG in summary.get("qc_flags", summary.get("flags", ()))
