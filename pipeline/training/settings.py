"""Settings of a training, validated when they are read."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from noctile.pipeline.models.card import Amount, check_encoder_name, check_model_name
from noctile.pipeline.models.device import check_device_name
from noctile.pipeline.models.network import Architecture
from noctile.pipeline.training.augment import Variation
from noctile.pipeline.truth.find import DataSource
from noctile.pipeline.truth.split import SplitSpec

Count = Annotated[int, Field(ge=1)]
Rate = Annotated[float, Field(gt=0)]


class TrainSettings(BaseModel):
    """Settings of a training. The TOML file of ``--config`` can set every field.

    Attributes:
        data: folders of regions with known classes; their paths are looked up in ``DATA`` of the
            command.
        split: settings of the split into training, validation and test.
        classes: class scheme: bcss21, bcss5, tumor, or a TOML file.
        empty_classes: true if a class may be without training pixels.
        architecture: class of segmentation-models-pytorch.
        encoder: name of the encoder in segmentation-models-pytorch.
        encoder_weights: first weights of the encoder: "imagenet", "none", or a file.
        decoder_channels: channels of the architecture's decoder, finest last; None: its default.
        mpp: pixel size at which the model predicts (um).
        tile_px: side of the tiles that a run gives to the model (px).
        overlap_px: overlap of these tiles (px).
        stain: amounts of haematoxylin and eosin (natural optical density) to which each region, and
            later each slide, is normalized (`noctile.pipeline.normalize`); None: no normalization.
        crop_px: side of the training crops (px).
        batch_size: number of crops in a forward pass, over all processes.
        accumulate: number of forward passes in a step of the optimizer.
        epochs: largest number of epochs.
        steps_per_epoch: number of optimizer steps in an epoch; None: enough to cut each training
            pixel once on average.
        patience: number of epochs without a better validation Dice after which training stops;
            without a validation side it goes on to the last epoch.
        rate: learning rate of the decoder (AdamW); it rises over the first steps and falls as a
            cosine.
        encoder_rate: learning rate of the encoder, relative to ``rate``.
        warmup_steps: number of steps over which the rate rises.
        decay: weight decay.
        average: decay in each step of the moving average of the weights, which is validated and
            written; 0: the weights themselves. (Polyak and Juditsky 1992; for unseen domains: Cha
            et al. 2021, arXiv 2102.08604)
        frozen_statistics: true to keep the statistics of the encoder's batch norms as they are.
        dice: weight of the Dice loss relative to the cross-entropy.
        smoothing: label smoothing of the cross-entropy.
        point_weight: weight of each pixel of a point in the cross-entropy, relative to a pixel of
            an area. With 50, a point counts as much as a square of 63 um.
        class_weights: "auto": weights by frequency (`class_weights`); "none": equal weights.
        variation: limits of the augmentation of the crops.
        odds: factor for the odds of a class, by its name, in the written model; for crops whose
            shares of classes are known to differ from those of slides. (Menon et al. 2021, arXiv
            2007.07314)
        half: true to store the weights as float16.
        seed: seed of all random values.
        device: device of the training; ``auto`` takes all GPUs, or the CPU if there is none.
        processes: number of processes that train together; None: one for each GPU, one on the CPU.
        workers: number of processes that cut crops for each training process; None: none on the
            CPU, up to eight with a GPU.
        name: name of the model; None: the folder's name.
        description: description of the model, for the card.
        licence: licence of the weights, for the card.
        limits: uses for which the model is not made, for the card.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    data: tuple[DataSource, ...] = ()
    split: SplitSpec = SplitSpec()
    classes: str = "bcss5"
    empty_classes: bool = False
    architecture: Architecture = "Unet"
    encoder: Annotated[str, AfterValidator(check_encoder_name)] = "resnet34"
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
    point_weight: Annotated[float, Field(ge=1, le=10_000)] = 50.0
    class_weights: Literal["auto", "none"] = "auto"
    variation: Variation = Variation()
    odds: dict[str, Annotated[float, Field(gt=0, le=1000)]] = {}
    half: bool = False
    seed: Annotated[int, Field(ge=0)] = 0
    device: Annotated[str, AfterValidator(check_device_name)] = "auto"
    processes: Count | None = None
    workers: Annotated[int, Field(ge=0)] | None = None
    name: Annotated[str, AfterValidator(check_model_name)] | None = None
    description: str = ""
    licence: str = "not stated"
    limits: str = (
        "Research use only: not a medical device. Check it on slides of your own before you trust "
        "its areas."
    )

    def resolved(self, base: Path) -> "TrainSettings":
        """Make all paths absolute except those of the folders of data.

        Args:
            base: folder of the settings file, to which paths are relative.
        """
        split = self.split.model_copy(
            update={"file": self.split.file and (base / self.split.file).resolve()}
        )
        data = tuple(
            source.model_copy(update={"exported": source.exported and base / source.exported})
            for source in self.data
        )
        update: dict[str, object] = {"split": split, "data": data}
        if self.encoder_weights not in {"imagenet", "none"}:
            update["encoder_weights"] = str((base / self.encoder_weights).resolve())
        if self.classes.endswith(".toml"):
            update["classes"] = str((base / self.classes).resolve())
        return self.model_copy(update=update)
