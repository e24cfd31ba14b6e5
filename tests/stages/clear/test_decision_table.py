"""Auto-Correct's table, all of it."""

import math

import pytest

from stages.clear.decision_table import correction

ABOVE, AT, BELOW = math.nextafter(0.8, 1), 0.8, math.nextafter(0.8, 0)


@pytest.mark.parametrize(
    ("p", "flagged", "usable", "action"),
    [
        (ABOVE, False, True, "revise"),
        (ABOVE, True, True, "revise"),
        (1.0, False, True, "revise"),
        (1.0, True, True, "revise"),
        (AT, False, True, "keep"),
        (AT, True, True, "drop"),
        (BELOW, False, True, "keep"),
        (BELOW, True, True, "drop"),
        (0.0, False, True, "keep"),
        (0.0, True, True, "drop"),
        (ABOVE, False, False, "keep"),
        (ABOVE, True, False, "drop"),
        (AT, False, False, "keep"),
        (AT, True, False, "drop"),
        (None, False, True, "fail"),
        (None, True, True, "fail"),
        (None, False, False, "fail"),
        (None, True, False, "fail"),
        (math.nan, False, True, "fail"),
        (math.nan, True, True, "fail"),
    ],
)
def test_the_table_at_the_papers_eta(p, flagged, usable, action) -> None:
    assert correction(p, flagged, usable=usable) == action


@pytest.mark.parametrize(("p", "action"), [(0.51, "revise"), (0.5, "drop"), (0.49, "drop")])
def test_another_eta(p, action) -> None:
    assert correction(p, True, 0.5) == action
