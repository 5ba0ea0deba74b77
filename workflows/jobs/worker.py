"""Caches of a worker process: its predictor, the slides it has open, the plans it has read."""

import atexit
import io
import os
import threading
from collections import OrderedDict
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from noctile.pipeline.errors import ModelError, RoiError, StoreError, UsageError
from noctile.pipeline.geometry import Extent, Frame
from noctile.pipeline.masks.store import MaskStore
from noctile.pipeline.models.load import load_predictor
from noctile.pipeline.models.predictor import Predictor, predict_labels
from noctile.pipeline.normalize import Amounts
from noctile.pipeline.plan import TileGrid, TilePlan
from noctile.pipeline.roi.regions import MAX_BYTES as ROI_BYTES
from noctile.pipeline.roi.regions import Roi, read_roi
from noctile.pipeline.slides.base import SlideReader
from noctile.pipeline.slides.discover import SlideEntry
from noctile.pipeline.slides.open import open_slide
from noctile.pipeline.stitch.canvas import labelled_part
from noctile.pipeline.tissue_mask import TissueMask
from noctile.pipeline.untrusted import read_bytes
from noctile.workflows.inference.client import ServedPredictor
from noctile.workflows.jobs.messages import RunContext
from noctile.workflows.resources import Resources
from noctile.workflows.results.files import read_required_json
from noctile.workflows.results.layout import SlideFolder

_MAX_OPEN = 4
"""Largest number of slides that a process keeps open. The slides whose blocks are under way fit,
and the number of file handles does not grow."""

_TISSUE_PX, _PICTURE_BYTES = 2**27, 2**27
"""Largest tissue mask that is decoded (px), and largest file of a picture (B). 50 x 25 mm of slide
have a mask of 20 million pixels."""

_MODEL_ERRORS: dict[str, UsageError] = {}
"""Error with which the model could not be loaded ahead, by `RunContext.pixels_key`."""

_LOADING = threading.Lock()
"""Held while a model is loaded, ahead of the first job or by one of several jobs of a process."""


def predictor(run: RunContext) -> Predictor:
    """Return the predictor of this process, or of its inference server.

    It is loaded once, and its weights are checked against the card of the run.

    Raises:
        ModelError: if it cannot be loaded, or is not the model of the run.
        EngineLostError: if the inference server has gone.
    """
    with _LOADING:
        if run.servers:
            predict: Predictor = _served(run.servers[os.environ["CUDA_VISIBLE_DEVICES"]])
        else:
            predict = cached_predictor(
                run.pixels_key, run.model, run.resources, run.settings.compile
            )
    if predict.card != run.card:
        raise ModelError(
            f"the model in {run.model} is not the one that the run began with: the folder was "
            "changed since, or another model has this path on this machine; restore the model and "
            "run the same command"
        )
    return predict


@lru_cache(maxsize=1)
def _served(address: str) -> ServedPredictor:
    return ServedPredictor(address)


@lru_cache(maxsize=1)
def cached_predictor(
    _pixels_key: str, model: str, resources: Resources, compiled: bool
) -> Predictor:
    """Load a model, or return the one that this process has loaded last if it is the same.

    Args:
        _pixels_key: hash of everything that a mask depends on beside its slide; a process that
            outlives a run may find another model in the same folder.
        model: path of the model's folder.
        resources: device, backend and threads.
        compiled: True to let ``torch.compile`` fuse the network's steps.

    Raises:
        ModelError: if it cannot be loaded.
    """
    return load_predictor(
        Path(model),
        resources.device,
        resources.threads,
        compiled=compiled,
        backend=resources.backend,
        processes_per_gpu=resources.processes_per_gpu,
    )


def load_ahead(run: RunContext) -> None:
    """Load the model while slides are being prepared, and compile it with one blank tile.

    A broken model ends the run with the next job of this process, see `check_model`. Other errors
    are ignored here: the first job meets the same error and reports it.
    """
    _MODEL_ERRORS.pop(run.pixels_key, None)
    try:
        ready_predictor(run)
    except UsageError as error:
        _MODEL_ERRORS[run.pixels_key] = error
    except Exception:  # noqa: BLE001, S110 - see above
        pass


def check_model(run: RunContext) -> None:
    """Check that the model could be loaded, if it was loaded ahead.

    Raises:
        UsageError: if it could not: it is broken, or there is no such device.
    """
    if error := _MODEL_ERRORS.get(run.pixels_key):
        raise error


def ready_predictor(run: RunContext) -> Predictor:
    """Return the `predictor` after one prediction: a network is compiled when it is first used.

    Raises:
        ModelError: if it cannot be loaded, or is not the model of the run.
    """
    predict = predictor(run)
    side = run.card.tile_px
    tile = np.zeros((1, side, side, 3), np.uint8)
    if run.settings.window == "crop":
        grid = TileGrid(side, run.settings.tiling(run.card).overlap_px, Extent(side, side))
        predict_labels(predict, tile, labelled_part(grid))
    else:
        predict(tile)
    return predict


class _OpenSlides:
    """Cache of open slides; the one unused for longest is closed first.

    Args:
        size: largest number of open slides; more than the jobs that run here at once, so that no
            job is using the slide that is closed.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._readers: OrderedDict[tuple[SlideEntry, int], SlideReader] = OrderedDict()
        self._dropped: list[SlideReader] = []
        self._lock = threading.Lock()

    def get(self, entry: SlideEntry, planned_ns: int, *, bgr: bool) -> SlideReader:
        """Return the reader of a slide.

        Args:
            entry: slide that is read.
            planned_ns: time when the slide was planned (ns); a file that was replaced is planned
                again, and then opened again.
            bgr: True if the channels are stored as blue, green, red, as found when the slide
                was planned.

        Raises:
            SlideError: if the slide cannot be opened.
        """
        with self._lock:
            if reader := self._readers.get((entry, planned_ns)):
                self._readers.move_to_end((entry, planned_ns))
                return reader
        reader = open_slide(entry.path, slide_id=entry.slide_id, mpp=entry.mpp, bgr=bgr)
        return self._add((entry, planned_ns), reader)

    def drop(self, entry: SlideEntry, planned_ns: int) -> None:
        """Forget the reader of a slide whose storage has failed: its file must be opened again.

        It is closed at the end, because another thread may be reading.
        """
        with self._lock:
            if reader := self._readers.pop((entry, planned_ns), None):
                self._dropped.append(reader)

    def _add(self, key: tuple[SlideEntry, int], reader: SlideReader) -> SlideReader:
        """Keep a reader, or close it if another thread has opened the same slide meanwhile."""
        spare = []
        with self._lock:
            cached = self._readers.setdefault(key, reader)
            if cached is not reader:
                spare.append(reader)
            if len(self._readers) > self._size:
                spare.append(self._readers.popitem(last=False)[1])
        for unused in spare:
            unused.close()
        return cached

    def close(self) -> None:
        """Close all of them."""
        while self._readers:
            self._readers.popitem()[1].close()
        while self._dropped:
            self._dropped.pop().close()


OPEN_SLIDES = _OpenSlides(_MAX_OPEN)
atexit.register(OPEN_SLIDES.close)


@lru_cache(maxsize=_MAX_OPEN)
def open_results(
    folder: SlideFolder, _planned_ns: int
) -> tuple[TilePlan, TissueMask, Amounts | None, MaskStore, str]:
    """Read a slide's plan (`read_plan`), its masks and its content key. The last few are cached.

    Args:
        folder: staging folder of the slide.
        _planned_ns: time when the plan was written (ns); another time makes another cache entry.
    """
    key: str = read_required_json(folder.plan)["key"]
    return *read_plan(folder), MaskStore.open(folder.mask), key


def load_picture(path: Path, kind: str, most_px: int) -> Image.Image:
    """Decode a picture of a result, which may come from another person.

    Args:
        path: file of the picture.
        kind: format, as Pillow names it; a file of another format is not decoded.
        most_px: largest number of pixels; a small file can hold a picture that fills the memory.

    Raises:
        OSError: if it cannot be read.
        ValueError: if it has too many pixels.
    """
    with Image.open(io.BytesIO(read_bytes(path, _PICTURE_BYTES)), formats=(kind,)) as image:
        if image.width * image.height > most_px:
            raise ValueError(f"{path} has {image.width} x {image.height} px, more than {most_px}")
        image.load()
        return image.copy()


def read_plan(folder: SlideFolder) -> tuple[TilePlan, TissueMask, Amounts | None]:
    """Read a slide's tile plan, its tissue mask, and its stain amounts if the model uses them.

    Raises:
        StoreError: if there is no plan.
    """
    described = read_required_json(folder.plan)
    mask = np.asarray(load_picture(folder.tissue, "PNG", _TISSUE_PX)) > 0
    about = described["tissue"]
    frame = Frame(
        Extent(**about["frame"]["extent"]), about["frame"]["mpp_y"], about["frame"]["mpp_x"]
    )
    roi = planned_roi(folder, described)
    tissue = TissueMask(mask, frame, about["rule"], tuple(about["flags"]), roi)
    return TilePlan.from_json(described["plan"]), tissue, described.get("stain")


def planned_roi(folder: SlideFolder, described: Mapping[str, Any]) -> Roi | None:
    """Read the regions of interest to which a slide is confined; None if it is not.

    Args:
        folder: folder of the slide.
        described: contents of its ``plan.json``.

    Raises:
        StoreError: if they cannot be read.
    """
    if "roi_given" not in described.get("confined", {}):
        return None
    native = Frame(Extent(*described["slide"]["extent_px"]), *described["slide"]["mpp"])
    try:
        return read_roi(read_bytes(folder.roi, ROI_BYTES), str(folder.roi), native)
    except (OSError, RoiError) as error:
        raise StoreError(f"{folder.roi} cannot be read: {error}; run again with --redo") from error
