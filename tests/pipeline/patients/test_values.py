"""Values of patients against pandas, and doubt about their slides."""

import numpy as np
import pytest
from cohort_results import planted_rows, slide_row

from noctile.pipeline.cohort import cohort_table
from noctile.pipeline.patients.join import join
from noctile.pipeline.patients.slides import cohort_slides
from noctile.pipeline.patients.values import doubt_of, patient_values


def patients_of(rows):
    return join(cohort_slides(cohort_table(rows, ("tumor",)).to_pylist(), {}), None).patients


@pytest.mark.parametrize("without_flagged", [False, True])
def test_values_are_those_of_pandas(without_flagged):
    rows = planted_rows(40)
    found = patient_values(patients_of(rows), without_flagged=without_flagged)
    frame = cohort_table(rows, ("tumor",)).to_pandas()
    if without_flagged:
        frame = frame[frame["qc_flags"].map(len) == 0]
    frame["patient_id"] = frame["patient_id"].astype(str)
    groups = frame.groupby("patient_id")
    sums = groups[["tumor_area_mm2", "tissue_area_mm2", "tumor_foci"]].sum()
    assert [p.patient_id for p in found.patients] == list(sums.index)
    fraction = sums["tumor_area_mm2"] / sums["tissue_area_mm2"]
    expected = {
        "tumor_area_mm2": sums["tumor_area_mm2"],
        "tumor_foci": sums["tumor_foci"],
        "tumor_fraction_of_tissue": fraction,
        "largest_focus_mm2": groups["largest_focus_mm2"].max(),
        "mean_confidence": groups[["mean_confidence", "tissue_area_mm2"]].apply(
            lambda g: np.average(g["mean_confidence"], weights=g["tissue_area_mm2"])
        ),
    }
    for name, values in expected.items():
        np.testing.assert_allclose(found.values[name], values)
    shares = frame["tumor_area_mm2"] / frame["tissue_area_mm2"]
    spread = shares.groupby(frame["patient_id"]).agg(lambda s: np.ptp(s) if len(s) > 1 else np.nan)
    np.testing.assert_allclose(found.values["tumor_fraction_range"], spread)


def test_measures_without_values_are_left_out():
    found = patient_values(patients_of([slide_row("s")]))
    names = [measure.name for measure in found.measures]
    assert names == [
        "tumor_area_mm2",
        "tumor_fraction_of_tissue",
        "tumor_foci",
        "largest_focus_mm2",
    ]
    assert found.has("mean_confidence")
    assert not found.has("necrosis_fraction")


def test_doubt_is_one_minus_confidence_and_more_for_flags():
    def doubt(**about):
        return doubt_of(patients_of([slide_row("s", **about)])[0].slides)

    assert doubt(confidence=0.8) == pytest.approx(0.2)
    assert doubt(confidence=0.8, flags=["blurred"]) == 0.5
    assert doubt(confidence=0.3, flags=["blurred"]) == pytest.approx(0.7)
    assert doubt(confidence=None) == 0.5
