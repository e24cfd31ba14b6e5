"""Auto-Correct's decision, as a table.

| p > eta | c > gamma | action |
|---|---|---|
| yes | any | revise |
| no | yes | keep |
| no | no | drop |
| missing | any | fail |

Source: Chen & Mueller 2024, https://arxiv.org/abs/2403.12776.
"""

import math
from typing import Literal

Action = Literal["revise", "keep", "drop", "fail"]


def correction(p: float | None, flagged: bool, eta: float = 0.8, *, usable: bool = True) -> Action:
    """What becomes of a row.

    p        confidence, 0-1, that the proposed answer is better; None (or no number) for unknown
    flagged  whether the confidence c in the row's own answer is gamma or less
    eta      p must be greater
    usable   whether the proposed answer may stand in the data at all; if not, it is as if p were 0
    """
    if p is None or math.isnan(p):
        return "fail"
    if p > eta and usable:
        return "revise"
    return "drop" if flagged else "keep"
