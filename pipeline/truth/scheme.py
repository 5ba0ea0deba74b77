"""Class schemes: from the codes in masks to the classes of a model, built in or in a file."""

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
from noctile.pipeline.untrusted import SETTINGS_BYTES, parse_toml, read_text
from noctile.pipeline.wrong_values import faults_of

IGNORED: Final = 255
"""Target value of pixels that are not counted, neither in the loss nor in any metric."""

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
"""Code of each region class in the Breast Cancer Semantic Segmentation data set. (its
meta/gtruth_codes.tsv)

0 is no class: that area was not annotated."""

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
"""Colours of the codes 1..21; codes that `sample_slides` draws have the same colours there."""

TUMOR_CODES: Final = (1, 19, 20)
"""Codes that the BCSS challenge counts as tumor: tumor, angioinvasion and DCIS. (kaiko-ai/eva,
``bcss.py``)"""

UNSURE_CODES: Final = (7, 15)
"""Codes of annotated areas without a known class: exclude and undetermined."""


@dataclass(frozen=True, slots=True)
class ClassScheme:
    """Classes of a model, and the codes of a mask that belong to each.

    Attributes:
        name: "bcss21", "bcss5", "tumor", or the name in the user's file.
        classes: classes as a model's card has them; channel ``k`` of the model is ``classes[k]``.
        sources: for each code in a mask, the index of its class or `IGNORED`; all other codes are
            unknown.
    """

    name: str
    classes: tuple[ClassInfo, ...]
    sources: Mapping[int, int]

    def targets(self, codes: UInt8, origin: str) -> UInt8:
        """Turn the codes of a mask into classes.

        Args:
            codes: codes of a mask, uint8 of any shape.
            origin: name of the mask, for the message.

        Returns:
            uint8 of the same shape: index of a class, or `IGNORED`.

        Raises:
            UsageError: if the scheme does not know some of the codes.
        """
        data = bytearray(np.ascontiguousarray(codes))
        if unknown := sorted(Counter(data.translate(None, delete=bytes(self.sources))).items()):
            found = ", ".join(f"{code} ({count} px)" for code, count in unknown[:8])
            more = f" and {len(unknown) - 8} more" if len(unknown) > 8 else ""
            raise UsageError(
                f"{origin}: class scheme {self.name} does not know the codes {found}{more}; it "
                f"knows {_ranges(self.sources)}. Add them to a scheme of your own (--classes "
                "my.toml: from or ignore); if the masks are black and white, set masks = 'binary'"
            )
        table = bytes(self.sources.get(code, IGNORED) for code in range(256))
        return np.frombuffer(data.translate(table), np.uint8).reshape(codes.shape)

    def to_toml(self) -> str:
        """Write the scheme as the text of a TOML file, which `load_scheme` reads back."""
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
    """Load a built-in scheme by its name, or a scheme from a TOML file.

    Raises:
        UsageError: if there is no such scheme or file, or the file cannot be used; the message
            names the setting.
    """
    if built_in := BUILT_IN.get(name_or_path):
        return built_in
    path = Path(name_or_path)
    if path.suffix != ".toml":
        raise UsageError(
            f"class scheme {name_or_path!r} is not known. Use {', '.join(BUILT_IN)}, or a file "
            "whose name ends in .toml"
        )
    try:
        return _SchemeFile(**parse_toml(read_text(path, SETTINGS_BYTES))).scheme()
    except ValidationError as error:
        lines = [f"class scheme {path} cannot be used:", *faults_of(_SchemeFile, error)]
        raise UsageError("\n  ".join(lines) + f"\n{_EXAMPLE}") from error
    except (OSError, ValueError) as error:
        raise UsageError(f"class scheme {path}: {error}") from error


_Code = Annotated[int, Field(ge=0, le=255)]


class _ClassEntry(ClassInfo):
    """Class in a scheme file: a class of the card, and the codes that belong to it."""

    sources: Annotated[tuple[_Code, ...], Field(alias="from", min_length=1)]


class _SchemeFile(BaseModel):
    """Content of a scheme file."""

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
        for kind, values in stated:
            if twice := sorted({value for value in values if values.count(value) > 1}, key=str):
                raise ValueError(f"a {kind} stands twice: {twice}")
        return self

    def scheme(self) -> ClassScheme:
        """The scheme that the file describes; code 0 is ignored unless a class has it."""
        sources = {OUTSIDE: IGNORED} | dict.fromkeys(self.ignore, IGNORED)
        sources |= {code: k for k, entry in enumerate(self.classes) for code in entry.sources}
        classes = tuple(
            ClassInfo(**entry.model_dump(exclude={"sources"})) for entry in self.classes
        )
        return ClassScheme(self.name, classes, sources)


def _ranges(codes: Iterable[int]) -> str:
    """Write codes as ranges: "0 to 6, 8"."""
    runs: list[list[int]] = []
    for code in sorted(codes):
        if runs and code == runs[-1][-1] + 1:
            runs[-1].append(code)
        else:
            runs.append([code])
    return ", ".join(f"{run[0]} to {run[-1]}" if len(run) > 1 else str(run[0]) for run in runs)


def _built_in(
    name: str, groups: Mapping[str, tuple[int, ...]], ignored: Iterable[int]
) -> ClassScheme:
    """Make a scheme of BCSS codes; each group has the code and colour of its first member."""
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
    """`OTHER`, and every code that is neither named nor ignored."""
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
"""Schemes that need no file.

``bcss21`` has every code but 0; the classes of `UNSURE_CODES` are in no sum. ``bcss5`` has the
groups of the BCSS challenge (kaiko-ai/eva, ``bcss.py``), but ignores the `UNSURE_CODES`, which eva
counts as other: their class is not known. ``tumor`` is the first of those groups against the rest.
"""
