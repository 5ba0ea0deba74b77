"""OME-TIFF of the label map: a pyramid that QuPath, Fiji and OMERO open.

The pixels are the codes of the classes. There is no palette: readers would replace the codes by
colors. Names and colors stand in the OME-XML. The finest level is the first image of the file, the
coarser ones are its SubIFDs. They are the levels of the mask's own pyramid (mode), not made anew.
"""

from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import tifffile

from noctile.pipeline.arrays import UInt8
from noctile.pipeline.export.source import ExportSource
from noctile.pipeline.export.tiles import label_tiles
from noctile.pipeline.geometry import Frame
from noctile.pipeline.masks.ngff import NOT_ANALYSED
from noctile.pipeline.untrusted import printable

TILE_PX = 512
"""Side of a tile (px). A viewer asks for tiles of about this size."""

_COMPRESSION = "zlib"
"""Compression of the tiles. Every reader of TIFF knows it (Deflate). zstd makes smaller files, but
Bio-Formats before 6.10, and so QuPath before 0.4, do not read it."""

_BUFFER_BYTES = 2**23
"""Size of the tiles that are compressed before they are written (B)."""

_NAMESPACE = "http://www.openmicroscopy.org/Schemas/OME/2016-06"
_SCHEMA = f"{_NAMESPACE} {_NAMESPACE}/ome.xsd"


def write_ome_tiff(source: ExportSource, path: Path) -> None:
    """Write the label map of a slide as an OME-TIFF pyramid, tile by tile.

    About 30 MB are held in memory, for a slide of any size. The same mask makes the same bytes.

    Args:
        source: result of the slide.
        path: path of the file.

    Raises:
        StoreError: if the mask cannot be read.
        OSError: if the file cannot be written.
    """
    with tifffile.TiffWriter(path, bigtiff=True, byteorder="<", ome=False) as tiff:
        for level, frame in enumerate(source.frames):
            is_finest = level == 0
            tiff.write(
                _tiles(source, level),
                shape=(frame.extent.height, frame.extent.width),
                dtype="uint8",
                tile=(TILE_PX, TILE_PX),
                photometric="minisblack",
                compression=_COMPRESSION,
                subifds=len(source.frames) - 1 if is_finest else None,
                subfiletype=0 if is_finest else 1,
                description=ome_xml(source) if is_finest else None,
                software="noctile",
                resolution=(1e4 / frame.mpp_x, 1e4 / frame.mpp_y),
                resolutionunit="CENTIMETER",
                metadata=None,
                maxworkers=1,
                buffersize=_BUFFER_BYTES,
            )


def _tiles(source: ExportSource, level: int) -> Iterator[UInt8]:
    return (tile for _, tile in label_tiles(source.store, level, TILE_PX))


def ome_xml(source: ExportSource) -> bytes:
    """Metadata of the file as OME-XML (schema 2016-06), in UTF-8.

    Args:
        source: result of the slide.

    Raises:
        StoreError: if the summary is damaged.
    """
    root = ElementTree.Element(
        "OME",
        {
            "xmlns": _NAMESPACE,
            "xmlns:xsi": "http://www.w3.org/2001/XMLSchema-instance",
            "xsi:schemaLocation": _SCHEMA,
            "Creator": "noctile",
        },
    )
    maps = _maps(source)
    image = ElementTree.SubElement(root, "Image", ID="Image:0", Name=printable(source.slide_id))
    _add_pixels(image, source.frames[0])
    for name in maps:
        ElementTree.SubElement(image, "AnnotationRef", ID=f"Annotation:{name}")
    annotations = ElementTree.SubElement(root, "StructuredAnnotations")
    for name, values in maps.items():
        _add_map(annotations, name, values)
    return bytes(ElementTree.tostring(root, "utf-8", xml_declaration=True))


def _add_pixels(image: ElementTree.Element, frame: Frame) -> None:
    """Add size and pixel size of the finest level, and its only channel."""
    pixels = ElementTree.SubElement(
        image,
        "Pixels",
        ID="Pixels:0",
        DimensionOrder="XYCZT",
        Type="uint8",
        BigEndian="false",
        Interleaved="false",
        SizeX=str(frame.extent.width),
        SizeY=str(frame.extent.height),
        SizeC="1",
        SizeZ="1",
        SizeT="1",
        PhysicalSizeX=repr(float(frame.mpp_x)),
        PhysicalSizeXUnit="µm",
        PhysicalSizeY=repr(float(frame.mpp_y)),
        PhysicalSizeYUnit="µm",
    )
    ElementTree.SubElement(pixels, "Channel", ID="Channel:0:0", Name="classes", SamplesPerPixel="1")
    ElementTree.SubElement(pixels, "TiffData", IFD="0", PlaneCount="1")


def _maps(source: ExportSource) -> dict[str, dict[str, str]]:
    """Annotations of the image: keys and values, by the name of the annotation."""
    (scale_y, _, top), (_, scale_x, left) = source.level0_affine
    return {
        "classes": {"0": NOT_ANALYSED} | {str(c.code): c.name for c in source.classes},
        "colors": {str(c.code): "#{:02x}{:02x}{:02x}".format(*c.color) for c in source.classes},
        "slide": {
            "slide_id": printable(source.slide_id),
            "level0_scale_y": repr(scale_y),
            "level0_scale_x": repr(scale_x),
            "level0_offset_y_px": repr(top),
            "level0_offset_x_px": repr(left),
        },
    }


def _add_map(annotations: ElementTree.Element, name: str, values: dict[str, str]) -> None:
    """Add a table of keys and values."""
    about = {"ID": f"Annotation:{name}", "Namespace": f"noctile/{name}"}
    annotation = ElementTree.SubElement(annotations, "MapAnnotation", about)
    value = ElementTree.SubElement(annotation, "Value")
    for key, text in values.items():
        ElementTree.SubElement(value, "M", K=key).text = text
