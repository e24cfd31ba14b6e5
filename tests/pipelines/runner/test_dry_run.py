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


def test_text_bytes_counts_every_text_however_deep_it_lies() -> None:
    turns = [{"role": "user", "content": "héllo"}, {"role": "assistant", "content": None}]

    assert text_bytes(pa.array([turns, None], MESSAGES)) == len("user") + 6 + len("assistant")
    assert text_bytes(pa.array(["abc", None, "de"])) == 5
    assert text_bytes(pa.array([1, 2])) == 0
