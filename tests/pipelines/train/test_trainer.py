"""What the trainer trains on, against trl's own trainer and computations by hand."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from pipelines.train import opening
from pipelines.train.errors import TrainingStopped
from pipelines.train.samples import Samples, tokenised
from pipelines.train.tables import rows_of_file, table_files
from tests.pipelines.train.bench import Bench, row, write_table

ALL_OF_4 = {"method": "uds", "batch": 4, "keep": 4}
LORA = {"r": 4, "alpha": 8}


def samples(bench: Bench, **changes: Any) -> tuple[Any, Samples]:
    from pipelines.engines.sources import source_of

    config = bench.config(**changes)
    tokens = opening.open_tokens(source_of(config.model, None), config)
    files = table_files(bench.folder / "table.jsonl")
    return tokens.tokenizer, tokenised(rows_of_file(files.train), tokens, config.max_length)


def plain_losses(bench: Bench, **changes: Any) -> list[float]:
    """Of trl's own trainer, with the same arguments, on labels that are made here."""
    import datasets
    from transformers import AutoModelForCausalLM
    from trl import SFTTrainer

    tokenizer, made = samples(bench, **changes)
    rows = [
        {
            "input_ids": one["input_ids"],
            "labels": [-100] * one["answer_from"] + one["input_ids"][one["answer_from"] :],
        }
        for one in made.table.to_pylist()
    ]
    config = bench.config(**changes, output=str(bench.folder / "plain"), save_every=None)
    trainer = SFTTrainer(
        model=AutoModelForCausalLM.from_pretrained(config.model, dtype=torch.float32),
        args=opening.open_arguments(config, 1),
        train_dataset=datasets.Dataset.from_list(rows),
        processing_class=tokenizer,
        peft_config=opening.lora_config(config.lora),
    )
    trainer.train()
    return [line["loss"] for line in trainer.state.log_history if "loss" in line]


@pytest.mark.parametrize("lora", [None, LORA], ids=["full", "lora"])
@pytest.mark.parametrize(
    "batch_size",
    [
        pytest.param(4, id="accumulating 1"),
        pytest.param(16, id="accumulating 4", marks=pytest.mark.slow),
    ],
)
def test_keeping_all_is_plain_training(
    bench: Bench, lora: dict[str, Any] | None, batch_size: int
) -> None:
    changes = {"selection": ALL_OF_4, "lora": lora, "batch_size": batch_size, "max_steps": 4}

    bench.train(**changes)

    expected = plain_losses(bench, **changes)
    assert len(expected) == 4
    np.testing.assert_allclose(bench.losses(), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("method", ["random", "loss", "longest"])
def test_each_method_logs_the_loss_of_plain_training(bench: Bench, method: str) -> None:
    """Whatever else it notes of its candidates. Batches of 1, so that tokens weigh differently."""
    changes = {"selection": {"method": method, "batch": 1, "keep": 1}, "batch_size": 2}

    bench.train(**changes)

    np.testing.assert_allclose(bench.losses(), plain_losses(bench, **changes), rtol=0, atol=1e-5)


def test_none_is_plain_training(bench: Bench) -> None:
    changes = {"selection": {"method": "none", "batch": 2}, "lora": None, "batch_size": 6}

    bench.train(**changes)

    np.testing.assert_allclose(bench.losses(), plain_losses(bench, **changes), rtol=0, atol=1e-5)


def test_the_loss_is_that_of_the_kept_samples(bench: Bench) -> None:
    """Of the first step, before the weights have changed."""
    from transformers import AutoModelForCausalLM

    done = bench.train(batch_size=6, max_steps=1)

    first = bench.selected()
    _, made = samples(bench)
    model = AutoModelForCausalLM.from_pretrained(str(bench.model)).eval()
    places = {row_id: place for place, row_id in enumerate(made.ids)}
    total, tokens = 0.0, 0
    for line in first:
        for place in line["picked"]:
            one = made.table.to_pylist()[places[line["ids"][place]]]
            ids = torch.tensor(one["input_ids"])
            with torch.no_grad():
                shares = model(input_ids=ids[None]).logits[0, :-1].log_softmax(-1)
            answer = slice(one["answer_from"] - 1, None)
            total -= float(shares[range(len(ids) - 1), ids[1:]][answer].sum())
            tokens += len(ids) - one["answer_from"]
    assert [len(line["picked"]) for line in first] == [2, 2, 2]
    assert done.manifest["result"]["loss"] == pytest.approx(total / tokens, abs=1e-5)


def test_utility_is_the_nuclear_norm_of_the_models_own_logits(bench: Bench) -> None:
    from transformers import AutoModelForCausalLM

    bench.train(max_steps=1)

    line = bench.selected()[0]
    _, made = samples(bench)
    model = AutoModelForCausalLM.from_pretrained(str(bench.model)).eval()
    rows = dict(zip(made.ids, made.table.to_pylist(), strict=True))
    for row_id, utility in zip(line["ids"], line["utility"], strict=True):
        with torch.no_grad():
            logits = model(input_ids=torch.tensor(rows[row_id]["input_ids"])[None]).logits[0]
        expected = float(torch.linalg.svdvals(logits.double()).sum())
        assert utility == pytest.approx(expected, rel=1e-5)


def scores(bench: Bench, output: str) -> dict[str, float]:
    """Utility of each candidate of the first step."""
    return {
        row_id: utility
        for line in bench.selected(output)
        if line["step"] == 1
        for row_id, utility in zip(line["ids"], line["utility"], strict=True)
    }


def test_scores_do_not_depend_on_the_batch_that_a_sample_stands_in(bench: Bench) -> None:
    every = {"batch_size": 12, "max_steps": 1, "output": str(bench.folder / "a")}
    bench.train(**every, selection={"method": "uds", "batch": 12, "keep": 12})
    other = {**every, "output": str(bench.folder / "b"), "batch_size": 24}
    bench.train(**other, selection={"method": "uds", "batch": 2, "keep": 2})
    one, two = scores(bench, "a"), scores(bench, "b")
    assert len(one) == 12
    assert one == pytest.approx({row_id: two[row_id] for row_id in one}, rel=1e-5)


@pytest.mark.slow
def test_with_all_positions_they_do(bench: Bench) -> None:
    every = {"batch_size": 12, "max_steps": 1, "output": str(bench.folder / "a")}
    selection = {"method": "uds", "positions": "all"}
    bench.train(**every, selection={**selection, "batch": 12, "keep": 12})
    other = {**every, "output": str(bench.folder / "b"), "batch_size": 24}
    bench.train(**other, selection={**selection, "batch": 2, "keep": 2})
    one, two = scores(bench, "a"), scores(bench, "b")
    assert one != pytest.approx({row_id: two[row_id] for row_id in one}, rel=1e-3)


def test_kept_samples_fill_the_optimisers_batch(bench: Bench) -> None:
    bench.train(batch_size=8, max_steps=2)

    assert [(line["step"], len(line["picked"])) for line in bench.selected()] == [
        *[(1, 2)] * 4,
        *[(2, 2)] * 2,  # the end of the epoch: 24 rows are 6 batches of 4
    ]


def test_the_released_way_shrinks_the_optimisers_batch(bench: Bench) -> None:
    selection = {"method": "uds", "batch": 4, "keep": 2, "accumulate": False}

    bench.train(batch_size=8, max_steps=3, selection=selection)

    assert [(line["step"], len(line["picked"])) for line in bench.selected()] == [
        (step, 2) for step in (1, 1, 2, 2, 3, 3)
    ]


def test_an_incomplete_last_batch_keeps_what_it_has(bench: Bench) -> None:
    selection = {"method": "uds", "batch": 5, "keep": 5}

    bench.train(batch_size=5, max_steps=None, epochs=1, selection=selection)

    assert [len(line["ids"]) for line in bench.selected()] == [5, 5, 5, 5, 4]
    assert [len(line["picked"]) for line in bench.selected()] == [5, 5, 5, 5, 4]


@pytest.mark.parametrize("method", ["uds", "utility", "diversity", "random", "loss", "longest"])
def test_every_method_trains(bench: Bench, method: str) -> None:
    done = bench.train(selection={"method": method, "batch": 4, "keep": 2})

    assert done.manifest["result"]["steps"] == 3
    assert done.manifest["result"]["candidates"] == 24
    assert done.manifest["result"]["samples"] == 12
    assert 0 < done.times["selection_share"] < 1


def test_the_highest_losses_are_those_of_the_models_own_logits(bench: Bench) -> None:
    from transformers import AutoModelForCausalLM

    bench.train(max_steps=1, selection={"method": "loss", "batch": 4, "keep": 2})

    line = bench.selected()[0]
    _, made = samples(bench)
    rows = dict(zip(made.ids, made.table.to_pylist(), strict=True))
    model = AutoModelForCausalLM.from_pretrained(str(bench.model)).eval()
    for row_id, loss in zip(line["ids"], line["answer_loss"], strict=True):
        one = rows[row_id]
        ids = torch.tensor(one["input_ids"])[None]
        labels = ids.clone()
        labels[:, : one["answer_from"]] = -100
        with torch.no_grad():
            assert loss == pytest.approx(float(model(input_ids=ids, labels=labels).loss), abs=1e-5)
    assert line["picked"] == np.argsort(-np.array(line["answer_loss"]))[:2].tolist()


def test_figures_are_logged(bench: Bench) -> None:
    bench.train(max_steps=2)

    first = bench.lines(bench.folder / "out" / "figures.jsonl")[0]
    lines = [line for line in bench.selected() if line["step"] == 1]
    kept = [[line["utility"][place] for place in line["picked"]] for line in lines]
    assert first["utility"] == pytest.approx(np.mean([line["utility"] for line in lines]))
    assert first["utility_kept"] == pytest.approx(np.mean(kept))
    assert first["kept_share"] == 0.5
    assert 0 < first["selection_share"] < 1
    assert first["scoring_over_forward"] > 0


def test_dropout_and_the_global_randomness_are_left_alone_by_scoring(bench: Bench) -> None:
    """With dropout, a training that scores and keeps all is the one that does not score."""
    changes = {"lora": {**LORA, "dropout": 0.3}, "selection": ALL_OF_4}

    bench.train(**changes)

    np.testing.assert_allclose(bench.losses(), plain_losses(bench, **changes), rtol=0, atol=1e-5)


@pytest.mark.slow
def test_half_precision_trains_and_scores_in_it(bench: Bench) -> None:
    plain = {"max_steps": 2, "output": str(bench.folder / "plain32")}
    bench.train(**plain)
    bench.train(max_steps=2, mixed_precision="bf16")

    exact = bench.selected("plain32")[0]["utility"]
    found = bench.selected()[0]["utility"]
    assert found != exact
    assert found == pytest.approx(exact, rel=0.05)
    np.testing.assert_allclose(bench.losses(), bench.losses("plain32"), rtol=0.02)


def test_samples_that_cannot_be_scored_are_named(bench: Bench, tmp_path: Path) -> None:
    broken = bench.folder / "broken"
    poisoned(bench.model, broken, word="eight")
    rows = [row(n) for n in range(8)]
    for number, one in enumerate(rows):
        text = "eight" if number == 5 else "six seven"
        one["messages"][1]["content"] = text
    write_table(bench.folder / "table.jsonl", rows)

    with pytest.raises(TrainingStopped) as caught:
        bench.train(model=str(broken), selection={"method": "uds", "batch": 8, "keep": 2})

    message = str(caught.value)
    assert message.startswith("step 1: candidates cannot be scored: hidden states of rows ")
    assert "\nThe rows: row-5. Either their text is broken" in message


def test_a_training_that_diverges_is_stopped(bench: Bench) -> None:
    changes = {"learning_rate": 1e30, "lora": None, "selection": {"method": "none", "batch": 4}}

    with pytest.raises(TrainingStopped, match=r"step \d: the loss is (nan|inf); the model has"):
        bench.train(**changes)


@pytest.mark.parametrize("save_every", [None, 1])
def test_a_training_that_diverges_between_its_logs_leaves_nothing_to_go_on_with(
    bench: Bench, save_every: int | None
) -> None:
    changes = {
        "learning_rate": 1e30,
        "lora": None,
        "selection": {"method": "none", "batch": 4},
        "log_every": 100,
        "save_every": save_every,
    }

    for _ in range(2):  # the second one goes on from what the first has left
        with pytest.raises(
            TrainingStopped, match=r"step \d: weights are NaN or inf; the model has"
        ):
            bench.train(**changes)

    assert not (bench.folder / "out" / "manifest.json").exists()


def test_an_output_head_that_is_no_numbers_any_more_stops_it(bench: Bench) -> None:
    with pytest.raises(TrainingStopped, match=r"step \d: .*; the model has diverged"):
        bench.train(learning_rate=1e30, lora=None, log_every=100)


def poisoned(model: Path, folder: Path, word: str) -> None:
    """The model with an embedding of NaN for a word."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(str(model), local_files_only=True)
    changed = AutoModelForCausalLM.from_pretrained(str(model))
    changed.config.tie_word_embeddings = False
    changed.lm_head.weight = torch.nn.Parameter(changed.lm_head.weight.detach().clone())
    (token,) = tokenizer(word, add_special_tokens=False)["input_ids"]
    with torch.no_grad():
        changed.get_input_embeddings().weight[token] = float("nan")
    changed.save_pretrained(str(folder))
    tokenizer.save_pretrained(str(folder))


def test_a_training_that_ends_before_its_last_step_is_not_finished() -> None:
    from pipelines.train.trainer import SelectingTrainer

    ended = SimpleNamespace(state=SimpleNamespace(global_step=40, max_steps=1000))

    with pytest.raises(TrainingStopped, match="ended at step 40 of 1,000; the same command goes"):
        SelectingTrainer.check_end(ended)
