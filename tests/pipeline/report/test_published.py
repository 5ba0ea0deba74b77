"""Published figures agree with themselves."""

import numpy as np
import pytest

from noctile.pipeline.report.published import PUBLISHED, STUDY


def test_the_means_of_the_published_figures_are_those_of_their_classes() -> None:
    for published in PUBLISHED:
        *each, whole = published.dice.values()
        assert whole == pytest.approx(np.mean(each), abs=5.01e-4)


def test_the_stated_f1_of_the_study_is_not_the_harmonic_mean_of_its_precision_and_recall() -> None:
    assert pytest.approx(0.9313, abs=1e-4) == STUDY.f1
    assert STUDY.stated_f1 != pytest.approx(STUDY.f1, abs=0.01)
