"""The shape of the code: sizes, openings of docstrings, imports, one test file a module."""

import ast
import re
import statistics
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import grimp
import pytest

ROOT = Path(__file__).resolve().parents[1]
PRODUCT = ("pipeline", "workflows", "console", "noctile", "cli.py")
ALL = (*PRODUCT, "benchmarks", "sample_slides", "tests")

RIDDLE = re.compile(r"(What|Whether|Where|Who|Whom|Whose|How|When|Why|Which)\b")
"""Openings that leave the reader to find the subject of the sentence."""

Function = ast.FunctionDef | ast.AsyncFunctionDef


def files(*names: str) -> list[Path]:
    roots = [ROOT / name for name in names]
    found = [path for root in roots for path in ([root] if root.is_file() else root.rglob("*.py"))]
    return sorted(path for path in found if not path.is_symlink())


def nodes(*names: str) -> Iterator[tuple[Path, ast.AST]]:
    for path in files(*names):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            yield path, node


def body_lines(function: Function) -> int:
    body = function.body[1:] if ast.get_docstring(function) else function.body
    return body[-1].end_lineno - body[0].lineno + 1 if body else 0


def test_no_docstring_opens_with_a_riddle():
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    opened = [
        f"{path.relative_to(ROOT)}: {text.splitlines()[0]}"
        for path, node in nodes(*ALL)
        if isinstance(node, kinds) and (text := ast.get_docstring(node)) and RIDDLE.match(text)
    ]
    assert opened == []


def test_no_constant_is_explained_by_a_riddle():
    opened = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path, node in nodes(*PRODUCT)
        if isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
        and RIDDLE.match(node.value.value)
    ]
    assert opened == []


def test_functions_fit_on_a_screen():
    functions = [(path, node) for path, node in nodes(*PRODUCT) if isinstance(node, Function)]
    lines = sorted(body_lines(node) for _, node in functions)
    assert statistics.median(lines) <= 6
    assert lines[int(0.9 * len(lines))] <= 20
    assert [f"{path}: {node.name}" for path, node in functions if body_lines(node) > 50] == []


def test_modules_have_at_most_400_lines():
    lines = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in files(*PRODUCT)}
    assert {str(path): n for path, n in lines.items() if n > 400} == {}


@pytest.mark.parametrize("house", ["pipeline", "workflows"])
def test_each_module_has_its_test_file(house):
    modules = [path.relative_to(ROOT) for path in files(house) if path.name != "__init__.py"]
    tests = [ROOT / "tests" / path.with_name(f"test_{path.name}") for path in modules]
    assert [str(path.relative_to(ROOT)) for path in tests if not path.exists()] == []


@pytest.mark.parametrize("house", ["pipeline", "workflows"])
def test_each_test_file_has_its_module(house):
    tests = [path.relative_to(ROOT / "tests") for path in files(f"tests/{house}")]
    modules = [
        ROOT / path.with_name(path.name.removeprefix("test_"))
        for path in tests
        if path.name.startswith("test_")
    ]
    assert [str(path.relative_to(ROOT)) for path in modules if not path.exists()] == []


def test_imports_have_no_loop():
    """Late imports included, those for type checkers alone left out."""
    graph = grimp.build_graph("noctile", exclude_type_checking_imports=True, cache_dir=None)
    imports = {
        module: {
            name
            for name in graph.find_modules_directly_imported_by(module)
            if name not in (module, "noctile")
        }
        for module in graph.modules
    }
    TopologicalSorter(imports).prepare()


def test_no_module_is_imported_by_the_name_of_its_folder():
    folders = {"cli", "console", "pipeline", "workflows"}
    found = []
    for path, node in nodes(*ALL):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""] if node.level == 0 else ["."]
        else:
            continue
        found += [f"{path}: {name}" for name in names if name.partition(".")[0] in {*folders, ""}]
    assert found == []
