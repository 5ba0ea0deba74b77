"""Array types: each name stands for arrays of the element type that it names."""

from typing import get_args

import numpy as np
import pytest

from noctile.pipeline import arrays

NAMES = [name for name in vars(arrays) if name[0].isupper()]


@pytest.mark.parametrize("name", NAMES)
def test_each_name_is_that_of_its_element_type(name):
    _, kind = get_args(getattr(arrays, name))
    (element,) = get_args(kind)
    assert np.dtype(element).name == name.lower()
