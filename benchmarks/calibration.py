"""What is agreement with other models worth as a probability, before and after calibration?

    python -m benchmarks.calibration [--data DIR] [--svg FILE]

Takes the rows of benchmarks.clear_agreement, with `is_correct` as their true label, and curates
them through the pipeline: `clear.filter` with `estimator: agreement`, which does not read the
label, then `clear.calibrate` by isotonic regression and by Platt scaling. Prints expected
calibration error (15 bins of equal mass) and Brier score of the score and, out of fold, of both.

Four rows share a question, so that out of fold a row's calibrator may have seen its question. As a
check of that, and to see how many labels are needed, both methods are fitted on the rows of some
questions and measured on those of half of the questions, which are others: means of 20 draws.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from benchmarks.clear_agreement import DATA, MODELS, STAGE, pooled
from pipelines.recipe import parse_recipe
from pipelines.report.calibration import Calibration, calibration
from pipelines.report.reliability_svg import reliability_svg
from pipelines.runner.curation import Curation
from pipelines.store.runs import RunFolder
from pipelines.store.workspace import Workspace
from stages.clear.calibrators import FITS, Method
from stages.clear.reliability import Reliability, reliability

LABELS = (60, 100, 300, 1_000, 2_600)
DRAWS = 20


def curated(rows: Sequence[dict[str, Any]], correct: Mapping[str, bool], folder: Path) -> RunFolder:
    """A finished run: the confidences, then each method in a stage of its own name."""
    lines = [json.dumps({**row, "is_correct": correct[row["id"]]}) + "\n" for row in rows]
    (folder / "rows.jsonl").write_text("".join(lines), encoding="utf-8")
    by = {"kind": "clear.calibrate", "labels": "meta.is_correct"}
    recipe = parse_recipe(
        {
            "name": "calibration",
            "source": {"path": str(folder / "rows.jsonl"), "id": "id"},
            "stages": [
                {**STAGE, "on_drop": "flag"},
                *({**by, "name": method, "method": method} for method in FITS),
            ],
        }
    )
    curation = Curation(recipe, Workspace(folder / "workspace"))
    curation.begin()
    for planned in curation.plan.stages:
        curation.run_stage(planned)
    curation.finish()
    return curation.folder


def known_rows(folder: RunFolder) -> pl.DataFrame:
    """The question (its number), score and label of each row that has a score."""
    return pl.read_parquet(folder.verdicts_path(2, next(iter(FITS)))).select(
        question=pl.col("id").str.split(":").list.first().cast(pl.Int64),
        score=pl.col("evidence").cast(pl.String).str.json_path_match("$.value").cast(pl.Float64),
        label="label",
    )


def shown(name: str, figures: Reliability) -> None:
    print(
        f"    {name:<9} calibration error {figures.error:.4f}, Brier score {figures.brier:.4f}, "
        f"{len(figures.bins)} bins"
    )


def picture(found: Mapping[Method, Calibration]) -> str:
    panels: dict[str, Reliability] = {"agreement": next(iter(found.values())).before}
    panels.update((method, one.after) for method, one in found.items())
    return reliability_svg("clear.filter.confidence against is_correct, out of fold", panels)


def held_out(folder: RunFolder) -> None:
    """Fits on the rows of some questions, measures on those of half of the questions, others."""
    known = known_rows(folder)
    questions, scores, labels = (known[name].to_numpy() for name in known.columns)
    names = np.unique(questions)
    for count in LABELS:
        figures: dict[str, list[tuple[float | None, float | None]]] = {name: [] for name in FITS}
        for draw in range(DRAWS):
            order = np.random.default_rng(draw).permutation(names)
            fitting = np.isin(questions, order[: count // len(MODELS)])
            asked = np.isin(questions, order[len(order) // 2 :])
            for method, fit in FITS.items():
                values = fit(scores[fitting], labels[fitting])(scores[asked])
                found = reliability(values, labels[asked])
                figures[method].append((found.error, found.brier))
        means = {name: np.mean(np.array(drawn, float), axis=0) for name, drawn in figures.items()}
        told = [f"{name} {error:.3f} ({brier:.4f})" for name, (error, brier) in means.items()]
        print(f"    {count:>5,} labels  {', '.join(told)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--svg", type=Path, help="Write the curves there.")
    options = parser.parse_args()
    source = options.data / "instruct" / "gsm8k_model_solutions.jsonl"
    if not source.exists():
        sys.exit(f"{source} is not there: give the folder of the data sets with --data")
    rows, correct = pooled(source)
    with tempfile.TemporaryDirectory() as name:
        start = time.perf_counter()
        folder = curated(rows, correct, Path(name))
        seconds = time.perf_counter() - start
        found = {method: calibration(folder, method) for method in FITS}
        before = next(iter(found.values())).before
        print(f"out of fold: {before.rows:,} rows, {before.true:,} correct, {seconds:.0f} s")
        shown("score", before)
        for method, one in found.items():
            shown(method, one.after)
        print(f"on other questions, calibration error (Brier score), means of {DRAWS} draws:")
        held_out(folder)
    if options.svg is not None:
        options.svg.write_text(picture(found), encoding="utf-8")


if __name__ == "__main__":
    main()
