"""Other classes for a finished label map: merged classes, or another threshold of the tumor map.

Merging is exact: each stored label becomes another one. The probabilities of a slide are stored for
cells of 8 x 8 labels and in 8 bits. So a new threshold moves whole cells, and the names of the
tumor classes say so.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from noctile.pipeline.arrays import UInt8
from noctile.pipeline.errors import UsageError
from noctile.pipeline.models.card import Byte, ClassInfo, Role, check_class_name
from noctile.pipeline.plan import HEAT_FACTOR
from noctile.pipeline.untrusted import parse_toml
from noctile.pipeline.wrong_values import did_you_mean, faults_of

TUMOR_FROM_HEAT_MAP = "tumor_from_heat_map"
"""Quality flag of a slide whose tumor was found by a threshold on the tumor map."""

OTHER_TUMOR_CLASSES = "other_tumor_classes"
"""Quality flag of a slide whose tumor map belongs to other classes than its tumor area."""

EXAMPLE = """A groups file looks like this:
  rest = "keep"

  [[classes]]
  name = "tumor"
  from = ["tumor", "dcis"]
  color = [200, 30, 45]
  role = "tumor"
"""

_OldName = Annotated[str, Field(min_length=1, max_length=64)]


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class NewClass(_Table):
    """One class of the new label map.

    Attributes:
        name: name of the class.
        sources: names of the classes that it replaces, ``from`` in the file.
        color: color in pictures (R, G, B; 0..255 each); None for that of the first replaced class.
        role: use in the areas; None for the role that all replaced classes share.
        code: value in the label map, 1..255; None for the smallest code of the replaced classes.
    """

    name: Annotated[str, AfterValidator(check_class_name)]
    sources: Annotated[tuple[_OldName, ...], Field(alias="from", min_length=1, max_length=255)]
    color: tuple[Byte, Byte, Byte] | None = None
    role: Role | None = None
    code: Annotated[int, Field(ge=1, le=255)] | None = None


class TumorTable(_Table):
    """Threshold on the tumor map, and the classes that change sides by it.

    Attributes:
        threshold: smallest tumor probability of a cell that is tumor, 0..1.
        above: name of the tumor class that other labels of such a cell get; None if there is one
            tumor class.
        below: name of the class that tumor labels of other cells get; None if there is one class
            with the role ``tissue``.
    """

    threshold: Annotated[float, Field(ge=0.004, le=1)]
    above: _OldName | None = None
    below: _OldName | None = None


class Groups(_Table):
    """Content of a groups file.

    Attributes:
        rest: use of classes that no new class names: ``keep`` leaves them as they are, ``refuse``
            makes them an error.
        classes: the new classes.
        tumor: threshold on the tumor map; None if the stored labels count.
    """

    rest: Literal["keep", "refuse"] = "refuse"
    classes: Annotated[tuple[NewClass, ...], Field(max_length=255)] = ()
    tumor: TumorTable | None = None

    @model_validator(mode="after")
    def _consistent(self) -> "Groups":
        if not self.classes and self.tumor is None:
            raise ValueError("has neither [[classes]] nor [tumor], so nothing would change")
        stated: tuple[tuple[str, Sequence[str]], ...] = (
            ("new class", [new.name for new in self.classes]),
            ("class in 'from'", [name for new in self.classes for name in new.sources]),
        )
        for kind, names in stated:
            if twice := sorted({name for name in names if names.count(name) > 1}):
                raise ValueError(f"names a {kind} twice: {', '.join(twice)}")
        return self


@dataclass(frozen=True, slots=True)
class TumorThreshold:
    """Threshold that is applied to the cells of a tumor map.

    Attributes:
        probability: smallest tumor probability of a cell that is tumor, 0..1.
        above: code that other labels of such a cell get.
        below: code that tumor labels of other cells get.
    """

    probability: float
    above: int
    below: int

    @property
    def least(self) -> int:
        """Smallest value of the tumor map (0..255) that is tumor."""
        return math.ceil(self.probability * 255 - 1e-9)


@dataclass(frozen=True)
class Regrouping:
    """Change of the label map of slides that have the same classes.

    Attributes:
        classes: classes of the new label map; an old class stands at the place of its first one.
        sources: names of the classes that each new class replaces, by its name.
        codes: new code of each old one.
        threshold: threshold on the tumor map; None if the stored labels count.
        same_tumor: True if the tumor classes replace exactly the old tumor classes, so that the
            tumor map belongs to them.
    """

    classes: tuple[ClassInfo, ...]
    sources: Mapping[str, tuple[str, ...]]
    codes: Mapping[int, int]
    threshold: TumorThreshold | None
    same_tumor: bool

    @property
    def keeps_confidence(self) -> bool:
        """True if the stored confidence is that of the new labels: no class was merged or moved."""
        return self.threshold is None and all(len(names) == 1 for names in self.sources.values())

    @property
    def flags(self) -> list[str]:
        """Quality flags that every slide with tissue gets by the change."""
        raised = {
            TUMOR_FROM_HEAT_MAP: self.threshold is not None,
            OTHER_TUMOR_CLASSES: not self.same_tumor,
        }
        return [name for name, is_raised in raised.items() if is_raised]

    def labels(self, labels: UInt8, tumor_map: UInt8) -> UInt8:
        """Return the new labels of a box.

        Args:
            labels: stored labels, uint8 ``[h, w]``; the box starts on the edge of a cell.
            tumor_map: tumor probability x 255 of its cells, uint8 ``[ceil(h / 8), ceil(w / 8)]``.

        Returns:
            uint8 ``[h, w]``; 0 where ``labels`` is 0.

        Raises:
            ValueError: if there is a label that is no class.
        """
        data = np.ascontiguousarray(labels).tobytes()
        if unknown := set(data.translate(None, delete=bytes([0, *self.codes]))):
            raise ValueError(f"labels {sorted(unknown)} are no class")
        table = bytes(self.codes.get(code, 0) for code in range(256))
        merged = np.frombuffer(data.translate(table), np.uint8).reshape(labels.shape)
        return merged if self.threshold is None else self._by_threshold(merged, tumor_map)

    def _by_threshold(self, labels: UInt8, tumor_map: UInt8) -> UInt8:
        assert self.threshold is not None  # noqa: S101 - the caller has checked it
        is_tumor = np.zeros(256, np.bool_)
        is_tumor[[info.code for info in self.classes if info.role == "tumor"]] = True
        cells = tumor_map >= self.threshold.least
        height, width = labels.shape
        above = cells.repeat(HEAT_FACTOR, axis=0).repeat(HEAT_FACTOR, axis=1)[:height, :width]
        tumor = is_tumor[labels]
        moved = labels.copy()
        moved[above & ~tumor & (labels > 0)] = self.threshold.above
        moved[tumor & ~above] = self.threshold.below
        return moved


NO_MAPS = {"confidence_is_known": False, "tumor_map_is_known": False}
"""Values for the attributes of a mask without probabilities, a change map for instance."""


def confidence_is_known(about: Mapping[str, Any]) -> bool:
    """Tell if the confidence map of a mask belongs to its classes.

    Args:
        about: values that the mask knows about itself (`noctile.pipeline.masks.provenance`).
    """
    return _is_known(about, "confidence_is_known")


def tumor_map_is_known(about: Mapping[str, Any]) -> bool:
    """Tell if the tumor map of a mask belongs to its tumor classes; see `confidence_is_known`."""
    return _is_known(about, "tumor_map_is_known")


def _is_known(about: Mapping[str, Any], name: str) -> bool:
    made_of_results = about.get("regrouped") or about.get("diff") or {}
    return bool(made_of_results.get(name, True))


def parse_groups(text: str, origin: str) -> Groups:
    """Read the text of a groups file.

    Args:
        text: content of the file, TOML.
        origin: name of the file, for messages.

    Raises:
        UsageError: if it cannot be used; the message names each wrong value.
    """
    try:
        return Groups(**parse_toml(text))
    except ValidationError as error:
        lines = [f"groups file {origin} cannot be used:", *faults_of(Groups, error)]
        raise UsageError("\n  ".join(lines) + f"\n{EXAMPLE}") from error
    except (ValueError, TypeError) as error:
        raise UsageError(f"groups file {origin} cannot be used: {error}") from error


def check_names(groups: Groups, known: Iterable[str]) -> None:
    """Check that every class that a groups file names exists.

    Args:
        groups: content of the file.
        known: names of the classes of all slides.

    Raises:
        UsageError: if one does not exist, or if classes are left over that must be named.
    """
    names = list(dict.fromkeys(known))
    for name in (name for new in groups.classes for name in new.sources):
        if name not in names:
            near = did_you_mean(name, names) or "."
            raise UsageError(
                f"the results have no class '{name}'{near} Their classes are {', '.join(names)}"
            )
    named = {name for new in groups.classes for name in new.sources}
    left = [name for name in names if name not in named]
    if groups.classes and groups.rest == "refuse" and left:
        raise UsageError(
            f"the groups file names no new class for {', '.join(left)}; add them to a 'from', or "
            'write rest = "keep" in the first line to leave them as they are'
        )


def regrouping(
    groups: Groups, classes: Sequence[ClassInfo], *, tumor_map_is_known: bool = True
) -> Regrouping:
    """Apply a groups file to the classes of a model.

    Names that the model does not have are left out; `check_names` finds wrong ones.

    Args:
        groups: content of the file.
        classes: classes of the label map, in their order.
        tumor_map_is_known: False if the tumor map does not belong to the tumor classes, because
            the label map was regrouped before.

    Raises:
        UsageError: if names or codes would stand twice, a role or the class of a threshold is
            missing, or the tumor map does not belong to the new tumor classes.
    """
    new_of = {old: new for new in groups.classes for old in new.sources}
    members: dict[str, list[ClassInfo]] = {}
    for info in classes:
        new = new_of.get(info.name)
        name = new.name if new else info.name
        if members.get(name) and (new is None) != (members[name][0].name not in new_of):
            raise UsageError(
                f"a new class is named '{name}', as a class that stays; add '{name}' to its 'from'"
            )
        members.setdefault(name, []).append(info)
    infos = [_info(new_of.get(old[0].name), old) for old in members.values()]
    _check_codes(infos)
    pairs = [(new, info) for new, old in zip(infos, members.values(), strict=True) for info in old]
    changed = any((info.role == "tumor") != (new.role == "tumor") for new, info in pairs)
    same = tumor_map_is_known and not changed
    codes = {info.code: new.code for new, info in pairs}
    threshold = _threshold(groups.tumor, infos, same_tumor=same) if groups.tumor else None
    if threshold:
        infos = [_with_threshold(info, threshold) for info in infos]
    names = (tuple(info.name for info in old) for old in members.values())
    sources = dict(zip((info.name for info in infos), names, strict=True))
    return Regrouping(tuple(infos), sources, codes, threshold, same)


def _info(new: NewClass | None, old: Sequence[ClassInfo]) -> ClassInfo:
    """Describe a new class; a class that no group names stays."""
    if new is None:
        return old[0]
    roles = sorted({info.role for info in old})
    if new.role is None and len(roles) > 1:
        raise UsageError(
            f"the new class '{new.name}' needs a role: its classes have {' and '.join(roles)}"
        )
    return ClassInfo(
        code=new.code or min(info.code for info in old),
        name=new.name,
        color=new.color or old[0].color,
        role=new.role or roles[0],
    )


def _check_codes(infos: Sequence[ClassInfo]) -> None:
    codes = [info.code for info in infos]
    if twice := [info.name for info in infos if codes.count(info.code) > 1]:
        raise UsageError(f"the classes {' and '.join(twice)} have the same code; give another code")


def _threshold(
    tumor: TumorTable, classes: Sequence[ClassInfo], *, same_tumor: bool
) -> TumorThreshold:
    if not same_tumor:
        raise UsageError(
            "[tumor] needs the tumor map, which holds the probability of the model's own tumor "
            "classes; let the new classes with the role tumor replace exactly these"
        )
    above = _side(tumor.above, "above", [c for c in classes if c.role == "tumor"])
    below = _side(tumor.below, "below", [c for c in classes if c.role != "tumor"])
    return TumorThreshold(tumor.threshold, above, below)


def _side(name: str | None, key: str, choices: Sequence[ClassInfo]) -> int:
    """Return the code of the class on one side of the threshold."""
    names = [info.name for info in choices]
    tissue = [info for info in choices if info.role != "ignore"]
    if name is None and len(tissue) == 1:
        return tissue[0].code
    if name not in names:
        found = "is missing" if name is None else f"is no such class: {name}"
        near = did_you_mean(name, names) if name else ""
        what = "the role tumor" if key == "above" else "another role than tumor"
        raise UsageError(
            f"[tumor] {key} {found}{near}; name one of the new classes with {what}: "
            f"{', '.join(names) or 'there is none'}"
        )
    return choices[names.index(name)].code


def _with_threshold(info: ClassInfo, threshold: TumorThreshold) -> ClassInfo:
    """Say in the name of a tumor class that it comes from the tumor map."""
    if info.role != "tumor":
        return info
    name = f"{info.name}_map_{threshold.probability:g}".replace(".", "_")
    try:
        return ClassInfo(**(info.model_dump() | {"name": name}))
    except ValidationError as error:
        raise UsageError(f"the class name {name} is too long; shorten {info.name}") from error
