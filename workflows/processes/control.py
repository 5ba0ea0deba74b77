"""What a run needs of its own processes: a folder that outlives no run, workers that hear no
Ctrl-C, last words.
"""

import faulthandler
import logging
import multiprocessing
import multiprocessing.connection
import multiprocessing.util
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from multiprocessing import forkserver, resource_tracker
from pathlib import Path
from typing import NoReturn, TextIO

import psutil

from noctile.workflows.processes.identity import ProcessIdentity

if sys.platform != "win32":
    import fcntl

_PREFIX = "noctile-"
_OWNER = "owner.json"

_LONGEST_BASE = 50
"""Longer temporary folders (batch systems make them) leave no room for the names of sockets, 107
bytes in all."""

_SHORT_BASE = Path("/tmp")  # noqa: S108 - what stands there is made by mkdtemp

_SPEAK_S = 0.2
"""How long a process may take to say where it is before it is killed (s); C code answers within a
millisecond."""

_QUIET = "ignore:resource_tracker:UserWarning"
"""Where a run is interrupted or killed, Python removes what it left in the machine's memory, and
need not say so."""

_WORKER = "distributed.nanny"
"""What Dask's workers run."""

_words: list[TextIO] = []  # what `deaf` opened: closed, it would say nothing


@cache
def home() -> Path:
    """A folder of this process for what need not survive it, gone when it ends.

    Whoever is killed cannot clean up: what such processes left is removed here.
    """
    base = Path(tempfile.gettempdir())
    if len(str(base)) > _LONGEST_BASE and _SHORT_BASE.is_dir():
        base = _SHORT_BASE
    for folder in base.glob(f"{_PREFIX}*"):
        with suppress(OSError):  # another user's, or another run is removing it
            owner = ProcessIdentity.from_json((folder / _OWNER).read_text(encoding="utf-8"))
            if owner and owner.is_gone:
                shutil.rmtree(folder)
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=base))
    (folder / _OWNER).write_text(ProcessIdentity.me().to_json(), encoding="utf-8")
    with _tempdir(folder):
        multiprocessing.util.get_temp_dir()  # sockets of the forkserver stand there
    # after multiprocessing's own, which removes its sockets at -100
    multiprocessing.util.Finalize(
        None, shutil.rmtree, (folder,), {"ignore_errors": True}, exitpriority=-200
    )
    return folder


@contextmanager
def _tempdir(folder: Path) -> Iterator[None]:
    before, tempfile.tempdir = tempfile.tempdir, str(folder)
    try:
        yield
    finally:
        tempfile.tempdir = before


def start_forkserver(modules: Sequence[str], env: Mapping[str, str]) -> None:
    """Import what workers need once, in a process that they will be forked from; returns before
    that is done.

    Forked workers share its memory and start at once; spawned ones would each import torch and its
    like anew. On Linux only: elsewhere libraries do not bear a fork. A GPU's driver is first set up
    by the workers, after the fork. Nothing is done where it runs already.

    Args:
        modules: imported there.
        env: its environment and that of the workers, e.g. ``OMP_NUM_THREADS``.
    """
    if sys.platform != "linux":
        return
    home()
    multiprocessing.set_forkserver_preload(
        ["noctile.workflows.processes.fork_gc", _WORKER, *modules]
    )
    env = {
        **env,
        "PYTHONWARNINGS": ",".join(filter(None, (os.environ.get("PYTHONWARNINGS"), _QUIET))),
    }
    before = {name: os.environ.get(name) for name in env}
    os.environ.update(env)
    try:
        with ignoring_stop_signals():
            forkserver.ensure_running()
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


def stop_signals() -> list[signal.Signals]:
    """The signals by which somebody asks a whole run to stop; a terminal and a batch system send
    them to every process.

    The one that runs the night answers them; its workers must not die of them in the middle of a
    job.
    """
    names = ("SIGINT", "SIGTERM", "SIGHUP")
    return [signal.Signals[name] for name in names if hasattr(signal, name)]


@contextmanager
def ignoring_stop_signals() -> Iterator[None]:
    """Processes that are started here ignore them, for an ignored signal stays ignored in a new
    program.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, signal.SIG_IGN) for number in stop_signals()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def deaf(last_words: Path) -> None:
    """Make this process ignore the signals that stop a run, and let it say into a file where it was
    when it dies.

    On a crash, or on SIGUSR1, Python writes the stack of every thread there, even while C code
    holds on.
    """
    for number in stop_signals():
        signal.signal(number, signal.SIG_IGN)
    file = last_words.open("w", encoding="utf-8")
    _words.append(file)
    faulthandler.enable(file)
    if sys.platform != "win32":
        faulthandler.register(signal.SIGUSR1, file, all_threads=True)


def die_with_parent() -> None:
    """Have this process killed by the kernel at the moment when the one that wanted it dies. On
    Linux only.

    Dask's workers end themselves when they notice that; one that hangs in C code notices nothing,
    and would stay.
    """
    parent = multiprocessing.parent_process()
    if sys.platform != "linux" or parent is None:
        return
    fd = parent.sentinel  # a pipe that nobody writes to: all that can happen to it is its end
    fcntl.fcntl(fd, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(fd, fcntl.F_SETSIG, signal.SIGKILL)  # instead of SIGIO
    fcntl.fcntl(fd, fcntl.F_SETFL, fcntl.fcntl(fd, fcntl.F_GETFL) | os.O_ASYNC)
    if multiprocessing.connection.wait([fd], timeout=0):
        os._exit(1)  # it died before anybody listened


def kill(pid: int) -> None:
    """End a process, whatever it is doing, after it has said where it is."""
    with suppress(ProcessLookupError):
        if sys.platform != "win32":
            os.kill(pid, signal.SIGUSR1)
            time.sleep(_SPEAK_S)
    end(pid)


def end(pid: int) -> None:
    """End a process at once, if it is there."""
    with suppress(psutil.NoSuchProcess):
        psutil.Process(pid).kill()


def leave(code: int) -> NoReturn:
    """End this process and all that it started, at once: whoever interrupts a run that is stopping
    waits for nobody.

    Where Dask was starting workers, Python's own end would wait for them, and they for their
    scheduler. Nor is Dask's thread given the time to start others instead. In the main thread only.
    """
    for number in stop_signals():
        signal.signal(number, signal.SIG_IGN)
    logging.disable()  # Dask's thread notices, and would say what became of its workers
    tracker = resource_tracker._resource_tracker._pid  # type: ignore[attr-defined] # it removes named semaphores
    for pid in {child.pid for child in psutil.Process().children(recursive=True)} - {tracker}:
        end(pid)
    if home.cache_info().currsize:
        shutil.rmtree(home(), ignore_errors=True)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def memory_bytes(pid: int) -> int:
    """Memory that a process holds (B), libraries that it shares with others included; 0 if it has
    gone.
    """
    try:
        return int(psutil.Process(pid).memory_info().rss)
    except psutil.NoSuchProcess:
        return 0
