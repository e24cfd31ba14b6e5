"""`winnow train sft`: from a run to trained weights, on the command line."""

import json
from pathlib import Path

import pytest
import yaml

from tests.pipelines.train.bench import tiny_llama

# Each answer is long enough for clean.rules.
WORDS = ["red", "green", "blue", "one", "two", "three", "four", "five"]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_llama(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def curated(winnow, folder: Path) -> str:
    """The id of a finished run with 20 rows."""
    rows = [
        {"key": f"k{n}", "prompt": f"Say {n}.", "response": f"{n} and {WORDS[n % 8]} it is."}
        for n in range(20)
    ]
    (folder / "rows.jsonl").write_text("".join(f"{json.dumps(one)}\n" for one in rows))
    told = winnow("run", "recipe.yaml", "--json")
    assert told.exit_code == 0, told.stderr
    return str(json.loads(told.stdout)["run_id"])


@pytest.fixture
def config(folder: Path, tiny: Path) -> Path:
    path = folder / "train.yaml"
    content = {
        "model": str(tiny),
        "table": {"run": "latest", "held_out": 0.3},
        "held_out": "split",
        "output": "trained",
        "max_length": 64,
        "batch_size": 4,
        "max_steps": 5,
        "device": "cpu",
        "selection": {"method": "uds", "batch": 4, "keep": 2},
    }
    path.write_text(yaml.safe_dump(content))
    return path


def test_a_runs_rows_are_trained_on_and_named(winnow, curated: str, config: Path) -> None:
    result = winnow("train", "sft", str(config), "--json")

    assert result.exit_code == 0, result.stderr
    told = json.loads(result.stdout)
    assert (told["status"], told["output"]) == ("trained", "trained")
    assert told["table"]["run_id"] == curated
    assert told["result"]["steps"] == 5
    assert told["result"]["held_out_loss"] > 0
    checkpoint = json.loads(Path("trained/checkpoint-5/manifest.json").read_text())
    assert checkpoint["table"]["run_id"] == curated
    (table,) = Path("trained/table").glob("*.train.jsonl")
    assert len(table.read_text().splitlines()) == told["rows"]["trained"] == told["table"]["rows"]
    first = json.loads(Path("trained/selection.jsonl").read_text().splitlines()[0])
    assert set(first["ids"]) <= {f"k{n}" for n in range(20)}


def test_it_tells_what_it_did_and_does_it_once(winnow, curated: str, config: Path) -> None:
    first = winnow("train", "sft", str(config))
    again = winnow("train", "sft", str(config))

    assert first.exit_code == again.exit_code == 0
    lines = first.stdout.splitlines()
    assert lines[0].split(" from ")[0].endswith("candidates trained on in 5 steps,")
    assert lines[-1] == "wrote trained"
    assert any(line.startswith("held-out loss ") for line in lines)
    assert "train: 5 steps" in first.stderr
    assert again.stdout.splitlines()[0] == (
        "An earlier call had finished this training; nothing was trained."
    )


def test_a_wrong_config_is_exit_code_2_with_all_that_is_wrong(winnow, config: Path) -> None:
    changes = ["--set", "selection.keep=9", "--set", "learning_rat=1"]

    result = winnow("train", "sft", str(config), *changes)

    assert result.exit_code == 2
    assert result.stderr == (
        f"{config} is wrong:\n"
        "  - selection.uds: keep 9 of a batch of 4: keep at most 4\n"
        "  - learning_rat: is not known here (found: 1)\n"
    )


def test_a_run_that_is_not_there_is_exit_code_2(winnow, config: Path) -> None:
    result = winnow("train", "sft", str(config))

    assert result.exit_code == 2
    assert "There is no finished run" in result.stderr


def test_another_training_in_the_folder_is_exit_code_2(winnow, curated, config: Path) -> None:
    winnow("train", "sft", str(config))

    result = winnow("train", "sft", str(config), "--set", "seed=7")

    assert result.exit_code == 2
    assert "trained holds another training:\n  - config.seed: was 0, is 7\n" in result.stderr
    fresh = winnow("train", "sft", str(config), "--set", "seed=7", "--fresh")
    assert fresh.exit_code == 0, fresh.stderr
