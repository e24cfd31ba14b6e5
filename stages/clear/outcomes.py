"""Results of which some are missing: a value, or the text that says why there is none."""

from collections.abc import Callable, Sequence
from typing import TypeVar

T = TypeVar("T")
U = TypeVar("U")


def for_sound(
    outcomes: Sequence[T | str], compute: Callable[[list[T]], Sequence[U | str]]
) -> list[U | str]:
    """`compute` applied to the outcomes that are values, together; a reason stays what it is.

    `compute` gives one outcome for each value, in order.
    """
    values = [outcome for outcome in outcomes if not isinstance(outcome, str)]
    computed = iter(compute(values) if values else ())
    return [outcome if isinstance(outcome, str) else next(computed) for outcome in outcomes]
