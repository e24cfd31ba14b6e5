"""Whose an output folder is, and how a training goes on."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipelines.engines.errors import ModelUnavailable
from pipelines.store.manifest import read_manifest
from pipelines.train.checkpoints import last_complete
from pipelines.train.errors import TrainingImpossible
from pipelines.train.folder import only_training
from pipelines.train.opening import check_libraries
from pipelines.yaml_config import RecipeError
from tests.pipelines.train.bench import Bench, row, write_table


def test_five_steps_end_in_a_model_a_log_and_a_manifest(bench: Bench) -> None:
    held_out = write_table(bench.folder / "aside.jsonl", [row(n) for n in (30, 31)], "another")

    done = bench.train(max_steps=5, held_out={"path": str(held_out)})

    out = bench.folder / "out"
    manifest = read_manifest(out)
    assert manifest == {"format": 1, **done.manifest}
    assert sorted(path.name for path in out.iterdir()) == [
        ".lock",
        "checkpoint-5",
        "figures.jsonl",
        "left_out.jsonl",
        "manifest.json",
        "model",
        "selection.jsonl",
        "training.json",
    ]
    assert (out / "model" / "adapter_model.safetensors").is_file()
    assert done.manifest["table"]["run_id"] == "a run"
    assert done.manifest["held_out"]["run_id"] == "another"
    assert done.manifest["rows"] == {
        "trained": 24,
        "left_out": 0,
        "cut": 0,
        "held_out": {"evaluated": 2, "left_out": 0, "cut": 0},
    }
    result = done.manifest["result"]
    assert [result[name] for name in ("steps", "candidates", "samples")] == [5, 40, 20]
    assert 0 < result["held_out_loss"] < 12
    assert result["loss"] < bench.losses()[0]


def test_the_held_out_loss_is_that_of_a_token_whatever_the_batches_are(bench: Bench) -> None:
    """Rows of 3 to 40 tokens: means of batches differ by more than a hundredth."""
    held_out = write_table(bench.folder / "aside.jsonl", [row(n) for n in range(30, 37)])

    def loss(batch: int) -> float:
        selection = {"method": "none", "batch": batch}
        out = str(bench.folder / f"out{batch}")
        changes = {"max_steps": 1, "learning_rate": 1e-9, "output": out, "selection": selection}
        done = bench.train(**changes, held_out={"path": str(held_out)})
        return float(done.manifest["result"]["held_out_loss"])

    assert loss(1) == pytest.approx(loss(4), abs=1e-5)


def test_held_out_rows_without_an_answer_are_counted_and_named(bench: Bench) -> None:
    silent = {**row(31), "messages": row(31)["messages"][:1]}
    held_out = write_table(bench.folder / "aside.jsonl", [row(30), silent], "another")

    done = bench.train(max_steps=1, held_out={"path": str(held_out)})

    assert done.manifest["rows"]["held_out"] == {"evaluated": 1, "left_out": 1, "cut": 0}
    assert bench.lines(bench.folder / "out" / "left_out.jsonl") == [
        {
            "id": "row-31",
            "side": "held_out",
            "state": "left_out",
            "reason": "the last turn is not the assistant's",
        }
    ]


def test_a_held_out_side_of_which_nothing_is_left_is_named(bench: Bench) -> None:
    held_out = write_table(bench.folder / "aside.jsonl", [], "another")

    with pytest.raises(TrainingImpossible, match=r"aside\.jsonl: the table holds no rows"):
        bench.train(held_out={"path": str(held_out)})


def test_a_checkpoint_names_the_table_that_it_was_trained_on(bench: Bench) -> None:
    done = bench.train()

    found = last_complete(bench.folder / "out")
    assert found is not None
    step, folder = found
    manifest = read_manifest(folder)
    assert manifest is not None
    assert (step, manifest["step"]) == (3, 3)
    for name in ("table", "model", "config", "versions", "processes"):
        assert manifest[name] == done.manifest[name]
    assert "selection-rank0.npz" in manifest["files"]


def test_a_finished_training_is_not_trained_again(bench: Bench) -> None:
    before = bench.train()
    weights = bench.folder / "out" / "model" / "adapter_model.safetensors"
    changed = weights.stat().st_mtime_ns

    again = bench.train()

    assert again.status == "finished before"
    assert again.manifest["result"] == before.manifest["result"]
    assert weights.stat().st_mtime_ns == changed


def test_how_often_it_saves_and_logs_may_change(bench: Bench) -> None:
    bench.train()

    assert bench.train(save_every=7, log_every=2, keep_checkpoints=1).status == "finished before"


def test_another_training_is_refused_and_what_changed_is_named(bench: Bench) -> None:
    bench.train()
    write_table(bench.folder / "table.jsonl", [row(n) for n in range(20)], "another run")

    with pytest.raises(TrainingImpossible) as caught:
        bench.train(learning_rate=1e-3, selection={"method": "uds", "batch": 4, "keep": 1})

    lines = str(caught.value).splitlines()
    assert lines[0] == f"{bench.folder / 'out'} holds another training:"
    assert lines[1:3] == [
        "  - config.learning_rate: was 0.01, is 0.001",
        "  - config.selection.keep: was 2, is 1",
    ]
    assert lines[3:5] == [
        "  - table.rows: was 24, is 20",
        "  - table.run_id: was 'a run', is 'another run'",
    ]
    assert lines[5].startswith("  - table.sha256: was '")
    assert len(lines) == 7
    assert lines[-1].endswith("or --fresh to remove it and start anew.")


def test_fresh_replaces_it(bench: Bench) -> None:
    bench.train()

    done = bench.train(learning_rate=1e-3, fresh=True)

    assert done.status == "trained"
    assert len(bench.selected()) == 6


def test_a_folder_with_other_things_is_never_touched(bench: Bench) -> None:
    (bench.folder / "out").mkdir()
    (bench.folder / "out" / "thesis.txt").write_text("years of work")

    for fresh in (False, True):
        with pytest.raises(TrainingImpossible, match=r"holds other things than a training"):
            bench.train(fresh=fresh)

    assert (bench.folder / "out" / "thesis.txt").read_text() == "years of work"


SIX_STEPS = {"max_steps": 6, "save_every": 2, "keep_checkpoints": 3}


@pytest.fixture(scope="module")
def whole(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """A training of six steps, two epochs, that was never stopped."""
    bench = Bench(tmp_path_factory.mktemp("whole"), tiny)
    bench.train(**SIX_STEPS)
    return bench


@pytest.fixture
def stopped(whole: Bench) -> Iterator[Bench]:
    """The same, as if it had been killed some time after the checkpoint of step 4."""
    expected = whole.folder / "expected"
    shutil.copytree(whole.folder / "out", expected)
    stopped_behind(whole.folder / "out", step=4)
    yield whole
    shutil.rmtree(whole.folder / "out")
    expected.rename(whole.folder / "out")


def test_it_goes_on_from_the_last_checkpoint_as_if_it_had_never_stopped(stopped: Bench) -> None:
    stopped.train(**SIX_STEPS)

    assert stopped.selected() == stopped.selected("expected")
    assert stopped.losses() == pytest.approx(stopped.losses("expected"), abs=1e-6)
    assert stopped.tokens() == stopped.tokens("expected")
    assert_same_weights(stopped.folder / "out", stopped.folder / "expected")


def test_how_often_it_saves_may_change_when_it_goes_on(stopped: Bench) -> None:
    stopped.train(**{**SIX_STEPS, "save_every": 1})

    assert (stopped.folder / "out" / "checkpoint-5").is_dir()


def test_stopped_behind_the_last_step_it_trains_no_step_more(bench: Bench) -> None:
    """In the middle of an epoch, where transformers would begin another step."""
    four = {"max_steps": 4, "save_every": 2, "keep_checkpoints": 3, "scheduler": "constant"}
    bench.train(**four, output=str(bench.folder / "expected"))
    bench.train(**four)
    stopped_behind(bench.folder / "out", step=4)

    done = bench.train(**four)

    assert done.manifest["result"]["steps"] == 4
    assert bench.selected() == bench.selected("expected")
    assert_same_weights(bench.folder / "out", bench.folder / "expected")


def test_a_checkpoint_that_is_not_whole_does_not_count(stopped: Bench) -> None:
    optimizer = stopped.folder / "out" / "checkpoint-4" / "optimizer.pt"
    optimizer.write_bytes(optimizer.read_bytes()[:-1])

    stopped.train(**SIX_STEPS)

    assert stopped.selected() == stopped.selected("expected")
    assert_same_weights(stopped.folder / "out", stopped.folder / "expected")


def test_a_log_that_is_shorter_than_its_checkpoint_knows_is_refused(stopped: Bench) -> None:
    log = stopped.folder / "out" / "selection.jsonl"
    log.write_bytes(log.read_bytes()[:100])

    with pytest.raises(TrainingImpossible, match=r"selection.jsonl has 100 bytes, the checkpoint"):
        stopped.train(**SIX_STEPS)


def test_only_the_last_checkpoints_stay(bench: Bench) -> None:
    bench.train(max_steps=4, save_every=1, keep_checkpoints=2)

    there = sorted(path.name for path in (bench.folder / "out").glob("checkpoint-*"))
    assert there == ["checkpoint-3", "checkpoint-4"]


@pytest.mark.slow
@pytest.mark.parametrize("method", ["random", "diversity", "uds"])
def test_other_memories_and_trained_heads_go_on_too(bench: Bench, method: str) -> None:
    # An epoch has 6 candidate batches: the checkpoint stands at its end.
    selection = {"method": method, "batch": 4, "keep": 2}
    ring = {} if method == "random" else {"queue_size": 5}
    long = {
        "max_steps": 8,
        "save_every": 3,
        "keep_checkpoints": 3,
        "lora": None,
        "selection": {**selection, **ring},
    }
    bench.train(**long, output=str(bench.folder / "expected"))
    bench.train(**long)
    stopped_behind(bench.folder / "out", step=3)

    bench.train(**long)

    assert bench.selected() == bench.selected("expected")
    assert_same_weights(bench.folder / "out", bench.folder / "expected")


def test_two_trainings_never_write_into_one_folder(bench: Bench) -> None:
    message = r"another process trains into .*out right now"
    with only_training(bench.folder / "out"), pytest.raises(TrainingImpossible, match=message):
        bench.train()


def stopped_behind(out: Path, step: int) -> None:
    """Make of a finished training one that was killed some time after that checkpoint."""
    for path in out.glob("checkpoint-*"):
        if int(path.name.split("-")[1]) > step:
            shutil.rmtree(path)
    shutil.rmtree(out / "model")
    for name in ("manifest.json", "figures.jsonl"):
        (out / name).unlink()


def assert_same_weights(one: Path, other: Path) -> None:
    from safetensors.torch import load_file

    (name,) = (path.name for path in (one / "model").glob("*model.safetensors"))
    found, expected = (load_file(folder / "model" / name) for folder in (one, other))
    assert found.keys() == expected.keys()
    for key, values in found.items():
        assert values.sub(expected[key]).abs().max() < 1e-6


def test_a_missing_library_is_told_with_the_command(bench: Bench) -> None:
    with pytest.raises(
        ModelUnavailable, match=r"'trl' is not installed: uv sync --inexact --extra"
    ):
        check_libraries(lambda library: library != "trl")


def test_options_go_to_trl_and_strange_ones_are_refused(bench: Bench) -> None:
    bench.train(max_steps=1, options={"optim": "sgd"})
    arguments = json.loads((bench.folder / "out" / "training.json").read_text())["config"]
    assert arguments["options"] == {"optim": "sgd"}

    with pytest.raises(RecipeError, match=r"options.optm: trl's SFTConfig has no such thing"):
        bench.train(options={"optm": "sgd"}, fresh=True)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"lora": {"target_modules": ["q_prj"]}}, "q_prj"),
        ({"options": {"loss_type": "strange"}}, "loss_type"),
        ({"mixed_precision": "fp16"}, "fp16 needs a GPU; bf16 works on a CPU"),
    ],
    ids=str,
)
def test_what_trl_and_peft_refuse_is_told_as_a_mistake_in_the_config(
    changes: dict[str, Any], problem: str, bench: Bench
) -> None:
    with pytest.raises(RecipeError, match=problem):
        bench.train(**changes)


def test_a_limit_beyond_the_models_context_is_refused(bench: Bench) -> None:
    with pytest.raises(TrainingImpossible, match=r"max_length 300 is more than the context of "):
        bench.train(max_length=300)


def test_the_held_out_rows_are_not_those_that_are_trained_on(bench: Bench) -> None:
    with pytest.raises(TrainingImpossible, match="holds the very rows that are trained on"):
        bench.train(held_out={"path": str(bench.folder / "table.jsonl")})


def test_a_side_that_was_never_set_aside_is_missed(bench: Bench) -> None:
    with pytest.raises(TrainingImpossible, match="has no held-out side"):
        bench.train(held_out="split")
