"""The training loop: crops in, a checkpoint after each epoch, the best weights out (decision record
0005).

Everything in a step is a function of the seed and the step's number, so that a training that was
killed and resumed makes the same steps as one that was not.
"""

import copy
import csv
import math
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import segmentation_models_pytorch as smp
import torch
from torch import distributed
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, Dataset

from noctile.pipeline.errors import UsageError
from noctile.pipeline.models.torch_predictor import build_network
from noctile.pipeline.training.augment import UInt8
from noctile.pipeline.training.crops import CropSampler, RegionCache, padded
from noctile.pipeline.training.encoder import UNREADABLE, fill_encoder
from noctile.pipeline.training.losses import SegmentationLoss
from noctile.pipeline.training.settings import TrainSettings
from noctile.pipeline.truth.region import LabelledPixels
from noctile.pipeline.truth.scheme import IGNORED

CHECKPOINT = "checkpoint.pt"
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of ImageNet's R, G, B in 0..1, which encoders were trained with. (torchvision's documentation)"""

_CLIP_NORM = 1.0
"""Largest norm of the gradient: one odd batch does not undo many. (Pascanu et al. 2013, arXiv
1211.5063)"""

_SAY_SECONDS = 30.0

Row = dict[str, float]
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class FitJob:
    """What a training is made of; picklable.

    Attributes:
        settings: of the training.
        names: of the classes, in the order of the model's channels.
        counted: whether each class is in the mean Dice (those with the role "ignore" are not).
        weights: of the classes in the loss.
        train: regions that crops are cut from.
        shares: how often each of them is taken.
        val: regions that choose the best epoch; may be empty.
        folder: where the checkpoint stands.
        key: of settings and data; a checkpoint of another key is not resumed.
        device: torch's name of it; "cuda" with several processes: one GPU each.
        processes: that train together.
        workers: processes that cut crops, for each of those; 0: they cut their own.
    """

    settings: TrainSettings
    names: tuple[str, ...]
    counted: tuple[bool, ...]
    weights: tuple[float, ...]
    train: RegionCache
    shares: tuple[float, ...]
    val: RegionCache
    folder: Path
    key: str
    device: str
    processes: int
    workers: int

    @property
    def steps(self) -> int:
        """Steps of the optimizer in an epoch."""
        settings = self.settings
        if settings.steps_per_epoch:
            return settings.steps_per_epoch
        area = sum(height * width for height, width in self.train.shapes)
        return max(
            1, math.ceil(area / (settings.crop_px**2 * settings.batch_size * settings.accumulate))
        )


@dataclass(frozen=True, slots=True, eq=False)
class Fitted:
    """What a training ends with.

    Attributes:
        network: with the best weights, on the CPU.
        history: a row an epoch: epoch, step, seconds, lr, train_loss, val_loss, val_dice_mean,
            val_dice_<class>.
        best_epoch: the epoch of these weights, from 1.
        start: what the encoder started from.
    """

    network: smp.base.SegmentationModel
    history: list[Row]
    best_epoch: int
    start: str


def fit(job: FitJob, say: Say) -> Fitted:
    """Train until the last epoch or until patience ends; goes on from the job's checkpoint where
    there is one.

    Raises:
        UsageError: if the encoder's weights cannot be had or a checkpoint is another training's.
        RuntimeError: if a process of several dies.
    """
    if job.processes == 1:
        _Training(job, 0, say).run()
    else:
        _run_together(job, say)
    state = _read_checkpoint(job)
    network = new_network(job.settings, len(job.names))
    network.load_state_dict(state["best"])
    return Fitted(network, state["history"], state["best_epoch"], state["start"])


def new_network(settings: TrainSettings, classes: int) -> smp.base.SegmentationModel:
    """The network of a training, with random weights.

    Raises:
        ModelError: if segmentation-models-pytorch has no such network.
    """
    config: dict[str, Any] = {
        "_model_class": settings.architecture,
        "encoder_name": settings.encoder,
        "in_channels": 3,
        "classes": classes,
    }
    if settings.decoder_channels:
        config["decoder_channels"] = settings.decoder_channels
    return build_network(config, "the training's settings")


def to_input(rgb: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Float32 ``[n, 3, h, w]``, channels last, from uint8 ``[n, h, w, 3]``."""
    mean, std = (torch.tensor(values, device=device).view(1, 3, 1, 1) for values in (MEAN, STD))
    return (rgb.to(device).permute(0, 3, 1, 2).float() / 255 - mean) / std


def dice_of(confusion: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Dice of each class from ``[n, n]`` counts, rows truth; NaN for a class that is not in the
    truth.
    """
    truth = confusion.sum(axis=1)
    both = truth + confusion.sum(axis=0)
    return np.where(truth > 0, 2 * np.diag(confusion) / np.maximum(both, 1), np.nan)


def _run_together(job: FitJob, say: Say) -> None:
    context = torch.multiprocessing.get_context("spawn")
    lines = context.SimpleQueue()
    with tempfile.TemporaryDirectory() as meeting:
        place = f"file://{meeting}/processes"
        processes = torch.multiprocessing.spawn(  # type: ignore[attr-defined, no-untyped-call]
            _process, (job, place, lines), job.processes, join=False
        )
        while not processes.join(timeout=0.2):
            while not lines.empty():
                say(lines.get())
        while not lines.empty():
            say(lines.get())


def _process(rank: int, job: FitJob, place: str, lines: Any) -> None:
    backend = "nccl" if job.device.startswith("cuda") else "gloo"
    distributed.init_process_group(backend, init_method=place, rank=rank, world_size=job.processes)
    try:
        _Training(job, rank, lines.put if rank == 0 else lambda _: None).run()
    finally:
        distributed.destroy_process_group()


class _Crops(Dataset[tuple[UInt8, UInt8]]):
    """The crops of one process, in their order; the files are opened in the process that cuts."""

    def __init__(self, job: FitJob, numbers: Sequence[int]) -> None:
        self._job, self._numbers = job, numbers
        self._sampler: CropSampler | None = None

    def __len__(self) -> int:
        return len(self._numbers)

    def __getitem__(self, index: int) -> tuple[UInt8, UInt8]:
        if self._sampler is None:
            job, settings = self._job, self._job.settings
            regions = job.train.open()
            self._sampler = CropSampler(
                regions, job.shares, settings.crop_px, settings.variation, settings.seed
            )
        rgb, targets = self._sampler(self._numbers[index])
        return np.array(rgb), np.array(targets)  # the loader wants arrays of its own


class _Training:
    """One process of a training."""

    def __init__(self, job: FitJob, rank: int, say: Say) -> None:
        self._job, self._rank, self._say = job, rank, say
        settings = job.settings
        cuda = job.device.startswith("cuda")
        self._device = (
            torch.device("cuda", rank) if cuda and job.processes > 1 else torch.device(job.device)
        )
        torch.manual_seed(settings.seed)
        network = new_network(settings, len(job.names))
        state = _read_checkpoint(job) if (job.folder / CHECKPOINT).is_file() else None
        start = (
            state["start"]
            if state
            else fill_encoder(network, settings.encoder, settings.encoder_weights)
        )
        self._network = network.to(self._device, memory_format=torch.channels_last)
        self._average = copy.deepcopy(self._network).eval().requires_grad_(False)
        self._optimizer = _optimizer(self._network, settings)
        self._loss = SegmentationLoss(job.weights, settings.dice, settings.smoothing).to(
            self._device
        )
        self._dtype = torch.bfloat16 if cuda and torch.cuda.is_bf16_supported() else torch.float16
        self._scaler = torch.amp.GradScaler(
            self._device.type, enabled=cuda and self._dtype == torch.float16
        )
        self._done = _Progress(start=start)
        if state:
            self._restore(state)
        self._parallel: torch.nn.Module = self._network
        if job.processes > 1:
            if cuda and not settings.frozen_statistics:
                self._network = torch.nn.SyncBatchNorm.convert_sync_batchnorm(self._network)  # type: ignore[no-untyped-call]
            self._parallel = DistributedDataParallel(
                self._network, [self._device] if cuda else None
            )

    def run(self) -> None:
        """All epochs that are left."""
        job, done = self._job, self._done
        batches = self._batches()
        while done.epoch < job.settings.epochs and not self._patience_ended():
            began = time.monotonic()
            torch.manual_seed(
                job.settings.seed * 1_000_003 + done.epoch
            )  # for layers that drop at random
            train_loss = self._epoch(batches)
            val_loss, dice = self._validate()
            done.epoch += 1
            done.seconds += time.monotonic() - began
            self._note(train_loss, val_loss, dice)
            if self._rank == 0:
                self._save()

    def _epoch(self, batches: Iterator[tuple[torch.Tensor, torch.Tensor]]) -> float:
        """The steps of an epoch; their mean loss."""
        job, done = self._job, self._done
        self._network.train()
        if job.settings.frozen_statistics:
            _freeze_statistics(self._network.encoder)
        total, said, first = 0.0, time.monotonic(), time.monotonic()
        for step in range(job.steps):
            rate = self._set_rate()
            total += self._step(batches)
            done.step += 1
            if time.monotonic() - said > _SAY_SECONDS:
                said = time.monotonic()
                left = (said - first) / (step + 1) * (job.steps * job.settings.epochs - done.step)
                self._say(
                    f"epoch {done.epoch + 1}, step {step + 1} of {job.steps}: loss {total / (step + 1):.3f}, "
                    f"rate {rate:.1e}, at most {left / 60:.0f} min left"
                )
        return self._mean(total / job.steps)

    def _step(self, batches: Iterator[tuple[torch.Tensor, torch.Tensor]]) -> float:
        """One step of the optimizer; its loss."""
        parts = self._job.settings.accumulate
        total = 0.0
        for part in range(parts):
            rgb, targets = next(batches)
            last = part == parts - 1 or self._parallel is self._network
            with nullcontext() if last else self._parallel.no_sync():  # type: ignore[operator]
                with torch.autocast(
                    self._device.type, self._dtype, enabled=self._device.type == "cuda"
                ):
                    logits = self._parallel(to_input(rgb, self._device))
                loss = self._loss(logits, targets.to(self._device)) / parts
                self._scaler.scale(loss).backward()
            total += loss.item()
        if not math.isfinite(total):
            raise UsageError(f"step {self._done.step}: the loss is {total}; choose a smaller rate")
        self._scaler.unscale_(self._optimizer)
        torch.nn.utils.clip_grad_norm_(self._network.parameters(), _CLIP_NORM)
        self._scaler.step(self._optimizer)
        self._scaler.update()
        self._optimizer.zero_grad()
        self._follow()
        return total

    @torch.no_grad()
    def _follow(self) -> None:
        """Move the average towards the weights; it starts as their plain mean."""
        step = self._done.step
        keep = min(self._job.settings.average, (1 + step) / (10 + step))
        now = self._network.state_dict()
        for name, mean in self._average.state_dict().items():
            if mean.is_floating_point():
                mean.lerp_(now[name], 1 - keep)
            else:
                mean.copy_(now[name])

    def _set_rate(self) -> float:
        """The rate of this step: a line up, then half a cosine down (Loshchilov and Hutter 2017,
        arXiv 1608.03983).
        """
        settings, step = self._job.settings, self._done.step
        last = settings.epochs * self._job.steps
        warm = min(1.0, (step + 1) / (settings.warmup_steps + 1))
        rate = settings.rate * warm * 0.5 * (1 + math.cos(math.pi * step / last))
        for group in self._optimizer.param_groups:
            group["lr"] = rate * group["relative"]
        return rate

    def _batches(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """The batches of this process that are still to come."""
        job, settings = self._job, self._job.settings
        size = settings.batch_size
        own = range(self._rank * size // job.processes, (self._rank + 1) * size // job.processes)
        first, last = (
            n * job.steps * settings.accumulate for n in (self._done.epoch, settings.epochs)
        )
        numbers = [batch * size + k for batch in range(first, last) for k in own]
        loader = DataLoader(
            _Crops(job, numbers),
            batch_size=len(own),
            num_workers=job.workers,
            multiprocessing_context="spawn" if job.workers else None,
            pin_memory=self._device.type == "cuda",
        )
        return iter(loader)

    @torch.no_grad()
    def _validate(self) -> tuple[float, npt.NDArray[np.float64]]:
        """Loss and Dice of each class on the validation side, NaN where there is none; regions are
        shared out.
        """
        job, classes = self._job, len(self._job.names)
        sums = torch.zeros(classes * classes + 2, dtype=torch.float64, device=self._device)
        for region in job.val.open()[self._rank :: job.processes]:
            for rgb, known in _tiles(region, job.settings.crop_px, job.settings.batch_size):
                with torch.autocast(
                    self._device.type, self._dtype, enabled=self._device.type == "cuda"
                ):
                    logits = self._average(to_input(rgb, self._device))
                targets = known.to(self._device)
                counted = targets != IGNORED
                sums[-2] += self._loss(logits, targets).double()
                sums[-1] += 1
                pairs = targets[counted].long() * classes + logits.argmax(1)[counted]
                sums[:-2] += torch.bincount(pairs, minlength=classes * classes)
        if job.processes > 1:
            distributed.all_reduce(sums)
        counts = sums.cpu().numpy()
        confusion = counts[:-2].reshape(classes, classes).astype(np.int64)
        return (float(counts[-2] / counts[-1]) if counts[-1] else math.nan), dice_of(confusion)

    def _mean(self, value: float) -> float:
        """Over all processes."""
        if self._job.processes == 1:
            return value
        values = torch.tensor(value, device=self._device)
        distributed.all_reduce(values)
        return float(values) / self._job.processes

    def _note(self, train_loss: float, val_loss: float, dice: npt.NDArray[np.float64]) -> None:
        """Add an epoch to the history, and keep its weights if they are the best."""
        job, done = self._job, self._done
        counted = dice[list(job.counted)]
        mean = float(np.nanmean(counted)) if np.isfinite(counted).any() else math.nan
        row = {
            "epoch": done.epoch,
            "step": done.step,
            "seconds": round(done.seconds, 1),
            "lr": self._optimizer.param_groups[-1]["lr"],
            "train_loss": train_loss,
            "val_loss": val_loss,
            "val_dice_mean": mean,
            **{f"val_dice_{name}": float(d) for name, d in zip(job.names, dice, strict=True)},
        }
        done.history.append(row)
        better = (
            math.isnan(mean)
            or not done.best_epoch
            or mean > done.history[done.best_epoch - 1]["val_dice_mean"]
        )
        if better:
            done.best_epoch = done.epoch
            done.best = copy.deepcopy(self._average.state_dict())
        measured = (
            ""
            if math.isnan(mean)
            else f", val loss {val_loss:.3f}, mean Dice {mean:.3f}" + " (best)" * better
        )
        left = done.seconds / done.epoch * (job.settings.epochs - done.epoch)
        self._say(
            f"epoch {done.epoch} of {job.settings.epochs}: train loss {train_loss:.3f}{measured}; "
            f"{done.seconds / 60:.1f} min, at most {left / 60:.1f} left"
        )

    def _patience_ended(self) -> bool:
        done = self._done
        measured = bool(self._job.val.ids) and bool(done.history)
        return measured and done.epoch - done.best_epoch >= self._job.settings.patience

    def _save(self) -> None:
        """The checkpoint, whole or not at all."""
        done, path = self._done, self._job.folder / CHECKPOINT
        state = {
            "key": self._job.key,
            "network": self._network.state_dict(),
            "average": self._average.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "scaler": self._scaler.state_dict(),
            "best": done.best,
            "best_epoch": done.best_epoch,
            "epoch": done.epoch,
            "step": done.step,
            "seconds": done.seconds,
            "history": done.history,
            "start": done.start,
        }
        part = path.with_suffix(".part")
        torch.save(state, part)
        part.replace(path)
        _write_history(self._job.folder / "history.csv", done.history)

    def _restore(self, state: Mapping[str, Any]) -> None:
        self._network.load_state_dict(state["network"])
        self._average.load_state_dict(state["average"])
        self._optimizer.load_state_dict(state["optimizer"])
        self._scaler.load_state_dict(state["scaler"])
        self._done = _Progress(**{name: state[name] for name in _Progress.__dataclass_fields__})
        self._say(f"resumed after epoch {state['epoch']}")


@dataclass(slots=True)
class _Progress:
    """What is done."""

    start: str
    epoch: int = 0
    step: int = 0
    seconds: float = 0.0
    best_epoch: int = 0
    best: dict[str, torch.Tensor] = field(default_factory=dict)
    history: list[Row] = field(default_factory=list)


def _optimizer(
    network: smp.base.SegmentationModel, settings: TrainSettings
) -> torch.optim.Optimizer:
    """AdamW, with a slower rate for the encoder: it has learned before (arXiv 1711.05101)."""
    encoder = list(network.encoder.parameters())
    known = {id(parameter) for parameter in encoder}
    rest = [parameter for parameter in network.parameters() if id(parameter) not in known]
    groups = [
        {"params": encoder, "relative": settings.encoder_rate},
        {"params": rest, "relative": 1.0},
    ]
    return torch.optim.AdamW(groups, lr=settings.rate, weight_decay=settings.decay)


def _freeze_statistics(encoder: torch.nn.Module) -> None:
    for module in encoder.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            module.eval()


def _tiles(
    region: LabelledPixels, side_px: int, batch_size: int
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Batches that cover a region side by side; a tile in which no pixel has a class is left out."""
    height, width = region.targets.shape
    batch: list[tuple[UInt8, UInt8]] = []
    for y in range(0, height, side_px):
        for x in range(0, width, side_px):
            tile = padded(region, y, x, side_px)
            if (tile[1] != IGNORED).any():
                batch.append(tile)
            if len(batch) == batch_size:
                yield _stacked(batch)
                batch = []
    if batch:
        yield _stacked(batch)


def _write_history(path: Path, history: Sequence[Row]) -> None:
    """A row an epoch; empty where nothing was measured."""
    rows = [{k: f"{v:.6g}" if math.isfinite(v) else "" for k, v in row.items()} for row in history]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(history[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def _stacked(batch: Sequence[tuple[UInt8, UInt8]]) -> tuple[torch.Tensor, torch.Tensor]:
    rgb, targets = zip(*batch, strict=True)
    return torch.from_numpy(np.stack(rgb)), torch.from_numpy(np.stack(targets))


def _read_checkpoint(job: FitJob) -> dict[str, Any]:
    """The state of a training.

    Raises:
        UsageError: if it is another training's, or cannot be read.
    """
    path = job.folder / CHECKPOINT
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except UNREADABLE as error:
        raise UsageError(
            f"checkpoint {path} cannot be read: {error}. Delete it to begin anew"
        ) from error
    if state["key"] != job.key:
        raise UsageError(
            f"{path} belongs to a training with other settings or other data. Resume with the same ones, or choose "
            "another folder"
        )
    return state
