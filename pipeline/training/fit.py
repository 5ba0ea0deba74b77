"""Training loop: crops in, a checkpoint after each epoch, the best weights out.

It is a plain loop without a training framework (decision record 0005). All values in a step depend
on the seed and on the number of the step alone. A training that was killed and resumed therefore
makes the same steps as one that was not.
"""

import copy
import math
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from itertools import chain
from typing import Any

import numpy as np
import torch
from torch import distributed
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, Dataset

from noctile.pipeline.arrays import Float64, UInt8
from noctile.pipeline.errors import UsageError
from noctile.pipeline.training.checkpoint import (
    CHECKPOINT,
    Progress,
    read_checkpoint,
    write_checkpoint,
    write_history,
)
from noctile.pipeline.training.crops import CropSampler
from noctile.pipeline.training.encoder import fill_encoder
from noctile.pipeline.training.job import FitJob, FitResult, HistoryRow, Say
from noctile.pipeline.training.losses import SegmentationLoss
from noctile.pipeline.training.network import (
    freeze_statistics,
    learning_rate,
    make_optimizer,
    new_network,
    set_rate,
    to_input,
    update_average,
)
from noctile.pipeline.training.validation import loss_and_dice, tile_batches, validation_sums

_CLIP_NORM = 1.0
"""Largest norm of the gradient, so that one odd batch does not undo many. (Pascanu et al. 2013,
arXiv 1211.5063)"""

_SAY_SECONDS = 30.0
"""Time between two lines of progress within an epoch (s)."""


def fit(job: FitJob, say: Say) -> FitResult:
    """Train until the last epoch, or until no epoch has been better for the job's patience.

    A checkpoint in the job's folder is resumed.

    Args:
        job: the training.
        say: takes each line of progress.

    Raises:
        UsageError: if the encoder's weights cannot be read, or a checkpoint belongs to another
            training.
        RuntimeError: if one of several processes dies.
    """
    if job.processes == 1:
        _Trainer(job, 0, say).run()
    else:
        _run_processes(job, say)
    state = read_checkpoint(job.folder / CHECKPOINT, job.key)
    network = new_network(job.settings, len(job.names))
    network.load_state_dict(state["best"])
    return FitResult(network, state["history"], state["best_epoch"], state["start"])


def _run_processes(job: FitJob, say: Say) -> None:
    """Train in several processes, and pass on the lines of progress of the first."""
    context = torch.multiprocessing.get_context("spawn")
    lines = context.SimpleQueue()
    with tempfile.TemporaryDirectory() as folder:
        address = f"file://{folder}/processes"
        processes = torch.multiprocessing.spawn(  # type: ignore[attr-defined, no-untyped-call]
            _run_process, (job, address, lines), job.processes, join=False
        )
        while not processes.join(timeout=0.2):
            while not lines.empty():
                say(lines.get())
        while not lines.empty():
            say(lines.get())


def _run_process(rank: int, job: FitJob, address: str, lines: Any) -> None:
    """Run one of several training processes, from start to end."""
    backend = "nccl" if job.on_gpu else "gloo"
    distributed.init_process_group(
        backend, init_method=address, rank=rank, world_size=job.processes
    )
    try:
        _Trainer(job, rank, lines.put if rank == 0 else lambda _: None).run()
    finally:
        distributed.destroy_process_group()


class _CropDataset(Dataset[tuple[UInt8, UInt8]]):
    """Crops of one process, in their order; the process that cuts them opens the files."""

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
        return np.array(rgb), np.array(targets)  # the loader needs writable arrays


class _Trainer:
    """One process of a training: its networks, its optimizer and its progress."""

    def __init__(self, job: FitJob, rank: int, say: Say) -> None:
        self._job, self._rank, self._say = job, rank, say
        settings = job.settings
        several_gpus = job.on_gpu and job.processes > 1
        self._device = torch.device("cuda", rank) if several_gpus else torch.device(job.device)
        torch.manual_seed(settings.seed)
        network = new_network(settings, len(job.names))
        path = job.folder / CHECKPOINT
        state = read_checkpoint(path, job.key) if path.is_file() else None
        self._progress = (
            Progress.from_state(state)
            if state
            else Progress(fill_encoder(network, settings.encoder, settings.encoder_weights))
        )
        self._network = network.to(self._device, memory_format=torch.channels_last)
        self._average = copy.deepcopy(self._network).eval().requires_grad_(False)
        self._optimizer = make_optimizer(self._network, settings)
        loss = SegmentationLoss(
            job.weights, settings.dice, settings.smoothing, settings.point_weight
        )
        self._loss = loss.to(self._device)
        bf16 = job.on_gpu and torch.cuda.is_bf16_supported()
        self._dtype = torch.bfloat16 if bf16 else torch.float16
        self._scaler = torch.amp.GradScaler(
            self._device.type, enabled=job.on_gpu and self._dtype == torch.float16
        )
        if state:
            self._restore(state)
        self._parallel = self._parallelize()

    def run(self) -> None:
        """Train all epochs that are left."""
        job, progress = self._job, self._progress
        batches = self._batches()
        while progress.epoch < job.settings.epochs and not self._patience_ended():
            began = time.monotonic()
            # this seed is for layers that drop values at random
            torch.manual_seed(job.settings.seed * 1_000_003 + progress.epoch)
            train_loss = self._train_epoch(batches)
            val_loss, dice = self._validate()
            progress.epoch += 1
            progress.seconds += time.monotonic() - began
            self._finish_epoch(train_loss, val_loss, dice)
            if self._rank == 0:
                self._save()

    def _parallelize(self) -> torch.nn.Module:
        """The network itself, or for several processes a wrapper that averages their gradients."""
        job = self._job
        if job.processes == 1:
            network: torch.nn.Module = self._network
            return network
        if job.on_gpu and not job.settings.frozen_statistics:
            self._network = torch.nn.SyncBatchNorm.convert_sync_batchnorm(self._network)  # type: ignore[no-untyped-call]
        return DistributedDataParallel(self._network, [self._device] if job.on_gpu else None)

    def _batches(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """The batches of this process that are left: pixels and targets."""
        job, settings = self._job, self._job.settings
        size = settings.batch_size
        own = range(self._rank * size // job.processes, (self._rank + 1) * size // job.processes)
        first, last = (
            n * job.steps * settings.accumulate for n in (self._progress.epoch, settings.epochs)
        )
        numbers = [batch * size + k for batch in range(first, last) for k in own]
        loader = DataLoader(
            _CropDataset(job, numbers),
            batch_size=len(own),
            num_workers=job.workers,
            multiprocessing_context="spawn" if job.workers else None,
            pin_memory=self._device.type == "cuda",
        )
        return iter(loader)

    def _train_epoch(self, batches: Iterator[tuple[torch.Tensor, torch.Tensor]]) -> float:
        """Make the steps of an epoch and return their mean loss."""
        job, progress = self._job, self._progress
        self._network.train()
        if job.settings.frozen_statistics:
            freeze_statistics(self._network.encoder)
        total, said, first = 0.0, time.monotonic(), time.monotonic()
        for step in range(1, job.steps + 1):
            rate = learning_rate(job.settings, progress.step, job.settings.epochs * job.steps)
            set_rate(self._optimizer, rate)
            total += self._train_step(batches)
            progress.step += 1
            if time.monotonic() - said > _SAY_SECONDS:
                said = time.monotonic()
                left = (said - first) / step * (job.steps * job.settings.epochs - progress.step)
                self._say(
                    f"epoch {progress.epoch + 1}, step {step} of {job.steps}: loss "
                    f"{total / step:.3f}, rate {rate:.1e}, at most {left / 60:.0f} min left"
                )
        return self._mean_of_processes(total / job.steps)

    def _train_step(self, batches: Iterator[tuple[torch.Tensor, torch.Tensor]]) -> float:
        """Make one step of the optimizer and return its loss."""
        parts = self._job.settings.accumulate
        total = 0.0
        for part in range(parts):
            rgb, targets = next(batches)
            last = part == parts - 1 or self._parallel is self._network
            with nullcontext() if last else self._parallel.no_sync():  # type: ignore[operator]
                logits = self._forward(self._parallel, rgb)
                loss = self._loss(logits, targets.to(self._device)) / parts
                self._scaler.scale(loss).backward()
            total += loss.item()
        if not math.isfinite(total):
            raise UsageError(
                f"step {self._progress.step}: the loss is {total}. Choose a smaller rate"
            )
        self._scaler.unscale_(self._optimizer)
        torch.nn.utils.clip_grad_norm_(self._network.parameters(), _CLIP_NORM)
        self._scaler.step(self._optimizer)
        self._scaler.update()
        self._optimizer.zero_grad()
        decay = self._job.settings.average
        update_average(self._average, self._network, self._progress.step, decay)
        return total

    def _forward(self, network: torch.nn.Module, rgb: torch.Tensor) -> torch.Tensor:
        """Logits of a batch; on a GPU in half precision."""
        with torch.autocast(self._device.type, self._dtype, enabled=self._device.type == "cuda"):
            logits: torch.Tensor = network(to_input(rgb, self._device))
        return logits

    @torch.no_grad()
    def _validate(self) -> tuple[float, Float64]:
        """Loss and Dice of each class on the validation side; the processes share its regions."""
        job, settings = self._job, self._job.settings
        regions = job.val.open()[self._rank :: job.processes]
        batches = chain.from_iterable(
            tile_batches(region, settings.crop_px, settings.batch_size) for region in regions
        )
        sums = validation_sums(
            batches,
            lambda rgb: self._forward(self._average, rgb),
            self._loss,
            len(job.names),
            self._device,
        )
        if job.processes > 1:
            distributed.all_reduce(sums)
        return loss_and_dice(sums)

    def _mean_of_processes(self, value: float) -> float:
        """Mean of a value over all processes."""
        if self._job.processes == 1:
            return value
        values = torch.tensor(value, device=self._device)
        distributed.all_reduce(values)
        return float(values) / self._job.processes

    def _finish_epoch(self, train_loss: float, val_loss: float, dice: Float64) -> None:
        """Add an epoch to the history, and keep its weights if they are the best."""
        progress = self._progress
        counted = dice[list(self._job.counted)]
        mean = float(np.nanmean(counted)) if np.isfinite(counted).any() else math.nan
        row = {
            "epoch": progress.epoch,
            "step": progress.step,
            "seconds": round(progress.seconds, 1),
            "lr": self._optimizer.param_groups[-1]["lr"],
            "train_loss": train_loss,
            "val_loss": val_loss,
            "val_dice_mean": mean,
            **{f"val_dice_{name}": float(d) for name, d in zip(self._job.names, dice, strict=True)},
        }
        better = progress.is_better(mean)
        progress.history.append(row)
        if better:
            progress.best_epoch = progress.epoch
            progress.best = copy.deepcopy(self._average.state_dict())
        self._say(self._epoch_line(row, better))

    def _epoch_line(self, row: HistoryRow, better: bool) -> str:
        """One line of progress about a finished epoch."""
        progress, epochs = self._progress, self._job.settings.epochs
        mean = row["val_dice_mean"]
        measured = f", val loss {row['val_loss']:.3f}, mean Dice {mean:.3f}" + " (best)" * better
        left = progress.seconds / progress.epoch * (epochs - progress.epoch)
        return (
            f"epoch {progress.epoch} of {epochs}: train loss {row['train_loss']:.3f}"
            f"{'' if math.isnan(mean) else measured}; "
            f"{progress.seconds / 60:.1f} min, at most {left / 60:.1f} left"
        )

    def _patience_ended(self) -> bool:
        """True if no epoch has been better for the number of epochs in the settings."""
        progress = self._progress
        measured = bool(self._job.val.ids) and bool(progress.history)
        return measured and progress.epoch - progress.best_epoch >= self._job.settings.patience

    def _save(self) -> None:
        """Write the checkpoint and history.csv."""
        state = {
            "key": self._job.key,
            "network": self._network.state_dict(),
            "average": self._average.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "scaler": self._scaler.state_dict(),
            **{name: getattr(self._progress, name) for name in Progress.__dataclass_fields__},
        }
        write_checkpoint(self._job.folder / CHECKPOINT, state)
        write_history(self._job.folder / "history.csv", self._progress.history)

    def _restore(self, state: Mapping[str, Any]) -> None:
        """Load networks, optimizer and scaler from a checkpoint."""
        self._network.load_state_dict(state["network"])
        self._average.load_state_dict(state["average"])
        self._optimizer.load_state_dict(state["optimizer"])
        self._scaler.load_state_dict(state["scaler"])
        self._say(f"resumed after epoch {state['epoch']}")
