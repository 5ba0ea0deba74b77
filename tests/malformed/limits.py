"""Calls in a process of their own, with limits on memory and time."""

import importlib
import multiprocessing
import resource
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

MEMORY_BYTES = 2**28
"""Memory that a call may take beside the libraries (B)."""

LIBRARIES = (
    *(
        "noctile.pipeline.masks.store",
        "noctile.pipeline.manifest_cells",
        "noctile.pipeline.models.load",
        "noctile.pipeline.slides.discover",
        "noctile.pipeline.slides.open",
    ),
    *(
        "noctile.pipeline.tissue",
        "noctile.pipeline.truth.geojson",
        "noctile.workflows.settings",
        "noctile.workflows.results.files",
    ),
    *("segmentation_models_pytorch", "pytest"),
)
"""Libraries that `malformed.calls` needs, and pytest, with which each process begins."""

LIMIT_S = 30.0


def within_limits(do: Callable[..., Any], *arguments: Any) -> Any:
    """Run a call within limits, and return its result or its exception.

    A crash, a hang and too much memory fail the test.

    Args:
        do: importable function whose results and exceptions can be pickled.
        arguments: arguments of the function.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([*LIBRARIES])
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs, do, arguments), daemon=True)
    process.start()
    theirs.close()
    try:
        assert ours.poll(LIMIT_S), f"the call did not end within {LIMIT_S} s"
        result = ours.recv()
    except EOFError:
        process.join()
        raise AssertionError(
            f"the process of the call ended with exit code {process.exitcode}"
        ) from None
    finally:
        process.kill()
        process.join()
        ours.close()
    assert not isinstance(result, MemoryError), "the call takes more memory than the limit"
    return result


def _serve(connection: Connection, do: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    # The server may have been started by another test, without these libraries.
    for library in LIBRARIES:
        importlib.import_module(library)
    used = (
        int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
        * resource.getpagesize()
    )
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY_BYTES,) * 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        connection.send(do(*arguments))
    except Exception as error:  # noqa: BLE001 - the test checks its type
        connection.send(error)
