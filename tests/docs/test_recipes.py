"""Every recipe of docs/recipes.md is run in a process of its own, if its program is installed.

``NOCTILE_RECIPES_PYTHON`` names a Python with further programs, of an environment of its own. It
may lack Noctile if the recipe does not need it.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "recipes.md"
RECIPE = re.compile(r"<!-- recipe: (\w+) -->\n```(\w+)\n(.*?)```\n", re.DOTALL)
RECIPES = {name: (language, text) for name, language, text in RECIPE.findall(PAGE.read_text())}

WITHOUT_WINDOW = """
import napari
from napari.components import ViewerModel
napari.Viewer, napari.run = ViewerModel, lambda: None
"""
"""Lines before the recipe of napari: its viewer needs a screen."""

CHECKS = {
    "napari": """
classes = viewer.layers["classes"]
assert classes.get_status((600, 600), world=True)["value"].endswith("class: tumor")
edges = [layer.translate[-2:] - layer.scale[-2:] / 2 for layer in viewer.layers]
assert all(abs(edges[0] - edge).max() < 1e-6 for edge in edges), "the corners are not the same"
""",
}
"""Lines after a recipe, by its program."""


def interpreter(program: str) -> str:
    """Return the Python that has a program, or skip the test."""
    for python in filter(None, (os.environ.get("NOCTILE_RECIPES_PYTHON"), sys.executable)):
        found = subprocess.run(
            [python, "-c", f"import {program}"], check=False, capture_output=True
        )
        if found.returncode == 0:
            return python
    pytest.skip(
        f"{program} is not installed here; NOCTILE_RECIPES_PYTHON may name a Python with it"
    )


def command(program: str, folder: Path) -> list[str]:
    language, text = RECIPES[program]
    if language == "r":
        if not (found := shutil.which(program)):
            pytest.skip("R is not installed here")
        script = folder / "recipe.R"
        script.write_text(text, encoding="utf-8")
        return [found, str(script)]
    python, script = interpreter(program), folder / "recipe.py"
    before = WITHOUT_WINDOW if program == "napari" else ""
    script.write_text(before + text + CHECKS.get(program, ""), encoding="utf-8")
    return [python, str(script)]


@pytest.mark.parametrize("program", RECIPES)
def test_a_recipe_runs(program, finished_run, tmp_path):
    words = command(program, tmp_path)
    (tmp_path / "results").symlink_to(finished_run / "results")
    env = {**os.environ, "PYTHONPATH": str(ROOT), "QT_QPA_PLATFORM": "offscreen"}
    done = subprocess.run(
        words, cwd=tmp_path, env=env, check=False, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, f"{words}\n{done.stdout}\n{done.stderr}"


def test_every_recipe_says_its_version_and_is_found_by_the_tests():
    _, *sections = re.split(r"^## ", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert not [text[:20] for text in sections if not re.search(r"\bRun with \w+ \d+\.\d+", text)]
    assert PAGE.read_text(encoding="utf-8").count("```") == 2 * len(RECIPES)
    assert len(RECIPES) == len(sections)
