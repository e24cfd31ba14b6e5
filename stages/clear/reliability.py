"""Is a score of 0.8 right eight times in ten? Reliability curve, calibration error, Brier score.

Pure functions of scores and true labels; who has both can ask.
"""

from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

Scores = npt.NDArray[np.float64]
Labels = npt.NDArray[np.bool_]

BINS: Final = 15


@dataclass(frozen=True)
class Bin:
    """Rows of neighbouring scores: the least, the greatest and the mean score, and the share of
    labels, 0-1, that are true.
    """

    rows: int
    lowest: float
    highest: float
    mean: float
    true: float


@dataclass(frozen=True)
class Reliability:
    """How far scores are from the shares of true labels that they promise.

    error   expected calibration error, 0-1: the mean over rows of |mean - true| of their bin
    brier   mean squared distance of score and label, 0-1, lower is better; a constant score has a
            calibration error of 0, and here p (1 - p)
    bins    by rising score

    Both figures are null where a score is below 0 or above 1, which is no probability.
    """

    rows: int
    true: int
    error: float | None
    brier: float | None
    bins: tuple[Bin, ...]

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "bins": [asdict(one) for one in self.bins]}


def reliability(scores: Scores, labels: Labels, bins: int = BINS) -> Reliability:
    """The reliability of finite scores, in at most `bins` bins of equally many rows.

    Equal scores share a bin, so that the order of the rows does not matter: where there are few
    different scores, bins are fewer and of different sizes. Raises ValueError.

    Source: Naeini et al. 2015, https://ojs.aaai.org/index.php/AAAI/article/view/9602 (the error);
    bins of equal mass as in Nixon et al. 2019, https://arxiv.org/abs/1904.01685.
    """
    if scores.shape != labels.shape or scores.ndim != 1:
        raise ValueError(f"{scores.shape} scores and {labels.shape} labels do not go together")
    if not len(scores) or not np.isfinite(scores).all() or bins < 1:
        raise ValueError("reliability needs at least one row, finite scores and a bin")
    found = _bins(scores, labels, bins)
    whole = bool(scores.min() >= 0 and scores.max() <= 1)
    distance = sum(one.rows * abs(one.mean - one.true) for one in found) / len(scores)
    return Reliability(
        rows=len(scores),
        true=int(np.count_nonzero(labels)),
        error=distance if whole else None,
        brier=float(np.mean((scores - labels) ** 2)) if whole else None,
        bins=found,
    )


def _bins(scores: Scores, labels: Labels, bins: int) -> tuple[Bin, ...]:
    order = np.argsort(scores, kind="stable")
    ranked, right = scores[order], labels[order]
    lower = np.searchsorted(ranked, ranked)  # how many scores are less: equals have it in common
    numbers = lower * bins // len(ranked)
    starts = np.flatnonzero(np.diff(numbers, prepend=-1))
    ends = [*starts[1:], len(ranked)]
    return tuple(
        Bin(
            rows=int(end - start),
            lowest=float(ranked[start]),
            highest=float(ranked[end - 1]),
            mean=float(ranked[start:end].mean()),
            true=float(right[start:end].mean()),
        )
        for start, end in zip(starts, ends, strict=True)
    )
