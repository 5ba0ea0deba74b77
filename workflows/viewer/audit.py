"""Audit as one reader sees it: points in an order of the reader's own, without the prediction."""

import hashlib
from functools import cached_property
from typing import Any, Final

import numpy as np

from noctile.pipeline.errors import NoctileError, UsageError
from noctile.pipeline.untrusted import parse_json
from noctile.workflows.results.audit_rows import SPECIAL_ANSWERS, AuditPoint
from noctile.workflows.results.audits import Audits
from noctile.workflows.viewer.views import SlideView, Views

SHOWN_MPP: Final = 0.5
"""Size of a pixel of the screen at which a point is shown first (um).

It is that of a 20x objective: nuclei can be told, and a window of 800 px shows 400 um of context.
"""

_MOST_VALUES = 16
"""Most values in the body of a request with an answer."""

_SPECIAL_KEYS: Final[dict[str, str]] = {"unsure": "u", "unreadable": "x"}

_CLASS_KEYS: Final = "123456789abcdefghijklmnopqrtvwyz"
"""Keys of the classes, in their order; u, x, s (skip) and 0 (zoom) have another meaning."""


class NoPointError(NoctileError):
    """The audit has no such point, or it cannot be answered."""


class ReaderAudit:
    """Points of an audit for one reader.

    Args:
        audits: the audit; its points are read once.
        reader: name of the reader.
        views: slides that are open.

    Raises:
        StoreError: if a file of the audit is damaged.
    """

    def __init__(self, audits: Audits, reader: str, views: Views) -> None:
        self._audits, self._reader, self._views = audits, reader, views
        self._design = audits.design()
        self._points = {point.point_id: point for point in audits.points()}
        self._keys = {slide.slide_id: slide.key for slide in self._design.slides}

    @cached_property
    def order(self) -> list[str]:
        """Names of the points in the random order of the reader, which is always the same.

        Points that were added later come after all others.
        """
        own = int.from_bytes(hashlib.sha256(self._reader.encode()).digest()[:8], "big")
        rng, batches = np.random.default_rng([self._design.seed, own]), dict[int, list[str]]()
        for name, point in self._points.items():
            batches.setdefault(point.batch, []).append(name)
        names = (batches[number] for number in sorted(batches))
        return [batch[k] for batch in names for k in rng.permutation(len(batch))]

    def document(self) -> dict[str, Any]:
        """Describe the audit with plain values: answers that can be given, and the reader's own.

        Raises:
            StoreError: if a file of the audit is damaged.
        """
        names = self._design.class_names
        keys = dict(zip(names, _CLASS_KEYS, strict=False)) | _SPECIAL_KEYS
        given = self._audits.answers()
        return {
            "reader": self._reader,
            "readers": sorted({self._reader, *(row.reader for row in given)}),
            "mpp": SHOWN_MPP,
            "classes": [{"name": name, "key": keys.get(name, "")} for name in names],
            "others": [{"name": name, "key": keys[name]} for name in SPECIAL_ANSWERS],
            "points": self.order,
            "answers": {
                row.point_id: row.answer
                for row in given
                if row.reader == self._reader and row.point_id in self._points
            },
        }

    def point_document(self, point_id: str) -> dict[str, Any]:
        """Describe one point: its position, and the pixels around it. Its class is not in it.

        Raises:
            NoPointError: if there is no such point.
            SlideError: if its slide cannot be opened.
        """
        point = self._point(point_id)
        view = self._views.get(point.slide_id)
        mpp_y, mpp_x = view.result.summary["mpp"]
        return {
            "point_id": point_id,
            "version": view.version,
            "slide": view.image.layer.to_json(),
            "level0": {"mpp_y": mpp_y, "mpp_x": mpp_x},
            "y_um": point.y_um,
            "x_um": point.x_um,
            "notice": self._notice(view),
        }

    def view(self, point_id: str) -> SlideView:
        """Return the slide of a point.

        Raises:
            NoPointError: if there is no such point.
            SlideError: if the slide cannot be opened.
        """
        return self._views.get(self._point(point_id).slide_id)

    def save(self, point_id: str, answer: str) -> None:
        """Save the reader's answer to a point.

        Raises:
            NoPointError: if there is no such point, or its slide cannot be seen.
            UsageError: if the answer is none.
            StoreError: if a file of the audit is damaged, or the file system refuses.
        """
        if notice := self._notice(self.view(point_id)):
            raise NoPointError(f"this point cannot be answered: {notice}")
        self._audits.save(self._reader, {point_id: answer})

    def _point(self, point_id: str) -> AuditPoint:
        try:
            return self._points[point_id]
        except KeyError as error:
            raise NoPointError("the audit has no such point") from error

    def _notice(self, view: SlideView) -> str:
        """Reason why the points of a slide cannot be answered; "" if they can."""
        if view.result.summary.get("key") != self._keys[view.slide_id]:
            return (
                f"The result of {view.slide_id} was made anew after the points were drawn. Its "
                "points are not used."
            )
        return view.notice


def parse_answer(body: bytes) -> str:
    """Answer in the body of a request.

    Raises:
        UsageError: if it is anything else.
    """
    try:
        values = parse_json(body, _MOST_VALUES)
    except ValueError as error:
        raise UsageError(f"the request is not JSON: {error}") from error
    answer = values.get("answer") if isinstance(values, dict) else None
    if not isinstance(answer, str):
        raise UsageError("the request has no answer")
    return answer
