"""What a model says of itself (`ModelCard`) and what it can do (`Predictor`)."""

from typing import Annotated, Any, Literal, Protocol

from pydantic import BaseModel, ConfigDict, Field, model_validator

from noctile.pipeline.arrays import UInt8

Role = Literal["tumor", "tissue", "ignore"]
"""What a class counts for: tumour area, other tissue, or neither (it is masked, but enters no sum).
"""

Byte = Annotated[int, Field(ge=0, le=255)]

Mean = Annotated[float, Field(ge=-1e3, le=1e3)]
Deviation = Annotated[float, Field(ge=1e-4, le=1e4)]
"""From 1/255 (pixels are left at 0..255) to 1, and room; beyond, float32 has no numbers left for
the pixels."""

Amount = Annotated[float, Field(ge=0.01, le=8)]
"""Of a stain: natural optical density. Black has 5.5 in each channel."""


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class ClassInfo(_Strict):
    """One class of a model: channel ``k`` of its output is ``card.classes[k]``.

    Attributes:
        code: the value that pixels of this class have in the label map, 1..255 (0 means 'not
            analysed').
        name: snake_case; it names the columns of the tables.
        color: R, G, B, 0..255.
        role: what the class counts for.
    """

    code: Annotated[int, Field(ge=1, le=255)]
    name: Annotated[str, Field(pattern=r"^[a-zA-Z][a-zA-Z0-9_]*$", max_length=64)]
    color: tuple[Byte, Byte, Byte]
    role: Role


class ModelCard(_Strict):
    """What ``card.json`` holds beside a model's weights.

    Attributes:
        name: the model's name; also its folder's name where it ships with Noctile.
        description: one or two sentences for ``noctile models``.
        classes: one for each output channel, in the channels' order.
        mpp: pixel size at which the model looks (um).
        tile_px: side of the square tiles that it is given (px), a multiple of 32.
        overlap_px: how far neighbouring tiles overlap (px), even, smaller than the tile (decision
            record 0004).
        mean: per-channel mean that is subtracted from RGB scaled to 0..1.
        std: per-channel standard deviation that divides the difference.
        stain: amounts of haematoxylin and eosin (natural optical density) that each slide is
            brought to before the model looks (`noctile.pipeline.normalize`); None: it looks at
            slides as they are.
        sha256: of the weights file, lower-case hexadecimal.
        licence: SPDX identifier of the weights' licence.
        training: what it was trained on, and how (free form).
        metrics: what was measured, each with what it was measured on (free form).
        limits: what the model must not be used for.
    """

    name: Annotated[str, Field(pattern=r"^[a-zA-Z0-9][a-zA-Z0-9_.-]*$", max_length=64)]
    description: str
    classes: Annotated[tuple[ClassInfo, ...], Field(min_length=1, max_length=255)]
    mpp: Annotated[float, Field(gt=0, le=32)]
    tile_px: Annotated[int, Field(ge=32, le=8192, multiple_of=32)] = 512
    overlap_px: Annotated[int, Field(ge=0, multiple_of=2)] = 128
    mean: tuple[Mean, Mean, Mean] = (0.485, 0.456, 0.406)
    std: tuple[Deviation, Deviation, Deviation] = (0.229, 0.224, 0.225)
    stain: tuple[Amount, Amount] | None = None
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    licence: str
    training: dict[str, Any] = Field(default_factory=dict)
    metrics: dict[str, Any] = Field(default_factory=dict)
    limits: str = ""

    @model_validator(mode="after")
    def _consistent(self) -> "ModelCard":
        for what in ("code", "name"):
            values = [getattr(c, what) for c in self.classes]
            if len(set(values)) != len(values):
                raise ValueError(f"two classes have the same {what}: {values}")
        if self.overlap_px >= self.tile_px:
            raise ValueError(
                f"overlap_px ({self.overlap_px}) must be smaller than tile_px ({self.tile_px})"
            )
        return self


class Predictor(Protocol):
    """A model ready to look at tiles, in this process, on its device."""

    @property
    def card(self) -> ModelCard:
        """What the model says of itself."""
        ...

    @property
    def batch_size(self) -> int:
        """How many tiles it likes to be given at once."""
        ...

    def __call__(self, tiles: UInt8) -> Any:
        """Class probabilities of a batch of tiles.

        Args:
            tiles: uint8 ``[n, tile_px, tile_px, 3]``, RGB at ``card.mpp``.

        Returns:
            float32 ``[n, len(card.classes), tile_px, tile_px]``, each pixel's sum over classes is
            1; a numpy array or a torch tensor on the predictor's device (anything that
            `array_api_compat.array_namespace` takes).
        """
        ...
