"""What an audit says in plain words about each kind of bad row."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import polars as pl

from pipelines.audit.auditing import Audited
from pipelines.audit.figures import Catch, Estimate, Seen, catch, written
from pipelines.audit.planting import Kind
from schemas.ids import digest

# The line of all stages together: a row counts as dropped when any stage drops or flags it.
WHOLE: Final = "whole recipe"
# Below these a kind counts as not caught.
LEAST_AUROC: Final = 0.7
LEAST_RECALL: Final = 0.2
# From here on it counts as caught, not only partly.
MOST: Final = 0.8


@dataclass(frozen=True)
class Figure:
    """One line of the table.

    failed: rows that have failed and are not in `catch`. failed_clean: the clean ones of them.
    """

    stage: str
    kind: Kind
    failed: int
    catch: Catch
    failed_clean: int = 0

    @property
    def catches(self) -> bool:
        """Whether the stage drops a fair part of the kind, and more of it than of clean rows.

        Not where the recall is below 0.2 or where the upper bound of the AUROC is below 0.7: a
        score that ranks bad rows like clean ones drops some of them at any threshold.
        """
        found = self.catch
        if found.recall.value is None or found.recall.low is None:
            return False
        if found.auroc is not None and (found.auroc.high or 0.0) < LEAST_AUROC:
            return False
        lost = found.clean_lost.value or 0.0
        return found.recall.value >= LEAST_RECALL and found.recall.low > lost


@dataclass(frozen=True)
class Finding:
    """Whether the recipe catches a kind, in a sentence or two."""

    kind: Kind
    caught: bool
    text: str


def figures(
    audited: Sequence[Audited], kinds: Sequence[Kind], seed: int, precision: float
) -> list[Figure]:
    """A line for each stage and kind, and for each kind one of all stages together."""
    found = []
    for one in audited:
        stage = one.stage
        found.append(_figure(stage.label, one.kind, one.rows, stage.less_is_worse, seed, precision))
    for kind in kinds:
        tables = [one.rows for one in audited if one.kind == kind]
        found.append(_figure(WHOLE, kind, _any_stage(tables), True, seed, precision))
    return found


def finding(kind: Kind, figures: Sequence[Figure]) -> Finding:
    """What all `figures` of an audit say about one kind."""
    here = [one for one in figures if one.kind == kind]
    whole = next(one.catch for one in here if one.stage == WHOLE)
    stages = [one for one in here if one.stage != WHOLE]
    if whole.recall.value is None:
        return Finding(kind, False, f"{kind}: nothing is known, all rows have failed.")
    told = (
        f"{_number(whole.recall, whole.bad)} of {whole.bad} dropped or flagged, and "
        f"{_number(whole.clean_lost, whole.clean)} of {whole.clean} clean rows"
    )
    catching = [one for one in stages if one.catches]
    if not catching:
        told += "".join(f". {_score_says(one)}" for one in stages if one.catch.auroc is not None)
        return Finding(kind, False, f"{kind} is NOT caught: {told}.")
    best = max(catching, key=lambda one: one.catch.recall.value or 0.0)
    how = "is caught" if whole.recall.value >= MOST else "is partly caught"
    by = f"{best.stage}: {_number(best.catch.recall, best.catch.bad)}"
    return Finding(kind, True, f"{kind} {how}: {told} ({by}).")


def _score_says(figure: Figure) -> str:
    auroc, threshold = figure.catch.auroc, figure.catch.threshold
    if auroc is None or auroc.value is None or auroc.high is None:
        return ""
    if auroc.high < 0.5:
        return f"{figure.stage} scores them better than clean rows (AUROC {auroc.value:.2f})"
    if auroc.high < LEAST_AUROC:
        return (
            f"The score of {figure.stage} does not tell them from clean rows "
            f"(AUROC {auroc.value:.2f}, at most {auroc.high:.2f})"
        )
    if auroc.value < LEAST_AUROC:
        return (
            f"The score of {figure.stage} hardly tells them from clean rows "
            f"(AUROC {auroc.value:.2f})"
        )
    tells = f"The score of {figure.stage} tells them from clean rows (AUROC {auroc.value:.2f})"
    if threshold is None or threshold.recall < LEAST_RECALL:
        return f"{tells}, but no threshold catches many with the wanted precision"
    return (
        f"{tells}: a threshold of {written(threshold.value)} would drop {threshold.recall:.0%} "
        f"of them and {threshold.clean_lost:.1%} of the clean rows"
    )


def _number(share: Estimate, rows: int) -> int:
    return round((share.value or 0.0) * rows)


def _figure(
    label: str,
    kind: Kind,
    rows: pl.DataFrame,
    less_is_worse: bool,
    seed: int,
    precision: float,
) -> Figure:
    sound = rows.filter(pl.col("verdict") != "fail")
    rng = np.random.default_rng(list(digest("resamples", seed, label, kind)))
    clean, bad = (
        _seen(sound.filter(pl.col("bad") == is_bad), less_is_worse) for is_bad in (False, True)
    )
    found = catch(clean, bad, rng, precision)
    if not less_is_worse and found.threshold is not None:  # back to the score's own sign
        found = replace(found, threshold=replace(found.threshold, value=0 - found.threshold.value))
    failed = rows.filter(pl.col("verdict") == "fail")
    return Figure(label, kind, failed.height, found, failed.filter(~pl.col("bad")).height)


def _seen(rows: pl.DataFrame, less_is_worse: bool) -> Seen:
    values = rows["value"].drop_nulls().to_numpy()
    return Seen((rows["verdict"] == "drop").to_numpy(), values if less_is_worse else -values)


def _any_stage(tables: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """One verdict for each row: failed anywhere, else dropped anywhere, else kept."""
    verdicts = pl.concat([table.select("id", "bad", "verdict") for table in tables])
    return (
        verdicts.group_by("id", "bad", maintain_order=True)
        .agg(
            verdict=pl.when((pl.col("verdict") == "fail").any())
            .then(pl.lit("fail"))
            .when((pl.col("verdict") == "drop").any())
            .then(pl.lit("drop"))
            .otherwise(pl.lit("keep")),
        )
        .with_columns(value=pl.lit(None, pl.Float64))
    )
