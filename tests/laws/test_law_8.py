"""Law 8: only a completed run of the same slide replaces a finished result.

A machine of hypothesis types any commands in any order, moves and changes slides between them, and
kills, interrupts and starves the commands. After every step

- each result that stood still stands, or a run of its slide has replaced it by a whole one;
- each result has the very bytes and figures of a run that nothing disturbed;
- the tables equal what stands, ids and cells stay, exit codes are right, and ``noctile verify``
  finds no fault;
- everything that reviewers have said stands, whatever became of the slide, and is in the tables;
- an audit that was drawn and its answers stand, and its stale slides are those made otherwise;
- the reviews that ``noctile regroup`` brought to another folder stand there.

After a kill, a second Ctrl-C or a full disk, and after the user has deleted files, the tables may
lag behind until the next command that writes them. Until then their rows may be old. Still no row
says that a slide is done that does not stand, and no row has a false figure.
"""

import json
import os
import shutil
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import pyarrow.parquet as pq
import pytest
from audit_model import AuditModel
from click.testing import CliRunner
from disk_faults import Fault, KilledError, planted, without_syncs
from hypothesis import HealthCheck, note, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test
from results_model import Golden, Stand, file_states, folders_that_stand, golden_of
from standins import small_slide, threshold_model

from noctile.cli import main
from noctile.pipeline.errors import StoreError, UsageError
from noctile.pipeline.review import DISAGREEMENT, STATUSES, reviewer_of
from noctile.pipeline.slides.fingerprint import fingerprint
from noctile.workflows.commands import plan as plan_module
from noctile.workflows.commands.audit import AuditRequest, open_audit
from noctile.workflows.commands.verify_faults import segment_again
from noctile.workflows.commands.verify_slide import verify_slide
from noctile.workflows.jobs import worker
from noctile.workflows.results.audits import Audits
from noctile.workflows.results.layout import ResultsFolder, SlideFolder
from noctile.workflows.results.reviews import Reviews
from noctile.workflows.viewer.table_writer import write_tables

NAMES = ("a.tif", "b.tif", "P1/HE.tif", "P2/HE.tif", "P2/a.tif")
CONTENTS, BROKEN = 5, 4
"""Number of contents of slides, and the one that is no slide."""

ARGUMENTS = (("archive",), ("archive/P2",), ("archive/a.tif",), ("links",), ("archive", "links"))
CHOICES = (("A", "plain"), ("B", "plain"), ("A", "other"))
"""Models and settings."""

TABLES = ("slides.csv", "slides.parquet", "columns.json")

USAGE, STOPPED, INTERRUPTED = 2, 3, 130

GROUPS = """
[[classes]]
name = "all"
from = ["tumor", "stroma"]
role = "tissue"
"""


@dataclass
class Library:
    """Contents of slides, and the undisturbed result of each under each choice.

    Attributes:
        top: folder of contents, models and settings.
        content_of: number of the content with a fingerprint.
        choice_of: number of the choice with a ``pixels_key``.
        goldens: result that a run makes if nothing disturbs it.
        steps: number of steps of all machines so far.
        calls: number of calls of all machines by command, fault and exit code.
    """

    top: Path
    content_of: dict[str, int] = field(default_factory=dict)
    choice_of: dict[str, int] = field(default_factory=dict)
    goldens: dict[Stand, Golden] = field(default_factory=dict)
    steps: int = 0
    calls: dict[tuple[str, str, object], int] = field(default_factory=lambda: defaultdict(int))

    def content(self, number: int) -> Path:
        return self.top / f"{number}.tif"

    def golden_run(self, choice: int) -> Path:
        """Folder of results of all contents under a choice."""
        return self.top / f"golden{choice}"

    def content_of_size(self, size: int) -> int | None:
        """Return the number of the content of this size (B); all sizes differ."""
        sizes = {self.content(n).stat().st_size: n for n in range(CONTENTS)}
        assert len(sizes) == CONTENTS
        return sizes.get(size)

    def words(self, choice: int) -> list[str]:
        """Options of the command line that choose model and settings."""
        model, config = CHOICES[choice]
        files = "--model", str(self.top / model), "--config", str(self.top / f"{config}.toml")
        return [*files, "--engine", "serial", "--device", "cpu"]


def noctile(*words: object) -> tuple[int, str]:
    """Run a command line; return exit code and output."""
    result = CliRunner().invoke(main, [str(word) for word in words])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.output


@pytest.fixture(scope="module")
def library(tmp_path_factory) -> Iterator[Library]:
    top = tmp_path_factory.mktemp("library")
    threshold_model(top / "A")
    threshold_model(top / "B", dark_od=0.5)
    tissue = "[tissue]\nmin_area_mm2 = 0.001\n"
    (top / "plain.toml").write_text(f"block_px = 256\n{tissue}")
    (top / "other.toml").write_text(f"block_px = 256\noverlap_px = 0\n{tissue}")
    (top / "groups.toml").write_text(GROUPS)
    found = Library(top)
    for number in range(BROKEN):
        small_slide(found.content(number), seed=number, height=300, width=330 + number)
    found.content(BROKEN).write_bytes(b"II*\0 this is no slide")
    found.content_of = {fingerprint(found.content(n)): n for n in range(CONTENTS)}
    with pytest.MonkeyPatch.context() as patch, without_syncs():
        patch.setattr(plan_module, "CALIBRATION_S", 0.01)
        for choice in range(len(CHOICES)):
            slides = [found.content(n) for n in range(BROKEN)]
            out = found.golden_run(choice)
            assert noctile("run", *slides, "--out", out, *found.words(choice))[0] == 0
            reviews = Reviews(ResultsFolder(out))
            reviews.save("0", "eve", "accepted", "before it was merged", "")
            reviews.save_regions("0", "eve", [square()], reviews.of("0").version)
            answer_audit(out, "eve", "unsure")
            for number in range(BROKEN):
                golden = golden_of(out / "slides" / str(number))
                found.choice_of[golden.summary["pixels_key"]] = choice
                found.goldens[Stand(number, choice)] = golden
        yield found


def faults(kind: str, more: list[int], *, torn: bool = False) -> st.SearchStrategy[Fault]:
    """Faults at any change; a call on three slides makes some 200."""
    at, tears = st.sampled_from(range(1, 220)), st.booleans() if torn else st.just(False)
    return st.builds(Fault, st.just(kind), at, st.sampled_from(more), tears)


CALLS = st.fixed_dictionaries(
    {
        "command": st.sampled_from(["run"] * 5 + ["plan", "table", "merge", "regroup", "regroup"]),
        "slides": st.sampled_from(ARGUMENTS),
        "choice": st.sampled_from(range(len(CHOICES))),
        "redo": st.sampled_from([True, True, False]),
        "full": st.booleans(),
        "patient": st.sampled_from(["", "", "p1", "p2"]),
    }
)
KILLS = faults("kill", [0], torn=True)
REVIEW_FAULTS = st.builds(
    Fault, st.sampled_from(["kill", "full"]), st.integers(1, 12), st.just(0), st.booleans()
)
CTRL_C = faults("ctrl_c", [0, 0, 1, 5, 20])
FULL_DISKS = faults("full", [0, 0, 2, 10, 10**6])


def square() -> dict[str, Any]:
    """Region of 100 x 100 px of level 0."""
    ring = [[0, 0], [100, 0], [100, 100], [0, 100], [0, 0]]
    geometry = {"type": "Polygon", "coordinates": [ring]}
    return {"geometry": geometry, "properties": {"classification": {"name": "pen"}}}


def answer_audit(out: Path, reader: str, answer: str, number: int = 0) -> str:
    """Answer a point of the audit of a folder, which is drawn first; return the point."""
    audits = open_audit(out, AuditRequest(points=8))
    points = audits.points()
    point = points[number % len(points)].point_id
    audits.save(reader, {point: answer})
    return point


class World(RuleBasedStateMachine):
    """A user, an archive and a folder of results.

    Attributes:
        standing: results that stand, by id.
        history: results that have ever stood, by id.
        files: size and time of each file of these results, by id.
        rows: rows of the tables when they were last known to be right, by id.
        cells: patients that a row may name, by id.
        reviews: what reviewers have said: statuses that may stand, by slide and reviewer.
        regions: numbers of regions that may stand, by slide and reviewer.
        audit: the audit, as it was drawn and answered.
        brought: reviews that stand in the folder of ``noctile regroup``, by slide and reviewer.
        deleted: ids whose results the user has deleted since the tables were written.
        unrecorded: ids that a disturbed merge has copied, perhaps without a line of the ledger.
        lags: True if the tables may be older than the results.
    """

    library: Library

    def __init__(self) -> None:
        super().__init__()
        self.top = Path(tempfile.mkdtemp(prefix="law8."))
        self.archive, self.out = self.top / "archive", self.top / "out"
        self.regrouped = self.top / "regrouped"
        self.standing: dict[str, Stand] = {}
        self.history: dict[str, set[Stand]] = defaultdict(set)
        self.files: dict[str, Any] = {}
        self.rows: dict[str, dict[str, Any]] = {}
        self.cells: dict[str, set[str | None]] = defaultdict(lambda: {None})
        self.deleted: set[str] = set()
        self.unrecorded: set[str] = set()
        self.reviews: dict[tuple[str, str], set[str]] = {}
        self.regions: dict[tuple[str, str], set[int]] = {}
        self.audit, self.brought = AuditModel(self.out), dict[tuple[str, str], str]()
        self.lags = True
        (self.top / "links").mkdir()
        for number, name in enumerate(NAMES[:3]):
            self._put(name, number)

    def teardown(self) -> None:
        shutil.rmtree(self.top)

    # ---------------------------------------------------------------- the archive

    def _put(self, name: str, content: int) -> None:
        path = self.archive / name
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(self.library.content(content), path)

    @rule(
        what=st.sampled_from(["change", "change", "move", "move", "swap", "touch", "link"]),
        name=st.sampled_from(NAMES),
        other=st.sampled_from(NAMES),
        content=st.sampled_from(range(CONTENTS)),
    )
    def change_the_archive(self, what: str, name: str, other: str, content: int) -> None:
        """Put a slide at a new or an old path, rename or move one, swap two, touch all, or link."""
        one, two, spare = self.archive / name, self.archive / other, self.top / "spare"
        if what == "change":
            self._put(name, content)
        elif what == "move" and one.exists():
            two.parent.mkdir(parents=True, exist_ok=True)
            one.replace(two)
        elif what == "swap" and one.exists() and two.exists() and one != two:
            one.replace(spare)
            two.replace(one)
            spare.replace(two)
        elif what == "touch":
            for path in self.archive.rglob("*.tif"):
                path.touch()
        elif what == "link":  # it dangles if there is no such file
            link = self.top / "links" / ("folder" if content == BROKEN else Path(other).name)
            link.unlink(missing_ok=True)
            link.symlink_to(self.archive / "P1" if content == BROKEN else one)
        self._check(what)

    # ---------------------------------------------------------------- the user's hands

    @rule(what=st.sampled_from(["result", "tables", ".staging", ".plan", "runs"]), data=st.data())
    def delete(self, what: str, data: st.DataObject) -> None:
        if what == "result":
            for slide_id in sorted(path.name for path in self.out.glob("slides/*"))[:1]:
                shutil.rmtree(self.out / "slides" / slide_id)
                shutil.rmtree(self.out / ".staging" / slide_id, ignore_errors=True)
                self._forget(slide_id)
        elif what == "tables":
            for name in data.draw(st.sets(st.sampled_from(TABLES))):
                (self.out / name).unlink(missing_ok=True)
            self.lags = True
        else:
            shutil.rmtree(self.out / what, ignore_errors=True)
            for slide_id in set(self.standing) - set(folders_that_stand(self.out)):
                self._forget(slide_id)  # its replacement was killed between two renames
            self.lags |= what == "runs"  # reasons of stops stand there
        self._check(f"delete {what}")

    def _forget(self, slide_id: str) -> None:
        self.standing.pop(slide_id, None)
        self.deleted.add(slide_id)
        self.lags = True

    # ---------------------------------------------------------------- reviewers

    @rule(
        number=st.integers(0, 4),
        reviewer=st.sampled_from(["ada", "bob"]),
        status=st.sampled_from([*STATUSES, None]),
        fault=st.none() | REVIEW_FAULTS,
        shown=st.booleans(),
    )
    def review(
        self, number: int, reviewer: str, status: str | None, fault: Fault | None, shown: bool
    ) -> None:
        """Save a status, or some regions; the tables show them at once or with the next command."""
        if not self.rows:
            return
        slide_id, book = (
            sorted(self.rows)[number % len(self.rows)],
            Reviews(ResultsFolder(self.out)),
        )
        version, key, saved = book.of(slide_id).version, (slide_id, reviewer), False
        with planted(self.top, fault), suppress(KilledError, StoreError):
            if status is None:
                book.save_regions(slide_id, reviewer, [square()] * number, version)
            else:
                book.save(slide_id, reviewer, status, "a note", version)
            saved = True
        if status is None:
            old = set() if saved else self.regions.get(key, {0})
            self.regions[key] = {number, *old}
        else:
            old_status = set() if saved else self.reviews.get(key, {"none"})
            self.reviews[key] = {status, *old_status}
        ledger = self.out / "ledger.jsonl"
        if shown and saved and ledger.exists() and not self.lags:
            write_tables(ResultsFolder(self.out))
        else:
            self.lags = True
        self._check("review")

    def _check_reviews(self) -> None:
        """Check that what reviewers have said stands; a merge may have added what Eve has said."""
        reviews = Reviews(ResultsFolder(self.out))
        stand = {(row.slide_id, row.reviewer): row.status for row in reviews.all()}
        for key, may in self.reviews.items():
            assert stand.get(key, "none") in may, f"the review of {key} has gone"
            self.reviews[key] = {stand.get(key, "none")}
        assert {key for key in stand if key[1] != "eve"} <= self.reviews.keys()
        for (slide_id, reviewer), numbers in self.regions.items():
            features = reviews.regions(slide_id)["features"]
            count = sum(reviewer_of(feature) == reviewer for feature in features)
            assert count in numbers, f"regions of {slide_id} by {reviewer} have gone"
            self.regions[slide_id, reviewer] = {count}

    # ---------------------------------------------------------------- readers of an audit

    @rule(
        number=st.integers(0, 7),
        reader=st.sampled_from(["ada", "bob"]),
        answer=st.sampled_from(["tumor", "stroma", "unsure", "unreadable"]),
        fault=st.none() | REVIEW_FAULTS,
    )
    def answer(self, number: int, reader: str, answer: str, fault: Fault | None) -> None:
        """Answer a point; the first answer draws the audit, unless nothing can be drawn from."""
        points = sorted(self.audit.points())
        expected = (KilledError, StoreError) if fault else ()
        refused = () if points else (UsageError,)  # no slide is done and not rejected
        saved = False
        with planted(self.top, fault), suppress(*expected, *refused):
            point = answer_audit(self.out, reader, answer, number)
            saved = True
        if saved or points:
            key = (point if saved else points[number % len(points)], reader)
            self.audit.save(key, answer, saved=saved)
        self.lags |= (
            bool(fault) and not saved
        )  # a killed writer leaves a file until the next command
        self._check("audit")

    # ---------------------------------------------------------------- regroup

    def _regroup(self, fault: Fault | None) -> None:
        """Give all slides other classes in another folder; what came there with them stays."""
        groups = self.library.top / "groups.toml"
        words = ["regroup", self.out, "--classes", groups, "--out", self.regrouped]
        killed, code, output = self._typed([*map(str, words), "--workers", "1"], fault)
        self.library.calls[
            "regroup", fault.kind if fault else "", "killed" if killed else code
        ] += 1
        note(f"regroup {fault}: exit {code}\n{output if code == USAGE else ''}")
        self._check("regroup")
        whole = not killed and code == 0
        assert whole or fault or (code == USAGE and not self.standing), output
        self._check_brought(whole=whole)

    def _check_brought(self, *, whole: bool) -> None:
        """Check the reviews in the other folder: none goes or changes, and new ones are those here.

        Args:
            whole: True after a call that nothing disturbed: all reviews of its slides came along.
        """
        here, there = (
            {(row.slide_id, row.reviewer): row.status for row in Reviews(ResultsFolder(out)).all()}
            for out in (self.out, self.regrouped)
        )
        expected = {key: here.get(key) for key in there} | self.brought
        assert there == expected, "regroup lost or changed a review"
        self.brought = there
        if whole:
            code, output = noctile("verify", self.regrouped, "--workers", 1)
            assert code == 0, output
            table = pq.read_table(self.regrouped / "slides.parquet").to_pylist()
            rows = {row["slide_id"]: row for row in table}
            assert {key for key in here if key[0] in rows} <= there.keys()
            assert self.standing.keys() <= {i for i in rows if rows[i]["status"] == "done"}
            for slide_id, _ in there:
                assert rows[slide_id]["reviewed_result"] in ("earlier", None), slide_id

    # ---------------------------------------------------------------- commands

    @initialize(choice=st.sampled_from(range(len(CHOICES))))
    def first_run(self, choice: int) -> None:
        call = {"command": "run", "slides": ("archive",), "choice": choice, "redo": False}
        self._type(call | {"full": False, "patient": "p1"}, None)

    @rule(call=CALLS, fault=st.none() | KILLS | CTRL_C | FULL_DISKS | KILLS)
    def type(self, call: dict[str, Any], fault: Fault | None) -> None:
        if call["command"] == "regroup":
            self._regroup(fault)
        else:
            self._type(call, fault)

    def _type(self, call: dict[str, Any], fault: Fault | None) -> None:
        """Type a command, and check what it has done."""
        command, step = call["command"], _Call(self, call)
        killed, code, output = self._typed(step.words, fault)
        kind = fault.kind if fault else ""
        self.library.calls[command, kind, "killed" if killed else code] += 1
        usage = code == USAGE and "noctile: " in output
        note(f"{command} {call} {fault}: exit {code}\n{output if usage else ''}")
        disturbed = killed or code == INTERRUPTED or bool(fault and fault.kind == "full" and code)
        if not disturbed:
            step.check_exit_code(code, usage=usage, interrupted=kind == "ctrl_c")
        writes = command != "plan" and not usage
        self._expect_cells(step, certain=writes and not disturbed and code != STOPPED)
        if disturbed:
            self.lags = True
        elif writes:
            self.lags = False
        complete = command == "run" and not disturbed and code != STOPPED and not usage
        if command == "merge" and disturbed:
            self.unrecorded |= self._scan().keys() - self.standing.keys()
        self._check(command, step)
        if complete:
            step.check_complete()

    def _typed(self, words: list[str], fault: Fault | None) -> tuple[bool, int, str]:
        code, output = -1, ""
        leases = [out / "lease.json" for out in (self.out, self.regrouped)]
        free = not any(lease.exists() for lease in leases)
        with planted(self.top, fault) as watch, suppress(KilledError):
            code, output = noctile(*words)
        killed = bool(watch and watch.killed)
        if killed or code == INTERRUPTED:
            self._die()
        elif free:
            assert not any(lease.exists() for lease in leases), "a folder is still held"
        worker.OPEN_SLIDES.close()
        worker.open_results.cache_clear()
        return killed, code, output

    def _die(self) -> None:
        """Let each lease say that its process has died; a claim of it becomes old."""
        for out in (self.out, self.regrouped):
            with suppress(FileNotFoundError, ValueError):
                lease = out / "lease.json"
                values = json.loads(lease.read_text())
                values |= {"start_s": values["start_s"] - 1, "run": uuid4().hex}
                lease.write_text(json.dumps(values))
            for claim in out.glob(".lease.*.claim"):
                os.utime(claim, (1, 1))

    def _expect_cells(self, step: "_Call", *, certain: bool) -> None:
        """Note the patients that a command may have, or has, recorded."""
        for slide_id, patient in step.patients().items():
            self.cells[slide_id] = {patient} if certain else {*self.cells[slide_id], patient}

    # ---------------------------------------------------------------- laws

    def _check(self, what: str, step: "_Call | None" = None) -> None:
        self.library.steps += 1
        before, after = self.standing, self._scan()
        files = {i: file_states(self.out / "slides" / i) for i in after}
        for slide_id, stand in before.items():
            assert slide_id in after, f"{what} made the result of {slide_id} disappear"
            if after[slide_id] == stand and not (step and step.may_make_again(slide_id)):
                assert files[slide_id] == self.files.get(slide_id), f"{what} changed {slide_id}"
            if after[slide_id] != stand:
                assert step, f"{what} changed the result of {slide_id}"
                step.check_replaced(slide_id, stand, after[slide_id])
        new = after.keys() - before.keys()
        for slide_id in new:
            assert step, f"{what} made {slide_id}"
            step.check_new(slide_id, after[slide_id])
        self.standing, self.files = after, files
        for slide_id, stand in after.items():
            self.history[slide_id].add(stand)
        self._check_reviews()
        self._check_tables()
        self.audit.check(what, after)
        assert self.lags or not [*self.out.glob("audit/.*.tmp*")], f"{what} swept no files"
        if self.audit.drawn and not self.lags:
            assert Audits(ResultsFolder(self.out)).stale() == self.audit.stale(after)

    def _scan(self) -> dict[str, Stand]:
        """Results that stand."""
        return {i: self._stand(folder) for i, folder in folders_that_stand(self.out).items()}

    def staged(self) -> dict[str, Stand]:
        """Results that are complete in staging."""
        folders = self.out.glob(".staging/*/summary.json")
        return {path.parent.name: self._stand(path.parent) for path in folders}

    def _stand(self, folder: Path) -> Stand:
        """Result in a folder; it has the bytes and figures of an undisturbed run."""
        golden = golden_of(folder)
        content = self.library.content_of[golden.summary["fingerprint"]]
        stand = Stand(content, self.library.choice_of[golden.summary["pixels_key"]])
        assert golden == self.library.goldens[stand], f"{folder} has false bytes or figures"
        return stand

    def _check_tables(self) -> None:
        if not self.lags:
            code, output = noctile("verify", self.out, "--workers", 1)
            assert code == 0, output
            self.deleted = set()
        else:
            self._check_slides()
        parquet = self.out / "slides.parquet"
        table = pq.read_table(parquet).to_pylist() if parquet.exists() else []
        rows = {row["slide_id"]: row for row in table}
        done = {slide_id for slide_id, row in rows.items() if row["status"] == "done"}
        assert done <= self.standing.keys() | self.deleted
        for slide_id in done:
            stands = self.history[slide_id] if self.lags else {self.standing[slide_id]}
            areas = {self.library.goldens[s].summary["tumor_area_mm2"] for s in stands}
            assert rows[slide_id]["tumor_area_mm2"] in areas
        if self.lags:
            return
        assert done == self.standing.keys()
        assert self.rows.keys() <= rows.keys(), "a row has gone"
        for slide_id, row in rows.items():
            assert row["patient_id"] in self.cells[slide_id], slide_id
            self.cells[slide_id] = {row["patient_id"]}
        assert {i for i, row in rows.items() if not row["run"]} <= self.unrecorded
        for (slide_id, _), statuses in self.reviews.items():
            if slide_id in rows and statuses & set(STATUSES[1:]):
                assert rows[slide_id]["review_status"] in {*statuses, DISAGREEMENT}
        self.rows = rows

    def _check_slides(self) -> None:
        """Check each finished slide; files of a killed writer may lie beside it."""
        for path in self.out.glob("slides/*/summary.json"):
            check = verify_slide(SlideFolder(path.parent), None)
            remedies = {fault.remedy for fault in check.faults}
            assert segment_again(path.parent.name) not in remedies, check


class _Call:
    """One command, with what is known before it.

    Args:
        world: the world before the command.
        call: ``run``, ``plan``, ``table`` or ``merge``, slides, model, settings and manifest.
    """

    def __init__(self, world: World, call: Mapping[str, Any]) -> None:
        self.world, self.command = world, call["command"]
        self.choice, self.redo, self._full = call["choice"], call["redo"], call["full"]
        self._patient = call["patient"]
        self.before, self._lagged = dict(world.standing), world.lags
        self._staged = world.staged()
        self._starts = sum(event["event"] == "start" for event in self._events())
        self._known = {i: os.path.realpath(row["path"]) for i, row in world.rows.items()}
        self._noted = {i: world.library.content_of_size(size) for i, _, size in self._named()}
        self._files = _first_paths([world.top / word for word in call["slides"]])
        self.contents = {real: _content(world.library, real) for real in self._files}
        self._manifest = world.top / "manifest.csv"
        self.words = [self.command, *self._words(call)]

    def _words(self, call: Mapping[str, Any]) -> list[str]:
        world = self.world
        manifest = ["--manifest", str(self._manifest)] if self._patient else []
        if self.command == "merge":
            return [str(world.library.golden_run(self.choice)), "--out", str(world.out)]
        if self.command == "table":
            ids = sorted(world.rows) or ["nobody"]
            self._write_manifest("slide_id", ids)
            return [str(world.out), *manifest]
        self._write_manifest("path", self._files.values())
        paths = [str(world.top / word) for word in call["slides"]]
        full = ["--check-content", "full"] if self._full else []
        redo = ["--redo"] if self.redo else []
        options = [*world.library.words(self.choice), *manifest, *full, *redo]
        return [*paths, "--out", str(world.out), *options]

    def _write_manifest(self, column: str, cells: Any) -> None:
        lines = [f"{column},patient_id", *(f"{cell},{self._patient}" for cell in cells)]
        self._manifest.write_text("\n".join(lines) + "\n")

    def patients(self) -> dict[str, str]:
        """Patient that the command gives to each slide, by id."""
        if not self._patient or self.command in ("plan", "merge"):
            return {}
        if self.command == "table":
            return dict.fromkeys(self.world.rows, self._patient)
        return dict.fromkeys(self.ids(), self._patient)

    def ids(self) -> dict[str, str]:
        """Real path of each slide of the call, by the id that the ledger gives it."""
        starts = [event for event in self._events() if event["event"] == "start"]
        begun = starts[-1]["slides"] if len(starts) > self._starts else ()
        paths = {slide_id: os.path.realpath(path) for slide_id, path, _ in self._named()}
        return {i: paths[i] for i in begun if paths.get(i) in self.contents}

    def _named(self) -> Iterator[tuple[str, str, int]]:
        """Id, path and size of each slide that the ledger names, the last one last."""
        for event in self._events():
            if event["event"] == "slide":
                yield event["slide_id"], event["path"], event["size"]

    def _events(self) -> Iterator[dict[str, Any]]:
        """Events of the ledger, without torn ones."""
        with suppress(FileNotFoundError):
            for line in (self.world.out / "ledger.jsonl").read_text().splitlines():
                with suppress(json.JSONDecodeError):
                    yield json.loads(line)

    def check_replaced(self, slide_id: str, old: Stand, new: Stand) -> None:
        """Check that the command had the right to replace a result.

        Any command promotes what an earlier one had completed in staging before it was killed.
        """
        if self._staged.get(slide_id) == new:
            return
        assert self.command == "run", f"{self.command} replaced {slide_id}"
        assert new == Stand(self.contents[self.ids()[slide_id]], self.choice)
        assert self.redo or old.choice == new.choice, f"{slide_id}: replaced without --redo"

    def may_make_again(self, slide_id: str) -> bool:
        """Tell if the command may replace a result by an equal one.

        Without a recorded hash of all bytes, ``--check-content full`` trusts no other file time.
        """
        return slide_id in self._staged or (self.command == "run" and self._full)

    def check_new(self, slide_id: str, new: Stand) -> None:
        """Check that the command had the right to make a result."""
        if self._staged.get(slide_id) != new:
            assert self.command in ("run", "merge"), f"{self.command} made {slide_id}"
            if self.command == "merge":
                assert new.choice == self.choice
                return
            assert new == Stand(self.contents[self.ids()[slide_id]], self.choice)

    def check_exit_code(self, code: int, *, usage: bool, interrupted: bool) -> None:
        """Check the exit code of a command that nothing but a single Ctrl-C has disturbed."""
        if self.command == "merge":
            assert not usage
            assert code in (0, 1)  # 1: what stands was made otherwise
            return
        if self.command == "table":
            known = (self.world.out / "ledger.jsonl").exists() or (
                self.world.out / "slides"
            ).exists()
            assert code == (0 if known else USAGE)
            return
        if usage:
            assert not self.contents or self._may_be_refused()
            return
        assert self.contents
        assert not self._must_be_refused() or self.command == "plan"
        if interrupted and code == STOPPED:
            return
        broken = sum(content == BROKEN for content in self.contents.values())
        assert code == (0 if not broken else USAGE if broken == len(self.contents) else 1)

    def _may_be_refused(self) -> bool:
        """Tell if the call may name a result that was made otherwise."""
        return not self.redo and any(s.choice != self.choice for s in self.before.values())

    def _must_be_refused(self) -> bool:
        """Tell if the call names a slide whose result was made otherwise."""
        return not self.redo and any(
            self.before[slide_id].choice != self.choice
            for slide_id, real in self._known.items()
            if real in self.contents and slide_id in self.before and not self._lagged
        )

    def check_complete(self) -> None:
        """Check that every slide of the call is done, under the id that it had."""
        id_of = {real: slide_id for slide_id, real in self.ids().items()}
        assert id_of.keys() == self.contents.keys()
        for real, content in self.contents.items():
            slide_id = id_of[real]
            if content == BROKEN:
                assert self.world.standing.get(slide_id) == self.before.get(slide_id)
                row = self.world.rows[slide_id]
                assert row["status"] == "failed" or "later run failed" in row["message"]
            else:
                assert self.world.standing[slide_id] == Stand(content, self.choice)
            if not self._lagged:
                self._check_id(real, content, slide_id)

    def _check_id(self, real: str, content: int, slide_id: str) -> None:
        """Check the id of a slide where content and paths leave no choice.

        A slide is known by its content. Only a content that the folder does not have takes the id
        that another content had at its path.
        """
        stood = {i: self.before[i].content for i in self._known if i in self.before}
        at_path = {i for i, path in self._known.items() if path == real}
        same = {i for i, known in stood.items() if known == content}
        noted = {i for i, known in self._noted.items() if known == content}
        if any(stood.get(i) != self._noted.get(i) for i in at_path | same | noted):
            return  # it was named with another content, and not done since
        if len(at_path) > 1:
            return  # both were at this path, one after the other; which one stays is not checked
        if at_path & same:
            assert slide_id in at_path & same
            return
        free = {i for i in same if self.contents.get(self._known[i]) != content}
        twins = [real for real, known in self.contents.items() if known == content]
        if len(free) == len(same) == len(twins) == 1:
            assert {slide_id} == same, f"{slide_id} was {same}"
        elif not same:
            assert slide_id not in stood.keys() - at_path, f"{slide_id} was given to another slide"


def _first_paths(places: list[Path]) -> dict[str, Path]:
    """First path to each slide, by its real path."""
    paths = []
    for place in places:
        if place.is_file():
            paths.append(place)
        for folder, _, names_in in os.walk(place, followlinks=True):
            paths += [Path(folder, name) for name in names_in if Path(folder, name).exists()]
    found: dict[str, Path] = {}
    for path in sorted(paths):
        found.setdefault(os.path.realpath(path), path)
    return found


def _content(library: Library, path: str) -> int:
    return library.content_of[fingerprint(Path(path))]


def _machine(library: Library) -> type[World]:
    return type("World", (World,), {"library": library})


_CHECKS = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]


def test_whatever_is_typed_no_result_is_lost_and_the_tables_say_what_stands(library):
    short = settings(max_examples=3, stateful_step_count=30, suppress_health_check=_CHECKS)
    run_state_machine_as_test(_machine(library), settings=short)
    assert library.steps > 60


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_two_thousand_steps(library):
    many = settings(max_examples=64, stateful_step_count=40, suppress_health_check=_CHECKS)
    run_state_machine_as_test(_machine(library), settings=many)
    print(library.steps, dict(library.calls))  # noqa: T201 - shown with -s
    assert library.steps >= 2000
