"""From a folder of training data to its regions, whichever of the layouts found in the wild it has."""

import csv
import io
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from noctile.pipeline.errors import UsageError
from noctile.pipeline.slides.discover import SLIDE_SUFFIXES
from noctile.pipeline.slides.image import IMAGE_SUFFIXES, mpp_from_name
from noctile.pipeline.slides.manifest import MAX_BYTES
from noctile.pipeline.truth.geojson import is_geojson, read_annotations, region_boxes
from noctile.pipeline.truth.region import Region, is_lossy, read_mask
from noctile.pipeline.untrusted import read_text

_MASKS = (".tif", ".tiff", *IMAGE_SUFFIXES)
_IMAGES = (*SLIDE_SUFFIXES, *IMAGE_SUFFIXES)
"""What masks and images end in."""

PATIENTS_FILE = "patients.csv"
"""In the data folder; columns ``image`` (name or stem), ``patient`` and, if known, ``institute``.
"""

_BARCODE = re.compile(r"TCGA-([A-Z0-9]{2})-[A-Z0-9]{4}")
"""A patient of TCGA; the group is the tissue source site, which BCSS calls institute.
(docs.gdc.cancer.gov, TCGA barcode)"""

_IMAGE_FOLDERS = ("images", "rgbs_colorNormalized", "rgbs")
_SIDE_FOLDER = re.compile(r"(train|valid|validation|val|test)(_\d+)?")

_SAMPLED_MASKS = 8
"""How many masks are looked at to tell codes from black and white."""

LAYOUTS = """known layouts:
  rgbs_colorNormalized/ + masks/                       the official BCSS release
  train_512/ + train_mask_512/, val_512/ + ...         its pre-tiled copies, any tile size
  images/ + masks/                                     PNG, JPEG, TIFF; an image and its mask have the same name
  slide.svs + slide.geojson[.gz], in any subfolders    annotations as Noctile and QuPath write them"""


class DataSource(BaseModel):
    """A folder of regions whose classes are known.

    Attributes:
        path: the folder.
        name: of the source; None: the folder's.
        mpp: pixel size of its images (um); overrides their names and what the files say.
        masks: what its mask images hold; "auto" looks into some of them.
        share: of the crops of training, relative to the other sources.
        extra: for training only: its regions are never in val or test.
        ignore_white: near-white pixels count nowhere (coarse masks that reach over glass).
        ignore_marked: what black and white masks mark counts nowhere, only what they leave out is
            learned (masks that take in the stroma around tumor cells).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: Path
    name: str | None = None
    mpp: Annotated[float, Field(gt=0)] | None = None
    masks: Literal["auto", "codes", "binary"] = "auto"
    share: Annotated[float, Field(gt=0)] = 1
    extra: bool = False
    ignore_white: bool = False
    ignore_marked: bool = False

    @property
    def label(self) -> str:
        """The name by which its regions know it."""
        return self.name or self.path.resolve().name


@dataclass(frozen=True, slots=True)
class _Pair:
    """An image and its mask, and the side on which the layout lists them."""

    image: Path
    mask: Path
    listed: str | None


def find_regions(source: DataSource) -> list[Region]:
    """The regions of a data source, sorted by region_id.

    A mask without an image is no region. A slide without annotations is none either.

    Raises:
        UsageError: if the folder has none of the `LAYOUTS` or more than one, an image has no mask,
            two regions have the same name, or it cannot be told what the masks hold.
    """
    if not source.path.is_dir():
        raise UsageError(f"data {source.path}: there is no such folder")
    found = [(name, regions) for name, find in _FINDERS.items() if (regions := find(source))]
    if not found:
        raise UsageError(f"data {source.path}: no regions. {_seen(source.path)}\n{LAYOUTS}")
    if len(found) > 1:
        names = " and ".join(name for name, _ in found)
        raise UsageError(
            f"data {source.path} is laid out in more than one way ({names}); name a folder with one of them"
        )
    regions = _with_patients(source, found[0][1])
    count = Counter(region.region_id for region in regions)
    if twice := [region for region in regions if count[region.region_id] > 1]:
        one, other = sorted(twice, key=lambda region: (region.region_id, region.image))[:2]
        raise UsageError(
            f"data {source.path}: {one.image} and {other.image} have the same name; if they are the same tissue, "
            "remove one, else rename it"
        )
    return sorted(regions, key=lambda region: region.region_id)


def _folders(source: DataSource) -> list[Region]:
    """``images/`` + ``masks/``, and the official release, which only calls its images otherwise."""
    masks = source.path / "masks"
    folders = [source.path / name for name in _IMAGE_FOLDERS if (source.path / name).is_dir()]
    if not folders or not masks.is_dir() or not _files(masks, _MASKS):
        return []
    if len(folders) > 1:
        raise UsageError(
            f"data {source.path}: both {folders[0].name}/ and {folders[1].name}/ go with masks/; they are the same "
            "tissue, so move one out of the folder"
        )
    return _regions(source, _pairs(folders[0], masks, None))


def _tiled(source: DataSource) -> list[Region]:
    """``train_512/`` + ``train_mask_512/`` and the like.

    A test folder without masks is passed over: so it is published. (kaggle.com/datasets/whats2000,
    breast-cancer-semantic-segmentation-bcss)
    """
    pairs: list[_Pair] = []
    for folder in sorted(source.path.iterdir()):
        match = _SIDE_FOLDER.fullmatch(folder.name)
        if not match or not folder.is_dir():
            continue
        side, size = match[1], match[2] or ""
        masks = source.path / f"{side}_mask{size}"
        if masks.is_dir():
            pairs += _pairs(folder, masks, "val" if side.startswith("val") else side)
        elif side != "test":
            raise UsageError(
                f"data {source.path}: {folder.name}/ has no masks: there is no {masks.name}/ beside it"
            )
    return _regions(source, pairs)


def _annotated(source: DataSource) -> list[Region]:
    """Slides with GeoJSON of the same name, beside them or in another subfolder."""
    files = sorted(path for path in source.path.rglob("*") if path.name[0] != ".")
    slides = [path for path in files if path.suffix.lower() in _IMAGES]
    return [
        region for path in files if is_geojson(path) for region in _of_slide(source, path, slides)
    ]


def _of_slide(source: DataSource, annotations: Path, slides: list[Path]) -> Iterator[Region]:
    name = annotations.name.removesuffix(".gz").removesuffix(".geojson")
    partners = [slide for slide in slides if name in (slide.stem, slide.name)]
    if len(partners) != 1:
        which = " and ".join(map(str, partners)) or f"none of {len(slides)} slides"
        raise UsageError(
            f"annotations {annotations} belong to {which}; one slide named {name!r} is needed"
        )
    for box in region_boxes(read_annotations(annotations)):
        region_id = f"{partners[0].stem}_xmin{box.x}_ymin{box.y}"
        yield replace(_region(source, partners[0], annotations), region_id=region_id, box=box)


_FINDERS: dict[str, Callable[[DataSource], list[Region]]] = {
    "images and masks": _folders,
    "pre-tiled sides": _tiled,
    "slides and GeoJSON": _annotated,
}


def _pairs(images: Path, masks: Path, listed: str | None) -> list[_Pair]:
    """Each image with its mask, which has the same name, maybe with ``_mask`` behind it."""
    mask_of: dict[str, Path] = {}
    for path in _files(masks, _MASKS):
        if (other := mask_of.setdefault(path.stem.removesuffix("_mask"), path)) != path:
            raise UsageError(
                f"data {masks.parent}: {other} and {path} are masks of one image; remove one"
            )
    found = _files(images, _IMAGES)
    if missing := [path for path in found if path.stem not in mask_of]:
        raise UsageError(
            f"data {images.parent}: {len(missing)} of {len(found)} images in {images.name}/ have no mask in "
            f"{masks.name}/, the first is {missing[0].name}. Add the masks, or move these images away"
        )
    return [_Pair(path, mask_of[path.stem], listed) for path in found]


def _files(folder: Path, suffixes: tuple[str, ...]) -> list[Path]:
    return sorted(
        path for path in folder.iterdir() if path.suffix.lower() in suffixes and path.name[0] != "."
    )


def _regions(source: DataSource, pairs: list[_Pair]) -> list[Region]:
    if not pairs:
        return []
    binary = _are_binary(source, [pair.mask for pair in pairs])
    if source.ignore_marked and not binary:
        raise UsageError(
            f"data {source.path}: ignore_marked is for black and white masks, and these hold codes"
        )
    return [
        replace(_region(source, pair.image, pair.mask), binary=binary, listed=pair.listed)
        for pair in pairs
    ]


def _region(source: DataSource, image: Path, truth: Path) -> Region:
    barcode = _BARCODE.search(image.name)
    return Region(
        region_id=image.stem,
        patient=barcode[0] if barcode else image.stem,
        institute=barcode[1] if barcode else "",
        source=source.label,
        image=image,
        truth=truth,
        mpp=source.mpp or mpp_from_name(image.name),
        ignore_white=source.ignore_white,
        ignore_marked=source.ignore_marked,
    )


def _are_binary(source: DataSource, masks: list[Path]) -> bool:
    """Whether masks say tumor or not (black and white) rather than codes; of a whole data set, not
    of each mask.
    """
    lossy = [mask for mask in masks if is_lossy(mask)]
    if source.masks == "codes" and lossy:
        raise UsageError(
            f"data {source.path}: masks = 'codes', but {len(lossy)} masks are JPEG such as {lossy[0]}, in which codes "
            "do not survive. Get them as PNG, or say masks = 'binary'"
        )
    if source.masks != "auto":
        return source.masks == "binary"
    if lossy and len(lossy) < len(masks):
        raise UsageError(
            f"data {source.path}: {len(lossy)} of {len(masks)} masks are JPEG such as {lossy[0]}, which cannot hold "
            "codes. If all are black and white, say masks = 'binary'; else get these as PNG"
        )
    if lossy:
        return True
    places = sorted({round(k) for k in np.linspace(0, len(masks) - 1, _SAMPLED_MASKS)})
    values = {int(value) for k in places for value in np.unique(read_mask(masks[k]))}
    if values == {0, 1}:
        raise UsageError(
            f"data {source.path}: its masks hold 0 and 1 only. Say masks = 'binary' if 0 is tissue without tumor, or "
            "masks = 'codes' if 0 is where nobody looked"
        )
    return 255 in values and values <= {0, 255}


def _with_patients(source: DataSource, regions: list[Region]) -> list[Region]:
    """Regions with the patients that `PATIENTS_FILE` names, if there is one.

    Raises:
        UsageError: if tiles of a training set do not say whose they are: a split would leak.
    """
    named = _read_patients(source.path / PATIENTS_FILE)
    regions = [
        replace(region, patient=row[0], institute=row[1])
        if (row := named.get(region.image.name) or named.get(region.image.stem))
        else region
        for region in regions
    ]
    unknown = [
        region for region in regions if region.listed and region.patient == region.image.stem
    ]
    if unknown and not source.extra:
        raise UsageError(
            f"data {source.path}: {len(unknown)} of {len(regions)} tiles do not say whose they are, such as "
            f"{unknown[0].image}; with tiles of one patient on two sides, figures mean nothing. Write {PATIENTS_FILE} "
            "there (columns image, patient, institute), or use them for training only (extra = true)"
        )
    return regions


def _read_patients(path: Path) -> dict[str, tuple[str, str]]:
    if not path.exists():
        return {}
    try:
        rows = csv.DictReader(io.StringIO(read_text(path, MAX_BYTES, "utf-8-sig"), newline=""))
        if not {"image", "patient"} <= set(rows.fieldnames or ()):
            raise UsageError(
                f"{path} has the columns {rows.fieldnames!s:.500}; image and patient are needed"
            )
        return {row["image"]: (row["patient"] or "", row.get("institute") or "") for row in rows}
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"{path} cannot be read: {error}. Save it as 'CSV UTF-8'") from error


def _seen(folder: Path) -> str:
    """What folders there are, so that the right one may be found."""
    names = sorted(
        f"{path.relative_to(folder)}/" for glob in ("*/", "*/*/") for path in folder.glob(glob)
    )
    files = sum(path.is_file() for path in folder.iterdir())
    return f"It holds {files} files and the folders {', '.join(names[:12]) or '(none)'}{' ...' * (len(names) > 12)}"
