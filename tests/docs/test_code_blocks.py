"""Every code block of the README and of the documentation is run.

The blocks of a page run from top to bottom in one folder. It holds ``sample_slides/``, the
``results/`` of a finished run, and what earlier blocks of the page wrote. A block with a title is
written to the file of that name. A block that cannot run follows ``<!-- not run: reason -->``.
"""

import doctest
import json
import re
import shutil
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from markdown_it import MarkdownIt

from noctile.pipeline.regroup import Groups
from noctile.pipeline.training.settings import TrainSettings
from noctile.workflows.settings import RunSettings, checked

ROOT = Path(__file__).resolve().parents[2]

NOT_RUN = re.compile(r"<!-- not run: (\S.+) -->\s*", re.DOTALL)
SETTINGS = {
    "run.toml": RunSettings,
    "train.toml": TrainSettings,
    "groups.toml": Groups,
    "threshold.toml": Groups,
}
LOOSE = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


@dataclass(frozen=True)
class CodeBlock:
    """A fenced block: its page and line, language, title and text; "" or why it is not run."""

    where: str
    language: str
    title: str
    text: str
    not_run: str


def code_blocks(page: Path) -> Iterator[CodeBlock]:
    before = ""
    for token in MarkdownIt().parse(page.read_text(encoding="utf-8")):
        if token.type == "fence":
            language, _, options = token.info.partition(" ")
            title = re.search(r'title="([^"]+)"', options)
            reason = NOT_RUN.fullmatch(before)
            yield CodeBlock(
                f"{page.relative_to(ROOT)}:{token.map[0] + 1}",
                language,
                title[1] if title else "",
                token.content,
                reason[1] if reason else "",
            )
        before = token.content if token.type == "html_block" else ""


RECIPES = ROOT / "docs" / "recipes.md"
"""Page whose blocks need further programs: `test_recipes` runs them."""

DOCS = [path for path in sorted((ROOT / "docs").rglob("*.md")) if path != RECIPES]
FILES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *DOCS]
PAGES = {page: list(code_blocks(page)) for page in FILES}


class Runners:
    """One function for each language; the blocks of a page share a folder and Python's names."""

    def __init__(self, folder: Path, shell: Callable[[str, Path], str]) -> None:
        self._folder, self._shell = folder, shell
        self._names: dict[str, Any] = {"__name__": "page"}

    def run(self, block: CodeBlock) -> None:
        if block.title:
            (self._folder / block.title).write_text(block.text, encoding="utf-8")
        try:
            getattr(self, block.language)(block)
        except Exception as error:
            raise AssertionError(f"{block.where}: {error}") from error

    def bash(self, block: CodeBlock) -> None:
        self._shell(block.text, self._folder)

    def console(self, block: CodeBlock) -> None:
        """Run each line after ``$``; the lines after it must be its output."""
        head, *sessions = re.split(r"^\$ ", block.text, flags=re.MULTILINE)
        assert not head, "text before the first $"
        for session in sessions:
            command, _, expected = session.partition("\n")
            found = self._shell(command, self._folder)
            if expected.strip():
                assert doctest.OutputChecker().check_output(expected, found, LOOSE), found

    def json(self, block: CodeBlock) -> None:
        json.loads(block.text)

    def pycon(self, block: CodeBlock) -> None:
        test = doctest.DocTestParser().get_doctest(block.text, self._names, block.where, None, 0)
        said: list[str] = []
        runner = doctest.DocTestRunner(optionflags=LOOSE)
        results = runner.run(test, out=said.append, clear_globs=False)
        self._names.update(test.globs)
        assert not results.failed, "".join(said)

    def python(self, block: CodeBlock) -> None:
        exec(compile(block.text, block.where, "exec"), self._names)

    def text(self, block: CodeBlock) -> None:
        """A folder tree or a formula: nothing to run."""

    def csv(self, block: CodeBlock) -> None:
        """A table, written under its title: nothing to run."""

    def toml(self, block: CodeBlock) -> None:
        checked(SETTINGS[block.title], tomllib.loads(block.text))


RUN = {page: run for page, blocks in PAGES.items() if (run := [b for b in blocks if not b.not_run])}


@pytest.mark.parametrize("page", RUN, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_blocks_of_a_page_run(page, finished_run, shell, tmp_path, monkeypatch):
    unknown = [block.where for block in RUN[page] if not hasattr(Runners, block.language or "-")]
    assert not unknown, f"no runner for the language of {unknown}"
    folder = shutil.copytree(finished_run, tmp_path / "page")
    monkeypatch.chdir(folder)
    runners = Runners(folder, shell)
    for block in RUN[page]:
        runners.run(block)


@pytest.mark.parametrize(
    ("language", "text"),
    [
        ("console", "$ echo 3\n4\n"),
        ("bash", "false\n"),
        ("pycon", ">>> 1 + 1\n3\n"),
        ("python", "assert False\n"),
        ("json", "{"),
    ],
)
def test_a_wrong_block_is_found(language, text, shell, tmp_path):
    with pytest.raises(AssertionError, match="page:1"):
        Runners(tmp_path, shell).run(CodeBlock("page:1", language, "", text, ""))
