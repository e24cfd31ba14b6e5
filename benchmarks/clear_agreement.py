"""Does agreement with other models' answers tell right solutions from wrong ones? No model at all.

    python -m benchmarks.clear_agreement [--data DIR]

Takes gsm8k_model_solutions.jsonl: 1,319 questions, each solved by four models. Every solution is a
row of its own with the other three models' solutions as its samples: 5,276 rows, curated through
the pipeline by `clear.filter` with `estimator: agreement`. Whether a solution is correct, and the
true answer, stay out of what the pipeline reads; the AUROC of the confidence is taken against the
former. Rows that have no answer are failed, as in a run, and counted.
"""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import duckdb
from sklearn.metrics import roc_auc_score

from pipelines.recipe import parse_recipe
from pipelines.runner.curation import Curation
from pipelines.runner.views import run_views
from pipelines.store.workspace import Workspace

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
MODELS = ("6b_finetuning", "6b_verification", "175b_finetuning", "175b_verification")
STAGE = {"kind": "clear.filter", "estimator": "agreement", "samples_from": "meta.samples"}


def pooled(source: Path) -> tuple[list[dict[str, Any]], dict[str, bool]]:
    """The rows (id, prompt, response, samples), and apart from them whether each is correct."""
    rows, correct = [], {}
    for number, line in enumerate(source.read_text(encoding="utf-8").splitlines()):
        record = json.loads(line)
        for model in MODELS:
            others = [record[other]["solution"] for other in MODELS if other != model]
            name = f"{number}:{model}"
            rows.append(
                {
                    "id": name,
                    "prompt": record["question"],
                    "response": record[model]["solution"],
                    "samples": others,
                }
            )
            correct[name] = record[model]["is_correct"]
    return rows, correct


def confidences(rows: list[dict[str, Any]]) -> list[tuple[str, float | None]]:
    """(id, confidence) of every row, None for one that is failed."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / "rows.jsonl").write_text(lines, encoding="utf-8")
        recipe = parse_recipe(
            {
                "name": "clear-agreement",
                "source": {"path": str(folder / "rows.jsonl"), "id": "id"},
                "stages": [STAGE],
            }
        )
        curation = Curation(recipe, Workspace(folder / "workspace"))
        curation.begin()
        for planned in curation.plan.stages:
            curation.run_stage(planned)
        curation.finish()
        with duckdb.connect() as database:
            for view in run_views(curation.folder):
                database.execute(view)
            return database.execute(
                "SELECT r.id, s.confidence FROM rows r JOIN scores_clear_filter s USING (id) "
                "ORDER BY r.place"
            ).fetchall()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, default=DATA)
    source = parser.parse_args().data / "instruct" / "gsm8k_model_solutions.jsonl"
    if not source.exists():
        sys.exit(f"{source} is not there: give the folder of the data sets with --data")
    rows, correct = pooled(source)
    start = time.perf_counter()
    found = confidences(rows)
    seconds = time.perf_counter() - start
    good = [(correct[name], value) for name, value in found if value is not None]
    auroc = roc_auc_score([right for right, _ in good], [value for _, value in good])
    print(
        f"agreement   {len(found):,} rows, {sum(correct.values()):,} correct: AUROC {auroc:.3f}, "
        f"{len(found) - len(good)} failed, no model call, {seconds:.0f} s"
    )
    for level in sorted({value for _, value in good}):
        at = [right for right, value in good if value == level]
        print(f"    confidence {level:.2f}: {len(at):>5,} rows, {sum(at) / len(at):.0%} correct")


if __name__ == "__main__":
    main()
