"""Folder of a cohort: only the command's own files are replaced, and nothing else is touched."""

from pathlib import Path

import pytest

from noctile.pipeline.errors import UsageError
from noctile.workflows.commands.cohort_files import RECORD, CohortFolder

FILES = {"a.csv": b"1\n", "plots/a.svg": b"<svg/>"}


@pytest.fixture
def results(tmp_path) -> Path:
    path = tmp_path / "results"
    path.mkdir()
    return path


def content(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_the_same_files_are_written_again(tmp_path, results):
    out = tmp_path / "out"
    CohortFolder(out, results).write(FILES, {"question": "q"})
    first = content(out)
    assert first.keys() == {*FILES, RECORD}
    CohortFolder(out, results).write(FILES, {"question": "q"})
    assert content(out) == first


def test_files_that_are_not_made_any_more_go_and_those_of_the_user_stay(tmp_path, results):
    out = tmp_path / "out"
    CohortFolder(out, results).write(FILES, {})
    (out / "mine.txt").write_text("mine")
    CohortFolder(out, results).write({"a.csv": b"2\n"}, {})
    assert content(out).keys() == {"a.csv", "mine.txt", RECORD}


def test_a_changed_file_is_never_lost(tmp_path, results):
    out = tmp_path / "out"
    CohortFolder(out, results).write(FILES, {})
    (out / "a.csv").write_text("my remarks")
    (out / "plots/a.svg").write_text("mine")
    with pytest.raises(UsageError, match=r"a\.csv was changed, or noctile cohort did not write it"):
        CohortFolder(out, results).write({"a.csv": b"2\n"}, {})
    (out / "a.csv").unlink()
    CohortFolder(out, results).write({"a.csv": b"2\n"}, {})
    assert (out / "plots/a.svg").read_text() == "mine"


def test_a_link_in_the_way_is_refused(tmp_path, results):
    out, target = tmp_path / "out", tmp_path / "target"
    CohortFolder(out, results).write({"b.csv": b""}, {})
    target.write_text("keep")
    (out / "a.csv").symlink_to(target)
    with pytest.raises(UsageError, match=r"a\.csv was changed"):
        CohortFolder(out, results).write(FILES, {})
    assert target.read_text() == "keep"


def test_a_call_that_was_killed_between_the_files_is_continued(tmp_path, results, monkeypatch):
    out = tmp_path / "out"
    CohortFolder(out, results).write(FILES, {})
    newer = dict.fromkeys(FILES, b"new")

    def killed(writers):
        (path, write), *_ = writers.items()
        write(path)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("noctile.workflows.commands.cohort_files.write_together", killed)
        with pytest.raises(KeyboardInterrupt):
            CohortFolder(out, results).write(newer, {})
    CohortFolder(out, results).write(newer, {})
    assert (out / "plots/a.svg").read_bytes() == b"new"


def test_folders_of_others_are_refused(tmp_path, results):
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "thesis.txt").write_text("mine")
    with pytest.raises(UsageError, match="did not write"):
        CohortFolder(foreign, results)
    other = tmp_path / "other"
    other.mkdir()
    CohortFolder(tmp_path / "out", results).write(FILES, {})
    with pytest.raises(UsageError, match="cohort of other results"):
        CohortFolder(tmp_path / "out", other)


def test_a_record_cannot_name_files_elsewhere(tmp_path, results):
    out, victim = tmp_path / "out", tmp_path / "victim"
    victim.write_bytes(b"")
    CohortFolder(out, results).write(FILES, {})
    empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    record = (out / RECORD).read_text().replace('"a.csv"', f'"../victim": ["{empty}"], "a.csv"')
    (out / RECORD).write_text(record)
    CohortFolder(out, results).write({"b": b""}, {})
    assert victim.exists()


@pytest.mark.parametrize("name", ["slides", "slides/x", ".staging/x", "runs", "."])
def test_places_of_noctile_are_refused(results, name):
    with pytest.raises(UsageError, match=r"--out .*(lies in|holds the results)"):
        CohortFolder(results / name, results)
    CohortFolder(results / "cohort", results).write(FILES, {})


@pytest.mark.parametrize("name", ["f", "f/inside"])
def test_a_file_is_no_folder(tmp_path, results, name):
    (tmp_path / "f").write_text("x")
    with pytest.raises(UsageError, match=r"/f is a file; choose a folder"):
        CohortFolder(tmp_path / name, results)
    assert (tmp_path / "f").read_text() == "x"


def test_a_damaged_record_is_not_to_be_deleted(tmp_path, results):
    """Without its record, the folder would be one of foreign files."""
    out = tmp_path / "out"
    CohortFolder(out, results).write(FILES, {})
    (out / RECORD).write_text("[1]")
    with pytest.raises(UsageError, match=r"cohort\.json.* cannot be read; choose another --out"):
        CohortFolder(out, results)
