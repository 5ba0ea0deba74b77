"""Answers to a question in plain words, and the limits within which they hold."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import isnan
from typing import Final

from noctile.pipeline.patients.analysis import Analysis, Finding
from noctile.pipeline.patients.annotated import MANY, Annotated
from noctile.pipeline.patients.audited import Audited
from noctile.pipeline.patients.flow import counted
from noctile.pipeline.patients.join import Patient
from noctile.pipeline.patients.measures import measure_of
from noctile.pipeline.patients.share_difference import Compared, ShareDifference
from noctile.pipeline.statistics.estimate import Estimate
from noctile.pipeline.statistics.groups import CLIFFS_DELTA
from noctile.pipeline.statistics.multiplicity import ALPHA

FEW: Final = 20
"""Groups with fewer patients are called small."""

_MANY_EXCLUDED: Final = 0.1


@dataclass(frozen=True, slots=True)
class Remark:
    """Limit of the conclusions.

    Attributes:
        code: name of the limit, for programs.
        text: the limit in plain words.
    """

    code: str
    text: str


@dataclass(frozen=True, slots=True)
class Conclusions:
    """Question, answers, and their limits.

    Attributes:
        question: the question.
        answers: answers, the clearest first.
        may: statements that the analysis supports.
        may_not: limits and statements that it does not support.
    """

    question: str
    answers: tuple[str, ...]
    may: tuple[str, ...]
    may_not: tuple[Remark, ...]


def conclude(
    analysis: Analysis, audit: Audited | None = None, annotated: Annotated | None = None
) -> Conclusions:
    """Say what an analysis answers, and what may and may not be concluded.

    Args:
        analysis: the analysis.
        audit: areas corrected by an audit; None without one.
        annotated: shares by patients who are annotated in full; None without annotations.
    """
    corrected = (
        *_share_answers("Corrected by the audit", audit.differences if audit else ()),
        *_share_answers("By the annotated patients", annotated.differences if annotated else ()),
    )
    return Conclusions(
        _question(analysis),
        (*_answers(analysis), *corrected, *_survival_answers(analysis)),
        tuple(_may(analysis)),
        tuple(_limits(analysis, audit, annotated)),
    )


def p_text(p: float) -> str:
    """p-value for a reader."""
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def interval_text(estimate: Estimate, digits: int = 2) -> str:
    """Figure with its interval, for a reader."""
    value, low, high = (f"{v:.{digits}f}" for v in (estimate.value, estimate.low, estimate.high))
    if isnan(estimate.low):
        return f"{value} (no interval)"
    return f"{value} (95 % interval {low} to {high})"


def _question(analysis: Analysis) -> str:
    q, groups = analysis.question, len(dict(analysis.flow.groups))
    asked = {
        "none": "How large are the measures of this cohort?",
        "groups": f"Do the measures differ between the {groups} groups of {q.by}?"
        if groups > 1
        else f"How large are the measures? All patients are in one group of {q.by}.",
        "number": f"Do the measures go up or down with {q.by}?",
    }[q.kind]
    return f"{asked} Do they tell survival ({q.time})?" if q.survival else asked


def _answers(analysis: Analysis) -> Iterator[str]:
    q, found = analysis.question, analysis.findings
    if q.kind == "none":
        n = analysis.flow.analysed
        yield (
            "Nothing is compared. The figures describe "
            f"{counted(n.patients, 'patient')} with {counted(n.slides, 'slide')}."
        )
        return
    if not found:
        yield (
            f"No measure could be compared by {q.by}: a comparison needs two groups of five "
            "patients, or ten pairs of numbers, with values that vary."
        )
        return
    clear = sorted((f for f in found if f.differs), key=lambda f: f.p_holm)
    for finding in clear:
        yield _difference(analysis, finding)
    unclear = [measure_of(f.measure).title for f in found if not f.differs]
    if unclear:
        what = "association" if q.kind == "number" else "difference"
        yield f"No {what} was found for: {', '.join(unclear)}."


def _difference(analysis: Analysis, finding: Finding) -> str:
    title, by = measure_of(finding.measure).title, analysis.question.by
    first, p = finding.effects[0], p_text(finding.p_holm)
    tests = len(analysis.findings)
    corrected = f"{p} after correction for {tests} measures" if tests > 1 else p
    if analysis.question.kind == "number":
        way = "rises" if first.estimate.value > 0 else "falls"
        return f"{title} {way} with {by}: rho {interval_text(first.estimate)}, {corrected}."
    if first.name == CLIFFS_DELTA:
        up, down = (first.a, first.b) if first.estimate.value > 0 else (first.b, first.a)
        return (
            f"{title} tends to be larger in {up} than in {down}: Cliff's delta of {first.a} "
            f"against {first.b} {interval_text(first.estimate)}, {corrected}."
        )
    pairs = [e for e in finding.effects[1:] if e.p_holm < ALPHA]
    which = "; ".join(f"{e.a} against {e.b} {e.estimate.value:+.2f}" for e in pairs)
    detail = f" Pairs that differ, by Cliff's delta: {which}." if pairs else ""
    return (
        f"{title} differs between the groups of {by}: epsilon squared "
        f"{interval_text(first.estimate)}, {corrected}.{detail}"
    )


def _share_answers(by: str, differences: Sequence[ShareDifference[Compared]]) -> Iterator[str]:
    for row in differences:
        if row.p_holm < ALPHA:
            way = "larger" if row.found.difference.value > 0 else "smaller"
            yield (
                f"{by}, the share of {row.name} is {way} in {row.a} than in {row.b}: difference "
                f"{interval_text(row.found.difference, 3)}, {p_text(row.p_holm)}."
            )
    if differences and all(row.p_holm >= ALPHA for row in differences):
        yield f"{by}, no share of a class differs between the groups."


def _survival_answers(analysis: Analysis) -> Iterator[str]:
    survival = analysis.survival
    if not survival:
        return
    if not survival.tests:
        yield (
            f"Survival could not be tested with {counted(survival.events, 'event')}: a test needs "
            "ten, and two groups of five patients or a measure that varies."
        )
        return
    clear = [test for test in survival.tests if test.differs]
    for test in clear:
        ratio = ""
        if test.hazard_ratio:
            of = f" of {test.a} against {test.b}" if test.a else " per standard deviation"
            ratio = f"hazard ratio{of} {interval_text(test.hazard_ratio)}, "
        yield f"Survival goes with {test.subject}: {ratio}{p_text(test.p_holm)} ({test.test})."
    if len(clear) < len(survival.tests):
        more = " other" if clear else ""
        yield f"No{more} association with survival was found."


def _may(analysis: Analysis) -> Iterator[str]:
    n = analysis.flow.analysed
    yield (
        f"The figures describe {counted(n.patients, 'patient')} whose slides were analysed, each "
        "patient once, as the model sees them."
    )
    if any(finding.differs for finding in analysis.findings):
        yield (
            f"A difference with a corrected p-value below {ALPHA} is hard to explain by chance "
            "alone. Its interval says how large it may be."
        )
    if analysis.findings and not all(finding.differs for finding in analysis.findings):
        yield (
            "Where no difference was found, the interval of the effect says how large a difference "
            "these patients cannot rule out."
        )


def _limits(
    analysis: Analysis, audit: Audited | None, annotated: Annotated | None
) -> Iterator[Remark]:
    yield from _changing(analysis)
    yield from _sample(analysis)
    yield from _data(analysis)
    if audit and not audit.problem:
        yield Remark(
            "audited",
            "Areas corrected by the audit stand below. The tests of the measures take the areas of "
            "the model; only the table of corrected shares compares corrected ones.",
        )
        if audit.missing:
            yield Remark(
                "audit_incomplete",
                f"The audit does not speak for {counted(len(audit.missing), 'slide')} of this "
                "question.",
            )
    if annotated:
        yield from _annotated_limits(annotated)
    if (not audit or audit.problem) and (not annotated or annotated.problem):
        yield Remark(
            "not_audited",
            "The areas are those of the model, and are not corrected for its error, which was not "
            "measured on these slides. If it errs more in one group, it makes or hides a "
            "difference. noctile audit measures the error with points that a pathologist answers.",
        )
    if analysis.findings:
        yield Remark(
            "exploratory",
            "No cause follows: groups may differ in age, treatment, scanner or staining. Unless "
            "the question was written down before the slides were looked at, it is exploratory, "
            "and needs a second cohort. Other questions to the same slides are not corrected for.",
        )
        yield Remark(
            "not_equal",
            "A measure without a difference is not shown to be equal in the groups.",
        )


def _annotated_limits(annotated: Annotated) -> Iterator[Remark]:
    if not annotated.problem:
        yield Remark(
            "annotated",
            "Shares by the annotated patients stand below, and hold whatever errors the model "
            "makes, if these patients were chosen at random. If they were chosen by their slides, "
            "or difficult ones were passed over, the shares are biased, and no interval tells. "
            "The tests of the measures take the areas of the model.",
        )
    if rare := [row for row in annotated.shares if row.rare]:
        listed = ", ".join(
            f"{row.name}{f' in {row.group}' if row.group else ''} ({row.with_class} of "
            f"{row.found.annotated})"
            for row in rare
        )
        yield Remark(
            "rare_classes",
            f"Fewer than {MANY} annotated patients have these classes, and others lack them: "
            f"{listed}. Intervals of their shares may be too short; in simulations they held the "
            "truth in as few as 84 % of the cohorts.",
        )
    if annotated.unused:
        yield Remark(
            "annotated_in_part",
            f"No figure uses {counted(len(annotated.unused), 'annotated slide')}, which the page "
            "names. If they were left unfinished because they are difficult, the annotated "
            "patients are no random choice.",
        )


def _changing(analysis: Analysis) -> Iterator[Remark]:
    """Limits by flagged slides and single patients that change an answer."""
    changed = list(_changed_without_flagged(analysis)) if analysis.flagged.slides else []
    if changed:
        yield Remark(
            "flagged_slides",
            f"Without {counted(analysis.flagged.slides, 'flagged slide')} the answer changes "
            f"for: {', '.join(changed)}. Look at these slides before you rely on it.",
        )
    patients = Counter(i.test.title for i in analysis.influences if i.changes)
    for title, count in patients.items():
        yield Remark(
            "single_patients",
            f"{title}: leaving out a single patient can change the answer; this holds for "
            f"{counted(count, 'patient')}, who are listed below.",
        )
    quality = analysis.quality
    if quality and quality.p < ALPHA:
        yield Remark(
            "confidence_differs",
            f"The model's confidence goes with {analysis.question.by} too ({p_text(quality.p)}), "
            "so a difference of areas may be one of the model's errors.",
        )


def _changed_without_flagged(analysis: Analysis) -> Iterator[str]:
    """Yield the tests whose answer changes, or is lost, without flagged slides."""
    calm = {f.measure for f in analysis.without_flagged if f.differs}
    for finding in analysis.findings:
        if finding.differs != (finding.measure in calm):
            yield measure_of(finding.measure).title
    calm_survival = {t.about for t in analysis.survival_without_flagged if t.differs}
    for test in analysis.survival.tests if analysis.survival else ():
        if test.differs != (test.about in calm_survival):
            yield test.title


def _sample(analysis: Analysis) -> Iterator[Remark]:
    """Limits by the number of patients."""
    flow = analysis.flow
    small = [name for name, count in flow.groups if count.patients < FEW]
    if small:
        yield Remark(
            "small_groups",
            f"Groups with fewer than {FEW} patients: {', '.join(small)}. Only large differences "
            "can be found with so few.",
        )
    left_out = {name: n for f in analysis.findings for name, n in f.left_out}
    if left_out:
        names = ", ".join(f"{name} ({n})" for name, n in left_out.items())
        yield Remark("groups_left_out", f"Too small to be compared at all: {names}.")
    lost = flow.submitted.patients - flow.analysed.patients
    if flow.submitted.patients and lost / flow.submitted.patients > _MANY_EXCLUDED:
        yield Remark(
            "many_excluded",
            f"{lost} of {flow.submitted.patients} patients are not part of the answer. "
            "If their absence has to do with the question, it is biased.",
        )
    tests = analysis.survival.tests if analysis.survival else ()
    if any(test.p_proportional < ALPHA for test in tests):
        yield Remark(
            "not_proportional",
            "Some hazard ratios change with time (see the table): they are averages over the time "
            "that was watched.",
        )


def _data(analysis: Analysis) -> Iterator[Remark]:
    """Limits by slides and models."""
    flow, patients = analysis.flow, analysis.values.patients
    if flow.own_patients:
        yield Remark(
            "patients_not_named",
            f"Nothing names the patient of {counted(flow.own_patients, 'slide')}: each slide "
            "counts as a patient of its own. If a patient has several of them, all intervals are "
            "too narrow and all p-values too small. Add a column patient_id to the clinical table.",
        )
    models = {s.model_sha256 for p in patients for s in p.analysed}
    if len(models) > 1:
        yield Remark(
            "several_models",
            f"The slides were analysed with {len(models)} models. Do that anew with one.",
        )
    if flow.regions_left_out:
        yield Remark(
            "regions_left_out",
            f"Reviewers left out regions of {counted(flow.regions_left_out, 'slide')}. Their areas "
            "and fractions are without these regions; foci, confidence and the measures of the "
            "tumor bed are of the whole slide.",
        )
    if _uneven(patients):
        yield Remark(
            "uneven_slides",
            "Patients have different numbers of slides. Tumor area, foci and the largest focus "
            "grow with the tissue that was scanned; fractions do not.",
        )


def _uneven(patients: tuple[Patient, ...]) -> bool:
    return len({len(patient.analysed) for patient in patients}) > 1
