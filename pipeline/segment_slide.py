"""Segment a whole slide into arrays in memory, by the steps of a run."""

from dataclasses import dataclass

import numpy as np

from noctile.pipeline.arrays import UInt8
from noctile.pipeline.geometry import Frame
from noctile.pipeline.measure import class_areas_mm2, class_pixels, mean_confidence
from noctile.pipeline.models.card import ClassInfo
from noctile.pipeline.models.predictor import Predictor
from noctile.pipeline.normalize import predictor_for_slide
from noctile.pipeline.plan import HEAT_FACTOR
from noctile.pipeline.quality import BlockStats, mpp_flags
from noctile.pipeline.readable import checked_quality
from noctile.pipeline.segment import segment_block
from noctile.pipeline.slide_plan import SlidePlan
from noctile.pipeline.slides.base import SlideReader


@dataclass(frozen=True, slots=True, eq=False)
class Segmentation:
    """Segmentation of one slide or image, in memory.

    Attributes:
        labels: uint8 ``[h, w]`` at the model's pixel size: codes of ``classes``, 0 = not analysed.
        tumor_probability: uint8 ``[ceil(h / 8), ceil(w / 8)]``, mean probability x 255 of all
            tumor classes, over the analysed pixels of 8 x 8 labels.
        confidence: uint8 of the same shape, mean probability x 255 of the predicted class.
        frame: size (px) and pixel size (um) of ``labels``.
        classes: name, colour and role of each class, by its code in ``labels``.
        area_mm2: area of each class (mm2), by its name.
        qc_flags: quality flags, sorted.
    """

    labels: UInt8
    tumor_probability: UInt8
    confidence: UInt8
    frame: Frame
    classes: dict[int, ClassInfo]
    area_mm2: dict[str, float]
    qc_flags: list[str]


def segment_slide(
    reader: SlideReader, planned: SlidePlan, predict: Predictor, batch_size: int
) -> Segmentation:
    """Segment all blocks of a slide, one after another.

    Labels and maps equal those that a run writes, byte for byte.

    Args:
        reader: the open slide.
        planned: plan of the slide, made with the tiling of the model.
        predict: the model.
        batch_size: number of tiles in a batch.

    Raises:
        UnreadableTissueError: if too much of the tissue could not be read.
    """
    plan, card = planned.tiles, predict.card
    heat_frame = plan.frame.coarser(HEAT_FACTOR)
    labels, tumor, confidence = (_blank(frame) for frame in (plan.frame, heat_frame, heat_frame))
    stats: list[BlockStats] = []
    normalized = predictor_for_slide(predict, planned.stain)
    for block in plan.blocks:
        mask = segment_block(reader, plan, block, planned.tissue, normalized, batch_size)
        under = plan.frame.project(block.box, heat_frame).slices()
        labels[block.box.slices()] = mask.labels
        tumor[under], confidence[under] = mask.heat, mask.confidence
        stats.append(mask.stats)
    info = reader.info
    quality = checked_quality(info.slide_id, info.frame, plan, stats)
    cores = [core for block_stats in stats for core in block_stats.cores]
    flags = [*planned.tissue.flags, *reader.flags, *mpp_flags(info.mpp_source)]
    flags += quality.flags(mean_confidence(cores), len(card.classes))
    return Segmentation(
        labels,
        tumor,
        confidence,
        plan.frame,
        {info.code: info for info in sorted(card.classes, key=lambda info: info.code)},
        class_areas_mm2(plan.frame, card.classes, class_pixels(card.classes, cores)),
        sorted(flags),
    )


def _blank(frame: Frame) -> UInt8:
    return np.zeros((frame.extent.height, frame.extent.width), np.uint8)
