"""What a stage catches of one kind of bad row, with intervals.

    clean, bad    values of the rows as they are and of the planted ones; the less, the worse
    dropped       whether the stage drops the row

Intervals are percentile bootstraps: 1,000 seeded resamples of the clean and of the bad rows, each
for itself, and the middle 95 %.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from itertools import count
from typing import Final

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
Counts = npt.NDArray[np.int64]

RESAMPLES: Final = 1_000
LEVEL: Final = 0.95
# Numbers of one block of resamples: 64 MB.
_BLOCK: Final = 8_000_000


@dataclass(frozen=True)
class Estimate:
    """A figure (0-1) and its interval. None: nothing to divide by."""

    value: float | None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Threshold:
    """Where a wanted precision would be reached: rows on the bad side of `value`, and those at it,
    are dropped.

    precision, recall, clean_lost: shares (0-1) of these very rows.
    """

    value: float
    precision: float
    recall: float
    clean_lost: float


@dataclass(frozen=True)
class Catch:
    """What a stage makes of clean and bad rows.

    auroc       probability that a bad row has a worse score than a clean one (a tie counts half);
                None for a stage without a score of quality
    recall      share of the bad rows that are dropped
    precision   share of bad rows among the dropped
    clean_lost  share of the clean rows that are dropped
    """

    clean: int
    bad: int
    auroc: Estimate | None
    recall: Estimate
    precision: Estimate
    clean_lost: Estimate
    threshold: Threshold | None = None


@dataclass(frozen=True)
class Seen:
    """Rows of one sort (clean, or bad) as a stage saw them: which it drops, and their values.

    values: empty for a stage without a score of quality.
    """

    dropped: Mask
    values: Values


def catch(clean: Seen, bad: Seen, rng: np.random.Generator, wanted_precision: float) -> Catch:
    """All figures of one stage and kind."""
    if not len(clean.dropped) or not len(bad.dropped):  # all of them have failed
        none = Estimate(None)
        return Catch(len(clean.dropped), len(bad.dropped), None, none, none, none)
    scored = bool(len(clean.values))
    lost: list[Values] = []
    caught: list[Values] = []
    precise: list[Values] = []
    ranked: list[Values] = []
    for weights_clean, weights_bad in _resamples(len(clean.dropped), len(bad.dropped), rng):
        wrong, right = weights_clean @ clean.dropped, weights_bad @ bad.dropped
        lost.append(wrong / len(clean.dropped))
        caught.append(right / len(bad.dropped))
        gone = wrong + right
        precise.append(right[gone > 0] / gone[gone > 0])
        if scored:
            ranked.append(_aurocs(clean.values, bad.values, weights_clean, weights_bad))
    wrong_now, right_now = int(clean.dropped.sum()), int(bad.dropped.sum())
    gone_now = wrong_now + right_now
    return Catch(
        clean=len(clean.dropped),
        bad=len(bad.dropped),
        auroc=_estimate(auroc(clean.values, bad.values), ranked) if scored else None,
        recall=_estimate(right_now / len(bad.dropped), caught),
        precision=_estimate(right_now / gone_now, precise) if gone_now else Estimate(None),
        clean_lost=_estimate(wrong_now / len(clean.dropped), lost),
        threshold=threshold_for(clean.values, bad.values, wanted_precision) if scored else None,
    )


def auroc(clean: Values, bad: Values) -> float:
    """Probability that a bad row has less than a clean one, a tie counting half."""
    ones = np.ones((1, len(clean)), np.int64), np.ones((1, len(bad)), np.int64)
    return float(_aurocs(clean, bad, *ones)[0])


def threshold_for(clean: Values, bad: Values, precision: float) -> Threshold | None:
    """Where most bad rows are caught with at least that precision; None where nowhere.

    The threshold is the shortest number that drops these rows and no others; where all rows are
    dropped, the highest of them.
    """
    cuts = np.unique(np.concatenate([clean, bad]))
    caught = np.searchsorted(np.sort(bad), cuts, side="right")
    lost = np.searchsorted(np.sort(clean), cuts, side="right")
    good = np.flatnonzero((caught >= precision * (caught + lost)) & (caught > 0))
    if not good.size:
        return None
    # The most caught; among equals the first, which loses the fewest.
    best = int(good[np.argmax(caught[good])])
    last = float(cuts[best])
    return Threshold(
        value=shortest(last, float(cuts[best + 1])) if best + 1 < len(cuts) else last,
        precision=float(caught[best] / (caught[best] + lost[best])),
        recall=float(caught[best] / len(bad)),
        clean_lost=float(lost[best] / len(clean)),
    )


def shortest(low: float, high: float) -> float:
    """The number in [low, high) with the fewest decimals; the most central of several."""
    middle = low + (high - low) / 2
    found = (
        one
        for decimals in count()
        # `low` too: halfway between both ends, `middle` may be rounded to `high`.
        for one in (round(middle, decimals), round(low, decimals))
        if low <= one < high
    )
    return next(found) + 0.0  # no -0.0; `low` is rounded to itself at last


def written(value: float) -> str:
    """All digits of a number, without an exponent, which YAML would read as a text: 0.00001."""
    return f"{Decimal(repr(value)).normalize():f}"


def _aurocs(clean: Values, bad: Values, weights_clean: Counts, weights_bad: Counts) -> Values:
    """One AUROC for each pair of lines of the weights, which say how often each row counts."""
    order = np.argsort(clean, kind="stable")
    below = np.zeros((len(weights_clean), len(clean) + 1), np.int64)
    np.cumsum(weights_clean[:, order], axis=1, out=below[:, 1:])
    total = below[:, -1:]
    less = below[:, np.searchsorted(clean[order], bad, side="left")]
    less_or_same = below[:, np.searchsorted(clean[order], bad, side="right")]
    # Twice the wins of each bad row: whole numbers, so that the sum is exact.
    wins = 2 * (total - less_or_same) + (less_or_same - less)
    pairs = 2.0 * total[:, 0] * weights_bad.sum(axis=1)
    shares: Values = (wins * weights_bad).sum(axis=1) / pairs
    return shares


def _resamples(clean: int, bad: int, rng: np.random.Generator) -> Iterator[tuple[Counts, Counts]]:
    """How often each row is drawn: (resamples, clean) and (resamples, bad), block by block."""
    size = max(1, min(RESAMPLES, _BLOCK // (clean + bad)))
    for start in range(0, RESAMPLES, size):
        lines = min(size, RESAMPLES - start)
        yield (
            rng.multinomial(clean, np.full(clean, 1 / clean), size=lines),
            rng.multinomial(bad, np.full(bad, 1 / bad), size=lines),
        )


def _estimate(value: float, samples: list[Values]) -> Estimate:
    drawn = np.concatenate(samples)
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(drawn, [tail, 1 - tail])
    return Estimate(value, float(low), float(high))
