"""A run that a program starts."""

import subprocess
import sys

import pytest
from standins import small_slide, threshold_model

import noctile
from noctile.pipeline.errors import UsageError


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """Two slides, a manifest and a model."""
    folder = tmp_path_factory.mktemp("archive")
    (folder / "slides").mkdir()
    for seed, name in enumerate("ab"):
        small_slide(folder / "slides" / f"{name}.tif", seed=seed, height=700, width=900)
    (folder / "m.csv").write_text(
        "slide_id,path,group,age\na,slides/a.tif,A,61\nb,slides/b.tif,B,\n"
    )
    threshold_model(folder / "model")
    return folder


def test_a_run_gives_rows_and_an_exit_code(archive, tmp_path):
    lines = []
    result = noctile.run(
        archive / "slides",
        out=tmp_path / "out",
        model=archive / "model",
        manifest=archive / "m.csv",
        observe=lambda progress, line: lines.append(line),
        engine="serial",
    )
    assert (result.exit_code, result.stopped, result.count("done")) == (0, None, 2)
    assert [row.slide_id for row in result.rows] == ["a", "b"]
    assert any(line.startswith("a: done") for line in lines)
    slides = noctile.open(tmp_path / "out").slides
    assert slides["age"].tolist() == [61, None] or slides["age"].isna().tolist() == [False, True]
    assert list(slides["group"]) == ["A", "B"]


@pytest.mark.parametrize("several", [False, True])
def test_slides_are_one_path_or_several(several, archive, tmp_path):
    one = str(archive / "slides" / "a.tif")
    slides = [one, archive / "slides" / "b*"] if several else one
    result = noctile.run(slides, out=tmp_path, model=archive / "model", engine="serial")
    assert len(result.rows) == 1 + several


def test_a_manifest_alone_names_the_slides(archive, tmp_path):
    manifest = archive / "m.csv"
    out = str(tmp_path / "out")
    result = noctile.run(out=out, manifest=manifest, model=archive / "model", engine="serial")
    assert result.count("done") == 2


def test_mistakes_are_usage_errors_before_anything_is_written(archive, tmp_path):
    out = tmp_path / "out"
    with pytest.raises(UsageError, match="wrkers is unknown"):
        noctile.run(archive / "slides", out=out, model=archive / "model", wrkers=2)
    with pytest.raises(UsageError, match="no slides"):
        noctile.run(out=out, model=archive / "model")
    with pytest.raises(UsageError, match="no-such"):
        noctile.run(archive / "slides", out=out, model="no-such")
    assert not out.exists()


def test_a_manifest_that_the_run_would_overwrite_is_refused(archive, tmp_path):
    noctile.run(archive / "slides", out=tmp_path, model=archive / "model", engine="serial")
    manifest = tmp_path / "slides.csv"
    with pytest.raises(UsageError, match="would be overwritten"):
        noctile.run(out=tmp_path, manifest=manifest, model=archive / "model", engine="serial")


def test_a_script_without_a_guard_runs_with_workers(archive, tmp_path):
    """Processes import the script of their caller, which would start a run in each of them."""
    script = tmp_path / "night.py"
    script.write_text(
        "import noctile\n"
        f"result = noctile.run({str(archive / 'slides')!r}, out={str(tmp_path / 'out')!r}, "
        f"model={str(archive / 'model')!r}, workers=2, device='cpu')\n"
        "print(result.count('done'), 'done, exit code', result.exit_code)\n"
    )
    done = subprocess.run(
        [sys.executable, script], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.stdout == "2 done, exit code 0\n", done.stderr
