"""What is selection worth? Held-out loss of equal budgets chosen by UDS and by simpler rules.

    OMP_NUM_THREADS=2 python -m benchmarks.selection [--seeds 3] [--steps 8] [--data DIR]

Rows of dolly_3k.jsonl go through a recipe (clean.rules, dedup.exact) with a tenth of the prompts
set aside; then the bundled model is trained by LoRA on the same candidate batches, each time on the
2 of 8 that one method picks: uds, its two halves alone, random, longest, loss. Seeds change the
order of the candidates and the adapters' beginning. The budget is the number of samples, so the
tokens that each method trained on stand beside its loss. Lower is better; a difference within the
spread says nothing.

On a CPU a small setting (SmolLM2-135M, 128 tokens, 8 steps of 4), on a GPU a real one (512 tokens,
one epoch). Either can be changed by the options.
"""

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from pipelines.engines.opening import prepare_environment

prepare_environment()  # torch reads it when it is imported

import torch

from benchmarks.yardstick import print_yardstick
from pipelines.recipe import parse_recipe
from pipelines.runner.curation import Curation
from pipelines.store.workspace import Workspace
from pipelines.train.config import parse_training
from pipelines.train.folder import FIGURES
from pipelines.train.training import Trained, train

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
METHODS = ("uds", "utility", "diversity", "random", "longest", "loss")
HELD_OUT = 0.1


def curated(source: Path, folder: Path, rows: int | None) -> tuple[Path, Path]:
    """Curate once; the export that is trained on, and the workspace."""
    export = folder / "table.jsonl"
    recipe = parse_recipe(
        {
            "name": "selection",
            "source": {"path": str(source), "format": "alpaca"},
            "stages": [{"kind": "clean.rules"}, {"kind": "dedup.exact"}],
            "exports": [
                {
                    "format": "messages",
                    "path": str(export),
                    "with_id": True,
                    "split": {"held_out": HELD_OUT},
                }
            ],
        }
    )
    workspace = Workspace(folder / "workspace")
    curation = Curation(recipe, workspace, limit=rows)
    if not curation.begin():
        for planned in curation.plan.stages:
            curation.run_stage(planned)
        curation.finish()
    curation.export()
    curation.close("ok")
    return export, workspace.root


def trained(method: str, seed: int, export: Path, workspace: Path, asked: Any) -> Trained:
    steps = {} if asked.steps is None else {"max_steps": asked.steps}
    config = parse_training(
        {
            "model": asked.model,
            "table": {"path": str(export)},
            "held_out": "split",
            "output": str(export.parent / f"{method}-{seed}"),
            "max_length": asked.max_length,
            "selection": {"method": method, "batch": asked.batch, "keep": asked.keep},
            "batch_size": asked.batch_size,
            "learning_rate": asked.learning_rate,
            "seed": seed,
            "save_every": None,
            "log_every": 1,
            **steps,
        }
    )
    return train(config, workspace=workspace)


def tokens_of(done: Trained) -> int:
    """Tokens that went through the training passes."""
    lines = (done.output / FIGURES).read_text(encoding="utf-8").splitlines()
    return int(max(json.loads(line).get("num_tokens", 0) for line in lines))


def spread(values: list[float]) -> str:
    """Mean and standard deviation over the seeds."""
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{statistics.mean(values):.4f} +- {deviation:.4f}"


def compare(export: Path, workspace: Path, asked: Any) -> None:
    print(
        f"{asked.keep} of {asked.batch}, steps of {asked.batch_size} samples, "
        f"{asked.steps or 'one epoch of'} steps, max_length {asked.max_length}, "
        f"learning rate {asked.learning_rate:g}, LoRA r 8"
    )
    print(f"{'method':10} {'held-out loss':20} {'each seed':28} {'tokens':>8} {'seconds':>8}")
    for method in METHODS:
        losses, tokens, began = [], [], time.monotonic()
        for seed in range(asked.seeds):
            done = trained(method, seed, export, workspace, asked)
            losses.append(float(done.manifest["result"]["held_out_loss"]))
            tokens.append(tokens_of(done))
        each = " ".join(f"{loss:.4f}" for loss in losses)
        print(
            f"{method:10} {spread(losses):20} {each:28} {statistics.mean(tokens):8,.0f} "
            f"{(time.monotonic() - began) / asked.seeds:8.0f}",
            flush=True,
        )


def main() -> None:
    on_gpu = torch.cuda.is_available()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--rows", type=int, default=None if on_gpu else 500)
    parser.add_argument("--steps", type=int, default=None if on_gpu else 8)
    parser.add_argument("--max-length", type=int, default=512 if on_gpu else 128)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--keep", type=int, default=2)
    parser.add_argument("--batch-size", type=int, default=16 if on_gpu else 4)
    parser.add_argument("--learning-rate", type=float, default=1.5e-4 if on_gpu else 5e-4)
    parser.add_argument("--data", type=Path, default=DATA)
    asked = parser.parse_args()
    print_yardstick()
    with tempfile.TemporaryDirectory() as folder:
        source = asked.data / "instruct" / "dolly_3k.jsonl"
        export, workspace = curated(source, Path(folder), asked.rows)
        compare(export, workspace, asked)


if __name__ == "__main__":
    main()
