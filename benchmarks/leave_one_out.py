"""What recipes reach on a real region that they never saw: leave one region out, once for each.

    python -m benchmarks.leave_one_out DATA... --out build/folds [--config recipes/tumor.toml recipes/tumor-varied.toml]
                                       [--shares 0.7 0.3] [--mpp 0.5 0.25] [--card pipeline/models/zoo/tumor]

For each region of the sources that are not ``extra``, and for each pixel size, a model is trained without that region
by each recipe as it stands; the mean of their weights (`benchmarks.average`) is measured on the region as ``noctile
evaluate`` does, as the weights are stored. With ``--card`` the figures of the recipes' own pixel size are written into
that model's card, under the name of what they are: the recipes', not the model's, which has seen every region.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.average import average
from pipeline.learning.settings import TrainSettings
from pipeline.models.load import write_card
from pipeline.truth.find import find_regions
from workflows.evaluate import evaluate
from workflows.train import load_train_settings, train

RECIPES, SHARES = (Path("recipes/tumor.toml"), Path("recipes/tumor-varied.toml")), (0.7, 0.3)
"""Of the shipped model."""

KEPT = ("dice", "precision", "recall")


def fold(recipes: Mapping[str, TrainSettings], shares: Sequence[float], region_id: str, out: Path) -> dict[str, Any]:
    """Train without a region, average, measure on it; metrics.json of the evaluation.

    Args:
        recipes: settings by the recipe's name, all of one pixel size and the same regions.
        shares: of each in the mean of their weights.
        region_id: the region.
        out: a folder for each model is made in it; one that stands there is taken.
    """
    first = next(iter(recipes.values()))
    parts = []
    for name, settings in recipes.items():
        split = settings.split.model_copy(update={"test": (region_id,), "val": ()})
        parts.append(out / f"without-{region_id}-{settings.mpp:g}-{name}")
        if not (parts[-1] / "card.json").is_file():
            train(settings.model_copy(update={"split": split}), parts[-1], print, resume=True)
    folder = out / f"without-{region_id}-{first.mpp:g}"
    average(parts, folder, shares)
    return dict(evaluate(folder, first.data, folder / "report", "test").metrics)


def main() -> None:
    """Run the folds and print them as a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="+", type=Path)
    parser.add_argument("--config", type=Path, nargs="+", default=RECIPES)
    parser.add_argument("--shares", type=float, nargs="+", default=SHARES)
    parser.add_argument("--out", type=Path, default=Path("build/folds"))
    parser.add_argument("--mpp", nargs="*", type=float)
    parser.add_argument("--epochs", type=int, help="of each training, instead of the recipe's")
    parser.add_argument("--only", nargs="*", help="these regions alone")
    parser.add_argument("--card", type=Path)
    a = parser.parse_args()
    recipes = {config.stem: load_train_settings(config, a.data, epochs=a.epochs) for config in a.config}
    first = next(iter(recipes.values()))
    names = [r.region_id for source in first.data if not source.extra for r in find_regions(source)]
    figures: dict[str, Any] = {}
    print("| region left out | um/px | tumor Dice | precision | recall |\n|---|---|---|---|---|")
    for mpp in a.mpp or [first.mpp]:
        for name in a.only or names:
            found = fold({k: r.model_copy(update={"mpp": mpp}) for k, r in recipes.items()}, a.shares, name, a.out)
            tumor = {key: found["tumor"][key] for key in KEPT}
            values = " | ".join(f"{figure['value']:.3f}" for figure in tumor.values())
            print(f"| {name} | {mpp:g} | {values} |", flush=True)
            if mpp == first.mpp:
                figures[name] = tumor | {"intervals": found["intervals"]["meaning"]}
    if a.card:
        fields = json.loads((a.card / "card.json").read_text(encoding="utf-8"))
        del fields["sha256"]
        fields["metrics"]["tumor_leave_one_region_out"] = figures
        write_card(a.card, fields)


if __name__ == "__main__":
    main()
