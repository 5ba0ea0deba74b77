"""Columns of the tables of a cohort, with the meaning and the unit of each."""

from typing import Final

from noctile.pipeline.columns import BOOLEAN, CATEGORY, FLAGS, INTEGER, NUMBER, TEXT, Column
from noctile.pipeline.patients.measures import MEASURES

PATIENTS: Final = (
    Column("patient_id", TEXT, "patient; the slide itself if nothing names its patient"),
    Column("patient_named", BOOLEAN, "false if nothing names the patient of the slide"),
    Column("excluded", CATEGORY, "code of the reason why the patient is not analysed; else empty"),
    Column("by", CATEGORY, "cell of the column that is compared; several are separated by /"),
    Column("time", NUMBER, "survival time, in the unit of its column"),
    Column("event", INTEGER, "1 for an event, 0 for none"),
    Column("slides", INTEGER, "slides that count", "count"),
    Column("slides_submitted", INTEGER, "slides of the patient that the results know", "count"),
    Column("slides_flagged", INTEGER, "slides that count and are flagged", "count"),
    Column("slide_ids", FLAGS, "ids of the slides that count; separated by ; in CSV"),
    Column(
        "doubt",
        NUMBER,
        "1 - mean confidence; at least 0.5 if a slide is flagged, 0.5 if it is not known",
        "0..1",
    ),
    *(Column(m.name, NUMBER, m.description, m.unit) for m in MEASURES),
)

GROUPS: Final = (
    Column("measure", CATEGORY, "name of the measure"),
    Column("unit", CATEGORY, "unit of the measure"),
    Column("group", CATEGORY, "group; empty for all patients together"),
    Column("n", INTEGER, "patients with a value", "count"),
    Column("missing", INTEGER, "patients without a value", "count"),
    Column("median", NUMBER, "median, in the unit of the measure"),
    Column("q1", NUMBER, "first quartile"),
    Column("q3", NUMBER, "third quartile"),
    Column("mean", NUMBER, "mean"),
    Column("mean_low", NUMBER, "lower end of its 95 % bootstrap interval"),
    Column("mean_high", NUMBER, "upper end of its 95 % bootstrap interval"),
)

TESTS: Final = (
    Column(
        "family",
        CATEGORY,
        "by: measures against the column; quality: the model's confidence; survival: measures; "
        "survival_by: groups; survival_cut: cuts",
    ),
    Column("measure", CATEGORY, "name of the measure; empty for groups without a measure"),
    Column("by", CATEGORY, "column that is compared, or the cut"),
    Column("subset", CATEGORY, "all, or without_flagged: without flagged slides"),
    Column("test", CATEGORY, "name of the test"),
    Column("n", INTEGER, "patients", "count"),
    Column("events", INTEGER, "events of these patients; empty without survival", "count"),
    Column("statistic", NUMBER, "U of the first group, H, rho or chi-square; empty for Cox"),
    Column("p", NUMBER, "two-sided p-value of the test", "0..1"),
    Column("p_holm", NUMBER, "the same, corrected for the number of tests of its family", "0..1"),
    Column(
        "effect",
        CATEGORY,
        "Cliff's delta, epsilon squared, rho, or hazard ratio; each has a row of its own",
    ),
    Column("a", CATEGORY, "first group of the effect; empty for all groups"),
    Column("b", CATEGORY, "second group of the effect; empty for all groups"),
    Column("value", NUMBER, "size of the effect; delta is above 0 if a tends to be larger"),
    Column("low", NUMBER, "lower end of its 95 % interval"),
    Column("high", NUMBER, "upper end of its 95 % interval"),
    Column("p_pair", NUMBER, "p-value of a and b, corrected for the number of pairs", "0..1"),
    Column(
        "p_proportional",
        NUMBER,
        "p-value of proportional hazards; a small one says that the ratio changes with time",
        "0..1",
    ),
)

SURVIVAL: Final = (
    Column("by", CATEGORY, "column of the groups, or the cut; empty for all patients"),
    Column("group", CATEGORY, "group, or side of the cut; empty for all patients"),
    Column("n", INTEGER, "patients with a time and an event", "count"),
    Column("events", INTEGER, "events of these patients", "count"),
    Column("median", NUMBER, "median survival (Kaplan-Meier); empty if it is not reached"),
    Column("median_low", NUMBER, "lower end of its 95 % interval"),
    Column("median_high", NUMBER, "upper end of its 95 % interval; empty if it is not reached"),
    Column("follow_up", NUMBER, "median follow-up, by the reverse Kaplan-Meier method"),
    Column("follow_up_low", NUMBER, "lower end of its 95 % interval"),
    Column("follow_up_high", NUMBER, "upper end of its 95 % interval"),
)

INFLUENCE: Final = (
    Column("patient_id", TEXT, "patient who is left out"),
    Column("slide_ids", FLAGS, "slides of the patient that count; separated by ; in CSV"),
    Column("family", CATEGORY, "family of the test, as in tests"),
    Column("measure", CATEGORY, "name of the measure; empty for groups without a measure"),
    Column("by", CATEGORY, "column that is compared, or the cut"),
    Column(
        "changes_conclusion",
        BOOLEAN,
        "true if p_holm crosses 0.05 without the patient, or a difference can no longer be tested",
    ),
    Column(
        "p_holm",
        NUMBER,
        "corrected p-value without the patient; empty if the test cannot be made",
        "0..1",
    ),
    Column(
        "effect",
        NUMBER,
        "first effect of the test, without the patient; of survival, the log hazard ratio",
    ),
    Column("change", NUMBER, "that effect minus the effect with all patients"),
    Column("doubt", NUMBER, "doubt about the patient's slides, as in patients", "0..1"),
    Column("influence_times_doubt", NUMBER, "absolute change x doubt, which sorts the rows"),
)

EXCLUSIONS: Final = (
    Column("level", CATEGORY, "slide, patient or clinical_row"),
    Column("name", TEXT, "slide_id, patient_id, or the id in the row of the clinical table"),
    Column("patient_id", CATEGORY, "patient, if one is named"),
    Column("reason", CATEGORY, "code of the reason"),
    Column("message", CATEGORY, "text that explains it"),
)

AUDIT: Final = (
    Column("group", CATEGORY, "group; empty for all patients together"),
    Column("class", CATEGORY, "class of the model"),
    Column("slides", INTEGER, "slides that the audit speaks for", "count"),
    Column("patients", INTEGER, "patients of these slides", "count"),
    Column("points", INTEGER, "points that were answered with a class", "count"),
    Column("unsure", INTEGER, "points that were answered unsure", "count"),
    Column("unreadable", INTEGER, "points that were answered unreadable", "count"),
    Column("predicted_mm2", NUMBER, "area that the model predicts", "mm²"),
    Column("area_mm2", NUMBER, "corrected area of the true class", "mm²"),
    Column("area_low_mm2", NUMBER, "lower end of its 95 % interval", "mm²"),
    Column("area_high_mm2", NUMBER, "upper end of its 95 % interval", "mm²"),
    Column("share", NUMBER, "corrected area / analysed area", "0..1"),
    Column("share_low", NUMBER, "lower end of its 95 % interval", "0..1"),
    Column("share_high", NUMBER, "upper end of its 95 % interval", "0..1"),
    Column("users_accuracy", NUMBER, "part of the predicted class that is true", "0..1"),
    Column("producers_accuracy", NUMBER, "part of the true class that is predicted", "0..1"),
    Column("least_mm2", NUMBER, "area if no unsure or unreadable point were of the class", "mm²"),
    Column("most_mm2", NUMBER, "area if all unsure and unreadable points were of it", "mm²"),
    Column("half_width", NUMBER, "half of the area's 95 % interval / area", "1"),
    Column(
        "further_points",
        INTEGER,
        "further answers on these slides for a half-width of 0.1; empty if no number suffices",
        "count",
    ),
)

AUDIT_TESTS: Final = (
    Column("class", CATEGORY, "class of the model"),
    Column("a", CATEGORY, "first group"),
    Column("b", CATEGORY, "second group"),
    Column("n_a", INTEGER, "patients of the first group", "count"),
    Column("n_b", INTEGER, "patients of the second group", "count"),
    Column("share_a", NUMBER, "mean corrected share of the class of a patient of a", "0..1"),
    Column("share_b", NUMBER, "the same of b", "0..1"),
    Column("difference", NUMBER, "share_a - share_b", "1"),
    Column("low", NUMBER, "lower end of its 95 % interval", "1"),
    Column("high", NUMBER, "upper end of its 95 % interval", "1"),
    Column("p", NUMBER, "two-sided p-value of Welch's t", "0..1"),
    Column("p_holm", NUMBER, "the same, corrected for the number of classes and pairs", "0..1"),
)

ANNOTATED: Final = (
    Column("group", CATEGORY, "group; empty for all patients together"),
    Column("class", CATEGORY, "class of the model"),
    Column("patients", INTEGER, "patients with a prediction", "count"),
    Column("annotated", INTEGER, "patients who are annotated in full", "count"),
    Column("with_class", INTEGER, "annotated patients who have the class", "count"),
    Column("predicted_share", NUMBER, "mean predicted share of all these patients", "0..1"),
    Column("annotated_share", NUMBER, "mean true share of the annotated patients alone", "0..1"),
    Column("annotated_low", NUMBER, "lower end of the 95 % interval of annotated_share", "1"),
    Column("annotated_high", NUMBER, "upper end of the 95 % interval of annotated_share", "1"),
    Column("share", NUMBER, "mean true share by prediction-powered inference", "1"),
    Column("share_low", NUMBER, "lower end of the 95 % interval of share", "1"),
    Column("share_high", NUMBER, "upper end of the 95 % interval of share", "1"),
    Column("tuning", NUMBER, "weight of the predictions; 0 if they tell nothing", "1"),
)

ANNOTATED_TESTS: Final = (
    Column("class", CATEGORY, "class of the model"),
    Column("a", CATEGORY, "first group"),
    Column("b", CATEGORY, "second group"),
    Column("n_a", INTEGER, "patients of the first group", "count"),
    Column("n_b", INTEGER, "patients of the second group", "count"),
    Column("annotated_a", INTEGER, "annotated patients of the first group", "count"),
    Column("annotated_b", INTEGER, "annotated patients of the second group", "count"),
    Column("share_a", NUMBER, "share of a, as in annotated", "1"),
    Column("share_b", NUMBER, "the same of b", "1"),
    Column("difference", NUMBER, "share_a - share_b", "1"),
    Column("low", NUMBER, "lower end of its 95 % interval", "1"),
    Column("high", NUMBER, "upper end of its 95 % interval", "1"),
    Column("p", NUMBER, "two-sided p-value of Welch's t", "0..1"),
    Column("p_holm", NUMBER, "the same, corrected for the number of classes and pairs", "0..1"),
)

ANNOTATED_SLIDES: Final = (
    Column("slide_id", TEXT, "slide with annotations"),
    Column("patient_id", TEXT, "patient of the slide; empty if the slide does not count"),
    Column("file", TEXT, "name of the file with the annotations"),
    Column("status", CATEGORY, "used, in_part, patient_in_part or not_counted"),
    Column("reason", CATEGORY, "code of the reason why the slide does not count"),
    Column("covered", NUMBER, "annotated part of the analysed area", "0..1"),
    Column("class", CATEGORY, "class of the model; a slide that counts has a row for each"),
    Column("predicted_mm2", NUMBER, "area that the model predicts", "mm²"),
    Column("true_mm2", NUMBER, "annotated area of the class", "mm²"),
)
