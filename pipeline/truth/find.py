"""Find the regions in a folder of training data, in any of the known layouts."""

import csv
import io
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from noctile.pipeline.errors import UsageError
from noctile.pipeline.slides.discover import SLIDE_SUFFIXES
from noctile.pipeline.slides.image import IMAGE_SUFFIXES, mpp_from_name
from noctile.pipeline.slides.table_file import MAX_BYTES
from noctile.pipeline.truth.corrections import read_truth
from noctile.pipeline.truth.geojson import SUFFIXES, annotated_name, is_geojson, region_boxes
from noctile.pipeline.truth.region import Region, is_lossy, read_mask
from noctile.pipeline.untrusted import read_text

_MASKS = (".tif", ".tiff", *IMAGE_SUFFIXES)
_IMAGES = (*SLIDE_SUFFIXES, *IMAGE_SUFFIXES)
"""Suffixes of masks and of images."""

PATIENTS_FILE = "patients.csv"
"""Table in the data folder with columns ``image`` (name or stem), ``patient`` and, if known,
``institute``."""

_BARCODE = re.compile(r"TCGA-([A-Z0-9]{2})-[A-Z0-9]{4}")
"""Barcode of a patient in TCGA; the group is the tissue source site, which BCSS calls institute.
(docs.gdc.cancer.gov, TCGA barcode)"""

_IMAGE_FOLDERS = ("images", "rgbs_colorNormalized", "rgbs")
_SIDE_FOLDER = re.compile(r"(train|valid|validation|val|test)(_\d+)?")

_SAMPLED_MASKS = 8
"""Number of masks that are read to tell codes from black and white masks."""

LAYOUTS = """known layouts:
  rgbs_colorNormalized/ + masks/                       the official BCSS release
  train_512/ + train_mask_512/, val_512/ + ...         its pre-tiled copies, any tile size
  images/ + masks/                                     PNG, JPEG, TIFF with equal names
  slide.svs + slide.geojson[.gz], in any subfolders    annotations of Noctile or QuPath"""


class DataSource(BaseModel):
    """A folder of regions whose classes are known.

    Attributes:
        path: path of the folder.
        name: name of the source; None: the folder's name.
        mpp: pixel size of the images (um); it overrides the images' names and files.
        masks: content of the mask images: codes, or black and white; "auto" reads some of them.
        share: share of the training crops, relative to the other sources.
        extra: true for a source that only trains: none of its regions is in val or test.
        ignore_white: true if near-white pixels are not counted (for coarse masks that reach over
            glass).
        ignore_marked: true if the white pixels of black and white masks are not counted, so that
            only black ones are learned (for masks that include the stroma around tumor cells).
        exported: folder of the GeoJSON that ``noctile export`` wrote, if the annotations of the
            source are corrections of it (`noctile.pipeline.truth.corrections`).
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
    exported: Path | None = None

    @property
    def label(self) -> str:
        """Name of the source in its regions."""
        return self.name or self.path.resolve().name

    def without_paths(self) -> dict[str, Any]:
        """Settings of the source without paths, for a model's card and for keys."""
        corrected = {"corrections": True} if self.exported else {}
        return self.model_dump(mode="json", exclude={"path", "exported"}) | corrected


@dataclass(frozen=True, slots=True)
class _Pair:
    """An image and its mask.

    Attributes:
        image: path of the image.
        mask: path of the mask.
        listed: side on which the layout lists the image, or None.
    """

    image: Path
    mask: Path
    listed: str | None


def find_regions(source: DataSource) -> list[Region]:
    """Find the regions of a data source.

    A mask without an image is no region, and neither is a slide without annotations.

    Returns:
        The regions, sorted by region_id.

    Raises:
        UsageError: if the folder has none of the `LAYOUTS` or more than one, an image has no mask,
            two regions have the same name, or the content of the masks is not clear.
    """
    if not source.path.is_dir():
        raise UsageError(f"data {source.path}: there is no such folder")
    found = [(name, regions) for name, find in _FINDERS.items() if (regions := find(source))]
    if not found and source.exported:
        raise UsageError(
            f"data {source.path}: no annotation of a slide differs from its export in "
            f"{source.exported}, and none has a frame (class Region*). Correct some, or draw a "
            "frame around an area that you have checked"
        )
    if not found:
        raise UsageError(
            f"data {source.path}: no regions. {_describe_folder(source.path)}\n{LAYOUTS}"
        )
    if len(found) > 1:
        names = " and ".join(name for name, _ in found)
        raise UsageError(
            f"data {source.path} has more than one layout ({names}). Give a folder with one of them"
        )
    regions = _with_patients(source, found[0][1])
    count = Counter(region.region_id for region in regions)
    if twice := [region for region in regions if count[region.region_id] > 1]:
        one, other = sorted(twice, key=lambda region: (region.region_id, region.image))[:2]
        raise UsageError(
            f"data {source.path}: {one.image} and {other.image} have the same name. Remove one if "
            "they are the same tissue, else rename one"
        )
    return sorted(regions, key=lambda region: region.region_id)


def _folders(source: DataSource) -> list[Region]:
    """Regions in ``images/`` + ``masks/``, or in the official BCSS release."""
    masks = source.path / "masks"
    folders = [source.path / name for name in _IMAGE_FOLDERS if (source.path / name).is_dir()]
    if not folders or not masks.is_dir() or not _files(masks, _MASKS):
        return []
    if len(folders) > 1:
        raise UsageError(
            f"data {source.path}: both {folders[0].name}/ and {folders[1].name}/ belong to masks/. "
            "They show the same tissue: move one out of the folder"
        )
    return _regions(source, _pairs(folders[0], masks, None))


def _tiled(source: DataSource) -> list[Region]:
    """Regions in ``train_512/`` + ``train_mask_512/`` and similar pairs of folders.

    A test folder without masks is skipped, because the data set is published so.
    (kaggle.com/datasets/whats2000, breast-cancer-semantic-segmentation-bcss)
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
                f"data {source.path}: {folder.name}/ has no masks: there is no {masks.name}/ "
                "beside it. Add that folder"
            )
    return _regions(source, pairs)


def _annotated(source: DataSource) -> list[Region]:
    """Regions of slides with GeoJSON of the same name, beside them or in another subfolder."""
    files = sorted(path for path in source.path.rglob("*") if path.name[0] != ".")
    slides = [path for path in files if path.suffix.lower() in _IMAGES]
    return [
        region
        for path in files
        if is_geojson(path)
        for region in _slide_regions(source, path, slides)
    ]


def _slide_regions(source: DataSource, annotations: Path, slides: list[Path]) -> Iterator[Region]:
    """Regions in one file of annotations."""
    name = annotated_name(annotations)
    partners = [slide for slide in slides if name in (slide.stem, slide.name)]
    if len(partners) != 1:
        which = " and ".join(map(str, partners)) or f"none of {len(slides)} slides"
        raise UsageError(
            f"annotations {annotations} belong to {which}. Exactly one slide must have the name "
            f"{name!r}"
        )
    region = _region(source, partners[0], annotations)
    region = replace(region, exported=_exported(source, annotations, name))
    for box in region_boxes(read_truth(annotations, region.exported)):
        region_id = f"{partners[0].stem}_xmin{box.x}_ymin{box.y}"
        yield replace(region, region_id=region_id, box=box)


def _exported(source: DataSource, annotations: Path, name: str) -> Path | None:
    """Export of which annotations are a correction, or None if they are none."""
    if source.exported is None:
        return None
    paths = [source.exported / f"{name}{suffix}" for suffix in SUFFIXES]
    found = [path for path in paths if path.is_file()]
    if len(found) != 1:
        raise UsageError(
            f"annotations {annotations}: {len(found)} exports of {name!r} are in "
            f"{source.exported}; exactly one is needed to find the changes. Give the folder of the "
            "corrected export (--exported), or put other annotations into a data source of their "
            "own"
        )
    return found[0]


_FINDERS: dict[str, Callable[[DataSource], list[Region]]] = {
    "images and masks": _folders,
    "pre-tiled sides": _tiled,
    "slides and GeoJSON": _annotated,
}


def _pairs(images: Path, masks: Path, listed: str | None) -> list[_Pair]:
    """Each image with its mask, which has the same name or ends in ``_mask``."""
    mask_of: dict[str, Path] = {}
    for path in _files(masks, _MASKS):
        if (other := mask_of.setdefault(path.stem.removesuffix("_mask"), path)) != path:
            raise UsageError(
                f"data {masks.parent}: {other} and {path} are masks of one image; remove one"
            )
    found = _files(images, _IMAGES)
    if missing := [path for path in found if path.stem not in mask_of]:
        raise UsageError(
            f"data {images.parent}: {len(missing)} of {len(found)} images in {images.name}/ have "
            f"no mask in {masks.name}/; the first is {missing[0].name}. Add the masks, or move "
            "these images away"
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
            f"data {source.path}: ignore_marked is for black and white masks, but these masks hold "
            "codes"
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
    """True if the masks of a data set are black and white (tumor or not) and hold no codes."""
    lossy = [mask for mask in masks if is_lossy(mask)]
    if source.masks == "codes" and lossy:
        raise UsageError(
            f"data {source.path}: masks = 'codes', but {len(lossy)} masks are JPEG such as "
            f"{lossy[0]}, which changes codes. Get them as PNG, or set masks = 'binary'"
        )
    if source.masks != "auto":
        return source.masks == "binary"
    if lossy and len(lossy) < len(masks):
        raise UsageError(
            f"data {source.path}: {len(lossy)} of {len(masks)} masks are JPEG such as {lossy[0]}, "
            "which cannot hold codes. If all are black and white, set masks = 'binary'; else get "
            "these as PNG"
        )
    if lossy:
        return True
    sampled = sorted({round(k) for k in np.linspace(0, len(masks) - 1, _SAMPLED_MASKS)})
    values = {int(value) for k in sampled for value in np.unique(read_mask(masks[k]))}
    if values == {0, 1}:
        raise UsageError(
            f"data {source.path}: its masks hold 0 and 1 only. Set masks = 'binary' if 0 is tissue "
            "without tumor, or masks = 'codes' if 0 is tissue that was not annotated"
        )
    return 255 in values and values <= {0, 255}


def _with_patients(source: DataSource, regions: list[Region]) -> list[Region]:
    """Set the patients of regions from `PATIENTS_FILE`, if there is one.

    Raises:
        UsageError: if the patients of pre-cut tiles are not known: a split would leak.
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
            f"data {source.path}: the patients of {len(unknown)} of {len(regions)} tiles are not "
            f"known, such as {unknown[0].image}; with tiles of one patient on two sides, figures "
            f"mean nothing. Write {PATIENTS_FILE} there (columns image, patient, institute), or "
            "use the tiles for training only (extra = true)"
        )
    return regions


def _read_patients(path: Path) -> dict[str, tuple[str, str]]:
    """Patient and institute of each image in a table; empty if there is no table."""
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


def _describe_folder(folder: Path) -> str:
    """Content of a folder in words, so that a reader can find the right one."""
    names = sorted(
        f"{path.relative_to(folder)}/" for glob in ("*/", "*/*/") for path in folder.glob(glob)
    )
    files = sum(path.is_file() for path in folder.iterdir())
    listed = f"{', '.join(names[:12]) or '(none)'}{' ...' * (len(names) > 12)}"
    return f"It holds {files} files and the folders {listed}"
