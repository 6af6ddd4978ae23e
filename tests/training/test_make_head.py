"""The generic head's table is what the mark-up gives on the mean head."""

import numpy as np
import pytest

pytest.importorskip("numba", reason="training's extra is not installed: pip install -e .[train]")

from edgeface.generic_head import FIRST, POINTS
from training import assets, make_head
from training.render import head as heads

try:
    FOLDER = assets.folder()
except FileNotFoundError as missing:
    pytest.skip(f"no assets to render from: {missing}", allow_module_level=True)


def test_the_table_is_that_of_the_mark_up():
    made = make_head.inner_points(heads.load(FOLDER))
    np.testing.assert_allclose(POINTS[FIRST:], made, atol=6e-5)
    assert make_head.TABLE.search(make_head.TARGET.read_text())[0] == make_head.rows(made)
