"""From scores and labels to probabilities: isotonic regression and Platt scaling, out of fold.

scikit-learn, which takes a second to import, is imported when something is fitted.
"""

from collections.abc import Callable, Mapping
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

from stages.clear.reliability import Labels, Scores

Method = Literal["isotonic", "platt"]
Calibrator = Callable[[Scores], Scores]
Fit = Callable[[Scores, Labels], Calibrator]


def isotonic(scores: Scores, labels: Labels) -> Calibrator:
    """The rising step function next to the labels, straight between the steps.

    A score beyond those that were fitted gets the value of the nearest. Needs no form, but some
    500 labels to be better than `platt`.

    Source: Zadrozny & Elkan 2002, https://doi.org/10.1145/775047.775151.
    """
    from sklearn.isotonic import IsotonicRegression

    fitted = IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip")
    fitted.fit(scores, labels.astype(np.float64))
    return lambda given: np.asarray(fitted.predict(given), np.float64)


def platt(scores: Scores, labels: Labels) -> Calibrator:
    """1 / (1 + exp(-(a s + b))) for a score s, by maximum likelihood. A few labels do.

    The targets are Platt's, (n + 1) / (n + 2) for n true labels and 1 / (m + 2) for m false ones,
    so that the fit is finite where a score tells them apart without a mistake.

    Source: Platt 1999, "Probabilistic Outputs for Support Vector Machines".
    """
    from sklearn.linear_model import LogisticRegression

    true = np.count_nonzero(labels)
    target = np.where(labels, (true + 1) / (true + 2), 1 / (len(labels) - true + 2))
    middle = float(scores.mean())
    # Not the deviation alone: that of equal scores is not 0 but about 1e-17.
    width = float(scores.std()) if np.ptp(scores) else 1.0

    def column(given: Scores) -> npt.NDArray[np.float64]:
        return ((given - middle) / width)[:, None]

    # A target between 0 and 1 is one row of each label, with the target as its weight.
    fitted = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000)
    fitted.fit(
        np.concatenate([column(scores)] * 2),
        np.repeat([True, False], len(scores)),
        sample_weight=np.concatenate([target, 1 - target]),
    )
    return lambda given: np.asarray(fitted.predict_proba(column(given))[:, 1], np.float64)


FITS: Final[Mapping[Method, Fit]] = {"isotonic": isotonic, "platt": platt}


def out_of_fold(fit: Fit, scores: Scores, labels: Labels, folds: int, seed: int) -> Scores:
    """Each row's probability by a calibrator that was fitted on the other folds alone.

    Needs two rows of each label, so that no calibrator lacks one of them.
    """
    numbers = fold_numbers(labels, folds, seed)
    found = np.empty(len(scores))
    for number in np.unique(numbers):
        held = numbers == number
        found[held] = fit(scores[~held], labels[~held])(scores[held])
    return found


def fold_numbers(labels: Labels, folds: int, seed: int) -> npt.NDArray[np.int64]:
    """A fold for each row, seeded; each label is spread evenly, to a row, over the folds."""
    random = np.random.default_rng(seed)
    numbers = np.empty(len(labels), np.int64)
    for label in (True, False):
        places = np.flatnonzero(labels == label)
        numbers[random.permutation(places)] = np.arange(len(places)) % folds
    return numbers
