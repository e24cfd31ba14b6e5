"""Does the confidence find answers that belong to other questions?

    python -m benchmarks.clear_dolly [--rows 400] [--sampled-rows 60] [--seed 0] [--data DIR]

Takes rows of dolly_3k.jsonl (human-written), swaps the answers of 20 % of them by a seeded
derangement, runs `clear.filter` through the pipeline with the bundled model, and prints the AUROC
of the confidence against the plant: `likelihood` on all rows, `bsdetector` (contradiction by
embedding, expected reflection, samples of 64 tokens) on a few. 0.5 is chance. Rows that the model
gave nothing usable for are failed, as in a run, and counted.
"""

import argparse
import json
import random
import sys
import tempfile
import time
from pathlib import Path
from statistics import median_low
from typing import Any

import duckdb
from sklearn.metrics import roc_auc_score

from benchmarks.yardstick import print_yardstick
from pipelines.recipe import parse_recipe
from pipelines.runner.curation import Curation
from pipelines.runner.views import run_views
from pipelines.store.workspace import Workspace

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
SWAPPED = 0.2

MODELS = {
    "judge": {"kind": "transformers", "model": "smollm2-135m-instruct"},
    "embedder": {"kind": "sentence-transformers", "model": "all-minilm-l6-v2"},
}
LIKELIHOOD = {"kind": "clear.filter", "estimator": "likelihood", "model": "judge"}
BSDETECTOR = {
    "kind": "clear.filter",
    "estimator": "bsdetector",
    "model": "judge",
    "contradiction": "embedding",
    "embedder": "embedder",
    "reflection": "expected",
    "max_answer_tokens": 64,  # 10 minutes instead of an hour on 2 cores
}


def planted(source: Path, rows: int, seed: int) -> list[dict[str, Any]]:
    """`rows` records with `swapped` (bool), a fifth of them with another's answer."""
    records = [json.loads(line) for line in source.read_text(encoding="utf-8").splitlines()]
    chooser = random.Random(seed)
    chosen = chooser.sample(records, rows)
    swapped = sorted(chooser.sample(range(rows), int(rows * SWAPPED)))
    answers = [chosen[at]["output"] for at in swapped]
    for record in chosen:
        record["swapped"] = False
    # A rotation of a random order moves every answer: a derangement, if no two answers are equal.
    for at, answer in zip(swapped, answers[1:] + answers[:1], strict=True):
        chosen[at] = {**chosen[at], "output": answer, "swapped": True}
    return chosen


def confidence(records: list[dict[str, Any]], stage: dict[str, Any], seed: int) -> dict[str, Any]:
    """AUROC and what it took, of one stage over these records."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        lines = "".join(json.dumps(record) + "\n" for record in records)
        (folder / "rows.jsonl").write_text(lines, encoding="utf-8")
        recipe = parse_recipe(
            {
                "name": "clear-dolly",
                "source": {"path": str(folder / "rows.jsonl")},
                "models": MODELS,
                "stages": [stage],
                "seed": seed,
            }
        )
        curation = Curation(recipe, Workspace(folder / "workspace"))
        start = time.perf_counter()
        curation.begin()
        for planned in curation.plan.stages:
            curation.run_stage(planned)
        outcome = curation.finish()
        seconds = time.perf_counter() - start
        with duckdb.connect() as database:
            for view in run_views(curation.folder):
                database.execute(view)
            scored = database.execute(
                "SELECT json_extract(r.meta, '$.swapped')::BOOLEAN, s.confidence, s.error "
                "FROM rows r JOIN scores_clear_filter s USING (id) ORDER BY r.place"
            ).fetchall()
    good = [(swap, value) for swap, value, error in scored if error is None]
    both = len({swap for swap, _ in good}) == 2
    kept, values = [not swap for swap, _ in good], [value for _, value in good]
    return {
        "auroc": roc_auc_score(kept, values) if both else float("nan"),
        "rules": {
            name: (_share(good, True, threshold), _share(good, False, threshold))
            for name, threshold in (("above 0", 0.0), ("above median", median_low(values or [0])))
        },
        "rows": len(good),
        "failed": len(scored) - len(good),
        "calls": outcome.model_calls,
        "seconds": seconds,
    }


def _share(scored: list[tuple[bool, float]], swapped: bool, threshold: float) -> float:
    """Share of the swapped (or of the other) rows that are at the threshold or below."""
    values = [value for swap, value in scored if swap == swapped]
    return sum(value <= threshold for value in values) / len(values) if values else float("nan")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rows", type=int, default=400)
    parser.add_argument("--sampled-rows", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--data", type=Path, default=DATA)
    arguments = parser.parse_args()
    source = arguments.data / "instruct" / "dolly_3k.jsonl"
    if not source.exists():
        sys.exit(f"{source} is not there: give the folder of the data sets with --data")
    print_yardstick()
    for stage, rows in ((LIKELIHOOD, arguments.rows), (BSDETECTOR, arguments.sampled_rows)):
        if not rows:
            continue
        records = planted(source, rows, arguments.seed)
        found = confidence(records, stage, arguments.seed)
        print(
            f"{stage['estimator']:<11} {rows} rows, {int(rows * SWAPPED)} swapped: "
            f"AUROC {found['auroc']:.3f}, {found['failed']} failed, "
            f"{found['calls']} model calls, {found['seconds']:.0f} s"
        )
        for name, (caught, lost) in found["rules"].items():
            print(f"    keep {name}: {caught:.0%} of the swapped rows go, {lost:.1%} of the others")


if __name__ == "__main__":
    main()
