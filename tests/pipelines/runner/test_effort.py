"""Tokens, retries and money of a run, where they are kept."""

from pathlib import Path
from typing import Any

import pytest

from pipelines.engines.fake import FakeEngine
from pipelines.runner.outcome import Effort
from pipelines.store.runs import find_run
from pipelines.store.workspace import Workspace
from stages.engines import Engine, Usage
from tests.pipelines.runner.curating import FILTER, RULES, Bench, Judge, rows, write_jsonl


class PaidJudge(Judge):
    """A judge behind a server: each answer costs 0.001, was cached by half and asked for twice."""

    def open(self, config: object) -> Engine:
        def answer(chat: Any) -> Any:
            engine.usage.cost += 0.001
            engine.usage.retries += 1
            engine.usage.cached_tokens += 5
            return self._answer(chat)

        engine = FakeEngine(log_probs=answer)
        return engine


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    made = Bench(tmp_path, stages=[RULES, FILTER])
    write_jsonl(made.source, rows(10))
    return made


def test_what_a_call_cost_stands_with_its_stage_in_the_outcome_and_in_calls_json(
    bench: Bench,
) -> None:
    outcome = bench.run(PaidJudge())

    (call,) = find_run(Workspace(bench.folder / "workspace"), outcome.run_id).calls()
    names = ("model_calls", "cached_tokens", "retries", "cost")
    paid = [20, 100, 20, 0.02]
    assert [call["steps"]["clear.filter"][name] for name in names] == paid
    assert [call["steps"]["clean.rules"][name] for name in names] == [0, 0, 0, 0]
    told = outcome.as_json()
    assert [told["stages"][-1][name] for name in names] == paid
    assert told["cost"] == 0.02


def test_the_manifest_does_not_know_what_a_call_cost(bench: Bench) -> None:
    bench.run(PaidJudge())
    run = find_run(Workspace(bench.folder / "workspace"), None)
    manifest = (run.path / "manifest.json").read_text()

    assert "cost" not in manifest
    assert "retries" not in manifest


def test_an_effort_as_json_is_without_the_noise_of_floats() -> None:
    usage = Usage(
        calls=3, prompt_tokens=7, completion_tokens=5, cached_tokens=2, retries=1, cost=0.1 + 0.2
    )

    assert Effort(1.23456, 4, usage).as_json() == {
        "seconds": 1.235,
        "scored": 4,
        "model_calls": 3,
        "prompt_tokens": 7,
        "completion_tokens": 5,
        "cached_tokens": 2,
        "retries": 1,
        "cost": 0.3,
    }
