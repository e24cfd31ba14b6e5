"""Real processes: killed at any moment, and several that train together."""

import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.pipelines.train.bench import Bench, row, write_table
from tests.pipelines.train.test_training import assert_same_weights

KILLS = 4


def command(bench: Bench, name: str, **changes: Any) -> list[str]:
    """`winnow train sft` of that output; its config is written to a file."""
    path = bench.folder / f"{name}.yaml"
    raw = bench.raw(output=str(bench.folder / name), **changes)
    path.write_text(yaml.safe_dump(raw), encoding="utf-8")
    return ["-m", "flows.cli", "train", "sft", str(path)]


def run(arguments: list[str]) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_kill_9_changes_nothing_that_comes_of_it(bench: Bench) -> None:
    long = {"max_steps": 40, "save_every": 3, "batch_size": 8}
    began = time.monotonic()
    whole = run(command(bench, "whole", **long))
    seconds = time.monotonic() - began
    assert whole.returncode == 0, whole.stderr
    chooser = random.Random(0)
    again = command(bench, "killed", **long)
    for _ in range(KILLS):
        process = subprocess.Popen([sys.executable, *again], stderr=subprocess.DEVNULL)
        try:
            process.wait(timeout=chooser.uniform(0.4, 0.9) * seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    assert run(again).returncode == 0

    assert bench.selected("killed") == bench.selected("whole")
    assert_same_weights(bench.folder / "killed", bench.folder / "whole")
    assert list((bench.folder / "killed").rglob(".tmp-*")) == []


@pytest.mark.slow
def test_two_processes_train_one_model_each_with_a_memory_of_its_own(bench: Bench) -> None:
    aside = write_table(bench.folder / "aside.jsonl", [row(n) for n in range(30, 34)], "another")
    arguments = command(
        bench, "two", max_steps=4, batch_size=8, save_every=2, held_out={"path": str(aside)}
    )
    together = ["-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}

    done = subprocess.run(
        [sys.executable, *together, *arguments, "--json"],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
    )

    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    out = bench.folder / "two"
    first, second = (
        bench.lines(out / name) for name in ("selection.jsonl", "selection-rank1.jsonl")
    )
    # 24 rows are 6 candidate batches: 3 each, two of them for a step of 8 samples.
    assert [len(line["picked"]) for line in (*first, *second)] == [2] * (len(first) + len(second))
    assert [line["step"] for line in first] == [line["step"] for line in second]
    one_epoch = [row_id for line in (*first[:3], *second[:3]) for row_id in line["ids"]]
    assert len(set(one_epoch)) == 24
    assert told["result"]["steps"] == 4
    assert 0 < told["result"]["held_out_loss"] < 12
    assert {path.name for path in (out / "checkpoint-4").glob("selection-rank*")} == {
        "selection-rank0.npz",
        "selection-rank1.npz",
    }
    assert Path(out / "model" / "adapter_model.safetensors").is_file()


@pytest.mark.slow
def test_the_bundled_model_trains_five_steps(tmp_path: Path, bench: Bench) -> None:
    arguments = command(
        bench,
        "bundled",
        model="smollm2-135m-instruct",
        max_steps=5,
        selection={"method": "uds", "batch": 4, "keep": 1},
        learning_rate=1e-3,
    )

    done = run([*arguments, "--json"])

    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)["result"]
    assert [result[name] for name in ("steps", "candidates", "samples")] == [5, 64, 16]
