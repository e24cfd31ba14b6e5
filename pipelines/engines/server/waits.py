"""How long to wait before a request is sent once more."""

import random
from typing import Any

import tenacity

from pipelines.engines.server.faults import Fault

_FIRST_WAIT_S = 0.5
_LONGEST_WAIT_S = 60.0


def last_outcome(state: tenacity.RetryCallState) -> Any:
    assert state.outcome is not None, "a try has ended without an outcome"  # tenacity's promise
    return state.outcome.result()


def wait_before_next(state: tenacity.RetryCallState) -> float:
    """Doubling from 0.5 s to 60 s, half of it by chance; no sooner than the server asks for."""
    longest = _backoff(state)
    outcome = last_outcome(state)
    asked = outcome.wait if isinstance(outcome, Fault) and outcome.wait is not None else 0.0
    # Who was sent away together does not come back together.
    return max(random.uniform(longest / 2, longest), asked * random.uniform(1.0, 1.25))


_backoff = tenacity.wait_exponential(multiplier=_FIRST_WAIT_S, max=_LONGEST_WAIT_S)
