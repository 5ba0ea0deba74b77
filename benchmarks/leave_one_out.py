"""Quality of a recipe on unseen real regions: leave out one region at a time.

    python -m benchmarks.leave_one_out DATA... --out build/folds [--config recipes/tumor.toml]
    [--mpp 0.5 0.25]
                                       [--card pipeline/models/zoo/tumor]

For each region of the sources that are not ``extra``, and for each pixel size, the recipe trains a
model without that region. The model is measured on the region as ``noctile evaluate`` does, with
its stored weights. With ``--card`` the figures of the recipe's own pixel size are written into that
model's card. They are figures of the recipe: the model itself has seen every region.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from noctile.pipeline.models.folder import write_card
from noctile.pipeline.training.settings import TrainSettings
from noctile.pipeline.truth.find import find_regions
from noctile.workflows.commands.evaluate import evaluate
from noctile.workflows.commands.train import load_train_settings, train

KEPT = ("dice", "precision", "recall")


def fold(settings: TrainSettings, region_id: str, out: Path) -> dict[str, Any]:
    """Train without a region, and measure on it.

    Args:
        settings: settings of the recipe.
        region_id: the region.
        out: folder in which a folder for the model is made; an existing one is used.

    Returns:
        The content of metrics.json.
    """
    split = settings.split.model_copy(update={"test": (region_id,), "val": ()})
    folder = out / f"without-{region_id}-{settings.mpp:g}"
    if not (folder / "card.json").is_file():
        train(settings.model_copy(update={"split": split}), folder, print, resume=True)
    return dict(evaluate(folder, settings.data, folder / "report", "test").metrics)


def main() -> None:
    """Run the folds and print them as a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", nargs="+", type=Path)
    parser.add_argument("--config", type=Path, default=Path("recipes/tumor.toml"))
    parser.add_argument("--out", type=Path, default=Path("build/folds"))
    parser.add_argument("--mpp", nargs="*", type=float)
    parser.add_argument("--epochs", type=int, help="instead of the recipe's")
    parser.add_argument("--only", nargs="*", help="these regions alone")
    parser.add_argument("--card", type=Path)
    a = parser.parse_args()
    recipe = load_train_settings(a.config, a.data, epochs=a.epochs)
    names = [
        r.region_id for source in recipe.data if not source.extra for r in find_regions(source)
    ]
    figures: dict[str, Any] = {}
    print("| region left out | um/px | tumor Dice | precision | recall |\n|---|---|---|---|---|")
    for mpp in a.mpp or [recipe.mpp]:
        for name in a.only or names:
            found = fold(recipe.model_copy(update={"mpp": mpp}), name, a.out)
            tumor = {key: found["tumor"][key] for key in KEPT}
            values = " | ".join(f"{figure['value']:.3f}" for figure in tumor.values())
            print(f"| {name} | {mpp:g} | {values} |", flush=True)
            if mpp == recipe.mpp:
                figures[name] = tumor | {"intervals": found["intervals"]["meaning"]}
    if a.card:
        fields = json.loads((a.card / "card.json").read_text(encoding="utf-8"))
        del fields["sha256"]
        fields["metrics"]["tumor_leave_one_region_out"] = figures
        write_card(a.card, fields)


if __name__ == "__main__":
    main()
