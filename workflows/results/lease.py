"""One run at a time on an output folder: ``lease.json`` says whose it is, and that it is still
alive.

The file appears whole or not at all (a link to a finished file), so that it works on network
folders, whose locks do not. Its time of modification is the heartbeat: renewing it needs no space,
and the file server's clock measures its age, so that clocks may differ between machines.
"""

import json
import os
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from uuid import uuid4

from noctile.pipeline.errors import UsageError
from noctile.workflows.processes.identity import ProcessIdentity
from noctile.workflows.results.layout import ResultsFolder

HEARTBEAT_S = 10.0
"""Between two signs of life (s)."""

STALE_S = 300.0
"""Without a sign of life for so long (s), a run on another machine is taken for dead."""

_CLAIM_S = 60.0
"""To take a lease over takes milliseconds; whoever began longer ago (s) has died over it."""

_MISSED = 3
"""So many heartbeats in a row must fail before the folder counts as lost: networks stumble."""


@dataclass(frozen=True, slots=True)
class Holder:
    """Who holds, or held, an output folder.

    Attributes:
        owner: the process.
        run: unique to the run.
        since: when it began, ISO, local time.
    """

    owner: ProcessIdentity
    run: str
    since: str

    def __str__(self) -> str:
        return f"process {self.owner.pid} on {self.owner.host}, since {self.since}"


def read_lease(out: Path) -> Holder | None:
    """Who holds an output folder; None for nobody, or if the file is not a lease.

    Raises:
        OSError: if the folder cannot be read.
    """
    try:
        text = ResultsFolder(out).lease.read_text(encoding="utf-8")
        values = json.loads(text)
        owner = ProcessIdentity.from_json(text)
        return Holder(owner, str(values["run"]), str(values["since"])) if owner else None
    except (FileNotFoundError, NotADirectoryError, ValueError, TypeError, KeyError):
        return None


class Lease:
    """An output folder is ours until `close`.

    Args:
        out: the folder; must exist.
        on_loss: called once, from a thread, with a reason, when the folder is no longer ours:
            another run has taken it over (this one was asleep), or it has gone.

    Attributes:
        taken_from: the dead run whose lease was taken over, or None, also if it could not be read.

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
        """Whether the folder is there and ours.

        Raises:
            OSError: if nobody can tell.
        """
        holder = read_lease(self._out)
        return holder is not None and holder.run == self._me.run

    def close(self) -> None:
        """Let the folder go; if it has gone by itself, that is all right."""
        self._released.set()
        self._thread.join()
        with suppress(OSError):
            if self.held:
                self._path.unlink()

    def _take(self) -> None:
        fresh = self._out / f".lease.{int(self._me.run, 16)}.tmp"
        values = {**asdict(self._me.owner), "run": self._me.run, "since": self._me.since}
        fresh.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")
        try:
            while not (_create(fresh, self._path) or self._take_over(fresh)):
                pass
        finally:
            fresh.unlink(missing_ok=True)

    def _take_over(self, fresh: Path) -> bool:
        """Replace the lease of a dead run; of those who try, the one that creates the claim may.
        Whether it is ours.

        Raises:
            UsageError: if the run is not dead, or somebody else is taking over.
        """
        try:
            silent_s = fresh.stat().st_mtime - self._path.stat().st_mtime
        except FileNotFoundError:
            return False
        holder = read_lease(self._out)
        dead = holder.owner.is_gone if holder and holder.owner.is_here else silent_s > STALE_S
        if not dead:
            who = holder or "somebody whose lease cannot be read"
            raise UsageError(
                f"another run is writing to {self._out}: {who}, last sign of life {max(0, silent_s):.0f} s ago; wait "
                f"for it or choose another --out. If it is dead, it can be taken over {STALE_S / 60:.0f} minutes after "
                "its last sign of life, on the same machine at once"
            )
        claim = self._out / f".lease.{holder.run if holder else 'unreadable'}.claim"
        if not _create(fresh, claim):
            with suppress(FileNotFoundError):  # whoever had it is ready
                if fresh.stat().st_ctime - claim.stat().st_mtime < _CLAIM_S:
                    raise UsageError(
                        f"another run is just taking {self._out} over; choose another --out or wait for it"
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


def _create(source: Path, path: Path) -> bool:
    """Give a finished file a second name, if nothing has it yet. Whether that was so."""
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
