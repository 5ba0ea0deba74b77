"""Torch arrays stay torch arrays, so that the lines for a GPU run on the CPU as well."""

from collections.abc import Iterator

import numpy as np
import pytest

from noctile.pipeline.models import pixel_labels
from noctile.pipeline.stitch import blend, block


@pytest.fixture(scope="module", autouse=True)
def _torch_stays_torch() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for module in (blend, block, pixel_labels):
            patch.setattr(module, "is_host", lambda values: isinstance(values, np.ndarray))
        yield
