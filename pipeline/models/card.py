"""The model card: a description of a model, its classes and the tiles that it takes."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from noctile.pipeline.wrong_values import matching

Role = Literal["tumor", "tissue", "ignore"]
"""Use of a class in the areas: tumor, other tissue, or neither (in the mask, but in no sum)."""

Byte = Annotated[int, Field(ge=0, le=255)]

Mean = Annotated[float, Field(ge=-1e3, le=1e3)]
Deviation = Annotated[float, Field(ge=1e-4, le=1e4)]
"""Standard deviation of a channel. Usual values lie between 1/255 (pixels stay in 0..255) and 1.
Outside the limits float32 cannot represent the scaled pixels."""

Amount = Annotated[float, Field(ge=0.01, le=8)]
"""Amount of a stain: natural optical density. Black has 5.5 in each channel."""

check_model_name = matching(
    r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,63}",
    "must have 1 to 64 of the characters a-z, A-Z, 0-9, '_', '.' and '-', a letter or digit first",
)
check_class_name = matching(
    r"[a-zA-Z][a-zA-Z0-9_]{0,63}",
    "must have 1 to 64 of the characters a-z, A-Z, 0-9 and '_', a letter first",
)
check_encoder_name = matching(
    r"[A-Za-z0-9_.-]+", "must have only the characters a-z, A-Z, 0-9, '_', '.' and '-'"
)
check_sha256_text = matching(r"[0-9a-f]{64}", "must have 64 of the characters 0-9 and a-f")


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class ClassInfo(_Strict):
    """One class of a model: channel ``k`` of its output is ``card.classes[k]``.

    Attributes:
        code: value of the class in the label map, 1..255 (0 means 'not analysed').
        name: name of the class in the columns of the tables, in snake_case.
        color: color of the class in pictures: R, G, B, 0..255 each.
        role: use of the class in the areas.
    """

    code: Annotated[int, Field(ge=1, le=255)]
    name: Annotated[str, AfterValidator(check_class_name)]
    color: tuple[Byte, Byte, Byte]
    role: Role


class ModelCard(_Strict):
    """The content of ``card.json``, which stands beside a model's weights.

    Attributes:
        name: name of the model; for an installed model also the name of its folder.
        description: one or two sentences about the model, for ``noctile models``.
        classes: one class for each output channel, in the order of the channels.
        mpp: pixel size of the tiles that the model takes (um).
        tile_px: side of the square tiles that the model takes (px), a multiple of 32.
        overlap_px: overlap of neighbouring tiles (px), even and smaller than the tile (decision
            record 0004).
        mean: mean of each channel, subtracted from RGB scaled to 0..1.
        std: standard deviation of each channel, which divides the difference.
        stain: amounts of haematoxylin and eosin (natural optical density) to which the colors of
            each slide are changed before prediction (`noctile.pipeline.normalize`); None: slides
            keep their colors.
        sha256: hash of the weights file, lower-case hexadecimal.
        licence: SPDX identifier of the licence of the weights.
        training: training data and settings (free form).
        metrics: measured quality, each figure with the data that it was measured on (free form).
        limits: uses for which the model is not fit.
    """

    name: Annotated[str, AfterValidator(check_model_name)]
    description: str
    classes: Annotated[tuple[ClassInfo, ...], Field(min_length=1, max_length=255)]
    mpp: Annotated[float, Field(gt=0, le=32)]
    tile_px: Annotated[int, Field(ge=32, le=8192, multiple_of=32)] = 512
    overlap_px: Annotated[int, Field(ge=0, multiple_of=2)] = 128
    mean: tuple[Mean, Mean, Mean] = (0.485, 0.456, 0.406)
    std: tuple[Deviation, Deviation, Deviation] = (0.229, 0.224, 0.225)
    stain: tuple[Amount, Amount] | None = None
    sha256: Annotated[str, AfterValidator(check_sha256_text)]
    licence: str
    training: dict[str, Any] = Field(default_factory=dict)
    metrics: dict[str, Any] = Field(default_factory=dict)
    limits: str = ""

    @model_validator(mode="after")
    def _consistent(self) -> "ModelCard":
        for field in ("code", "name"):
            values = [getattr(c, field) for c in self.classes]
            if len(set(values)) != len(values):
                raise ValueError(f"two classes have the same {field}: {values}")
        if self.overlap_px >= self.tile_px:
            raise ValueError(
                f"overlap_px ({self.overlap_px}) must be smaller than tile_px ({self.tile_px})"
            )
        return self
