"""Average the weights of models that were trained from the same start: one model, as fast as each of them.

    python -m benchmarks.average MODEL MODEL... --out models/tumor [--shares 0.7 0.3]

Networks that start from the same weights and learn from different crops differ in what they have learned by heart;
their mean has less of that. (Wortsman et al. 2022, arXiv 2203.05482; on domains that none has seen: Rame et al. 2022,
arXiv 2205.09739)
"""

import argparse
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors.numpy import load_file, save_file

from pipeline.errors import ModelError
from pipeline.models.load import CARD, CONFIG, WEIGHTS, read_card, write_card


def average(folders: Sequence[Path], out: Path, shares: Sequence[float] = ()) -> None:
    """Write the mean of some models; the card is the first one's, with the trainings of all.

    Args:
        folders: model folders of one network, whose decoders started from the same seed.
        out: folder of the new model; what it holds of an earlier one is replaced.
        shares: of each model in the mean, relative to each other; none: all the same.

    Raises:
        ModelError: if they differ in their network or in what a run asks of them.
    """
    cards = [read_card(folder).model_dump(mode="json") for folder in folders]
    told = {"sha256", "training", "metrics", "description"}
    if len({json.dumps({k: v for k, v in card.items() if k not in told}) for card in cards}) > 1:
        raise ModelError(f"{', '.join(map(str, folders))}: their cards differ in more than training and metrics")
    states = [load_file(folder / WEIGHTS) for folder in folders]
    if len({tuple(sorted((name, v.shape, str(v.dtype)) for name, v in state.items())) for state in states}) > 1:
        raise ModelError(f"{', '.join(map(str, folders))}: their weights are of different networks")
    out.mkdir(parents=True, exist_ok=True)
    weights = np.array(shares or [1.0] * len(folders))
    mean = {name: _mean([state[name] for state in states], weights / weights.sum()) for name in states[0]}
    save_file(mean, out / WEIGHTS, metadata={"format": "pt"})
    (out / WEIGHTS).chmod(0o644)
    for name in (CONFIG, "scheme.toml", "split.csv"):
        shutil.copyfile(folders[0] / name, out / name)
    fields: dict[str, Any] = {**cards[0], "metrics": {}}
    trainings = [{"share": share, **card["training"]} for share, card in zip(weights.tolist(), cards, strict=True)]
    fields["training"] = {"mean_of": trainings}
    del fields["sha256"]
    (out / CARD).unlink(missing_ok=True)
    write_card(out, fields)


def _mean(values: Sequence[npt.NDArray[Any]], weights: npt.NDArray[np.float64]) -> npt.NDArray[Any]:
    """The weighted mean of arrays of floats; of counts the largest."""
    if values[0].dtype.kind != "f":
        return np.asarray(np.max(values, axis=0))
    total = sum(v.astype(np.float64) * weight for v, weight in zip(values, weights, strict=True))
    return np.asarray(total, values[0].dtype)


def main() -> None:
    """Average and say where."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--shares", nargs="*", type=float, default=())
    a = parser.parse_args()
    average(a.models, a.out, a.shares)
    print(a.out)


if __name__ == "__main__":
    main()
