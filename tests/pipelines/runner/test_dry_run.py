from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from pipelines.runner.dry_run import DryRun, Forecast, StageForecast, text_bytes
from pipelines.store.workspace import Workspace
from schemas.rows import MESSAGES
from tests.pipelines.runner.curating import EXACT, FILTER, RULES, Bench, Judge, rows, write_jsonl


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    made = Bench(tmp_path, stages=[RULES, FILTER, EXACT])
    write_jsonl(made.source, rows(30))
    return made


def forecast(bench: Bench, **options: Any) -> Forecast:
    return DryRun(
        bench.recipe(),
        Workspace(bench.folder / "workspace"),
        identify=lambda config: {"model": config.model},
        **options,
    ).run()


def test_nothing_is_known_behind_a_stage_that_has_all_rows_to_score(bench: Bench) -> None:
    texts = sum(
        len(row["instruction"]) + len(row["output"]) + len("user") + len("assistant")
        for row in rows(30)
    )

    assert forecast(bench).stages == (
        StageForecast("clean.rules", 30, False, 30, 0, 0, 0),
        StageForecast("clear.filter", 30, False, 0, 30, 60, texts // 4 * 2),
        StageForecast("dedup.exact", 30, True, 0, 30, 0, 0),
    )


def test_no_run_is_written_and_the_scores_of_stages_without_a_model_are_kept(bench: Bench) -> None:
    forecast(bench)

    assert not (bench.folder / "workspace" / "runs").exists()
    assert len(list((bench.folder / "workspace" / "scores").iterdir())) == 1


def test_rows_that_are_scored_already_cost_nothing(bench: Bench) -> None:
    bench.run(limit=10)

    told = forecast(bench)

    assert [(s.already_scored, s.to_score, s.model_calls) for s in told.stages[1:2]] == [
        (10, 20, 40)
    ]
    assert told.as_json()["model_calls"] == 40


def test_what_a_dry_run_counts_is_what_the_run_then_does(bench: Bench) -> None:
    bench.run(limit=10)
    told = forecast(bench)
    judge = Judge()

    outcome = bench.run(judge)

    assert outcome.run_id == told.run_id
    assert outcome.model_calls == len(judge.asked) == told.as_json()["model_calls"]


def test_a_changed_threshold_costs_nothing_and_its_rows_are_exact(bench: Bench) -> None:
    bench.run()
    bench.stages = [RULES, {**FILTER, "keep": {"budget": 7}}, EXACT]

    told = forecast(bench)

    assert (told.finished, told.as_json()["model_calls"]) == (False, 0)
    assert [(stage.rows, stage.at_most) for stage in told.stages] == [
        (30, False),
        (30, False),
        (7, False),
    ]


def test_a_finished_run_is_told_as_such(bench: Bench) -> None:
    outcome = bench.run()

    told = forecast(bench)

    assert (told.run_id, told.finished) == (outcome.run_id, True)


def test_errors_that_are_to_be_retried_count_as_rows_to_score(bench: Bench) -> None:
    bench.options = {"max_failed": 1}

    def poison(chat: Any) -> Any:
        if "number 3 " in chat[0]["content"]:
            raise ValueError("no")
        return [-1.0]

    bench.run(Judge(answer=poison))

    assert forecast(bench).stages[1].to_score == 0
    assert forecast(bench, retry_failed=True).stages[1].to_score == 1


PRICED = {"kind": "openai", "model": "judge", "base_url": "http://localhost/v1"}


def priced(bench: Bench, prompt_per_million: float) -> None:
    price = {"prompt_per_million": prompt_per_million, "completion_per_million": 40}
    # With a tokenizer, since only then a server can say how likely an answer is.
    model = {**PRICED, "tokenizer": "smollm2-135m-instruct", "price": price}
    bench.options = {"models": {"judge": model}}


def test_reading_costs_what_the_price_says_and_writing_is_not_in_it(bench: Bench) -> None:
    free = forecast(bench)
    priced(bench, prompt_per_million=20)

    told = forecast(bench)

    tokens = told.stages[1].tokens_about
    assert tokens == free.stages[1].tokens_about > 0
    assert [stage.cost_about for stage in told.stages] == [None, tokens * 20 / 1e6, None]
    assert told.cost_about == told.as_json()["cost_about"] == tokens * 20 / 1e6
    assert free.cost_about is free.as_json()["cost_about"] is None


def test_each_model_is_paid_for_its_own_share_of_the_calls(bench: Bench) -> None:
    judge = {**PRICED, "price": {"prompt_per_million": 20}}
    embedder = {**PRICED, "kind": "openai-embedder", "price": {"prompt_per_million": 3}}
    bench.options = {"models": {"judge": judge, "embedder": embedder}}
    bench.stages = [
        {
            "kind": "clear.filter",
            "estimator": "bsdetector",
            "contradiction": "embedding",
            "model": "judge",
            "embedder": "embedder",
            "samples": 5,
        }
    ]

    (told,) = forecast(bench).stages

    # 5 samples and 2 reflections by the judge; 5 answers and the target to embed.
    once = told.tokens_about // 13
    assert told.tokens_about == once * 13
    assert told.cost_about == pytest.approx((once * 7 * 20 + once * 6 * 3) / 1e6)


def test_what_is_scored_already_costs_nothing(bench: Bench) -> None:
    priced(bench, prompt_per_million=20)
    bench.run()

    assert forecast(bench).cost_about == 0


def test_text_bytes_counts_every_text_however_deep_it_lies() -> None:
    turns = [{"role": "user", "content": "héllo"}, {"role": "assistant", "content": None}]

    assert text_bytes(pa.array([turns, None], MESSAGES)) == len("user") + 6 + len("assistant")
    assert text_bytes(pa.array(["abc", None, "de"])) == 5
    assert text_bytes(pa.array([1, 2])) == 0
