"""Methods paragraph of a cohort, and the items of reporting guidelines that can be known.

Sources of the items: CLAIM: Mongan, Moy and Kahn, Radiology: Artificial Intelligence 2 (2020),
e200029, whose numbers are given; STARD-AI: Sounderajah et al., Nature Medicine 31 (2025).
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from noctile.pipeline.patients.analysis import Analysis
from noctile.pipeline.patients.annotated import IN_FULL, Annotated
from noctile.pipeline.patients.audited import Audited
from noctile.pipeline.patients.flow import counted
from noctile.pipeline.patients.join import Joined
from noctile.pipeline.patients.measures import MEASURES
from noctile.pipeline.statistics.bootstrap import RESAMPLES
from noctile.pipeline.statistics.correlation import MIN_PAIRS
from noctile.pipeline.statistics.estimate import Estimate
from noctile.pipeline.statistics.groups import MIN_GROUP
from noctile.pipeline.statistics.multiplicity import ALPHA

AUTHORS: Final = "to be filled in by the authors"


@dataclass(frozen=True, slots=True)
class PointSample:
    """Design and readers of an audit.

    Attributes:
        points: number of points that were drawn.
        slides: number of slides that the points stand for.
        chosen: number of slides that were chosen among them for points.
        by: column of the manifest whose groups were strata; "" for none.
        spacing_um: smallest distance of two points of a slide (um).
        seed: seed of the random choices.
        readers: number of readers with answers.
        kappas: Cohen's kappa of each two readers.
        batches: total number of points asked for by each call that drew some, in order.
    """

    points: int
    slides: int
    chosen: int
    by: str
    spacing_um: float
    seed: int
    readers: int
    kappas: tuple[Estimate, ...]
    batches: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Origin:
    """Origin of the results.

    Attributes:
        models: name and sha256 of each model.
        settings: settings of the runs that matter for the figures, name and value.
        versions: version of each program.
        runs: ids of the runs.
        audit: audit that has measured the model's error; None without one.
        annotated: number of patients whose slides readers annotated in full.
    """

    models: tuple[tuple[str, str], ...]
    settings: tuple[tuple[str, str], ...]
    versions: Mapping[str, str]
    runs: tuple[str, ...]
    audit: PointSample | None = None
    annotated: int = 0


@dataclass(frozen=True, slots=True)
class Item:
    """Item of a reporting guideline.

    Attributes:
        guideline: name and number.
        topic: topic of the item.
        text: what is known, or `AUTHORS` with what to write.
    """

    guideline: str
    topic: str
    text: str


def methods_paragraphs(
    joined: Joined,
    analysis: Analysis,
    origin: Origin,
    audit: Audited | None = None,
    annotated: Annotated | None = None,
) -> list[str]:
    """Paragraphs for the methods section of a paper."""
    return [
        " ".join(part)
        for part in (
            _slides(analysis, origin),
            _patients(joined, analysis),
            _statistics(analysis),
            *([_audit(origin.audit, audit)] if origin.audit and audit else []),
            *([_annotated(annotated)] if annotated and annotated.shares else []),
            _software(origin),
        )
    ]


def _slides(analysis: Analysis, origin: Origin) -> Iterator[str]:
    flow = analysis.flow
    models = "; ".join(f"{name} (sha256 {sha})" for name, sha in origin.models) or "no model"
    yield (
        f"Of {flow.submitted.slides} whole-slide images, {flow.with_result.slides} were analysed "
        f"with Noctile {origin.versions.get('noctile', '')} and the model {models}."
    )
    if flow.not_done:
        reasons = ", ".join(f"{reason} {n}" for reason, n in flow.not_done)
        total = sum(n for _, n in flow.not_done)
        yield f"{counted(total, 'slide')} had no result (by reason: {reasons})."
    yield (
        f"Reviewers rejected {counted(flow.rejected, 'slide')}. Slides with a quality flag that no "
        f"reviewer has accepted, or with a doubt of a reviewer ({analysis.flagged.slides}), were "
        "kept, and left out in a sensitivity analysis."
    )
    if flow.regions_left_out:
        slides = counted(flow.regions_left_out, "slide")
        yield f"Regions that reviewers marked were left out of {slides}."
    if origin.settings:
        settings = ", ".join(f"{name} {value}" for name, value in origin.settings)
        yield f"Settings: {settings}."


def _patients(joined: Joined, analysis: Analysis) -> Iterator[str]:
    flow, q = analysis.flow, analysis.question
    yield (
        "The patient is the unit of the analysis. Areas and counts of a patient's slides were "
        "added up, and fractions are ratios of these sums, not means of fractions."
    )
    if flow.own_patients:
        yield (
            f"The patient of {counted(flow.own_patients, 'slide')} was not named; each slide "
            "counts as one patient."
        )
    if joined.clinical:
        unit = "slide" if joined.clinical.by_slide else "patient"
        yield (
            f"Clinical data were joined by {unit}; {counted(flow.unmatched_rows, 'row')} of the "
            "clinical table without a slide."
        )
    excluded = ", ".join(f"{reason} {count.patients}" for reason, count in flow.excluded)
    if excluded:
        yield f"Patients with slides who are not part of the analysis, by reason: {excluded}."
    yield (
        f"{counted(flow.analysed.patients, 'patient')} with "
        f"{counted(flow.analysed.slides, 'slide')} were analysed."
    )
    if q.by:
        yield f"They were compared by {q.by}."
    there = [m for m in MEASURES if analysis.values.has(m.name)]
    yield "Measures: " + "; ".join(f"{m.title.lower()}: {m.description}" for m in there) + "."


def _statistics(analysis: Analysis) -> Iterator[str]:
    yield (
        "Means have 95 % intervals from a bootstrap of patients (expanded percentiles, "
        f"{RESAMPLES} draws)."
    )
    if analysis.question.kind == "groups":
        yield (
            "Two groups were compared with the Mann-Whitney test and Cliff's delta (interval of "
            "Feng and Cliff), more groups with the Kruskal-Wallis test and epsilon squared, and "
            f"then pair by pair. Groups of fewer than {MIN_GROUP} patients were not compared."
        )
    if analysis.question.kind == "number":
        yield (
            "Association was measured with Spearman's rank correlation, with its 95 % interval, "
            f"from {MIN_PAIRS} patients on."
        )
    if analysis.findings:
        yield (
            f"P-values are two-sided, and were corrected for the {len(analysis.findings)} measures "
            f"with Holm's method; the level is {ALPHA}."
        )
    if analysis.survival:
        yield (
            "Survival was described with Kaplan-Meier curves (log-log intervals) and compared with "
            f"the log-rank test, without groups of fewer than {MIN_GROUP} patients. The median "
            "follow-up is that of the reverse Kaplan-Meier method. Hazard ratios come from Cox "
            "models with one measure each, per standard deviation, and p-values were corrected "
            "with Holm's method within groups, measures and cuts. No cut was searched for in these "
            "data."
        )
        for cut in analysis.question.cuts:
            yield f"Cut given with the command: {cut.measure} at {cut.value:g}."
    if analysis.influences:
        yield "All tests were repeated without flagged slides, and without each single patient."


def _audit(sample: PointSample, audit: Audited) -> Iterator[str]:
    by = f" within groups of {sample.by}" if sample.by else ""
    slides = counted(sample.slides, "slide")
    if sample.chosen < sample.slides:
        slides = f"{sample.chosen} slides, chosen in proportion to area from {slides}"
    yield (
        f"The error of the model was measured with {sample.points} points. They were drawn at "
        f"random from {slides}, stratified by predicted class{by}, at least {sample.spacing_um:g} "
        f"um apart (seed {sample.seed}), and shown to {counted(sample.readers, 'reader')} without "
        "the prediction."
    )
    if len(sample.batches) > 1:
        first, *later = map(str, sample.batches)
        yield f"They were drawn in turn: {first} points at first, then {', '.join(later)} in all."
    if sample.kappas:
        shown = "; ".join(f"{k.value:.2f} ({k.low:.2f} to {k.high:.2f})" for k in sample.kappas)
        yield f"Cohen's kappa of two readers: {shown}."
    everyone = audit.areas[-1].areas
    yield (
        f"Of the points on the slides of this analysis, {everyone.points} got a class, "
        f"{everyone.unsure} were unsure and {everyone.unreadable} unreadable. Areas are "
        "post-stratified estimates (Olofsson et al., Remote Sensing of Environment 148 (2014), "
        "42-57; Stehman, International Journal of Remote Sensing 35 (2014), 4923-4939). Their 95 % "
        "intervals are Jeffreys intervals with the effective number of points (Korn and Graubard, "
        "Survey Methodology 24 (1998), 193-201), joined over strata (Zou and Donner, Statistics in "
        "Medicine 27 (2008), 1693-1702)."
    )
    if audit.differences:
        yield (
            "Groups were compared by Welch's t on the corrected shares of patients, with Holm's "
            f"correction for {counted(len(audit.differences), 'comparison')}."
        )


def _annotated(annotated: Annotated) -> Iterator[str]:
    slides = sum(slide.status == "used" for slide in annotated.slides)
    patients = f"{annotated.annotated} of {counted(annotated.patients, 'patient')}"
    yield (
        f"Readers annotated {counted(slides, 'slide')} of {patients} in full (at least "
        f"{100 * IN_FULL:g} % of the analysed area). The mean true share of each class in the "
        "analysed area of a patient was estimated from these annotations and the predictions of "
        "all patients by prediction-powered inference (Angelopoulos et al., Science 382 (2023), "
        "669-674) with the tuning of PPI++ (Angelopoulos, Duchi and Zrnic, arXiv:2311.01453) and "
        "the small-sample variance of the regression estimator (Cochran, Sampling Techniques, "
        "1977, chapter 12). This supposes that the annotated patients were chosen at random in "
        "each group."
    )
    if annotated.differences:
        yield (
            "Groups were compared by Welch's t, with Holm's correction for "
            f"{counted(len(annotated.differences), 'comparison')}."
        )


def _software(origin: Origin) -> Iterator[str]:
    versions = ", ".join(f"{name} {version}" for name, version in origin.versions.items())
    yield f"Software: {versions}."


def checklist(joined: Joined, analysis: Analysis, origin: Origin) -> list[Item]:
    """Items of CLAIM (2020) and STARD-AI, filled in as far as the results tell."""
    q, flow = analysis.question, analysis.flow
    models = "; ".join(f"{name}, sha256 {sha}" for name, sha in origin.models)
    data = "manifest and clinical table" if joined.clinical else "manifest"
    by = f"column {q.by}" if q.by else "no groups"
    cuts = ", ".join(f"{cut.measure} at {cut.value:g}" for cut in q.cuts)
    standards = ["a point sample of this cohort, answered by readers"] if origin.audit else []
    if origin.annotated:
        patients = counted(origin.annotated, "patient")
        standards.append(f"the slides of {patients}, annotated in full by readers")
    known = (
        ("CLAIM 9", "preprocessing", "pixel sizes and settings of the run: see the methods"),
        ("CLAIM 11", "definition of data elements", f"measures: see the methods; {by} ({data})"),
        ("CLAIM 13", "missing data", "counted and named in exclusions.csv; nothing is imputed"),
        ("CLAIM 22", "model", models),
        ("CLAIM 23", "software", "see the methods"),
        ("CLAIM 29", "statistics and uncertainty", "see the methods"),
        ("CLAIM 30", "sensitivity analysis", "without flagged slides; without each patient"),
        ("CLAIM 33", "flow of participants", "flow.svg"),
        ("STARD-AI", "failed and doubtful results", f"{_failed(analysis)}: flow.svg"),
        ("STARD-AI", "cut-offs stated before", f"{cuts} (as given)" if cuts else "none was used"),
    )
    authors = (
        ("CLAIM 1 to 4", "title, abstract, background, objectives"),
        ("CLAIM 5", "prospective or retrospective study"),
        ("CLAIM 7, 8", "sources of the slides, eligibility, dates and places"),
        ("CLAIM 12", "de-identification"),
        ("CLAIM 19", "intended sample size and how it was determined"),
        ("CLAIM 32", "testing of the model on data of other institutions"),
        ("CLAIM 34", "demographic and clinical characteristics of the groups"),
        ("CLAIM 38, 39", "limitations and implications: the page lists those that can be known"),
        ("CLAIM 40 to 42", "registration, protocol, funding"),
        ("STARD-AI", "scanners, staining and sites; fairness over subgroups"),
        ("STARD-AI", "a statement if the question was stated before the slides were analysed"),
    )
    items = [Item(*row) for row in known]
    standard = "; ".join(standards) or _todo("none was used")
    items.append(Item("CLAIM 14 to 18", "reference standard", standard))
    items += [Item(guideline, topic, AUTHORS) for guideline, topic in authors]
    if flow.own_patients:
        items.append(Item("CLAIM 21", "patients", _todo("the patient of each slide")))
    return items


def _failed(analysis: Analysis) -> str:
    failed = sum(n for _, n in analysis.flow.not_done)
    return f"{failed} slides without a result, {analysis.flow.flagged.slides} flagged"


def _todo(text: str) -> str:
    return f"{AUTHORS}: {text}"


def methods_markdown(
    paragraphs: Iterable[str], items: Iterable[Item], limits: Iterable[str]
) -> str:
    """Text of ``methods.md``.

    Args:
        paragraphs: paragraphs for a methods section, see `methods_paragraphs`.
        items: items of reporting guidelines, see `checklist`.
        limits: limits of the conclusions.
    """
    methods = "\n\n".join(map(_plain, paragraphs))
    rows = "\n".join(
        f"| {_plain(i.guideline)} | {_plain(i.topic)} | {_plain(i.text)} |" for i in items
    )
    listed = "\n".join(f"- {_plain(limit)}" for limit in limits)
    return (
        f"# Methods\n\n{methods}\n\n## Limits\n\n{listed}\n\n## Reporting guidelines\n\n"
        f"| guideline | topic | text |\n|---|---|---|\n{rows}\n"
    )


def _plain(text: str) -> str:
    """Text in which Markdown sees no markup of a column's or group's name."""
    escaped = "".join(f"\\{char}" if char in "\\`*_{}[]<>#|" else char for char in text)
    return " ".join(escaped.split())
