import polars as pl
import pytest

from pipelines.audit.auditing import Audited
from pipelines.audit.figures import Catch, Estimate, Threshold
from pipelines.audit.findings import WHOLE, Figure, figures, finding
from stages.clean.rules import CleanRules
from stages.clear.filter.likelihood import LikelihoodFilter
from stages.clear.judge import ExpectedClearJudge

FILTER = LikelihoodFilter(estimator="likelihood", model="judge")
JUDGE = ExpectedClearJudge(judge="expected", model="judge")
RULES = CleanRules()
NONE = Estimate(0.0, 0.0, 0.0)


def table(
    clean: list[tuple[str, float | None]], bad: list[tuple[str, float | None]]
) -> pl.DataFrame:
    """(verdict, value) of each row."""
    rows = [
        (f"{n}", is_bad, *one)
        for is_bad, part in enumerate((clean, bad))
        for n, one in enumerate(part)
    ]
    return pl.DataFrame(
        [(f"{bad}-{n}", bool(bad), verdict, value) for n, bad, verdict, value in rows],
        schema={"id": pl.String, "bad": pl.Boolean, "verdict": pl.String, "value": pl.Float64},
        orient="row",
    )


def caught(
    stage: str,
    recall: Estimate,
    lost: Estimate = NONE,
    auroc: Estimate | None = None,
    threshold: Threshold | None = None,
) -> Figure:
    return Figure(stage, "swapped", 0, Catch(200, 30, auroc, recall, NONE, lost, threshold))


@pytest.mark.parametrize(
    ("figure", "catches"),
    [
        (caught("s", Estimate(0.3, 0.15, 0.45)), True),
        (caught("s", Estimate(0.19, 0.05, 0.3)), False),
        (caught("s", Estimate(0.5, 0.3, 0.7), Estimate(0.31, 0.2, 0.4)), False),
        (caught("s", Estimate(0.5, 0.3, 0.7), auroc=Estimate(0.69, 0.6, 0.75)), True),
        (caught("s", Estimate(0.5, 0.3, 0.7), auroc=Estimate(0.6, 0.5, 0.69)), False),
        (caught("s", Estimate(None)), False),
    ],
    ids=["enough", "too few", "no more than of clean rows", "a score", "a blind score", "failed"],
)
def test_when_a_stage_catches_a_kind(figure: Figure, catches: bool) -> None:
    assert figure.catches == catches


TEN = Estimate(1 / 3, 0.17, 0.5)
TWO = Estimate(0.01, 0.0, 0.02)


@pytest.mark.parametrize(
    ("figure", "caught", "text"),
    [
        (
            caught("clear.filter", Estimate(0.9, 0.8, 1.0), TWO),
            True,
            "swapped is caught: 27 of 30 dropped or flagged, and 2 of 200 clean rows "
            "(clear.filter: 27).",
        ),
        (
            caught("clear.filter", TEN, TWO),
            True,
            "swapped is partly caught: 10 of 30 dropped or flagged, and 2 of 200 clean rows "
            "(clear.filter: 10).",
        ),
        (
            caught("clear.filter", NONE, TWO, Estimate(0.2, 0.1, 0.3)),
            False,
            "swapped is NOT caught: 0 of 30 dropped or flagged, and 2 of 200 clean rows. "
            "clear.filter scores them better than clean rows (AUROC 0.20).",
        ),
        (
            caught("clear.filter", NONE, TWO, Estimate(0.5, 0.4, 0.6)),
            False,
            "swapped is NOT caught: 0 of 30 dropped or flagged, and 2 of 200 clean rows. "
            "The score of clear.filter does not tell them from clean rows (AUROC 0.50, at most "
            "0.60).",
        ),
        (
            caught("clear.filter", NONE, TWO, Estimate(0.8, 0.7, 0.9)),
            False,
            "swapped is NOT caught: 0 of 30 dropped or flagged, and 2 of 200 clean rows. "
            "The score of clear.filter tells them from clean rows (AUROC 0.80), but no threshold "
            "catches many with the wanted precision.",
        ),
        (
            caught("clear.filter", NONE, TWO, Estimate(0.6, 0.5, 0.71), Threshold(0, 1, 0.9, 0)),
            False,
            "swapped is NOT caught: 0 of 30 dropped or flagged, and 2 of 200 clean rows. "
            "The score of clear.filter hardly tells them from clean rows (AUROC 0.60).",
        ),
        (
            caught("clear.filter", NONE, TWO, Estimate(0.8, 0.7, 0.9), Threshold(0, 1, 0.1, 0)),
            False,
            "swapped is NOT caught: 0 of 30 dropped or flagged, and 2 of 200 clean rows. "
            "The score of clear.filter tells them from clean rows (AUROC 0.80), but no threshold "
            "catches many with the wanted precision.",
        ),
        (
            caught(
                "clear.filter",
                NONE,
                TWO,
                Estimate(0.95, 0.9, 1.0),
                Threshold(0.1234, 0.9, 0.5, 0.005),
            ),
            False,
            "swapped is NOT caught: 0 of 30 dropped or flagged, and 2 of 200 clean rows. "
            "The score of clear.filter tells them from clean rows (AUROC 0.95): a threshold of "
            "0.1234 would drop 50% of them and 0.5% of the clean rows.",
        ),
    ],
)
def test_a_kind_in_words(figure: Figure, caught: bool, text: str) -> None:
    whole = Figure(WHOLE, "swapped", 0, figure.catch)

    found = finding("swapped", [figure, whole])

    assert (found.caught, found.text) == (caught, text)


def test_the_whole_recipe_drops_what_any_stage_drops_and_fails_what_fails_in_any() -> None:
    rules = table([("keep", None)] * 3, [("drop", None), ("keep", None), ("fail", None)])
    scored = table(
        [("drop", 0.1), ("keep", 0.7), ("keep", 0.9)],
        [("keep", 0.8), ("drop", 0.2), ("fail", None)],
    )
    audited = [Audited(RULES, "echo", rules), Audited(FILTER, "echo", scored)]

    lines = figures(audited, ["echo"], seed=0, precision=0.9)

    assert [
        (one.stage, one.failed, one.catch.clean, one.catch.bad, one.catch.recall.value)
        for one in lines
    ] == [("clean.rules", 1, 3, 2, 0.5), ("clear.filter", 1, 3, 2, 0.5), (WHOLE, 1, 3, 2, 1.0)]
    assert [one.failed_clean for one in lines] == [0, 0, 0]
    assert [one.catch.clean_lost.value for one in lines] == [0.0, 1 / 3, 1 / 3]
    # Of the pairs of bad (0.8, 0.2) and clean (0.1, 0.7, 0.9): 1 + 2 of 6.
    assert [one.catch.auroc and one.catch.auroc.value for one in lines] == [None, 0.5, None]


def test_lines_do_not_depend_on_one_another() -> None:
    rows = table([("drop", 0.1), *[("keep", 0.5)] * 9], [("drop", 0.2), ("keep", 0.6)])
    both = [Audited(FILTER, "echo", rows), Audited(FILTER, "number", rows)]

    together = figures(both, ["echo", "number"], seed=4, precision=0.9)
    alone = figures(both[1:], ["number"], seed=4, precision=0.9)

    assert [one for one in together if one.kind == "number"] == alone


def test_where_much_is_bad_the_threshold_keeps_the_sign_of_the_score() -> None:
    rows = table([("keep", 0.2), ("keep", 0.4)], [("keep", 0.6), ("keep", 0.8)])

    (line, _) = figures([Audited(JUDGE, "echo", rows)], ["echo"], seed=0, precision=0.9)

    assert line.catch.auroc == Estimate(1.0, 1.0, 1.0)
    # A row at the threshold is one of the bad ones, and no clean one: more than 0.4, at most 0.6.
    assert line.catch.threshold == Threshold(0.5, 1.0, 1.0, 0.0)
