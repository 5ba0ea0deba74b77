"""The settings of a training, validated at the door."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from noctile.pipeline.models.card import Amount
from noctile.pipeline.models.network import Architecture
from noctile.pipeline.training.augment import Variation
from noctile.pipeline.truth.find import DataSource
from noctile.pipeline.truth.split import SplitSpec

Count = Annotated[int, Field(ge=1)]
Rate = Annotated[float, Field(gt=0)]


class TrainSettings(BaseModel):
    """How a model is trained. Every field can stand in the TOML file of ``--config``.

    Attributes:
        data: where regions with known classes are; ``DATA`` of the command stands before them.
        split: who trains, who chooses the best epoch, who measures.
        classes: class scheme: bcss21, bcss5, tumor, or a TOML file.
        empty_classes: whether a class may have no training pixel.
        architecture: a class of segmentation-models-pytorch.
        encoder: as segmentation-models-pytorch calls it.
        encoder_weights: "imagenet", "none", or a file.
        decoder_channels: of the architecture's decoder, finest last; None: its own default.
        mpp: pixel size at which the model looks (um).
        tile_px: side of the tiles that a run gives the model (px).
        overlap_px: how far those overlap (px).
        stain: amounts of haematoxylin and eosin (natural optical density) that each region, and
            later each slide, is brought to (`noctile.pipeline.normalize`); None: they are taken as
            they are.
        crop_px: side of the crops in training (px).
        batch_size: crops in a forward pass, over all processes.
        accumulate: forward passes in a step of the optimizer.
        epochs: at most.
        steps_per_epoch: steps of the optimizer in an epoch; None: as many as cut each training
            pixel once on average.
        patience: epochs without a better validation Dice before training stops; without a
            validation side it does not.
        rate: learning rate of the decoder (AdamW); it rises over the first steps and falls as a
            cosine.
        encoder_rate: that of the encoder, relative to ``rate``.
        warmup_steps: over which the rate rises.
        decay: weight decay.
        average: decay per step of the moving average of the weights, which is what is measured and
            kept; 0: the weights themselves. (Polyak and Juditsky 1992; for domains not seen: Cha et
            al. 2021, arXiv 2102.08604)
        frozen_statistics: keep the encoder's batch norms at the statistics that it came with.
        dice: weight of the Dice loss beside the cross-entropy.
        smoothing: label smoothing of the cross-entropy.
        class_weights: "auto": by frequency (`class_weights`); "none".
        variation: of the crops.
        odds: what the odds of a class, by its name, are multiplied with when the model is written:
            where the share of the classes in the crops is known not to be that of slides. (Menon et
            al. 2021, arXiv 2007.07314)
        half: store the weights as float16.
        seed: of everything that is drawn.
        device: ``auto`` takes the GPUs where there are any.
        processes: that train together; None: one per GPU, one on the CPU.
        workers: processes that cut crops, for each of those; None: none on the CPU, up to eight
            beside a GPU.
        name: of the model; None: the folder's.
        description: for the card.
        licence: of the weights, for the card.
        limits: what the model must not be used for, for the card.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    data: tuple[DataSource, ...] = ()
    split: SplitSpec = SplitSpec()
    classes: str = "bcss5"
    empty_classes: bool = False
    architecture: Architecture = "Unet"
    encoder: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]+$")] = "resnet34"
    encoder_weights: str = "imagenet"
    decoder_channels: tuple[Count, ...] | None = None
    mpp: Annotated[float, Field(gt=0, le=32)] = 0.5
    tile_px: Annotated[int, Field(ge=32, le=8192, multiple_of=32)] = 512
    overlap_px: Annotated[int, Field(ge=0, multiple_of=2)] = 128
    stain: tuple[Amount, Amount] | None = None
    crop_px: Annotated[int, Field(ge=32, le=4096, multiple_of=32)] = 512
    batch_size: Count = 8
    accumulate: Count = 1
    epochs: Count = 50
    steps_per_epoch: Count | None = None
    patience: Count = 10
    rate: Rate = 1e-3
    encoder_rate: Annotated[float, Field(ge=0)] = 0.1
    warmup_steps: Annotated[int, Field(ge=0)] = 20
    decay: Annotated[float, Field(ge=0)] = 0.01
    average: Annotated[float, Field(ge=0, lt=1)] = 0.99
    frozen_statistics: bool = False
    dice: Annotated[float, Field(ge=0)] = 1.0
    smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    class_weights: Literal["auto", "none"] = "auto"
    variation: Variation = Variation()
    odds: dict[str, Annotated[float, Field(gt=0, le=1000)]] = {}
    half: bool = False
    seed: Annotated[int, Field(ge=0)] = 0
    device: Annotated[str, Field(pattern=r"^(auto|cpu|cuda(:\d+)?)$")] = "auto"
    processes: Count | None = None
    workers: Annotated[int, Field(ge=0)] | None = None
    name: Annotated[str, Field(pattern=r"^[a-zA-Z0-9][a-zA-Z0-9_.-]*$", max_length=64)] | None = (
        None
    )
    description: str = ""
    licence: str = "not stated"
    limits: str = "Research use only: not a medical device. Check it on slides of your own before you trust its areas."

    def resolved(self, base: Path) -> "TrainSettings":
        """The same with absolute paths, all but those of the data, from ``base``, the settings
        file's folder.
        """
        split = self.split.model_copy(
            update={"file": self.split.file and (base / self.split.file).resolve()}
        )
        update: dict[str, object] = {"split": split}
        if self.encoder_weights not in {"imagenet", "none"}:
            update["encoder_weights"] = str((base / self.encoder_weights).resolve())
        if self.classes.endswith(".toml"):
            update["classes"] = str((base / self.classes).resolve())
        return self.model_copy(update=update)
