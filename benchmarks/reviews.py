"""Reviews in the tables of many slides: time of the rows, and of one save.

``python -m benchmarks.reviews FOLDER [--slides 5000] [--reviewed 500]`` makes a folder of results
with small label maps for the reviewed slides, and prints a line for each state.
"""

import argparse
import sys
import time
from importlib import import_module
from pathlib import Path

import numpy as np

from noctile.workflows.results.files import write_json
from noctile.workflows.results.layout import ResultsFolder
from noctile.workflows.results.ledger_state import LedgerState
from noctile.workflows.results.review_rows import Review, SlideReview, collection
from noctile.workflows.results.reviews import Reviews
from noctile.workflows.results.standing import Standing

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
write_result = import_module("label_results").write_result
"""Function of the tests that writes a result without a run."""


def main() -> None:
    """Make the folder, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--slides", type=int, default=5000)
    parser.add_argument("--reviewed", type=int, default=500)
    given = parser.parse_args()
    results = ResultsFolder(given.folder)
    make_results(results, given.slides, given.reviewed)
    standing = Standing(results, LedgerState())
    print_time(f"rows of {given.slides} slides without reviews", standing.rows)
    print_time("  of these, for reviews", standing._review_cells)
    reviews = Reviews(results)
    reviews.take([(f"s{k}", review(k)) for k in range(given.reviewed)])
    print_time(f"rows with {given.reviewed} reviewed slides, first time", standing.rows)
    print_time("rows again, areas cached", standing.rows)
    print_time("  of these, for reviews", standing._review_cells)
    print_time("one save", lambda: reviews.save("s0", "bob", "accepted", "", ""))


def make_results(results: ResultsFolder, slides: int, reviewed: int) -> None:
    """Write results with masks for the reviewed slides, and summaries alone for the others."""
    labels = np.full((300, 400), 2, np.uint8)
    for k in range(slides):
        if k < reviewed:
            write_result(results.path, labels, f"s{k}")
            continue
        areas = {"class_area_mm2": {"tumor": 1.0}, "tissue_area_mm2": 2.0, "qc_flags": []}
        write_json(results.slide(f"s{k}").summary, {"key": "k", "path": f"s{k}.svs", **areas})


def review(number: int) -> SlideReview:
    """Review with three regions of 40 points."""
    turns = np.linspace(0, 2 * np.pi, 40)
    features = []
    for k in range(3):
        points = np.c_[100 + 50 * k + 30 * np.cos(turns), 100 + 30 * np.sin(turns)].tolist()
        geometry = {"type": "Polygon", "coordinates": [[*points[:-1], points[0]]]}
        about = {"classification": {"name": "pen"}, "metadata": {"reviewer": "ada"}}
        features.append({"type": "Feature", "geometry": geometry, "properties": about})
    return SlideReview((Review("", "ada", "rejected", f"n {number}"),), collection(features))


def print_time(name: str, call: object) -> None:
    """Print the time of a call."""
    assert callable(call)
    begun = time.perf_counter()
    call()
    print(f"{name}: {time.perf_counter() - begun:.3f} s", flush=True)


if __name__ == "__main__":
    main()
