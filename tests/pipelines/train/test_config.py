"""A wrong config is told all that is wrong with it, before anything is loaded."""

from pathlib import Path
from typing import Any

import pytest

from pipelines.train.config import TrainingConfig, load_training, parse_training
from pipelines.train.tuning import accumulation_steps
from pipelines.yaml_config import RecipeError

EXAMPLES = sorted((Path(__file__).parents[3] / "pipelines" / "recipes" / "train").glob("*.yaml"))
SOUND: dict[str, Any] = {
    "model": "smollm2-135m-instruct",
    "table": {"path": "out/clean.jsonl"},
    "output": "out/trained",
}


def problems(**changes: Any) -> tuple[str, ...]:
    with pytest.raises(RecipeError) as caught:
        parse_training({**SOUND, **changes})
    return caught.value.problems


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_every_committed_training_is_sound(path: Path) -> None:
    assert load_training(path).model


def test_there_is_an_example() -> None:
    assert EXAMPLES


def test_the_defaults_are_those_of_the_released_run() -> None:
    config = parse_training(SOUND)

    assert config.selection.model_dump() == {
        "method": "uds",
        "batch": 8,
        "keep": 2,
        "accumulate": True,
        "alpha": 1.5e-3,
        "queue_size": 1024,
        "positions": "real",
        "r_time": 8,
        "r_vocab": 128,
        "sketch_seed": 0,
        "ring_order": "released",
    }
    assert config.lora is not None
    assert (config.lora.r, config.lora.alpha, config.learning_rate) == (8, 16, 1.5e-4)


def test_all_that_is_wrong_is_said_at_once() -> None:
    assert problems(learning_rte=1, max_length=1, selection={"method": "best"}, table={}) == (
        "max_length: Input should be greater than or equal to 2 (found: 1)",
        "selection: Input tag 'best' found using 'method' does not match any of the expected tags: "
        "'uds', 'utility', 'diversity', 'random', 'loss', 'longest', 'none'",
        "table: a table has either run: (a finished run) or path: (an export)",
        "learning_rte: is not known here (found: 1)",
    )


def test_what_does_not_fit_together_is_said_at_once() -> None:
    changes = {
        "table": {"run": "latest"},
        "held_out": "split",
        "epochs": 1,
        "max_steps": 5,
        "batch_size": 5,
        "options": {"packing": True, "seed": 3, "optim": "sgd", "bf16_full_eval": True},
    }
    assert problems(**changes) == (
        "options.packing: it puts several samples into one sequence, and none of them could be "
        "selected",
        "options.seed: say it as seed",
        "options.bf16_full_eval: it would round the weights that are trained: mixed_precision",
        "epochs and max_steps: give one of them",
        "batch_size 5 is no multiple of 2 (keep)",
        "held_out: split needs a share: table: {run: ..., held_out: 0.1}",
    )


def test_no_more_can_be_kept_than_there_are() -> None:
    (problem,) = problems(selection={"method": "random", "batch": 4, "keep": 5})
    assert problem == "selection.random: keep 5 of a batch of 4: keep at most 4"


def test_a_training_that_would_end_early_as_if_it_were_done_is_refused() -> None:
    (problem,) = problems(options={"enable_jit_checkpoint": True})
    assert problem.startswith("options.enable_jit_checkpoint: it would end a training early")


def test_a_padding_free_batch_is_refused() -> None:
    (problem,) = problems(options={"padding_free": True})
    assert problem.startswith("options.padding_free: it puts several samples into one sequence")


def config(batch_size: int, **selection: Any) -> TrainingConfig:
    return parse_training({**SOUND, "batch_size": batch_size, "selection": selection})


def test_kept_samples_fill_the_optimisers_batch() -> None:
    uds = config(16, method="uds", batch=8, keep=2)
    assert [accumulation_steps(uds, processes=n) for n in (1, 2, 4)] == [8, 4, 2]


def test_without_accumulating_candidates_are_counted() -> None:
    released = config(16, method="uds", batch=8, keep=2, accumulate=False)
    assert accumulation_steps(released, processes=1) == 2


def test_plain_training_counts_what_it_takes() -> None:
    assert accumulation_steps(config(16, method="none", batch=4), processes=2) == 2


def test_a_batch_that_processes_cannot_share_is_refused() -> None:
    with pytest.raises(ValueError, match=r"batch_size 8 is no multiple of 2 \(keep\) times 3"):
        accumulation_steps(config(8, method="uds", batch=8, keep=2), processes=3)


def test_a_change_goes_into_the_selection(tmp_path: Path) -> None:
    path = tmp_path / "train.yaml"
    path.write_text("{model: m, table: {run: latest}, output: o, selection: {method: random}}")

    assert load_training(path, ["selection.keep=4", "table.run=3f"]).selection.keep == 4
