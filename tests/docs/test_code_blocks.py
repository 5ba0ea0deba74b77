"""Every code block of the README and of the documentation is run.

The blocks of a page run from top to bottom in one folder. It holds ``sample_slides/``, the
``results/`` of a finished run, and what earlier blocks of the page wrote. A block with a title is
written to the file of that name. A block that cannot run follows ``<!-- not run: reason -->``.
"""

import doctest
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from markdown_it import MarkdownIt

from noctile.pipeline.training.settings import TrainSettings
from noctile.workflows.settings import RunSettings, checked

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]

NOT_RUN = re.compile(r"<!-- not run: (\S.+) -->\s*", re.DOTALL)
SETTINGS = {"run.toml": RunSettings, "train.toml": TrainSettings}
LOOSE = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


@dataclass(frozen=True)
class CodeBlock:
    """A fenced block: its page and line, language, title and text; why it is not run ("" if it is)."""

    where: str
    language: str
    title: str
    text: str
    not_run: str


def code_blocks(page: Path) -> Iterator[CodeBlock]:
    before = None
    for token in MarkdownIt().parse(page.read_text(encoding="utf-8")):
        if token.type == "fence":
            language, _, options = token.info.partition(" ")
            title = re.search(r'title="([^"]+)"', options)
            reason = (
                NOT_RUN.fullmatch(before.content)
                if before and before.type == "html_block"
                else None
            )
            where = f"{page.relative_to(ROOT)}:{token.map[0] + 1}"
            yield CodeBlock(
                where,
                language,
                title[1] if title else "",
                token.content,
                reason[1] if reason else "",
            )
        before = token


@pytest.fixture(scope="session")
def shell(tmp_path_factory) -> dict[str, str]:
    """An environment in which ``noctile`` and ``python`` are this checkout and this interpreter."""
    folder = tmp_path_factory.mktemp("bin")
    for name, call in (
        ("noctile", f"'{sys.executable}' -m noctile"),
        ("python", f"'{sys.executable}'"),
    ):
        (folder / name).write_text(f'#!/bin/sh\nexec {call} "$@"\n', encoding="utf-8")
        (folder / name).chmod(0o755)
    paths = {"PATH": f"{folder}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    return {**os.environ, **paths, "COLUMNS": "100"}


@pytest.fixture(scope="session")
def finished_run(shell, tmp_path_factory) -> Path:
    """A folder with the sample slides and the results of the README's first command."""
    folder = tmp_path_factory.mktemp("finished_run")
    shutil.copytree(ROOT / "sample_slides", folder / "sample_slides")
    run_in_shell("noctile run sample_slides --out results", folder, shell)
    return folder


@pytest.fixture
def workplace(finished_run, tmp_path, monkeypatch) -> Path:
    folder = shutil.copytree(finished_run, tmp_path / "workplace")
    monkeypatch.chdir(folder)
    return folder


def run_in_shell(script: str, folder: Path, env: dict[str, str]) -> str:
    done = subprocess.run(
        ["bash", "-ec", script],
        cwd=folder,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{script}\n{done.stdout}"
    return done.stdout


def run_console(block: CodeBlock, folder: Path, env: dict[str, str]) -> None:
    """Run each line after ``$``; what follows it in the block must be what it prints."""
    head, *sessions = re.split(r"^\$ ", block.text, flags=re.MULTILINE)
    assert not head, f"{block.where}: text before the first $"
    for session in sessions:
        command, _, expected = session.partition("\n")
        found = run_in_shell(command, folder, env)
        if expected.strip():
            assert doctest.OutputChecker().check_output(expected, found, LOOSE), (
                f"{block.where}: {found}"
            )


def run_doctest(block: CodeBlock, names: dict[str, Any]) -> None:
    test = doctest.DocTestParser().get_doctest(block.text, names, block.where, block.where, 0)
    said: list[str] = []
    results = doctest.DocTestRunner(optionflags=LOOSE).run(test, out=said.append, clear_globs=False)
    names.update(test.globs)
    assert not results.failed, "".join(said)


def check_settings(block: CodeBlock) -> None:
    checked(SETTINGS[block.title], tomllib.loads(block.text))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_blocks_of_a_page_run(page, workplace, shell):
    names: dict[str, Any] = {"__name__": "page"}
    runners: dict[str, Callable[[CodeBlock], object]] = {
        "bash": lambda block: run_in_shell(block.text, workplace, shell),
        "console": lambda block: run_console(block, workplace, shell),
        "json": lambda block: json.loads(block.text),
        "pycon": lambda block: run_doctest(block, names),
        "python": lambda block: exec(compile(block.text, block.where, "exec"), names),
        "text": lambda block: None,  # a folder tree or a formula
        "toml": check_settings,
    }
    for block in code_blocks(page):
        assert block.not_run or block.language in runners, (
            f"{block.where}: nothing runs {block.language!r}"
        )
        if not block.not_run:
            if block.title:
                (workplace / block.title).write_text(block.text, encoding="utf-8")
            try:
                runners[block.language](block)
            except Exception as error:
                raise AssertionError(f"{block.where}: {error}") from error


def test_a_wrong_block_is_found(workplace, shell):
    wrong = CodeBlock("page:1", "console", "", "$ echo 3\n4\n", "")
    with pytest.raises(AssertionError, match="page:1: 3"):
        run_console(wrong, workplace, shell)
