"""Options of several commands: mistakes of a call, JSON documents, completion by the shell."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from standins import small_slide

from noctile.cli import COMMANDS, main

DOCS = Path(__file__).resolve().parents[2] / "docs"


def noctile(*words: object) -> Result:
    result = CliRunner().invoke(main, [str(word) for word in words])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


@pytest.fixture(scope="module")
def results(model, tmp_path_factory) -> tuple[Path, Result]:
    """A folder of results with a failed slide, and the run that made it."""
    folder = tmp_path_factory.mktemp("slides")
    small_slide(folder / "a.tif", seed=0, height=900, width=1100)
    (folder / "b.svs").write_bytes(b"no slide")
    words = ("--out", folder / "out", "--model", model, "--engine", "serial", "--device", "cpu")
    return folder / "out", noctile("run", folder, *words, "--json")


class TestMistakes:
    def test_all_mistakes_of_a_call_are_said_at_once(self, tmp_path):
        (tmp_path / "out").write_text("a file")
        (tmp_path / "run.toml").write_text("batchsize = 4\n[tissue]\nmmp = 8\n")
        words = ("--device", "gpu", "--model", "tumr", "--manifest", tmp_path / "no.csv")
        more = ("--until", "tomorrow", "--slide-timeout", "1 week", "--workers", "many")
        more += ("--out", tmp_path / "out", "--mpp", "abc", "--config", tmp_path / "run.toml")
        result = noctile("run", *words, *more)
        assert result.exit_code == 2
        first, *mistakes = result.output.splitlines()
        assert first == f"noctile: {len(mistakes)} mistakes in this call:"
        for mistake in (
            '--device must be auto, cpu, cuda or cuda:N; found "gpu"',
            "--until must be a time such as 07:00, or a date",
            "--slide-timeout must be a number with s, m, h or d",
            '--workers must be a whole number; found "many"',
            '--mpp must be a number; found "abc"',
            "batchsize is unknown; did you mean 'batch_size'?",
            "tissue.mmp is unknown; did you mean 'tissue.mpp'?",
            "model 'tumr' is neither an installed model nor a folder; did you mean 'tumor'?",
            "no.csv",
            f"--out {tmp_path / 'out'} is a file; name a folder",
        ):
            assert mistake in result.output
        assert not re.search(r"\^\(|Input should|string_|pydantic", result.output)

    def test_one_mistake_is_one_line(self, tmp_path):
        small_slide(tmp_path / "a.tif", seed=0, height=300, width=300)
        result = noctile("run", tmp_path / "a.tif", "--out", tmp_path / "o", "--device", "gpu")
        assert result.exit_code == 2
        assert result.output == (
            'noctile: --device must be auto, cpu, cuda or cuda:N; found "gpu"\n'
        )

    def test_a_missing_out_is_named_with_an_example(self):
        result = noctile("run", "nothing/here")
        assert result.exit_code == 2
        assert "--out is missing: name the folder for the results" in result.output
        assert "nothing/here" in result.output

    @pytest.mark.parametrize(
        ("words", "hint"),
        [
            (["rnu"], "there is no command 'rnu'; did you mean 'run'?"),
            (["statsu", "results"], "did you mean 'status'?"),
            (["xyzzy"], "there is no command 'xyzzy'"),
            (["run", "--modle", "tumor"], "--model"),
            (["models", "show", "tumro"], "did you mean 'tumor'?"),
        ],
    )
    def test_the_nearest_name_is_suggested(self, words, hint):
        result = noctile(*words)
        assert result.exit_code == 2
        assert hint in result.output


def keys_of(value: object) -> set[str]:
    if isinstance(value, dict):
        return set(value) | {key for item in value.values() for key in keys_of(item)}
    return {key for item in value for key in keys_of(item)} if isinstance(value, list) else set()


class TestJson:
    def test_the_end_of_a_run_is_a_document(self, results):
        _, run = results
        document = json.loads(run.stdout)
        assert (document["command"], document["exit_code"], run.exit_code) == ("run", 1, 1)
        assert document["counts"] == {"done": 1, "failed": 1, "skipped": 0}
        a, b = document["slides"]
        assert (a["slide_id"], a["status"], a["reason"]) == ("a", "done", "")
        assert (b["slide_id"], b["status"], b["reason"]) == ("b", "failed", "unopenable")
        assert "a: done, tumor" in run.stderr

    @pytest.mark.parametrize("command", ["status", "verify", "models", "models list"])
    def test_other_commands_print_a_document_and_nothing_else(self, results, command):
        out = () if command.startswith("models") else (results[0],)
        document = json.loads(noctile(*command.split(), *out, "--json").stdout)
        assert document["command"] == command.split()[0]

    def test_a_plan_is_a_document(self, results, model, tmp_path):
        words = ("--out", tmp_path, "--model", model, "--engine", "serial", "--device", "cpu")
        plan = noctile("plan", results[0].parent / "a.tif", *words, "--json")
        (slide,) = json.loads(plan.stdout)["slides"]
        assert (slide["slide_id"], slide["state"]) == ("a", "ready")

    def test_every_key_is_described(self, results, model, tmp_path):
        words = ("--out", tmp_path, "--model", model, "--engine", "serial", "--device", "cpu")
        plan = noctile("plan", results[0].parent, *words, "--json")
        (results[0] / "slides" / "a" / "preview.jpg").write_bytes(b"damaged")
        outputs = [results[1], plan, noctile("models", "--json")]
        outputs += [noctile(command, results[0], "--json") for command in ("status", "verify")]
        keys = {key for output in outputs for key in keys_of(json.loads(output.stdout))}
        described = set(re.findall(r"`([^`\n]+)`", (DOCS / "json.md").read_text(encoding="utf-8")))
        assert keys - described == set()

    def test_an_error_leaves_standard_output_empty(self):
        result = noctile("status", "no/folder", "--json")
        assert (result.exit_code, result.stdout) == (2, "")
        assert result.stderr.startswith("noctile: ")


class TestOutput:
    def test_the_log_of_the_run_has_the_lines_of_its_end(self, results):
        lines = (results[0] / "run.log").read_text(encoding="utf-8").splitlines()
        texts = [line.split(" ", 1)[1] for line in lines]
        assert texts[0].startswith("run of 2 slides with model ")
        assert any(text.startswith("b: failed, unopenable") for text in texts)
        assert texts[-1].startswith("1 done, 1 failed; tumor ")

    def test_a_run_prints_one_line_a_slide(self, model, tmp_path):
        small_slide(tmp_path / "a.tif", seed=0, height=900, width=1100)
        words = ("--out", tmp_path / "out", "--model", model, "--engine", "serial")
        output = noctile("run", tmp_path, *words, "--device", "cpu").output
        lines = [line for line in output.splitlines() if re.match(r"\d\d:\d\d:\d\d .*a: ", line)]
        assert [line.split(" ", 1)[1].split(",")[0] for line in lines] == ["[1/1] a: done"]

    def test_quiet_prints_nothing_if_all_is_well(self, results, model, tmp_path):
        words = ("--out", tmp_path, "--model", model, "--engine", "serial", "--device", "cpu")
        result = noctile("run", results[0].parent / "a.tif", *words, "--quiet")
        assert (result.exit_code, result.output) == (0, "")

    def test_status_ends_with_the_counts_after_the_failures(self, results):
        lines = noctile("status", results[0]).stdout.splitlines()
        assert lines[0] == "ended; --retry-failed tries failed slides again"
        assert lines[-4:-2] == ["failed      slides  first of them", "unopenable       1  b"]
        assert lines[-1] == "2 slides: 1 done, 1 failed, 0 begun, 0 waiting"


class TestCompletion:
    @staticmethod
    def complete(words: str) -> list[str]:
        """Words that bash would offer after a command line."""
        program = (
            "import sys; sys.argv[0] = 'noctile'\n"
            "from noctile.cli import main\nmain(prog_name='noctile')"
        )
        asked = {"_NOCTILE_COMPLETE": "bash_complete", "COMP_WORDS": words}
        asked["COMP_CWORD"] = str(len(words.split(" ")) - 1)
        done = subprocess.run(
            [sys.executable, "-c", program],
            env=os.environ | asked,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.stderr == ""
        return done.stdout.split()

    def test_commands_are_completed(self):
        assert self.complete("noctile ") == [f"plain,{name}" for name in COMMANDS]

    @pytest.mark.parametrize(
        ("words", "offered"),
        [
            ("noctile run --mod", "plain,--model"),
            ("noctile run --model tu", "plain,tumor"),
            ("noctile run --model tu", "dir,tu"),
            ("noctile models show t", "plain,tumor"),
            ("noctile models l", "plain,list"),
            ("noctile plan --device c", "plain,cuda"),
            ("noctile verify --js", "plain,--json"),
        ],
    )
    def test_options_and_their_values_are_completed(self, words, offered):
        assert offered in self.complete(words)

    def test_completion_takes_less_than_half_a_second_of_a_core(self):
        before = os.times()
        self.complete("noctile run --model tu")
        after = os.times()
        spent_s = after.children_user + after.children_system
        assert spent_s - before.children_user - before.children_system < 0.5

    @pytest.mark.parametrize("shell", ["zsh", "fish"])
    def test_the_documented_line_prints_the_script_of_a_shell(self, shell):
        program = "from noctile.cli import main; main(prog_name='noctile')"
        env = os.environ | {"_NOCTILE_COMPLETE": f"{shell}_source"}
        command = [sys.executable, "-c", program]
        done = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
        assert f"_NOCTILE_COMPLETE={shell}_complete" in done.stdout
        line = f"_NOCTILE_COMPLETE={shell}_source noctile"
        assert line in (DOCS / "install.md").read_text(encoding="utf-8")
