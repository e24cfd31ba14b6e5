"""How cost, cached tokens and retries look: run, show, runs, --dry-run, Prefect's artifact."""

import json
from pathlib import Path
from typing import Any

import pytest

from flows.commands.run import print_outcome
from flows.counts import markdown, money, usage_lines

PAID = {"prompt_tokens": 9_000, "completion_tokens": 600, "model_calls": 40}
COUNTED = {"cached_tokens": 5_120, "retries": 3, "cost": 0.0342}


def stage(name: str, **fields: Any) -> dict[str, Any]:
    counts = dict.fromkeys(("in", "kept", "dropped", "failed", "flagged", "created"), 0)
    return {"stage": name, **counts, "reasons": {}, "seconds": 1.0, **fields}


def test_a_stage_tells_what_is_not_zero() -> None:
    assert usage_lines(
        [
            stage("clean.rules"),
            stage("clear.filter", **PAID, **COUNTED),
            stage("old"),
            stage("once", **PAID, cached_tokens=0, retries=1, cost=0.0),
        ]
    ) == [
        "clear.filter: 5,120 of 9,000 prompt tokens cached, 3 requests sent again, cost 0.0342",
        "once: 1 request sent again",
    ]


def test_several_costs_are_added_up() -> None:
    assert usage_lines([stage("a", cost=1.5), stage("b", cost=1_250.0)]) == [
        "a: cost 1.50",
        "b: cost 1,250.00",
        "cost 1,251.50 in all",
    ]


def test_money_shows_cents_or_what_there_is_of_them() -> None:
    assert [money(amount) for amount in (0, 3e-7, 0.00012, 0.5, 1, 12345.678)] == [
        "0.0000",
        "under 0.0001",
        "0.0001",
        "0.5000",
        "1.00",
        "12,345.68",
    ]


OUTCOME = {
    "run_id": "8ce4094d0416e4a8",
    "status": "ok",
    "reused": False,
    "stages": [stage("clear.filter", **PAID, **COUNTED)],
    "exports": [],
}


def test_run_closes_with_what_it_cost(capsys: pytest.CaptureFixture[str]) -> None:
    print_outcome(OUTCOME)

    assert capsys.readouterr().out == (
        "stage         in  kept  dropped  failed  model calls  seconds\n"
        "clear.filter   0     0        0       0           40        1\n"
        "clear.filter: 5,120 of 9,000 prompt tokens cached, 3 requests sent again, cost 0.0342\n"
        "run 8ce4094d0416e4a8\n"
    )


def test_the_artifact_of_prefect_tells_it_too() -> None:
    assert markdown(OUTCOME).splitlines()[-1] == (
        "- clear.filter: 5,120 of 9,000 prompt tokens cached, 3 requests sent again, cost 0.0342"
    )


def calls_of(run_id: str) -> Path:
    return Path(".winnow/runs") / run_id / "calls.json"


@pytest.fixture
def two_calls(winnow: Any, run_id: str) -> str:
    """A run with a call of before there was a price, and one that cost something."""
    path = calls_of(run_id)
    (call,) = json.loads(path.read_text())
    paid = json.loads(json.dumps(call))
    for name in ("cached_tokens", "retries", "cost"):
        for step in call["steps"].values():
            del step[name]
    paid["steps"]["dedup.exact"] |= {**PAID, **COUNTED}
    path.write_text(json.dumps([call, paid]))
    return run_id


def test_show_has_columns_for_what_was_counted_and_leaves_old_calls_empty(
    winnow: Any, two_calls: str
) -> None:
    result = winnow("show", two_calls)

    lines = result.stdout.splitlines()
    assert "cost         0.0342" in lines
    head = "call status step scored model calls tokens cached tokens retries cost seconds"
    assert " ".join(lines[-7].split()) == head
    assert len(lines[-6].split()) == 8  # day, time, status, step, scored, calls, tokens, seconds
    assert lines[-1].split()[2:-1] == [
        "ok",
        "dedup.exact",
        "2",
        "40",
        "9,600",
        "5,120",
        "3",
        "0.0342",
    ]
    assert max(len(line) for line in lines) <= 110


def test_show_says_nothing_of_cost_where_there_was_none(winnow: Any, run_id: str) -> None:
    printed = winnow("show", run_id).stdout

    assert "cost" not in printed
    assert "retries" not in printed


def test_runs_add_up_the_costs_of_all_calls(winnow: Any, two_calls: str) -> None:
    (told,) = json.loads(winnow("runs", "--json").stdout)

    assert (told["calls"], told["model_calls"], told["cost"]) == (2, 40, 0.0342)


PRICED = """\
name: priced
source: {path: rows.jsonl, id: key}
models:
  judge:
    kind: openai
    model: some-model
    base_url: http://127.0.0.1:9/v1
    tokenizer: smollm2-135m-instruct
    price: {prompt_per_million: 100000, completion_per_million: 1}
stages:
  - {kind: clean.rules}
  - {kind: clear.filter, estimator: likelihood, model: judge}
"""


def test_dry_run_says_what_reading_costs_and_what_is_not_in_the_figure(winnow: Any) -> None:
    Path("priced.yaml").write_text(PRICED)

    result = winnow("run", "priced.yaml", "--dry-run")
    told = json.loads(winnow("run", "priced.yaml", "--dry-run", "--json").stdout)

    lines = result.stdout.splitlines()
    cost = told["stages"][1]["cost_about"]
    assert cost == told["cost_about"] == told["stages"][1]["tokens_about"] / 10
    assert lines[0].split()[-1] == "cost"
    assert lines[1].split()[-1] == "0"  # tokens: a stage without a model has no cost
    assert lines[2].endswith(f"about {money(cost)}")
    assert lines[3:5] == [
        f"cost: about {money(cost)} for reading the rows' texts. What models write, the "
        "instructions around",
        "the texts and requests that are sent again come on top; tokens that a server has cached "
        "may cost less.",
    ]
