"""Something done in a process of its own, with little memory and little time."""

import importlib
import multiprocessing
import resource
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

MEMORY_BYTES = 2**28
"""That it may take beside the libraries (B)."""

LIBRARIES = (
    *(
        "noctile.pipeline.masks.store",
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
"""What `malformed.looks` needs, and the rest of what is done within limits; a process begins as
pytest did."""

LIMIT_S = 30.0


def within_limits(do: Callable[..., Any], *arguments: Any) -> Any:
    """What a call returns, or the exception that it raises; a crash, a hang and too much memory
    fail the test.

    Args:
        do: importable; what it returns or raises is pickled.
        arguments: of it.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([*LIBRARIES])
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs, do, arguments), daemon=True)
    process.start()
    theirs.close()
    try:
        assert ours.poll(LIMIT_S), f"it hangs: no end after {LIMIT_S} s"
        result = ours.recv()
    except EOFError:
        process.join()
        raise AssertionError(f"its process died with exit code {process.exitcode}") from None
    finally:
        process.kill()
        process.join()
        ours.close()
    assert not isinstance(result, MemoryError), "it wants more memory than it may have"
    return result


def _serve(connection: Connection, do: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    for library in (
        LIBRARIES
    ):  # they are there, unless the process that this one was forked from is somebody else's
        importlib.import_module(library)
    used = (
        int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
        * resource.getpagesize()
    )
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY_BYTES,) * 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        connection.send(do(*arguments))
    except Exception as error:  # noqa: BLE001 - the test looks at what it was
        connection.send(error)
