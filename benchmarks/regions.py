"""Cost of a slide that is confined to a region of interest, as a share of that of the whole slide.

``python -m benchmarks.regions [--side 12000] [--model tumor]`` makes a slide full of tissue and
runs it whole and with a square region in its middle, with the serial engine in this process. It
prints the predictions, and the CPU time of the blocks. ``--model trivial`` has a network of one
convolution.
"""

import argparse
import json
import math
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.common import BUILD, trivial_model
from benchmarks.common import slide as made_slide
from noctile.pipeline.slides.discover import SlideEntry
from noctile.workflows.jobs.finish import finish_slide
from noctile.workflows.jobs.messages import RunContext, StepJob
from noctile.workflows.jobs.prepare import prepare_slide
from noctile.workflows.jobs.segment_block import segment_step
from noctile.workflows.jobs.steps import Step
from noctile.workflows.jobs.worker import ready_predictor
from noctile.workflows.run.run import open_context
from noctile.workflows.settings import RunSettings

SHARES = (1.0, 0.05, 0.2, 0.5)
"""Areas of the region, as shares of the slide."""


def main() -> None:
    """Make the slide, run it with each region, and print a row for each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--side", type=int, default=12_000)
    parser.add_argument("--model", default="tumor")
    given = parser.parse_args()
    slide = made_slide(given.side, given.side, tissue=1.0)
    model = given.model
    if model == "trivial":
        model = str(trivial_model(BUILD / "two-classes", classes=2))
    print("| region | predictions | of the whole | blocks, CPU | of the whole | prepare, finish |")
    print("|---|---|---|---|---|---|")
    whole: Sequence[float] = ()
    for share in SHARES:
        tiles, blocks_s, rest_s = measure(slide, given.side, share, model)
        whole = whole or (tiles, blocks_s)
        print(
            f"| {share:.0%} | {tiles} | {tiles / whole[0]:.1%} | {blocks_s:.1f} s | "
            f"{blocks_s / whole[1]:.1%} | {rest_s:.1f} s |",
            flush=True,
        )


def measure(slide: Path, side: int, share: float, model: str) -> tuple[int, float, float]:
    """Run a slide, and return its predictions, the CPU time of its blocks and of the rest (s)."""
    with tempfile.TemporaryDirectory() as folder:
        roi = Path(folder) / "roi.geojson"
        roi.write_text(json.dumps(_square(side, share)))
        given = SlideEntry("a", slide.absolute(), None, None, None, (), roi=roi)
        settings = RunSettings(model=model, device="cpu", engine="serial")
        run = open_context(settings, Path(folder) / "out")
        ready_predictor(run)
        return _steps(given if share < 1 else replace(given, roi=None), run)


def _steps(entry: SlideEntry, run: RunContext) -> tuple[int, float, float]:
    begun = time.process_time()
    prepared = prepare_slide(StepJob(Step("prepare", "a"), entry, run))
    planned = time.process_time()
    for block in prepared.blocks:
        segment_step(StepJob(Step("segment", "a", block), entry, run))
    segmented = time.process_time()
    finish_slide(StepJob(Step("finish", "a"), entry, run))
    rest_s = planned - begun + time.process_time() - segmented
    return sum(prepared.tiles_of), segmented - planned, rest_s


def _square(side: int, share: float) -> dict[str, Any]:
    """GeoJSON of a square in the middle of a square slide."""
    low, high = (round(side / 2 * (1 + sign * math.sqrt(share))) for sign in (-1, 1))
    ring = [[low, low], [high, low], [high, high], [low, high], [low, low]]
    return {"type": "Feature", "geometry": {"type": "Polygon", "coordinates": [ring]}}


if __name__ == "__main__":
    main()
