"""The command line: exit codes, messages, help and tables."""

import csv
import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from label_results import write_result
from standins import small_slide

from noctile.cli import main
from noctile.workflows.commands.audit import AuditRequest, open_audit
from noctile.workflows.viewer import audit_server, server


@pytest.fixture(scope="module")
def slides(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("slides")
    small_slide(folder / "a.tif", seed=0, height=900, width=1100)
    return folder


def noctile(*words: object) -> tuple[int, str]:
    result = CliRunner().invoke(main, [str(w) for w in words])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.output


def serial(slides: Path, out: Path, model: Path, *more: object) -> tuple[int, str]:
    return noctile(
        "run",
        slides,
        "--out",
        out,
        "--model",
        model,
        "--engine",
        "serial",
        "--device",
        "cpu",
        *more,
    )


class TestStart:
    def test_help_answers_within_half_a_second(self):
        """The best of five processes counts, so that other load on the machine does not."""
        times = []
        for _ in range(5):
            start = time.perf_counter()
            subprocess.run(
                [sys.executable, "-m", "noctile", "--help"], check=True, capture_output=True
            )
            times.append(time.perf_counter() - start)
        assert min(times) < 0.5

    @pytest.mark.parametrize("words", [["--help"], ["run", "--help"], ["--version"]])
    def test_help_loads_nothing_heavy(self, words):
        code = (
            "import sys\nfrom noctile.cli import main\n"
            f"try:\n    main({words!r})\nexcept SystemExit:\n    pass\n"
            "heavy = {'torch', 'distributed', 'dask', 'zarr', 'numpy', 'pyarrow', 'scipy'}\n"
            "print(sorted(heavy & set(sys.modules)))"
        )
        done = subprocess.run(
            [sys.executable, "-c", code], check=True, capture_output=True, text=True
        )
        assert done.stdout.splitlines()[-1] == "[]"


class TestRun:
    def test_all_done_is_exit_0_and_ends_with_the_table(self, slides, model, tmp_path):
        code, text = serial(slides, tmp_path, model)
        assert code == 0
        assert text.splitlines()[-1].startswith("1 done; tumor ")
        assert "│ a " in text
        assert {p.name for p in tmp_path.iterdir()} == {
            "columns.json",
            "index.html",
            "index_files",
            "runs",
            "run.log",
            "ledger.jsonl",
            "slides.csv",
            "slides.parquet",
            "slides",
        }

    def test_some_failed_is_exit_1_and_names_the_reason(self, slides, model, tmp_path):
        (tmp_path / "broken.svs").write_bytes(b"no slide")
        code, text = noctile(
            *("run", slides, tmp_path / "broken.svs", "--out", tmp_path / "out", "--model", model),
            *("--engine", "serial", "--device", "cpu"),
        )
        assert code == 1
        assert "unopenable" in text
        assert text.splitlines()[-1].startswith("1 done, 1 failed; ")

    def test_a_folder_of_links_is_segmented_and_a_broken_link_named(self, slides, model, tmp_path):
        (tmp_path / "cohort").mkdir()
        (tmp_path / "cohort" / "case 7.tif").symlink_to(slides / "a.tif")
        (tmp_path / "cohort" / "gone.tif").symlink_to(slides / "gone.tif")
        code, text = serial(tmp_path / "cohort", tmp_path / "out", model)
        assert code == 0, text
        assert (
            f"noctile: warning: {tmp_path}/cohort/gone.tif is left out: the link leads to" in text
        )
        assert [path.name for path in (tmp_path / "out" / "slides").iterdir()] == ["case 7"]

    def test_all_failed_is_exit_2(self, model, tmp_path):
        (tmp_path / "broken.svs").write_bytes(b"no slide")
        assert serial(tmp_path / "broken.svs", tmp_path / "out", model)[0] == 2

    def test_the_manifest_names_slides_and_passes_columns_through(self, slides, model, tmp_path):
        (tmp_path / "m.csv").write_text(
            f"slide_id,path,patient_id,group,stage\ncase 7,{slides / 'a.tif'},p1,trial,II\n"
        )
        code, text = noctile(
            *("run", "--manifest", tmp_path / "m.csv", "--out", tmp_path / "out", "--model", model),
            *("--engine", "serial", "--device", "cpu"),
        )
        assert code == 0, text
        with (tmp_path / "out" / "slides.csv").open(newline="") as file:
            (row,) = csv.DictReader(file)
        assert [row[c] for c in ("slide_id", "patient_id", "group", "stage")] == [
            "case 7",
            "p1",
            "trial",
            "II",
        ]
        assert list(row)[-1] == "stage"
        assert (tmp_path / "out" / "slides" / "case 7" / "summary.json").exists()

    def test_an_id_that_leaves_the_folder_is_refused(self, slides, model, tmp_path):
        (tmp_path / "m.csv").write_text(f"slide_id,path\n../x,{slides / 'a.tif'}\n")
        code, text = noctile(
            "run", "--manifest", tmp_path / "m.csv", "--out", tmp_path / "out", "--model", model
        )
        assert code == 2
        assert "../x" in text
        assert not (tmp_path / "x").exists()

    def test_a_read_only_folder_is_named(self, slides, model, tmp_path):
        if os.geteuid() == 0:
            (tmp_path / "out").write_text("a file where the folder should be")
        else:
            (tmp_path / "out").mkdir(mode=0o500)
        code, text = serial(slides, tmp_path / "out", model)
        assert code == 2
        assert str(tmp_path / "out") in text

    def test_a_manifest_that_has_the_name_of_a_table_is_not_overwritten(
        self, slides, model, tmp_path
    ):
        (tmp_path / "slides.csv").write_text(text := f"slide_id,path\na,{slides / 'a.tif'}\n")
        manifest, more = (
            tmp_path / "slides.csv",
            ("--model", model, "--engine", "serial", "--device", "cpu"),
        )
        for command in ("run", "plan"):
            code, output = noctile(command, "--manifest", manifest, "--out", tmp_path, *more)
            assert code == 2
            assert f"manifest {manifest} is a file that the run writes" in output
        assert manifest.read_text() == text
        assert list(tmp_path.iterdir()) == [manifest]

    @pytest.mark.parametrize(
        "name", ["slides.csv", "slides.parquet", "columns.json", "plan.csv", "ledger.jsonl"]
    )
    def test_a_folder_with_other_files_of_the_same_names_is_refused(
        self, slides, model, tmp_path, name
    ):
        (tmp_path / name).write_text("mine\n")
        code, text = serial(slides, tmp_path, model)
        assert code == 2
        assert f"--out {tmp_path} holds {name}, and no run of noctile has been there" in text
        assert (tmp_path / name).read_text() == "mine\n"
        assert [path.name for path in tmp_path.iterdir()] == [name]

    def test_a_folder_of_slides_without_a_run_is_refused(self, slides, model, tmp_path):
        """The data of a.mrxs are in a folder a, like the results of slide a."""
        (tmp_path / "slides" / "a").mkdir(parents=True)
        code, text = serial(slides, tmp_path, model)
        assert code == 2
        assert "a folder slides that is not empty" in text
        assert list((tmp_path / "slides" / "a").iterdir()) == []

    @pytest.mark.parametrize("lost", ["ledger.jsonl", "runs"])
    def test_results_are_accepted_if_their_ledger_or_report_is_lost(
        self, slides, model, tmp_path, lost
    ):
        assert serial(slides, tmp_path, model)[0] == 0
        (tmp_path / lost).rename(tmp_path / "lost")
        code, text = serial(slides, tmp_path, model)
        assert code == 0
        assert "done (already)" in text

    def test_a_memory_limit_in_which_no_block_fits_is_refused_before_the_run(
        self, slides, model, tmp_path
    ):
        code, text = serial(slides, tmp_path / "out", model, "--max-memory", "480M")
        assert code == 2
        assert "a worker may hold 0.50 GB (--max-memory, or its share of the machine)" in text
        assert "but model and one block" in text
        assert "smaller block_px" in text

    def test_ctrl_c_before_the_run_has_begun_fails_no_slide(
        self, slides, model, tmp_path, monkeypatch
    ):
        def interrupted(*_: object, **__: object) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr("noctile.pipeline.slides.discover.find_slides", interrupted)
        code, text = serial(slides, tmp_path, model)
        assert (code, text) == (130, "noctile: interrupted\n")

    def test_names_are_complete_on_a_narrow_screen(self, slides, model, tmp_path, monkeypatch):
        long = "a-very-long-name-that-ends-in-what-tells-slides-apart-"
        for n in (1, 2):
            (tmp_path / f"{long}{n}.tif").write_bytes(b"no slide")
        monkeypatch.setenv("COLUMNS", "60")
        for command in ("run", "plan"):
            _, text = noctile(
                command, tmp_path, "--out", tmp_path / "out", "--model", model, "--engine", "serial"
            )
            cells = "".join(
                line.split("│")[1].strip() for line in text.splitlines() if line.startswith("│")
            )
            assert cells == f"{long}1{long}2"

    @pytest.mark.parametrize(
        ("words", "named"),
        [
            (["nothing/here", "--out", "o"], "nothing/here"),
            (["{slides}", "--out", "{tmp}/o", "--model", "no-such-model"], "no-such-model"),
            (["{slides}", "--out", "{tmp}/o", "--device", "gpu"], "device"),
            (["{slides}", "--out", "{tmp}/o", "--mpp", "-1"], "mpp"),
            (["{slides}", "--out", "{tmp}/o", "--config", "{tmp}/no.toml"], "no.toml"),
            (["--out", "{tmp}/o"], "no slides"),
            (["{slides}"], "--out is missing"),
        ],
    )
    def test_an_invalid_call_is_exit_2_and_its_message_names_the_reason(
        self, slides, tmp_path, words, named
    ):
        code, text = noctile("run", *(w.format(slides=slides, tmp=tmp_path) for w in words))
        assert code == 2
        assert named in text
        assert "Traceback" not in text


class TestInspect:
    def test_a_slide_is_described_and_its_tissue_drawn(self, slides, model, tmp_path):
        code, text = noctile(
            "inspect", slides / "a.tif", "--model", model, "--thumbnail", tmp_path / "t.jpg"
        )
        assert code == 0
        for word in (
            "generic-tiff",
            "tiled-tiff",
            "jpeg",
            "1100 x 900",
            "0.5 x 0.5 um/px",
            "tiff tags",
            "tiles",
        ):
            assert word in text
        assert (tmp_path / "t.jpg").stat().st_size > 1000

    def test_a_slide_that_cannot_be_opened_is_exit_2(self, tmp_path):
        code, text = noctile("inspect", tmp_path / "no.svs")
        assert code == 2
        assert "no.svs" in text


class TestModels:
    def test_the_list_names_the_installed_models(self):
        code, text = noctile("models")
        assert code == 0
        assert "tumor" in text

    def test_show_prints_the_card(self):
        code, text = noctile("models", "show", "tumor")
        assert code == 0
        card = json.loads(text)
        assert {c["code"] for c in card["classes"]} == {1, 21}

    def test_an_unknown_model_lists_what_is_installed(self):
        code, text = noctile("models", "show", "nope")
        assert code == 2
        assert "tumor" in text


class TestView:
    def test_a_port_that_is_taken_is_exit_2(self, tmp_path):
        (tmp_path / "slides").mkdir()
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            code, text = noctile("view", tmp_path, "--no-browser", "--port", port)
        assert code == 2
        assert f"port {port} is taken" in text

    def test_a_folder_without_results_is_exit_2(self, tmp_path):
        code, text = noctile("view", tmp_path, "--no-browser")
        assert code == 2
        assert "holds no results of noctile" in text

    @pytest.mark.parametrize("words", [[], ["--no-browser"]])
    def test_the_address_is_printed_and_the_browser_opened(self, tmp_path, monkeypatch, words):
        shown, url = [], "http://127.0.0.1:8000/token/"
        monkeypatch.setattr(server, "serve", lambda *_: _[-1](url))
        monkeypatch.setattr("webbrowser.open", shown.append)
        code, text = noctile("view", tmp_path, "-q", *words)
        assert code == 0
        assert url in text.splitlines()
        assert shown == ([] if words else [url])


class TestAudit:
    @pytest.fixture
    def audited(self, tmp_path):
        write_result(tmp_path, np.tile(np.repeat([1, 2], 200), (400, 1)).astype(np.uint8))
        return tmp_path

    def test_points_are_drawn_once_and_the_address_is_printed(self, audited, monkeypatch):
        shown, url = [], "http://127.0.0.1:8000/token/"
        monkeypatch.setattr(audit_server, "serve_audit", lambda *_: _[-1](url))
        monkeypatch.setattr("webbrowser.open", shown.append)
        code, text = noctile("audit", audited, "--points", 20, "--reader", "ada")
        assert (code, shown) == (0, [url])
        assert "20 points on 1 of 1 slides" in text
        assert "points for ada are shown at\n" + url in text
        before = (audited / "audit" / "points.csv").read_bytes()
        code, text = noctile("audit", audited, "--no-browser", "--seed", 3)
        assert code == 2
        assert "was drawn with --points 20 --seed 0" in text
        assert noctile("audit", audited, "--no-browser")[0] == 0
        assert (audited / "audit" / "points.csv").read_bytes() == before
        assert shown == [url]

    def test_the_status_counts_answers_and_draws_nothing(self, audited):
        code, text = noctile("audit", audited, "--status")
        assert code == 2
        assert "has no audit" in text
        audits = open_audit(audited, AuditRequest(points=20))
        audits.save("ada", {point.point_id: "tumor" for point in audits.points()[:7]})
        code, text = noctile("audit", audited, "--status")
        assert code == 0
        assert "  ada: 7 of 20" in text
        summary = audited / "slides" / "s" / "summary.json"
        summary.write_text(summary.read_text().replace('"key": "k"', '"key": "new"'))
        stale = "done again or have gone since the points were drawn: s"
        assert stale in noctile("audit", audited, "--status")[1]

    def test_the_status_tells_areas_and_further_points(self, audited):
        audits = open_audit(audited, AuditRequest(points=40))
        ids = [point.point_id for point in audits.points()]
        audits.save("ada", dict.fromkeys(ids[:19], "tumor"))
        assert "no areas yet: they take 20 points" in noctile("audit", audited, "--status")[1]
        wrong = {p.point_id: "stroma" for p in audits.points() if p.stratum == "tumor"}
        right = {p.point_id: p.stratum for p in audits.points()}
        audits.save("ada", right | dict(list(wrong.items())[::2]))
        code, text = noctile("audit", audited, "--status")
        assert code == 0
        assert "takes about 120 further points with a class: --points 160" in text
        output = CliRunner().invoke(main, ["audit", str(audited), "--status", "--json"]).stdout
        tumor, stroma = json.loads(output)["areas"]
        area = tumor["area_mm2"]
        assert (tumor["class"], tumor["points"], tumor["points_in_all"]) == ("tumor", 40, 160)
        assert area["value"] == pytest.approx(0.01)
        assert area["low"] < area["value"] < area["high"]
        assert tumor["wanted_half_width"] == pytest.approx(tumor["half_width"] / 2)
        assert stroma["area_mm2"]["value"] + area["value"] == pytest.approx(0.04)
        for percent, line in (("900%", "± 900 % is reached"), ("0.01", "many cannot be drawn")):
            assert line in noctile("audit", audited, "--status", "--half-width", percent)[1]

    @pytest.mark.parametrize(
        ("words", "problem"),
        [
            (("--json",), "belong to --status"),
            (("--half-width", "5%"), "belong to --status"),
            *(
                (("--status", "--half-width", percent), "is no percentage")
                for percent in ("0", "5mm2", "nan", "1e-323")
            ),
        ],
    )
    def test_options_of_the_status_are_checked(self, audited, words, problem):
        code, text = noctile("audit", audited, "--no-browser", *words)
        assert (code, problem in text) == (2, True)
        assert not (audited / "audit").exists()

    def test_few_chosen_slides_are_warned_of(self, tmp_path, monkeypatch):
        monkeypatch.setattr(audit_server, "serve_audit", lambda *_: None)
        labels = np.tile(np.repeat([1, 2], 100), (200, 1)).astype(np.uint8)
        for name in "abcd":
            write_result(tmp_path, labels, name)
        text = noctile("audit", tmp_path, "--points", 20, "--slides", 2, "--no-browser")[1]
        assert "20 points on 2 of 4 slides" in text
        assert "points lie on 2 chosen slides. With fewer than 100" in text
        assert "points lie on 2 chosen slides" in noctile("audit", tmp_path, "--status")[1]

    def test_a_folder_without_results_is_exit_2(self, tmp_path):
        code, text = noctile("audit", tmp_path, "--no-browser")
        assert code == 2
        assert "holds no results of noctile" in text
