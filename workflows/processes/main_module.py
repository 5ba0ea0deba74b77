"""Processes that do not import the script of their caller."""

from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import spawn
from typing import Any

_MAIN = ("init_main_from_name", "init_main_from_path")
"""Entries of the data for a new process that let it import the caller's main module."""


@contextmanager
def without_main_module() -> Iterator[None]:
    """Start processes that do not import the main module of this one.

    Python imports it in every process that it starts, in case a function of it is called there.
    So a script that starts a run without ``if __name__ == "__main__":`` would start one in each
    worker. Workers call no function of the script.
    """
    prepare = spawn.get_preparation_data

    def without_main(name: str) -> dict[str, Any]:
        return {key: value for key, value in prepare(name).items() if key not in _MAIN}

    spawn.get_preparation_data = without_main
    try:
        yield
    finally:
        spawn.get_preparation_data = prepare
