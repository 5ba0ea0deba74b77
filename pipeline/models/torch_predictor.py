"""`TorchPredictor`: a network that torch computes, on the CPU or on a GPU."""

import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import TypeVar

import numpy as np
import torch

from noctile.pipeline.arrays import UInt8
from noctile.pipeline.errors import ModelError
from noctile.pipeline.models.cache_folder import private_cache_folder
from noctile.pipeline.models.card import ModelCard
from noctile.pipeline.models.cuda_labels import LabelsOnGpu, labels_on_gpu
from noctile.pipeline.models.network import check_output
from noctile.pipeline.models.pixel_labels import (
    PixelLabels,
    empty_pixel_labels,
    labels_from_logits,
    tumor_channels,
)
from noctile.pipeline.models.predictor import check_tiles

_BATCHES = (16, 8, 4, 2)
"""Possible sizes of a batch on a GPU. In one stream 32 tiles of 512 px at once are a tenth faster
than 16, but two streams with 32 are only 1 % faster than three with 16.
(benchmarks/history/gpu.md)"""

_HALVED = (torch.nn.Conv2d, torch.nn.ConvTranspose2d, torch.nn.Linear)
"""Layers whose weights are converted to float16 once, which autocast would do for each batch.
Their subclasses are left out, because a subclass may first compute with its weights."""

_COMPILED = "TORCHINDUCTOR_CACHE_DIR"
"""Variable with the folder of code that ``torch.compile`` made."""

_Result = TypeVar("_Result")


class TorchPredictor:
    """A network that torch computes. Several threads may call it at once.

    On the CPU each tile is one forward pass on one core, and ``threads`` passes run at once.
    Therefore, on one kind of CPU, the probabilities of a tile are the same bits in any batch and
    process and with any number of cores. They would not be otherwise, because torch chooses its
    convolutions by batch size and number of threads. This costs no time. A ResNet-34 U-Net of 21
    classes on 2 cores took 376 ms at best for a tile of 512 px, against 391 ms with both cores in
    each pass and 442 ms in batches of 4. Beside other work the median was 419 ms against 1268 ms
    and more, because the cores of one pass wait for each other.

    On a GPU a batch is one forward pass with convolutions in float16. Each calling thread has a
    stream of its own, and all its work runs in that stream in order. Tiles are uploaded from pinned
    memory, and no call waits for the GPU before a result is read. Therefore the next tiles can be
    read from the slide while the GPU computes.

    Args:
        card: the model's card.
        network: the network, which the predictor changes and keeps. Its input is RGB. Its output
            has one channel of logits for each class; or, for a card with two classes, a single
            channel with the logit of the first class.
        device: torch's name of the device.
        threads: number of tiles at once on the CPU; None: torch's number of threads.
        compiled: let ``torch.compile`` join the steps of the network, which takes a minute at the
            first batch. Each batch is filled up to ``batch_size``, because torch would compile for
            each size again. On a GPU only.
        processes_per_gpu: number of processes or threads that compute on one GPU and share its
            memory, this one included.

    Raises:
        ModelError: if the output of the network does not fit the card.
    """

    def __init__(
        self,
        card: ModelCard,
        network: torch.nn.Module,
        device: str = "cpu",
        threads: int | None = None,
        *,
        compiled: bool = False,
        processes_per_gpu: int = 1,
    ) -> None:
        check_output(network, card)
        self._card, self._device = card, torch.device(device)
        if self._device.type == "cuda":
            for layer in network.modules():
                if type(layer) in _HALVED:
                    layer.half()
        self._network: Callable[[torch.Tensor], torch.Tensor] = network.to(
            self._device,
            memory_format=torch.channels_last,  # type: ignore[call-overload]
        ).eval()
        mean, std = (
            torch.tensor(v, device=self._device).view(1, 3, 1, 1) for v in (card.mean, card.std)
        )
        self._scale, self._shift = 1 / (255 * std), -mean / std
        self._pool: ThreadPoolExecutor | None = None
        self._kernel: LabelsOnGpu | None = None
        if self._device.type == "cpu":
            self._batch_size = threads or torch.get_num_threads()
            self._pool = ThreadPoolExecutor(
                self._batch_size, "tiles", initializer=torch.set_num_threads, initargs=(1,)
            )
        else:
            self._prepare_gpu(compiled, processes_per_gpu)

    @property
    def card(self) -> ModelCard:
        """The model's card."""
        return self._card

    @property
    def batch_size(self) -> int:
        """Number of tiles in a batch: one for each thread on the CPU, a power of two on a GPU."""
        return self._batch_size

    def __call__(self, tiles: UInt8) -> torch.Tensor:
        """Class probabilities as for `Predictor`, float32 on the predictor's device.

        Raises:
            ValueError: if the tiles do not fit the card.
        """
        batch = self._to_tensor(tiles)
        if self._pool is None:
            return self._on_gpu(batch, self._probabilities)[: len(batch)]
        done = list(self._pool.map(self._probabilities, torch.split(batch, 1)))
        # copying 21 classes of a tile takes 11 ms
        return torch.cat(done) if len(done) > 1 else done[0]

    def predict_labels(self, tiles: UInt8, part: slice) -> PixelLabels:
        """Labels as for `LabelPredictor`.

        On the CPU each thread holds the logits of one tile at a time.

        Raises:
            ValueError: if the tiles do not fit the card.
        """
        batch = self._to_tensor(tiles)
        if self._pool is None:
            fields = self._on_gpu(batch, partial(self._labels, part=part))
            return PixelLabels(*(values[: len(batch)] for values in fields))
        tumor = tumor_channels(self._card)
        labels = empty_pixel_labels(len(batch), len(range(self._card.tile_px)[part]))

        def predict_one(k: int) -> None:
            logits = self._logits(batch[k : k + 1])[0, :, part, part]
            labels_from_logits(logits.numpy(), tumor, labels, k)

        list(self._pool.map(predict_one, range(len(batch))))
        return labels

    def _to_tensor(self, tiles: UInt8) -> torch.Tensor:
        check_tiles(tiles, self._card)
        return torch.from_numpy(np.require(tiles, requirements=("C", "W")))

    def _prepare_gpu(self, compiled: bool, processes_per_gpu: int) -> None:
        """Set up what only a GPU needs, and choose the batch size."""
        self._streams = threading.local()
        self._filled = compiled
        # torch can compile in one thread at a time only
        self._compiling: AbstractContextManager[object] = (
            threading.Lock() if compiled else nullcontext()
        )
        self._kernel = labels_on_gpu(
            len(self._card.classes), tumor_channels(self._card), self._device
        )
        self._batch_size = self._fitting_batch(processes_per_gpu)
        if compiled:
            _compile_in_private()
            self._logits = torch.compile(self._logits, dynamic=False)  # type: ignore[method-assign]

    def _on_gpu(self, tiles: torch.Tensor, compute: Callable[[torch.Tensor], _Result]) -> _Result:
        """Upload tiles and compute with them, in the stream of the calling thread.

        The result also covers the blank tiles that fill up a batch.
        """
        if not hasattr(self._streams, "own"):
            # the caller's later steps on the result run in this stream, too
            self._streams.own = torch.cuda.Stream(self._device)  # type: ignore[no-untyped-call]
            torch.cuda.set_stream(self._streams.own)
        missing = self._batch_size - len(tiles) if self._filled else 0
        if missing > 0:
            tiles = torch.cat([tiles, tiles.new_zeros(missing, *tiles.shape[1:])])
        uploaded = tiles.pin_memory().to(self._device, non_blocking=True)
        with self._compiling:
            return compute(uploaded)

    def _probabilities(self, tiles: torch.Tensor) -> torch.Tensor:
        return torch.softmax(self._logits(tiles), dim=1, dtype=torch.float32)

    def _labels(
        self, tiles: torch.Tensor, part: slice
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """The three fields of `PixelLabels` on the GPU, for one part of each tile."""
        logits = self._logits(tiles)[:, :, part, part]
        if self._kernel is not None:
            label, tumor, confidence = self._kernel(logits)
            return label, tumor, confidence
        logits = logits.contiguous()  # all steps are faster on channels that lie apart
        shares = torch.softmax(logits, dim=1, dtype=torch.float32)
        of_tumor = shares[:, tumor_channels(self._card)].sum(dim=1)
        tumor, confidence = (
            torch.nan_to_num(p * 255).round().clamp(0, 255).to(torch.uint8)
            for p in (of_tumor, shares.amax(dim=1))
        )
        return logits.argmax(dim=1).to(torch.uint8), tumor, confidence

    @torch.no_grad()  # not inference_mode: its tensors can never be changed in place
    def _logits(self, tiles: torch.Tensor) -> torch.Tensor:
        """Logits, float32 on the CPU, float16 on a GPU, one channel for each class."""
        # the result of permute stays channels last
        pixels = tiles.permute(0, 3, 1, 2).float() * self._scale + self._shift
        with torch.autocast(self._device.type, torch.float16, enabled=self._device.type == "cuda"):
            logits = self._network(pixels)
        if logits.shape[1] < len(self._card.classes):
            # the softmax of (x, 0) is the sigmoid of x, and the rest
            logits = torch.cat([logits, torch.zeros_like(logits)], dim=1)
        return logits

    def _fitting_batch(self, processes_per_gpu: int) -> int:
        """The largest of `_BATCHES` whose forward passes fit into half of the free GPU memory."""
        side = self._card.tile_px
        free, _ = torch.cuda.mem_get_info(self._device)
        before = torch.cuda.memory_allocated(self._device)
        torch.cuda.reset_peak_memory_stats(self._device)
        torch.softmax(
            self._logits(torch.zeros(1, side, side, 3, dtype=torch.uint8, device=self._device)),
            dim=1,
        )
        tile_bytes = torch.cuda.max_memory_allocated(self._device) - before
        # the upload of the weights must end before another stream uses them
        torch.cuda.synchronize(self._device)
        return largest_batch(tile_bytes * processes_per_gpu, free)


def largest_batch(tile_bytes: int, free_bytes: int) -> int:
    """The largest of `_BATCHES` that fits into half of the free memory, or else 1.

    The other half is left to other programs on the GPU.
    """
    return next((n for n in _BATCHES if n * tile_bytes <= free_bytes // 2), 1)


def _compile_in_private() -> None:
    """Let torch keep compiled code in a folder of this user.

    By default torch executes what it finds in the temporary folder under a name that every user of
    the machine can guess. (torch 2.14, `torch._inductor.runtime.cache_dir_utils`)

    Raises:
        ModelError: if there is no such folder.
    """
    if os.environ.get(_COMPILED):
        return
    try:
        os.environ[_COMPILED] = str(private_cache_folder("torch"))
    except OSError as error:
        raise ModelError(
            f"compile = true needs a folder to which no other user can write: {error}. Set "
            f"NOCTILE_CACHE or {_COMPILED} to another folder, or leave out compile"
        ) from error
