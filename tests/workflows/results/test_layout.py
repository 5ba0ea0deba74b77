import pytest

from noctile.pipeline.errors import StoreError
from noctile.workflows.results.layout import (
    SlideFolder,
    heal,
    promote,
    read_json,
    sweep,
    write_atomic,
    write_json,
    write_together,
)


def test_what_is_written_is_read_back(tmp_path):
    write_json(tmp_path / "deep" / "a.json", {"x": [1, "ü"]})
    assert read_json(tmp_path / "deep" / "a.json") == {"x": [1, "ü"]}


def test_a_file_that_is_not_there_is_none_and_a_damaged_one_is_an_error(tmp_path):
    assert read_json(tmp_path / "a.json") is None
    (tmp_path / "a.json").write_text("{")
    with pytest.raises(StoreError, match=r"a\.json is damaged"):
        read_json(tmp_path / "a.json")


def test_a_write_that_fails_leaves_the_old_file_and_no_other(tmp_path):
    write_json(tmp_path / "a.json", {"old": 1})

    def write(path):
        path.write_text("half")
        raise OSError(28, "No space left on device")

    with pytest.raises(StoreError, match="No space left"):
        write_atomic(tmp_path / "a.json", write)
    assert read_json(tmp_path / "a.json") == {"old": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


def test_clearing_a_slide_removes_nothing_that_is_not_ours(tmp_path):
    folder = SlideFolder(tmp_path)
    for path in (folder.mask, folder.heat):
        path.mkdir()
        (path / "x").write_text("x")
    for path in (folder.summary, folder.plan, tmp_path / "my notes.txt"):
        path.write_text("x")
    folder.clear()
    assert [p.name for p in tmp_path.iterdir()] == ["my notes.txt"]


def test_files_that_belong_together_are_replaced_all_or_none(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).write_text("old")

    def full(path):
        raise OSError(28, "No space left on device")

    with pytest.raises(StoreError, match="No space left"):
        write_together({tmp_path / "a": lambda p: p.write_text("new"), tmp_path / "b": full})
    assert {p.name: p.read_text() for p in tmp_path.iterdir()} == {"a": "old", "b": "old"}


def test_sweeping_removes_what_killed_writers_left_and_nothing_else(tmp_path):
    for name in (
        ".summary.123.tmp.json",
        ".lease.99.tmp",
        ".hidden",
        "summary.json",
        "my.5.tmp.json",
    ):
        (tmp_path / name).write_text("x")
    sweep(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        ".hidden",
        "my.5.tmp.json",
        "summary.json",
    ]


def slide(path, text):
    """A complete result of one slide, with so much in each file."""
    folder = SlideFolder(path)
    for file in (*folder.everything, folder.checksums):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    for image in (folder.mask, folder.heat):
        image.unlink()
        image.mkdir()
    return folder


def test_a_new_result_takes_the_place_of_the_old_one_and_its_foreign_files(tmp_path):
    old, new = slide(tmp_path / "slides" / "a", "old"), slide(tmp_path / ".staging" / "a", "new")
    (old.path / "my notes.txt").write_text("mine")
    (old.path / ".summary.123.tmp.json").write_text("left by a killed writer")
    (old.path / "preview.txt").write_text("mine too")
    (new.path / "preview.txt").write_text("and newer")
    promote(new, old)
    assert not new.path.exists()
    assert old.complete
    assert {old.summary.read_text(), old.checksums.read_text()} == {"new"}
    assert (old.path / "my notes.txt").read_text() == "mine"
    assert (old.path / "preview.txt").read_text() == "and newer"
    assert [p.read_text() for p in old.replaced.iterdir()] == [
        "mine too"
    ]  # two of one name: both are kept


def test_a_promotion_that_the_disk_refuses_is_an_error_that_names_both_folders(tmp_path):
    new = slide(tmp_path / ".staging" / "a", "new")
    (tmp_path / "slides").write_text("in the way")
    with pytest.raises(StoreError, match=r"\.staging/a cannot be moved to .*slides/a"):
        promote(new, SlideFolder(tmp_path / "slides" / "a"))


def test_healing_puts_a_complete_result_in_its_place_and_an_old_one_back_where_the_new_one_is_damaged(
    tmp_path,
):
    for name in "ab":
        slide(tmp_path / ".staging" / name, "new")
        slide(tmp_path / ".staging" / name / ".replaced", "old")
    (tmp_path / ".staging" / "b" / "summary.json").unlink()
    (tmp_path / ".staging" / "c").mkdir()
    (tmp_path / "slides").mkdir()
    heal(tmp_path)
    found = {p.parent.name: p.read_text() for p in tmp_path.glob("slides/*/summary.json")}
    assert found == {"a": "new", "b": "old"}
    assert sorted(p.name for p in (tmp_path / ".staging").iterdir()) == ["b", "c"]
