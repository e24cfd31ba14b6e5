"""What does CLEAR's whole recipe make of rows of which a fifth are wrong, and what is that worth?

    OMP_NUM_THREADS=2 python -m benchmarks.clear_correct [--rows 200] [--seeds 1] [--data DIR]

Rows of dolly_3k.jsonl with 20 % of the answers swapped (benchmarks/clear_dolly.py) go through
pipelines/recipes/clear.yaml with the bundled model: likelihood flags, a model tuned on the others
by LoRA proposes, `judge: expected` judges, and clear.correct decides. Then the model is trained for
one epoch on all rows as they are, on those that the filter leaves, on the corrected ones, and on a
random half, and its loss is measured on rows that are in none of these. Lower is better; a
difference within the spread of the seeds says nothing.

Last, `judge: sampled` judges the first --sampled rows with the same tuned model.
"""

import argparse
import json
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb

from benchmarks.clear_dolly import DATA, planted
from pipelines.engines.opening import prepare_environment
from pipelines.recipe import Recipe, load_recipe, parse_recipe
from pipelines.runner.curation import Curation
from pipelines.runner.outcome import Outcome
from pipelines.runner.views import run_views
from pipelines.store.workspace import Workspace

RECIPE = Path(__file__).resolve().parents[1] / "pipelines" / "recipes" / "clear.yaml"
FILTER, CORRECT = "clear.filter", "clear.correct"


@dataclass(frozen=True)
class Bench:
    """A folder in which everything happens. asked: the command line's options."""

    folder: Path
    asked: Any

    @property
    def workspace(self) -> Workspace:
        return Workspace(self.folder / "workspace")

    def source(self, name: str, records: Sequence[dict[str, Any]]) -> Path:
        path = self.folder / f"{name}.source.jsonl"
        lines = "".join(f"{json.dumps(record)}\n" for record in records)
        path.write_text(lines, encoding="utf-8")
        return path

    def export(self, name: str) -> Path:
        return self.folder / f"{name}.jsonl"

    def run(self, recipe: Recipe, limit: int | None = None) -> tuple[Curation, Outcome]:
        """The recipe as `winnow run` would run it, and its exports."""
        curation = Curation(recipe, self.workspace, limit)
        if not curation.begin():
            for planned in curation.plan.stages:
                curation.run_stage(planned)
            curation.finish()
        curation.export()
        return curation, curation.close("ok")

    def exported(self, name: str, records: Sequence[dict[str, Any]], stage: dict[str, Any]) -> Path:
        """These rows through one stage."""
        recipe = parse_recipe(
            {
                "name": name,
                "source": {"path": str(self.source(name, records)), "format": "alpaca"},
                "models": {"base": {"kind": "transformers", "model": self.asked.model}},
                "stages": [stage],
                "exports": [{"format": "messages", "path": str(self.export(name))}],
            }
        )
        self.run(recipe)
        return self.export(name)


def clear_recipe(bench: Bench, source: Path, *changes: str) -> Recipe:
    """The recipe that comes with winnow, on this source."""
    return load_recipe(
        RECIPE,
        [
            f"source={{path: {json.dumps(str(source))}, format: alpaca}}",
            f"models.base.model={bench.asked.model}",
            f"exports.0={{format: messages, path: {json.dumps(str(bench.export('corrected')))}}}",
            *changes,
        ],
    )


def show_stages(outcome: Outcome) -> None:
    """Seconds, calls and tokens of each stage; the tuning counts where it was first needed."""
    print(f"{'stage':18} {'seconds':>8} {'calls':>6} {'prompt':>8} {'written':>8}  verdicts")
    for stage in outcome.stages:
        effort, counts = outcome.efforts[stage.stage], stage.counts
        print(
            f"{stage.stage:18} {effort.seconds:8.0f} {effort.usage.calls:6} "
            f"{effort.usage.prompt_tokens:8,} {effort.usage.completion_tokens:8,}  "
            f"{counts.kept} kept, {counts.flagged} flagged, {counts.dropped} dropped, "
            f"{counts.failed} failed, {counts.created} created",
            flush=True,
        )
    print(f"the recipe from end to end: {outcome.seconds:.0f} s")


def show_fates(curation: Curation) -> None:
    """What became of the swapped rows, and of the others."""
    with duckdb.connect() as database:
        for view in run_views(curation.folder):
            database.execute(view)
        fates = database.execute(
            "SELECT json_extract(r.meta, '$.swapped')::BOOLEAN AS swapped, count(*), "
            "count(*) FILTER (v.verdict = 'keep'), count(*) FILTER (v.reason = 'revised'), "
            "count(*) FILTER (v.verdict = 'drop' AND v.reason <> 'revised'), "
            "count(*) FILTER (v.verdict = 'fail') "
            "FROM rows r JOIN verdicts v USING (id) "
            f"WHERE v.stage = '{CORRECT}' AND len(r.parents) = 0 GROUP BY ALL ORDER BY swapped DESC"
        ).fetchall()
        row = database.execute(
            "SELECT min(p), quantile_cont(p, 0.5), max(p) FROM scores_clear_judge"
        ).fetchone()
    for swapped, count, kept, revised, dropped, failed in fates:
        name = "swapped" if swapped else "others"
        print(
            f"  of {count} {name}: {kept} kept, {revised} revised, {dropped} dropped, "
            f"{failed} failed"
        )
    if row and row[0] is not None:
        print(
            f"  p that the candidate is better: {row[0]:.3f} to {row[2]:.3f}, median {row[1]:.3f}"
        )


def held_out_loss(bench: Bench, export: Path, held_out: Path, seed: int) -> tuple[int, float]:
    """Rows trained on and the loss after one epoch."""
    from pipelines.train.config import parse_training
    from pipelines.train.training import train

    config = parse_training(
        {
            "model": bench.asked.model,
            "table": {"path": str(export)},
            "held_out": {"path": str(held_out)},
            "output": str(export.with_suffix(f".{seed}")),
            "max_length": 256,
            "selection": {"method": "none", "batch": 2},
            "batch_size": 8,
            "seed": seed,
            "save_every": None,
        }
    )
    done = train(config, workspace=bench.workspace.root)
    return int(done.manifest["table"]["rows"]), float(done.manifest["result"]["held_out_loss"])


def compare(bench: Bench, tables: dict[str, Path], held_out: Path) -> None:
    print(f"{'trained on':12} {'rows':>5}  {'held-out loss':18} {'each seed':24} {'seconds':>8}")
    for name, export in tables.items():
        began = time.perf_counter()
        done = [held_out_loss(bench, export, held_out, seed) for seed in range(bench.asked.seeds)]
        losses = [loss for _, loss in done]
        spread = f"{statistics.stdev(losses):.4f}" if len(losses) > 1 else "-"
        print(
            f"{name:12} {done[0][0]:5}  {statistics.mean(losses):.4f} +- {spread:8} "
            f"{' '.join(f'{loss:.4f}' for loss in losses):24} "
            f"{(time.perf_counter() - began) / len(losses):8.0f}",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rows", type=int, default=200)
    parser.add_argument("--held-out", type=int, default=100, help="rows that losses are of")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--sampled", type=int, default=20, help="rows for the sampled judge")
    parser.add_argument("--eta", type=float, default=0.8)
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--data", type=Path, default=DATA)
    asked = parser.parse_args()
    source = asked.data / "instruct" / "dolly_3k.jsonl"
    if not source.exists():
        sys.exit(f"{source} is not there: give the folder of the data sets with --data")
    prepare_environment()  # before torch is imported
    from benchmarks.yardstick import print_yardstick

    print_yardstick()
    began = time.perf_counter()
    records = planted(source, asked.rows, seed=0)
    used = {record["instruction"] for record in records}
    lines = source.read_text(encoding="utf-8").splitlines()
    others = [one for one in map(json.loads, lines) if one["instruction"] not in used]
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), asked)
        whole = bench.source("whole", records)
        eta = f"stages.{CORRECT}.eta={asked.eta}"
        curation, outcome = bench.run(clear_recipe(bench, whole, eta))
        show_stages(outcome)
        show_fates(curation)
        chooser = random.Random(0)
        plain = {"kind": "dedup.exact"}
        # Its scores are there already: the same rows, model and options.
        filtering = {
            one.label: one.model_dump(mode="json", exclude={"on_drop"})
            for one in curation.recipe.stages
        }[FILTER]
        tables = {
            "raw": bench.exported("raw", records, plain),
            "filtered": bench.exported("filtered", records, filtering),
            "corrected": bench.export("corrected"),
            "random half": bench.exported("half", chooser.sample(records, asked.rows // 2), plain),
        }
        aside = chooser.sample(others, asked.held_out)
        compare(bench, tables, bench.exported("held-out", aside, plain))
        print(f"all of it: {time.perf_counter() - began:.0f} s", flush=True)
        if asked.sampled:
            pinned = f"models.tuned.pin={outcome.run_id}"
            sampled = "stages.clear.judge.judge=sampled"
            recipe = clear_recipe(bench, whole, eta, pinned, sampled, "max_failed=1")
            curation, outcome = bench.run(recipe, asked.sampled)
            print(f"judge: sampled, on the first {asked.sampled} rows")
            show_stages(outcome)
            show_fates(curation)


if __name__ == "__main__":
    main()
