"""Files with tiles that do not decode: the loss, its report, and runs that are interrupted."""

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import tifffile
from PIL import Image
from standins import small_slide

from noctile.pipeline.errors import SlideReadError
from noctile.pipeline.geometry import Box, Extent, Frame
from noctile.pipeline.masks.store import MaskStore
from noctile.pipeline.models.load import load_predictor
from noctile.pipeline.plan import TilePlan
from noctile.pipeline.quality import MAX_UNREADABLE
from noctile.pipeline.segment import segment_block
from noctile.pipeline.slides.discover import find_slides
from noctile.pipeline.slides.image import ImageSource
from noctile.pipeline.slides.open import open_slide, read_with
from noctile.pipeline.slides.openslide import OpenSlideSource
from noctile.pipeline.slides.tiffslide import TiffSlideSource
from noctile.pipeline.tissue_mask import TissueMask
from noctile.workflows.results.layout import SlideFolder
from noctile.workflows.run.progress import RunResult
from noctile.workflows.run.run import run_slides
from noctile.workflows.settings import RunSettings

TILE_PX, SHAPE = 128, (1300, 1700)


def corrupt(path: Path, places: list[tuple[int, int]]) -> None:
    """Overwrite the JPEG streams of level-0 tiles (row, col) with zeros."""
    with tifffile.TiffFile(path) as tiff:
        page = tiff.pages[0]
        across = -(-page.imagewidth // TILE_PX)
        spans = [
            (page.dataoffsets[r * across + c], page.databytecounts[r * across + c])
            for r, c in places
        ]
    with path.open("r+b") as file:
        for offset, count in spans:
            file.seek(offset)
            file.write(bytes(count))


def lost_px(folder: SlideFolder, places: list[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray]:
    """Tissue, and the part of it in cores of tiles that touch a place; bool, by the definition."""
    described = json.loads(folder.plan.read_text())
    plan, about = TilePlan.from_json(described["plan"]), described["tissue"]
    frame = Frame(
        Extent(**about["frame"]["extent"]), about["frame"]["mpp_y"], about["frame"]["mpp_x"]
    )
    tissue = TissueMask(np.asarray(Image.open(folder.tissue)) > 0, frame, "", ()).on(
        plan.frame.box, plan.frame
    )
    lost = np.zeros_like(tissue)
    for tile in plan.tiles:
        if any(
            plan.grid.tile(*tile).intersect(Box(r * TILE_PX, c * TILE_PX, TILE_PX, TILE_PX)).area
            for r, c in places
        ):
            lost[plan.grid.core(*tile).intersect(plan.frame.box).slices()] = True
    return tissue, tissue & lost


@pytest.fixture(scope="module")
def sound(model, tmp_path_factory) -> tuple[Path, SlideFolder]:
    """An intact slide and its results."""
    folder = tmp_path_factory.mktemp("sound")
    small_slide(folder / "a.tif", seed=0, height=SHAPE[0], width=SHAPE[1])
    run_all(folder / "a.tif", folder / "out", model)
    return folder / "a.tif", SlideFolder(folder / "out" / "slides" / "a")


@pytest.fixture(scope="module")
def edge(sound) -> tuple[int, int]:
    """A tile at the edge of the tissue: without it, some tissue is lost, but less than 2 %."""
    rows, cols = (-(-n // TILE_PX) for n in SHAPE)
    for place in np.ndindex(rows, cols):
        tissue, lost = lost_px(sound[1], [place])
        if 0.002 < lost.sum() / tissue.sum() < 0.8 * MAX_UNREADABLE:
            return place
    raise AssertionError("the slide has no such tile")


@pytest.fixture
def damaged(sound, tmp_path):
    """Function that makes a copy of the slide with broken tiles."""

    def make(places: list[tuple[int, int]]) -> Path:
        path = tmp_path / "a.tif"
        path.write_bytes(sound[0].read_bytes())
        corrupt(path, places)
        return path

    return make


def run_all(
    slide: Path, out: Path, model: Path, observe=lambda progress, say: None, **more
) -> RunResult:
    settings = RunSettings(
        **{"model": str(model), "engine": "serial", "block_px": 480, "device": "cpu", **more}
    )
    return run_slides(find_slides([slide], None, None).slides, settings, out, observe)


def results(folder: SlideFolder) -> dict[str, bytes]:
    return {
        str(p.relative_to(folder.path)): p.read_bytes()
        for p in sorted(folder.path.rglob("*"))
        if p.is_file()
    }


MIDDLE = [(r, c) for r in (4, 5, 6) for c in (5, 6, 7)]


class TestWholeRun:
    @pytest.mark.parametrize("window", ["crop", "blend"])
    def test_below_the_limit_a_slide_is_done_and_its_loss_is_reported(
        self, sound, damaged, edge, model, tmp_path, window
    ):
        slide = damaged([edge])
        (row,) = run_all(slide, tmp_path / "out", model, window=window).rows
        folder = SlideFolder(tmp_path / "out" / "slides" / "a")
        tissue, lost = lost_px(folder, [edge])
        assert row.status == "done"
        assert row.summary["qc_flags"] == ["unreadable_tissue"]
        assert row.summary["unreadable_fraction"] == lost.sum() / tissue.sum()
        labels = _labels(folder)
        np.testing.assert_array_equal(labels > 0, tissue & ~lost)
        if (
            window == "crop"
        ):  # the threshold model sees pixels alone: what is read has the labels of the sound slide
            np.testing.assert_array_equal(labels, np.where(lost, 0, _labels(sound[1])))
        (table,) = pq.read_table(tmp_path / "out" / "slides.parquet").to_pylist()
        assert (table["qc_flags"], table["unreadable_fraction"]) == (
            ["unreadable_tissue"],
            lost.sum() / tissue.sum(),
        )
        assert table["tissue_area_mm2"] == pytest.approx((tissue & ~lost).sum() * 0.25e-6, abs=1e-6)
        assert row.summary["mean_confidence"] == pytest.approx(
            _summary(sound[1])["mean_confidence"], abs=0.01
        )

    def test_a_sound_slide_has_the_fraction_0_and_no_flag(self, sound):
        summary = _summary(sound[1])
        assert (summary["unreadable_fraction"], summary["qc_flags"]) == (0.0, [])
        assert (summary["seam_disagreement"], summary["blurred_fraction"]) == (
            0.0,
            None,
        )  # tiles of 48 um are too small

    def test_above_the_limit_a_slide_fails_and_the_message_names_share_and_regions(
        self, damaged, model, tmp_path
    ):
        (row,) = run_all(damaged(MIDDLE), tmp_path / "out", model).rows
        assert row.status == "failed"
        assert row.reason == "unreadable_tissue"
        assert row.message.startswith("slide a: ")
        assert "% of its tissue cannot be decoded, more than 2%: level 0, rows 4" in row.message
        assert "--retry-failed" in row.message

    def test_a_retry_reads_the_slide_again(self, sound, damaged, model, tmp_path, monkeypatch):
        """A network share may have failed for a while: the file is the same."""
        slide = damaged(MIDDLE)
        whole = open_slide(sound[0], slide_id="a")
        run_all(slide, tmp_path / "out", model)
        monkeypatch.setattr(
            "noctile.workflows.jobs.segment_block.segment_block",
            lambda _, *rest: segment_block(whole, *rest),
        )
        assert run_all(slide, tmp_path / "out", model).rows[0].status == "failed"
        (row,) = run_all(slide, tmp_path / "out", model, retry_failed=True).rows
        whole.close()
        assert (row.status, row.summary["qc_flags"]) == ("done", [])

    def test_a_block_without_any_readable_tile_is_not_a_missing_block(
        self, sound, damaged, model, tmp_path, monkeypatch
    ):
        monkeypatch.setattr("noctile.pipeline.readable.MAX_UNREADABLE", 1.0)
        everywhere = [
            (r, c) for r in range(3, 9) for c in range(3, 9)
        ]  # the block at (1, 1) is 480 to 960 px
        (row,) = run_all(damaged(everywhere), tmp_path / "out", model).rows
        folder = SlideFolder(tmp_path / "out" / "slides" / "a")
        tissue, lost = lost_px(folder, everywhere)
        assert row.status == "done", row.message
        assert row.summary["unreadable_fraction"] == lost.sum() / tissue.sum()
        stored = set(MaskStore.open(folder.mask).stored_shards())
        planned = {
            block.key
            for block in TilePlan.from_json(json.loads(folder.plan.read_text())["plan"]).blocks
        }
        assert (1, 1) in planned - stored

    @pytest.mark.parametrize("after", [2, 4, 8])
    def test_an_interrupted_and_resumed_run_has_the_same_results(
        self, damaged, edge, model, tmp_path, after
    ):
        slide, calls = damaged([edge]), []

        def interrupt(progress, say):
            calls.append(say)
            if len(calls) == after:
                raise KeyboardInterrupt

        run_all(slide, tmp_path / "out", model)
        assert run_all(slide, tmp_path / "again", model, interrupt).stopped
        run_all(slide, tmp_path / "again", model)
        first, second = (SlideFolder(tmp_path / out / "slides" / "a") for out in ("out", "again"))
        assert results(first) == results(second)
        assert not second.blocks.exists()
        assert json.loads(second.block_stats_file.read_text())


class TestReaders:
    """After a tile that does not decode, each reader continues."""

    @pytest.mark.parametrize("source", [None, OpenSlideSource, TiffSlideSource])
    def test_only_the_tiles_that_touch_a_broken_tile_are_unread(
        self, sound, damaged, edge, model, source
    ):
        slide = damaged([edge])
        reader = (
            read_with(source(slide, "a"), slide, "a") if source else open_slide(slide, slide_id="a")
        )
        plan = TilePlan.from_json(json.loads(sound[1].plan.read_text())["plan"])
        tissue = TissueMask(np.ones((1, 1), bool), plan.frame.coarser(10_000), "", ())
        predict = load_predictor(model, "cpu")
        unread = [
            segment_block(reader, plan, block, tissue, predict, 1).stats.unread
            for block in plan.blocks
        ]
        reader.close()
        hole = Box(edge[0] * TILE_PX, edge[1] * TILE_PX, TILE_PX, TILE_PX)
        assert sorted(sum(unread, ())) == [
            t for t in plan.tiles if plan.grid.tile(*t).intersect(hole).area
        ]

    def test_a_truncated_picture_is_an_error_at_every_read(self, shared_data, tmp_path):
        whole = (shared_data / "bcss" / "images" / "1015.jpg").read_bytes()
        (tmp_path / "a.jpg").write_bytes(whole[: len(whole) // 2])
        source = ImageSource(tmp_path / "a.jpg", "a")
        for _ in range(2):
            with pytest.raises(SlideReadError):
                source.fetch(0, Box(0, 0, 64, 64))


def _labels(folder: SlideFolder) -> np.ndarray:
    store = MaskStore.open(folder.mask)
    return store.read(store.layout.frame.box)


def _summary(folder: SlideFolder) -> dict:
    return json.loads(folder.summary.read_text())
