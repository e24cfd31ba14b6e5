import numpy as np
import polars as pl
import pytest

from pipelines.audit.auditing import Audited
from pipelines.audit.calibration import calibrations
from stages.clean.rules import CleanRules
from stages.clear.filter.likelihood import LikelihoodFilter
from stages.clear.judge import ExpectedClearJudge

FILTER = LikelihoodFilter(estimator="likelihood", model="judge")
JUDGE = ExpectedClearJudge(judge="expected", model="judge")


def rows(*known: tuple[str, bool, str, float | None]) -> pl.DataFrame:
    schema = {"id": pl.String, "bad": pl.Boolean, "verdict": pl.String, "value": pl.Float64}
    return pl.DataFrame(known, schema=schema, orient="row")


CLEAN = (("a", False, "keep", 0.75), ("b", False, "drop", 0.25))


def test_clean_rows_count_once_over_all_kinds_and_failed_ones_not_at_all() -> None:
    audited = [
        Audited(CleanRules(), "echo", rows(*CLEAN, ("c", True, "keep", None))),
        Audited(FILTER, "echo", rows(*CLEAN, ("c", True, "drop", 0.25), ("d", True, "fail", None))),
        Audited(FILTER, "number", rows(*CLEAN, ("e", True, "keep", 0.75))),
    ]

    (found,) = calibrations(audited, seed=0)

    # Of two rows at 0.25 and of two at 0.75 one each is clean.
    assert (found.stage, found.before.rows, found.before.true) == ("clear.filter", 4, 2)
    assert found.before.error == 0.25
    assert found.after is None  # too few
    assert found.rows.rows() == [
        ("a", True, None),
        ("b", True, None),
        ("c", False, None),
        ("e", False, None),
    ]


def test_where_much_is_bad_a_high_score_promises_a_bad_row() -> None:
    (found,) = calibrations([Audited(JUDGE, "echo", rows(*CLEAN, ("c", True, "keep", 1.0)))], 0)

    assert found.rows["label"].to_list() == [False, False, True]


def test_with_labels_enough_the_score_becomes_a_probability() -> None:
    rng = np.random.default_rng(1)
    values = np.concatenate([rng.normal(3, 1, 300), rng.normal(1, 1, 300)])
    known = rows(*((str(n), n >= 300, "keep", float(one)) for n, one in enumerate(values)))

    (found,) = calibrations([Audited(FILTER, "echo", known)], seed=0)

    assert found.before.error is None  # values from -2 to 6 are no probabilities
    assert found.after is not None
    assert found.after.error == pytest.approx(0.0, abs=0.06)
    # Of two normal distributions of width 1: 1 / (1 + exp(-2 (value - 2))).
    expected = 1 / (1 + np.exp(-2 * (values - 2)))
    assert np.abs(found.rows["calibrated"].to_numpy() - expected).max() < 0.1
