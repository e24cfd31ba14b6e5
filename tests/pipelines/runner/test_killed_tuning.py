"""kill -9 while a run trains a model of its own rows."""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from tests.pipelines.train.bench import Bench, row, tiny_llama

PATIENCE_S = 120.0
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_llama(tmp_path_factory.mktemp("tiny"))


def start(folder: Path, model: Path) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "tests.pipelines.runner.killed_tuning", folder, model]
    return subprocess.Popen(
        [str(word) for word in command],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )


def filled(folder: Path) -> Path:
    folder.mkdir()
    lines = []
    for number in range(10):
        asked, answered = (turn["content"] for turn in row(number)["messages"])
        lines.append(json.dumps({"instruction": asked, "input": "", "output": answered}) + "\n")
    (folder / "rows.jsonl").write_text("".join(lines), encoding="utf-8")
    return folder


def complete_checkpoints(folder: Path) -> list[Path]:
    """Those that a training goes on from: their manifest is written last."""
    return list(folder.glob("workspace/models/*/training/checkpoint-*/manifest.json"))


def scores(folder: Path) -> dict[str, bytes]:
    """All that models were asked for, the answers of the tuned one among it."""
    parts = (path for path in (folder / "workspace" / "scores").rglob("*.parquet"))
    return {str(path.relative_to(folder)): path.read_bytes() for path in parts}


def until(true: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


def test_the_training_ends_with_its_run_and_the_next_run_goes_on_with_it(
    tmp_path: Path, tiny: Path
) -> None:
    whole, killed = filled(tmp_path / "whole"), filled(tmp_path / "killed")
    said_of_whole, _ = start(whole, tiny).communicate()
    first = start(killed, tiny)
    until(lambda: complete_checkpoints(killed))
    (trainer,) = psutil.Process(first.pid).children()

    first.kill()
    first.communicate()

    # At once, not at the end of an epoch: until then nobody else can train that model.
    psutil.wait_procs([trainer], timeout=5)
    assert not trainer.is_running()
    assert not (killed / "out.jsonl").exists()

    second = start(killed, tiny)
    said, _ = second.communicate()

    assert second.returncode == 0
    assert (killed / "out.jsonl").read_bytes() == (whole / "out.jsonl").read_bytes()
    assert len(scores(whole)) == 2
    assert scores(killed) == scores(whole)
    assert "opened base" in said_of_whole
    assert "opened base" not in said  # the filter's scores were there
    assert "going on from the checkpoint of step" in said


def test_a_training_ends_with_its_standard_input_whatever_it_is_doing(
    tmp_path: Path, tiny: Path
) -> None:
    """It need not be about to write a line, which is when a broken pipe would end it."""
    bench = Bench(tmp_path, tiny)
    config = tmp_path / "config.json"
    config.write_text(bench.config(max_steps=100_000, save_every=2).model_dump_json())
    with subprocess.Popen(
        [sys.executable, "-m", "pipelines.train", str(config)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        until(lambda: list(tmp_path.glob("out/checkpoint-*/manifest.json")))
        assert process.stdin is not None
        process.stdin.close()

        assert process.wait(timeout=5) == 1


def test_a_training_that_diverges_ends_with_one_message(tmp_path: Path, tiny: Path) -> None:
    bench = Bench(tmp_path, tiny)
    config = tmp_path / "config.json"
    wild = bench.config(learning_rate=1e30, lora=None, selection={"method": "none", "batch": 4})
    config.write_text(wild.model_dump_json())

    with subprocess.Popen(
        [sys.executable, "-m", "pipelines.train", str(config)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        said = process.stderr.read()
        code = process.wait()

    # The settings are to blame: the run must not try it again.
    assert code == 2
    assert "the model has diverged" in said
    assert "Traceback" not in said
