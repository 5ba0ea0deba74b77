"""From the codes in masks to the classes of a model: `ClassScheme`, the built-in ones and the
user's own file.
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Final

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from noctile.pipeline.arrays import UInt8
from noctile.pipeline.errors import UsageError
from noctile.pipeline.models.card import ClassInfo
from noctile.pipeline.models.folder import MAX_FAULTS
from noctile.pipeline.untrusted import SETTINGS_BYTES, parse_toml, read_text

IGNORED: Final = 255
"""Target value of pixels that count neither in the loss nor in any figure."""

OUTSIDE, TUMOR, STROMA, OTHER = 0, 1, 2, 21

BCSS_CODES: Final[Mapping[str, int]] = MappingProxyType(
    {
        "outside_roi": 0,
        "tumor": 1,
        "stroma": 2,
        "lymphocytic_infiltrate": 3,
        "necrosis_or_debris": 4,
        "glandular_secretions": 5,
        "blood": 6,
        "exclude": 7,
        "metaplasia_NOS": 8,
        "fat": 9,
        "plasma_cells": 10,
        "other_immune_infiltrate": 11,
        "mucoid_material": 12,
        "normal_acinus_or_duct": 13,
        "lymphatics": 14,
        "undetermined": 15,
        "nerve": 16,
        "skin_adnexa": 17,
        "blood_vessel": 18,
        "angioinvasion": 19,
        "dcis": 20,
        "other": 21,
    }
)
"""Region classes of the Breast Cancer Semantic Segmentation data set (its meta/gtruth_codes.tsv). 0
is no class: nobody looked there."""

_COLORS = (
    *(
        (200, 30, 45),
        (250, 175, 190),
        (70, 90, 200),
        (90, 90, 90),
        (220, 170, 240),
        (140, 0, 0),
        (30, 30, 30),
    ),
    *(
        (240, 140, 60),
        (250, 215, 90),
        (60, 160, 220),
        (40, 60, 130),
        (150, 220, 210),
        (90, 180, 90),
        (190, 230, 130),
    ),
    *(
        (170, 170, 170),
        (230, 230, 60),
        (200, 140, 100),
        (240, 70, 70),
        (150, 20, 90),
        (230, 60, 160),
        (205, 200, 180),
    ),
)
"""Of the codes 1..21; those that `sample_slides` draws have its colours."""

TUMOR_CODES: Final = (1, 19, 20)
"""Tumor, angioinvasion and DCIS: what the BCSS challenge counts as tumor. (kaiko-ai/eva,
``bcss.py``)"""

UNSURE_CODES: Final = (7, 15)
"""Exclude and undetermined: somebody looked, and nobody said what it is."""


@dataclass(frozen=True, slots=True)
class ClassScheme:
    """Which classes a model has and which codes of a mask make up each.

    Attributes:
        name: "bcss21", "bcss5", "tumor", or what the user's file says.
        classes: as they stand in a model's card; channel ``k`` of the model is ``classes[k]``.
        sources: from a code in a mask to the index of its class, or to `IGNORED`; a code that is
            not in it is unknown.
    """

    name: str
    classes: tuple[ClassInfo, ...]
    sources: Mapping[int, int]

    def targets(self, codes: UInt8, where: str) -> UInt8:
        """What a model is to answer at each pixel.

        Args:
            codes: of a mask, uint8, any shape.
            where: names the mask in the message.

        Returns:
            uint8 of the same shape: index of a class, or `IGNORED`.

        Raises:
            UsageError: if there are codes that the scheme does not know.
        """
        data = bytearray(np.ascontiguousarray(codes))
        if unknown := sorted(Counter(data.translate(None, delete=bytes(self.sources))).items()):
            found = ", ".join(f"{code} ({count} px)" for code, count in unknown[:8])
            more = f" and {len(unknown) - 8} more" if len(unknown) > 8 else ""
            raise UsageError(
                f"{where}: class scheme {self.name} does not know the codes {found}{more}; it knows "
                f"{_ranges(self.sources)}. Name them in a scheme of your own (--classes my.toml: from or ignore); if "
                "the masks are black and white, say masks = 'binary'"
            )
        table = bytes(self.sources.get(code, IGNORED) for code in range(256))
        return np.frombuffer(data.translate(table), np.uint8).reshape(codes.shape)

    def to_toml(self) -> str:
        """The scheme as a user's file, which `load_scheme` reads back."""
        ignored = sorted(code for code, k in self.sources.items() if k == IGNORED)
        lines = [f"name = {json.dumps(self.name)}", f"ignore = {ignored}"]
        for k, info in enumerate(self.classes):
            codes = sorted(code for code, index in self.sources.items() if index == k)
            lines += ["", "[[classes]]", f"code = {info.code}", f'name = "{info.name}"']
            lines += [f"color = {list(info.color)}", f'role = "{info.role}"', f"from = {codes}"]
        return "\n".join(lines) + "\n"


_EXAMPLE = """it looks like this, with the codes of your masks in from and ignore:
  name = "mine"
  ignore = [0, 7]
  [[classes]]
  code = 1
  name = "tumor"
  color = [200, 30, 45]
  role = "tumor"
  from = [1, 19, 20]"""


def load_scheme(name_or_path: str) -> ClassScheme:
    """A built-in scheme by its name, or one from a TOML file.

    Raises:
        UsageError: if there is neither, or the file cannot be used; the message names the setting.
    """
    if built_in := BUILT_IN.get(name_or_path):
        return built_in
    path = Path(name_or_path)
    if path.suffix != ".toml":
        raise UsageError(
            f"class scheme {name_or_path!r} is not known: use {', '.join(BUILT_IN)}, or a file whose name ends in .toml"
        )
    try:
        return _SchemeFile(**parse_toml(read_text(path, SETTINGS_BYTES))).scheme()
    except ValidationError as error:
        places = ((".".join(map(str, e["loc"])), e) for e in error.errors()[:MAX_FAULTS])
        lines = [
            f"  {place:.80}: {e['msg']:.500} (found {e['input']!r:.80})" for place, e in places
        ]
        raise UsageError(
            "\n".join([f"class scheme {path} cannot be used:", *lines, _EXAMPLE])
        ) from error
    except (OSError, ValueError) as error:
        raise UsageError(f"class scheme {path}: {error}") from error


_Code = Annotated[int, Field(ge=0, le=255)]


class _ClassEntry(ClassInfo):
    """A class of a user's file: a class of the card, and the codes that it is made of."""

    sources: Annotated[tuple[_Code, ...], Field(alias="from", min_length=1)]


class _SchemeFile(BaseModel):
    """A user's file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Annotated[str, Field(min_length=1)]
    classes: Annotated[tuple[_ClassEntry, ...], Field(min_length=2, max_length=IGNORED)]
    ignore: tuple[_Code, ...] = ()

    @model_validator(mode="after")
    def _consistent(self) -> "_SchemeFile":
        codes = [*self.ignore, *(code for entry in self.classes for code in entry.sources)]
        stated: tuple[tuple[str, Sequence[int | str]], ...] = (
            ("class code", [entry.code for entry in self.classes]),
            ("class name", [entry.name for entry in self.classes]),
            ("code of a mask (from, ignore)", codes),
        )
        for what, values in stated:
            if twice := sorted({value for value in values if values.count(value) > 1}, key=str):
                raise ValueError(f"a {what} stands twice: {twice}")
        return self

    def scheme(self) -> ClassScheme:
        """What it describes; code 0 is ignored unless a class is made of it."""
        sources = {OUTSIDE: IGNORED} | dict.fromkeys(self.ignore, IGNORED)
        sources |= {code: k for k, entry in enumerate(self.classes) for code in entry.sources}
        classes = tuple(
            ClassInfo(**entry.model_dump(exclude={"sources"})) for entry in self.classes
        )
        return ClassScheme(self.name, classes, sources)


def _ranges(codes: Iterable[int]) -> str:
    """Codes as people write them: "0 to 6, 8"."""
    words: list[list[int]] = []
    for code in sorted(codes):
        if words and code == words[-1][-1] + 1:
            words[-1].append(code)
        else:
            words.append([code])
    return ", ".join(f"{run[0]} to {run[-1]}" if len(run) > 1 else str(run[0]) for run in words)


def _built_in(
    name: str, groups: Mapping[str, tuple[int, ...]], ignored: Iterable[int]
) -> ClassScheme:
    """A scheme over the codes of BCSS; a group has the code and the colour of its first member."""
    tumors = set(TUMOR_CODES)
    classes = [
        ClassInfo(
            code=codes[0],
            name=group,
            color=_COLORS[codes[0] - 1],
            role="tumor"
            if tumors.issuperset(codes)
            else "ignore"
            if codes[0] in UNSURE_CODES
            else "tissue",
        )
        for group, codes in groups.items()
    ]
    sources = dict.fromkeys(ignored, IGNORED) | {
        code: k for k, codes in enumerate(groups.values()) for code in codes
    }
    return ClassScheme(name, tuple(classes), sources)


def _rest(*named: tuple[int, ...]) -> tuple[int, ...]:
    """`OTHER`, and every code that is neither named nor skipped."""
    taken = {OUTSIDE, OTHER, *UNSURE_CODES, *(code for codes in named for code in codes)}
    return (OTHER, *(code for code in BCSS_CODES.values() if code not in taken))


_INFLAMMATORY, _NECROSIS = (3, 10, 11), (4,)

BUILT_IN: Final[Mapping[str, ClassScheme]] = MappingProxyType(
    {
        scheme.name: scheme
        for scheme in (
            _built_in(
                "bcss21",
                {name: (code,) for name, code in BCSS_CODES.items() if code != OUTSIDE},
                (OUTSIDE,),
            ),
            _built_in(
                "bcss5",
                {
                    "tumor": TUMOR_CODES,
                    "stroma": (STROMA,),
                    "inflammatory": _INFLAMMATORY,
                    "necrosis": _NECROSIS,
                    "other": _rest(TUMOR_CODES, (STROMA,), _INFLAMMATORY, _NECROSIS),
                },
                (OUTSIDE, *UNSURE_CODES),
            ),
            _built_in(
                "tumor",
                {"tumor": TUMOR_CODES, "other": _rest(TUMOR_CODES)},
                (OUTSIDE, *UNSURE_CODES),
            ),
        )
    }
)
"""The schemes that need no file.

``bcss21`` has every code but 0; `UNSURE_CODES` are classes that enter no sum. ``bcss5`` groups as
the BCSS challenge does (kaiko-ai/eva, ``bcss.py``), except that eva counts the `UNSURE_CODES` as
other where here they are ignored: nobody said what they are. ``tumor`` is the first of those groups
against the rest.
"""
