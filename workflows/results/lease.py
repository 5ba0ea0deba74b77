"""Lease on a folder of results: one run at a time writes to it.

``lease.json`` names the process that holds the folder. The file appears whole or not at all (as a
link to a finished file); this works on network folders, where locks do not. Its time of
modification is the heartbeat: renewing it needs no disk space, and the file server's clock measures
its age, so that the clocks of machines may differ.
"""

import json
import os
import re
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from uuid import uuid4

from noctile.pipeline.errors import UsageError
from noctile.pipeline.untrusted import parse_json, printable, read_text
from noctile.workflows.processes.identity import ProcessIdentity, uptime_s
from noctile.workflows.results.durable import sync_file
from noctile.workflows.results.layout import ResultsFolder

HEARTBEAT_S = 10.0
"""Time between two heartbeats (s)."""

STALE_S = 300.0
"""Age of a heartbeat from which on a run on another machine counts as dead (s)."""

_CLAIM_S = 60.0
"""Age from which on the takeover of a lease counts as abandoned (s); it takes milliseconds."""

_RUN = re.compile(r"[\w-]{1,64}", re.ASCII)
"""Pattern of the random name of a run."""

_LEASE_BYTES = 2**16
"""Largest lease that is read (B)."""

_MISSED = 3
"""Number of heartbeats in a row that must fail before the folder counts as lost. Single failures
happen on networks."""


@dataclass(frozen=True, slots=True)
class Holder:
    """Run that holds, or held, a folder of results.

    Attributes:
        owner: identity of its process.
        run: random name of the run, unique.
        since: start of the run, ISO 8601 in local time.
    """

    owner: ProcessIdentity
    run: str
    since: str

    def __str__(self) -> str:
        return printable(f"process {self.owner.pid} on {self.owner.host}, since {self.since}")


def read_lease(out: Path) -> Holder | None:
    """Read the lease on a folder of results; None if there is none, or if it cannot be understood.

    Raises:
        OSError: if the folder cannot be read.
    """
    try:
        text = read_text(ResultsFolder(out).lease, _LEASE_BYTES)
        values = parse_json(text)
        owner = ProcessIdentity.from_json(text)
        run = str(values["run"])
        if not _RUN.fullmatch(run):  # it becomes part of a file's name
            return None
        return Holder(owner, run, str(values["since"])) if owner else None
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (ValueError, TypeError, LookupError, AttributeError):
        return None


class Lease:
    """Lease of this process on a folder of results, until `close`.

    Args:
        out: folder of results; it must exist.
        on_loss: called once, in a thread, with the reason, when the lease is lost: another run has
            taken the folder over because this one was suspended, or the folder has gone.

    Attributes:
        taken_from: dead run whose lease was taken over; None if there was none, or if its lease
            could not be read.

    Raises:
        UsageError: if another run holds the folder.
        OSError: if the folder cannot be written.
    """

    def __init__(self, out: Path, on_loss: Callable[[str], None]) -> None:
        self._out, self._on_loss = out, on_loss
        self._path = ResultsFolder(out).lease
        self._me = Holder(
            ProcessIdentity.me(),
            uuid4().hex,
            datetime.now().astimezone().isoformat(timespec="seconds"),
        )
        self.taken_from: Holder | None = None
        self._take()
        self._released = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="lease", daemon=True)
        self._thread.start()

    @property
    def held(self) -> bool:
        """True if the folder exists and this process holds it.

        Raises:
            OSError: if the lease cannot be read.
        """
        holder = read_lease(self._out)
        return holder is not None and holder.run == self._me.run

    def close(self) -> None:
        """Give up the lease; it is no error if the folder has gone."""
        self._released.set()
        self._thread.join()
        with suppress(OSError):
            if self.held:
                self._path.unlink()

    def _take(self) -> None:
        fresh = self._out / f".lease.{int(self._me.run, 16)}.tmp"
        values = {**asdict(self._me.owner), "run": self._me.run, "since": self._me.since}
        fresh.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")
        sync_file(fresh)  # after a power cut, a lease that cannot be read would stand for minutes
        try:
            while not (_create(fresh, self._path) or self._take_over(fresh)):
                pass
        finally:
            fresh.unlink(missing_ok=True)

    def _take_over(self, fresh: Path) -> bool:
        """Try to replace the lease of a dead run; of several that try, one creates the claim.

        Returns:
            True if this process holds the lease now.

        Raises:
            UsageError: if the run is not dead, or if another run is taking over.
        """
        try:
            silent_s = fresh.stat().st_mtime - self._path.stat().st_mtime
        except FileNotFoundError:
            return False
        holder = read_lease(self._out)
        if not _is_dead(holder, silent_s):
            who = holder or "its lease cannot be read"
            raise UsageError(
                f"another run is writing to {self._out}: {who}, last heartbeat "
                f"{max(0, silent_s):.0f} s ago; wait for it or choose another --out. If it is "
                f"dead, the folder can be taken over {STALE_S / 60:.0f} minutes after the last "
                "heartbeat, on the same machine at once, also after it was restarted"
            )
        claim = self._out / f".lease.{holder.run if holder else 'unreadable'}.claim"
        if not _create(fresh, claim):
            with suppress(FileNotFoundError):  # the other run is ready
                if fresh.stat().st_ctime - claim.stat().st_mtime < _CLAIM_S:
                    raise UsageError(
                        f"another run is just taking {self._out} over; wait for it or choose "
                        "another --out"
                    )
                claim.unlink()
            return False
        try:
            if read_lease(self._out) != holder:
                return False
            os.utime(fresh)
            fresh.replace(self._path)
            self.taken_from = holder
        finally:
            claim.unlink(missing_ok=True)
        return True

    def _beat(self) -> None:
        missed = 0
        while not self._released.wait(HEARTBEAT_S):
            try:
                if not self.held:
                    self._on_loss(f"{self._out} has gone, or another run has taken it over")
                    return
                os.utime(self._path)
                missed = 0
            except OSError as error:
                missed += 1
                if missed == _MISSED:
                    self._on_loss(f"{self._out} cannot be reached: {error.strerror or error}")
                    return


def _is_dead(holder: Holder | None, silent_s: float) -> bool:
    """Tell if the run that holds a lease has ended.

    The system says if a run on this machine is alive. A run of this machine from before its last
    start is dead. A heartbeat since then shows that another machine has the same name and id.

    Args:
        holder: run that holds the lease; None if the lease cannot be read.
        silent_s: time since its last heartbeat (s).
    """
    if holder and holder.owner.is_here:
        return holder.owner.is_gone
    if holder and holder.owner.is_of_an_earlier_boot and silent_s > uptime_s():
        return True
    return silent_s > STALE_S


def _create(source: Path, path: Path) -> bool:
    """Give a finished file a second name; return False if a file has that name already."""
    try:
        os.link(source, path)
    except FileExistsError:
        return False
    except OSError:
        if source.stat().st_nlink > 1:  # done, and the answer was lost on the network
            return True
        return _copy_new(source, path)  # a file system without links
    return True


def _copy_new(source: Path, path: Path) -> bool:
    try:
        with path.open("xb") as file:
            file.write(source.read_bytes())
    except FileExistsError:
        return False
    return True
