"""What `noctile verify` finds: each fault is planted in real results, and nothing else is named."""

import csv
import json
import random
import shutil
from contextlib import closing
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import zarr
from click.testing import CliRunner
from standins import small_slide, threshold_model

from noctile.cli import main
from noctile.pipeline.errors import UsageError
from noctile.pipeline.geometry import Box
from noctile.pipeline.masks.store import MaskStore
from noctile.pipeline.slides.discover import find_slides
from noctile.workflows.commands.verify import Verification, verify
from noctile.workflows.results.lease import Lease
from noctile.workflows.run.run import run_slides
from noctile.workflows.settings import RunSettings

LABELS = "mask.ome.zarr/labels/classes"


@pytest.fixture(scope="module")
def results(tmp_path_factory) -> Path:
    """Two slides with tissue, one of glass, one that is no slide."""
    folder = tmp_path_factory.mktemp("night")
    slides = folder / "slides"
    slides.mkdir()
    for seed, name in enumerate("ab"):
        small_slide(slides / f"{name}.tif", seed=seed, height=1300, width=1500)
    small_slide(slides / "glass.tif", seed=None, height=600, width=600)
    (slides / "broken.tif").write_bytes(b"II*\0 this is no slide")
    model = threshold_model(folder / "model")
    settings = RunSettings(model=str(model), engine="serial", block_px=480, device="cpu")
    run_slides(
        find_slides([slides], None, None), settings, folder / "results", lambda progress, say: None
    )
    return folder / "results"


@pytest.fixture
def out(results, tmp_path) -> Path:
    """A copy to spoil."""
    return Path(shutil.copytree(results, tmp_path / "results"))


def look(out: Path, *slide_ids: str, workers: int = 1) -> Verification:
    return verify(out, slide_ids, workers, lambda check: None)


def found(out: Path) -> list[tuple[str, str]]:
    """(file, what) of every fault."""
    seen = look(out)
    faults = [*seen.tables, *(fault for check in seen.slides for fault in check.faults)]
    assert seen.exit_code == (1 if faults else 0)
    return [(fault.file, fault.what) for fault in faults]


def files(out: Path) -> list[str]:
    return [file for file, _ in found(out)]


def flip_a_bit(path: Path, seed: int = 0) -> None:
    rng, data = random.Random(seed), bytearray(path.read_bytes())
    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    path.write_bytes(data)


def first_shard(out: Path, level: int = 0) -> str:
    array = out / "slides" / "a" / LABELS / str(level)
    return sorted(p.relative_to(out).as_posix() for p in array.glob("c/*/*"))[0]


def first_block(out: Path) -> tuple[MaskStore, Box, np.ndarray]:
    """The first block of slide a; its first pixel is glass."""
    store = MaskStore.open(out / "slides" / "a" / "mask.ome.zarr")
    box = store.layout.shard_box(*store.stored_shards()[0])
    labels = store.read(box)
    assert labels.any()
    assert not labels[0, 0]
    return store, box, labels


def forget_checksums(out: Path) -> None:
    """So that what is wrong with slide a shows in what its files hold alone."""
    (out / "slides" / "a" / "checksums.json").unlink()


RECORD = ("slides/a/checksums.json", "is missing")


def beyond_record(out: Path) -> list[tuple[str, str]]:
    """What is found but for the record that `forget_checksums` took away."""
    first, *more = found(out)
    assert first == RECORD
    return more


def edit(path: Path, **values: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values, indent=1) + "\n")


class TestIntact:
    def test_results_as_they_were_written_are_clean_and_every_slide_that_is_done_was_looked_at(
        self, out
    ):
        seen = look(out)
        assert (seen.exit_code, seen.tables, seen.unlisted) == (0, (), ())
        assert [(v.slide_id, v.faults) for v in seen.slides] == [
            (name, ()) for name in ("a", "b", "glass")
        ]

    def test_it_writes_nothing(self, out):
        before = {p: (p.stat().st_mtime_ns, p.stat().st_size) for p in out.rglob("*")}
        look(out)
        assert {p: (p.stat().st_mtime_ns, p.stat().st_size) for p in out.rglob("*")} == before

    def test_every_file_of_a_slide_but_the_record_itself_has_a_checksum(self, out):
        folder = out / "slides" / "a"
        there = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
        assert set(json.loads((folder / "checksums.json").read_text())["files"]) == there - {
            "checksums.json"
        }

    def test_somebody_elses_file_beside_a_slide_is_none_of_its_business(self, out):
        (out / "slides" / "a" / "my notes.txt").write_text("look at this one")
        assert found(out) == []

    def test_several_processes_find_the_same(self, out):
        flip_a_bit(out / first_shard(out))
        assert look(out, workers=2) == look(out)

    def test_only_the_slides_that_are_named_are_looked_at(self, out):
        flip_a_bit(out / first_shard(out))
        assert look(out, "b").exit_code == 0
        assert look(out, "a").exit_code == 1

    def test_a_slide_that_is_not_done_cannot_be_named(self, out):
        with pytest.raises(UsageError, match="broken"):
            look(out, "broken")

    def test_a_folder_without_results_is_refused(self, tmp_path):
        with pytest.raises(UsageError, match="holds no results"):
            look(tmp_path)


class TestFiles:
    @pytest.mark.parametrize("seed", range(12))
    def test_a_flipped_bit_anywhere_is_found_and_its_file_named(self, out, seed):
        everything = sorted(
            p
            for p in (out / "slides" / "a").rglob("*")
            if p.is_file() and p.name != "checksums.json"
        )
        path = random.Random(seed).choice(everything)
        flip_a_bit(path, seed)
        seen = look(out)
        assert [check.slide_id for check in seen.wrong] == ["a"]
        assert path.relative_to(out).as_posix() in [fault.file for fault in seen.wrong[0].faults]

    def test_a_flipped_bit_in_the_record_itself_is_found(self, out):
        record = out / "slides" / "a" / "checksums.json"
        record.write_text(record.read_text().replace('"sha256"', '"sha257"'))
        assert files(out) == ["slides/a/checksums.json"]

    def test_a_record_that_is_missing_is_a_fault_for_without_it_nothing_is_known_to_be_intact(
        self, out
    ):
        forget_checksums(out)
        assert found(out) == [RECORD]

    def test_a_missing_shard_is_found(self, out):
        shard = first_shard(out)
        (out / shard).unlink()
        assert found(out) == [(shard, "is missing")]

    def test_an_empty_shard_is_found_which_zarr_takes_for_one_that_was_never_written(self, out):
        shard = first_shard(out)
        (out / shard).write_bytes(b"")
        assert files(out) == [shard]

    def test_a_shard_that_was_not_there_is_found(self, out):
        shard = out / "slides" / "a" / LABELS / "0" / "c" / "99" / "0"
        shard.parent.mkdir()
        shutil.copy(out / first_shard(out), shard)
        assert files(out) == [shard.relative_to(out).as_posix()]

    @pytest.mark.parametrize(
        "name",
        [
            f"{LABELS}/0/c/0/1.0a1b.partial",
            "heat.ome.zarr/.0a1b.partial",
            ".tiles.4711.tmp.parquet",
        ],
    )
    def test_what_a_killed_writer_left_is_found(self, out, name):
        leftover = out / "slides" / "a" / name
        leftover.parent.mkdir(exist_ok=True, parents=True)
        leftover.write_bytes(b"half")
        assert found(out) == [(f"slides/a/{name}", "was left by a writer that was killed")]

    @pytest.mark.parametrize("name", ["preview.jpg", "tissue.png", "blocks.json", "mask.ome.zarr"])
    def test_a_missing_file_is_found(self, out, name):
        path = out / "slides" / "a" / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
        assert found(out) == [(f"slides/a/{name}", "is missing")]

    def test_a_slide_whose_folder_has_gone_is_found_by_its_row(self, out):
        shutil.rmtree(out / "slides" / "a")
        assert found(out) == [("slides/a", "is missing")]

    def test_a_truncated_table_of_tiles_is_found(self, out):
        tiles = out / "slides" / "a" / "tiles.parquet"
        tiles.write_bytes(tiles.read_bytes()[:-200])
        assert set(files(out)) == {"slides/a/tiles.parquet"}

    def test_the_remedy_mends_the_slide(self, results, out):
        """Doing what each fault says, and nothing else, makes the results what they were."""
        (out / first_shard(out)).unlink()
        (out / "slides" / "b" / "tiles.parquet").write_bytes(b"PAR1")
        remedies = {check.slide_id: check.faults[0].remedy for check in look(out).wrong}
        assert remedies["a"].startswith("delete slides/a and run")
        assert remedies["b"].startswith("delete slides/b/summary.json and run")
        shutil.rmtree(out / "slides" / "a")
        (out / "slides" / "b" / "summary.json").unlink()
        run = json.loads((results / "run.json").read_text())
        settings = RunSettings.model_validate(run["settings"])
        run_slides(
            find_slides([results.parent / "slides"], None, None),
            settings,
            out,
            lambda progress, say: None,
        )
        assert found(out) == []
        for path in (p for p in results.glob("slides/**/*") if p.is_file()):
            assert (out / path.relative_to(results)).read_bytes() == path.read_bytes()


class TestContents:
    """Where no checksum could tell: earlier results, or files that somebody changed before the
    slide was finished."""

    def test_a_summary_edited_by_hand_is_told_what_the_masks_say(self, out):
        edit(out / "slides" / "a" / "summary.json", tumor_area_mm2=1.25)
        faults = found(out)
        assert ("slides/a/summary.json", "is not what was written: its checksum differs") in faults
        assert any("says tumor_area_mm2 = 1.25, but the masks 0." in what for _, what in faults)

    @pytest.mark.parametrize(
        "name", ["tissue_area_mm2", "class_area_mm2", "tumor_foci", "mpp", "unreadable_fraction"]
    )
    def test_each_figure_of_a_summary_is_counted_again(self, out, name):
        forget_checksums(out)
        edit(out / "slides" / "a" / "summary.json", **{name: 17})
        assert any(
            file == "slides/a/summary.json" and what.startswith(f"says {name} = 17, but")
            for file, what in beyond_record(out)
        )

    def test_a_missing_shard_shows_in_the_figures(self, out):
        forget_checksums(out)
        (out / first_shard(out)).unlink()
        assert any("has 0 labels in block 0, 0, where" in what for _, what in beyond_record(out))

    def test_a_shard_of_another_block_shows(self, out):
        forget_checksums(out)
        shards = sorted((out / "slides" / "a" / LABELS / "0").glob("c/*/*"))
        shutil.copy(shards[0], shards[-1])
        assert any(
            "labels in block" in what and what.endswith("were written")
            for _, what in beyond_record(out)
        )

    def test_labels_outside_the_tissue_show(self, out):
        forget_checksums(out)
        store, box, labels = first_block(out)
        labels[0, 0] = 1
        store.write_labels(box, labels, 0)
        assert "has labels outside the tissue in block 0, 0" in [
            what for _, what in beyond_record(out)
        ]

    @pytest.mark.parametrize("level", [1, 2])
    def test_a_coarser_level_that_does_not_follow_shows(self, out, level):
        forget_checksums(out)
        array = zarr.open_array(out / "slides" / "a" / LABELS / str(level), mode="r+")
        array[100, 100] = 3 - array[100, 100]
        assert any(
            f"on level {level} that does not follow from level {level - 1}" in what
            for _, what in beyond_record(out)
        )

    def test_an_overview_that_does_not_follow_shows(self, out):
        forget_checksums(out)
        array = zarr.open_array(out / "slides" / "a" / "mask.ome.zarr" / "1", mode="r+")
        array[0, 0, 0] = 0
        assert beyond_record(out)[0] == (
            "slides/a/mask.ome.zarr",
            "has an overview whose level 1 does not follow from level 0",
        )

    def test_a_label_that_is_no_class_shows(self, out):
        forget_checksums(out)
        store, box, labels = first_block(out)
        store.write_labels(box, np.where(labels, 9, labels).astype(np.uint8), 0)
        assert any("that are no class: [9]" in what for _, what in beyond_record(out))

    def test_a_row_of_tiles_that_is_gone_shows(self, out):
        forget_checksums(out)
        path = out / "slides" / "a" / "tiles.parquet"
        table = pq.read_table(path)
        pq.write_table(table.slice(0, len(table) - 1), path)
        assert beyond_record(out) == [
            ("slides/a/tiles.parquet", "does not hold what the masks have in each tile")
        ]

    @pytest.mark.parametrize(
        ("name", "text"),
        [
            ("mask.ome.zarr/labels/classes/zarr.json", "{}"),
            ("mask.ome.zarr/labels/classes/0/zarr.json", "{"),
            ("plan.json", "[]"),
            ("plan.json", '{"key": 1, "slide": {}, "plan": 3}'),
            ("blocks.json", '{"0.0": {}}'),
            ("summary.json", "nonsense"),
            ("preview.jpg", "no picture"),
            ("tiles.parquet", "PAR1"),
        ],
    )
    def test_a_file_that_cannot_be_understood_is_named_and_harms_no_other_slide(
        self, out, name, text
    ):
        forget_checksums(out)
        (out / "slides" / "a" / name).write_text(text)
        seen = look(out)
        assert [check.slide_id for check in seen.wrong] == ["a"]
        assert seen.wrong[0].faults[-1].file.split("/")[2] == name.split("/")[0]
        assert "cannot be read" in seen.wrong[0].faults[-1].what


class TestTables:
    def rewrite(self, path: Path, slide_id: str, column: str, cell: str) -> None:
        with path.open(newline="") as file:
            rows = list(csv.DictReader(file))
        next(row for row in rows if row["slide_id"] == slide_id)[column] = cell
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, rows[0].keys())
            writer.writeheader()
            writer.writerows(rows)

    def test_a_cell_of_the_csv_that_was_changed_is_found(self, out):
        self.rewrite(out / "slides.csv", "b", "tumor_area_mm2", "7")
        assert found(out) == [("slides.csv", "does not say of b what slides.parquet says")]

    def test_a_csv_whose_end_is_missing_is_found(self, out):
        lines = (out / "slides.csv").read_text().splitlines(keepends=True)
        (out / "slides.csv").write_text("".join(lines[:-1]))
        assert found(out) == [("slides.csv", "has no row of glass, which slides.parquet has")]

    def test_a_truncated_parquet_file_is_found(self, out):
        (out / "slides.parquet").write_bytes((out / "slides.parquet").read_bytes()[:-100])
        assert files(out) == ["slides.parquet"]

    def test_a_figure_that_is_not_the_summarys_is_found(self, out):
        table = pq.read_table(out / "slides.parquet")
        rows = table.to_pylist()
        rows[0]["tissue_area_mm2"] += 0.5
        pq.write_table(type(table).from_pylist(rows, schema=table.schema), out / "slides.parquet")
        (slide, what), (text, _) = sorted(found(out), reverse=True)
        assert (slide, text) == ("slides.parquet", "slides.csv")
        assert "tissue_area_mm2" in what
        assert "of a" in what

    def test_rows_that_are_gone_from_both_tables_are_missed(self, out):
        """The run counted its slides, and that of a row which is gone is still there."""
        table = pq.read_table(out / "slides.parquet")
        pq.write_table(table.slice(1), out / "slides.parquet")
        lines = (out / "slides.csv").read_text().splitlines(keepends=True)
        (out / "slides.csv").write_text("".join([lines[0], *lines[2:]]))
        seen = look(out)
        assert [fault.file for fault in seen.tables] == ["slides.parquet"]
        assert "2 done, 1 failed, but the run did 3 done, 1 failed" in seen.tables[0].what
        assert seen.unlisted == ("a",)

    def test_a_missing_table_is_found(self, out):
        (out / "slides.csv").unlink()
        assert found(out) == [("slides.csv", "is missing")]

    def test_before_the_end_of_a_run_there_are_no_tables_to_miss(self, out):
        for name in ("slides.csv", "slides.parquet", "run.json"):
            (out / name).unlink()
        assert found(out) == []


class TestCommand:
    def verify(self, *words: object) -> tuple[int, list[str]]:
        done = CliRunner().invoke(main, ["verify", *map(str, words), "--workers", "1"])
        return done.exit_code, done.output.splitlines()

    def test_clean_is_exit_0_and_one_line(self, out):
        assert self.verify(out) == (0, ["3 slides read again: 0 wrong"])

    def test_what_is_wrong_is_one_line_a_slide_with_file_and_remedy_and_exit_1(self, out):
        shard = first_shard(out)
        flip_a_bit(out / shard)
        (out / "slides" / "b" / "preview.jpg").unlink()
        code, lines = self.verify(out)
        assert code == 1
        assert lines == [
            f"a: {shard} is not what was written: its checksum differs; delete slides/a and run the same command again",
            "b: slides/b/preview.jpg is missing; delete slides/b/summary.json and run the same command again, which "
            "measures the slide anew",
            "3 slides read again: 2 wrong",
        ]

    def test_slides_can_be_named(self, out):
        flip_a_bit(out / first_shard(out))
        assert self.verify(out, "--slides", "b", "--slides", "glass") == (
            0,
            ["2 slides read again: 0 wrong"],
        )

    def test_while_a_run_is_at_work_that_is_said(self, out):
        with closing(Lease(out, lambda reason: None)):
            assert self.verify(out)[1][0].startswith("a run is at work (process ")
