"""CLEAR's Auto-Correct end to end, with scripted models: filter, propose, judge, correct."""

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import duckdb
import pytest

from pipelines.runner.curation import Curation
from pipelines.runner.dry_run import DryRun, StageForecast
from pipelines.runner.errors import RunStopped
from pipelines.runner.restoring import rows_of
from pipelines.runner.views import run_views
from pipelines.store.workspace import Workspace
from schemas.ledger import Counts
from stages.engines import Chat
from tests.pipelines.runner.correcting import (
    BETTER,
    COUNT,
    CUT,
    EXPECTED,
    STAGES,
    WEAK,
    Script,
    bench,
    generated,
    number,
    run,
    second_chunk_of,
)
from tests.pipelines.runner.curating import Bench

SCORING = ["clear.filter", "clear.propose", "clear.judge"]


def ask(curation: Curation, sql: str) -> list[tuple[Any, ...]]:
    with duckdb.connect() as database:
        for view in run_views(curation.folder):
            database.execute(view)
        return database.execute(sql).fetchall()


def question(number_in_meta: str = "meta") -> str:
    return f"json_extract({number_in_meta}, '$.weight')::INT"


@pytest.mark.parametrize("judge", [STAGES[2], EXPECTED], ids=["sampled", "expected"])
def test_exactly_the_rows_whose_proposal_is_better_are_revised(
    tmp_path: Path, judge: dict[str, Any]
) -> None:
    curation = run(bench(tmp_path, judge), Script())

    revised = ask(
        curation,
        f"SELECT {question('p.meta')}, r.messages[-1].content, r.messages[1].content = "
        "p.messages[1].content, r.source FROM kept r JOIN rows p ON p.id = r.parents[1] "
        "ORDER BY r.place",
    )
    assert [n for n, *_ in revised] == sorted(BETTER)
    assert revised == [(n, f"A new answer to {n}", True, "clear.correct") for n in sorted(BETTER)]
    (counts,) = [one.counts for one in curation.outcome.stages if one.stage == "clear.correct"]
    lost = WEAK - BETTER
    assert counts == Counts(COUNT, COUNT - 30 - len(lost), 30 + len(lost), 0, created=30)
    reasons = ask(
        curation,
        f"SELECT {question()}, reason FROM dropped WHERE stage = 'clear.correct' ORDER BY place",
    )
    assert reasons == [
        (n, "revised" if n in BETTER else "low_confidence") for n in sorted(BETTER | lost)
    ]


def test_flagged_rows_among_the_revised_are_rescued(tmp_path: Path) -> None:
    curation = run(bench(tmp_path), Script())

    rescued = ask(
        curation,
        f"SELECT {question('p.meta')} FROM kept r JOIN dropped p ON p.id = r.parents[1] "
        "WHERE p.stage = 'clear.filter' AND p.flagged ORDER BY p.place",
    )
    assert [n for (n,) in rescued] == sorted(WEAK & BETTER)
    exported = curation.recipe.exports[0].path.read_text(encoding="utf-8").splitlines()
    assert len(exported) == COUNT - len(WEAK - BETTER)


def test_the_scores_are_those_computed_by_hand(tmp_path: Path) -> None:
    curation = run(bench(tmp_path), Script())

    judged = ask(
        curation,
        f"SELECT {question()}, p, verdict, failures FROM scores_clear_judge JOIN rows USING (id) "
        "ORDER BY place",
    )
    # O = 1, S = 1: c = 0.7 + 0.3
    assert judged == [
        (n, pytest.approx(1.0 if n in BETTER else 0.0, abs=1e-9), verdict, 0)
        for n in range(COUNT)
        for verdict in ["second" if n in BETTER else "first"]
    ]


def test_a_better_candidate_that_was_cut_stays_out_of_the_data(tmp_path: Path) -> None:
    def judge(chat: Chat, sampling: Any, sample: int) -> str:
        text = str(chat[0]["content"])
        if "[Answer A]" in text and "Somebody" not in text and number(chat) in CUT:
            at_a = "[Answer A]\na long" in text
            return json.dumps({"explanation": "long is good", "verdict": "A" if at_a else "B"})
        return generated(chat, sampling, sample)

    curation = run(bench(tmp_path), Script(generate=judge))

    told = ask(
        curation,
        f"SELECT {question()}, v.verdict, v.reason, v.evidence FROM verdicts v JOIN rows USING (id)"
        f" WHERE stage = 'clear.correct' AND {question()} IN (1, 2, 3) ORDER BY v.place",
    )
    assert [(n, verdict, reason) for n, verdict, reason, _ in told] == [
        (1, "keep", None),
        (2, "keep", None),
        (3, "drop", "low_confidence"),
    ]
    assert {json.loads(evidence)["not_revised"] for *_, evidence in told} == {"candidate_cut"}


def test_another_eta_calls_no_model_and_makes_other_rows(tmp_path: Path) -> None:
    made = bench(tmp_path, EXPECTED)
    first = run(made, Script())
    script = Script()
    made.stages = [*made.stages[:-1], {"kind": "clear.correct", "eta": 0.95}]

    second = run(made, script)

    assert script.asked == []
    kept = [
        ask(one, "SELECT count(*) FROM kept WHERE source = 'clear.correct'")
        for one in (first, second)
    ]
    assert kept == [[(30,)], [(0,)]]


def test_another_models_proposals_make_other_rows_of_the_same_verdicts(tmp_path: Path) -> None:
    made = bench(tmp_path)
    run(made, Script())
    made.options["models"] = {
        **made.options["models"],
        "tuned": {"kind": "transformers", "model": "b"},
    }

    def shouted(chat: Chat, sampling: Any, sample: int) -> str:
        text = generated(chat, sampling, sample)
        return text if "[Answer A]" in str(chat[0]["content"]) else f"{text}!"

    curation = run(made, Script(generate=shouted))

    answers = ask(curation, "SELECT messages[-1].content FROM kept WHERE source = 'clear.correct'")
    assert len(answers) == 30
    assert all(answer.endswith("!") for (answer,) in answers)


@pytest.mark.parametrize("stage", SCORING)
def test_a_run_that_stopped_goes_on_without_a_repeated_call(tmp_path: Path, stage: str) -> None:
    whole, stopped = bench(tmp_path / "whole"), bench(tmp_path / "stopped")
    undisturbed = Script()
    run(whole, undisturbed)
    dying, healthy = Script(dies_at=second_chunk_of(stage)), Script()

    with pytest.raises(RunStopped, match="fell off the bus"):
        run(stopped, dying)
    run(stopped, healthy)

    assert Counter(dying.asked + healthy.asked) == Counter(undisturbed.asked)
    assert min(len(dying.asked), len(healthy.asked)) > 0
    assert stopped.export.read_bytes() == whole.export.read_bytes()


def program(folder: Path, log: Path, *stage: str) -> "subprocess.CompletedProcess[bytes]":
    module = "tests.pipelines.runner.correcting"
    command = [sys.executable, "-m", module, str(folder), str(log), *stage]
    return subprocess.run(command, check=False)


@pytest.mark.slow
@pytest.mark.parametrize("stage", SCORING)
def test_a_run_that_was_killed_goes_on_without_a_repeated_call(tmp_path: Path, stage: str) -> None:
    whole = bench(tmp_path / "whole")
    undisturbed = Script()
    run(whole, undisturbed)
    log = tmp_path / "requests.log"

    assert program(tmp_path / "killed", log, stage).returncode == -9
    before = len(log.read_text(encoding="utf-8").splitlines())
    assert program(tmp_path / "killed", log).returncode == 0

    asked = log.read_text(encoding="utf-8").splitlines()
    assert Counter(asked) == Counter(undisturbed.asked)
    assert 0 < before < len(asked)
    assert (tmp_path / "killed/out/clean.jsonl").read_bytes() == whole.export.read_bytes()


def test_the_same_recipe_again_calls_no_model(tmp_path: Path) -> None:
    made = bench(tmp_path)
    run(made, Script())
    script = Script()

    again = run(made, script)

    assert script.asked == []
    assert again.outcome.reused


def test_a_row_that_the_judge_fails_on_is_failed_and_not_decided(tmp_path: Path) -> None:
    made = bench(tmp_path)
    made.options["max_failed"] = 0.1

    def mute(chat: Chat, sampling: Any, sample: int) -> str:
        judging = "[Answer A]" in str(chat[0]["content"])
        return "hm" if judging and number(chat) == 8 else generated(chat, sampling, sample)

    curation = run(made, Script(generate=mute))

    told = ask(curation, f"SELECT {question()}, stage FROM failed")
    assert told == [(8, "clear.judge")]
    (counts,) = [one.counts for one in curation.outcome.stages if one.stage == "clear.correct"]
    assert (counts.rows_in, counts.created) == (COUNT - 1, 29)


def forecast(made: Bench) -> list[StageForecast]:
    dry = DryRun(
        made.recipe(),
        Workspace(made.folder / "workspace"),
        identify=lambda config: {"model": config.model},
        find=lambda library: True,
    )
    return list(dry.run().stages)


def test_what_is_expected_before_a_run_names_all_stages(tmp_path: Path) -> None:
    told = [(one.stage, one.model_calls, one.creates) for one in forecast(bench(tmp_path))]

    assert told == [
        ("clear.filter", 2 * COUNT, False),
        ("clear.propose", COUNT, False),
        ("clear.judge", 2 * (1 + 2 + 2) * COUNT, False),
        ("clear.correct", 0, True),
    ]


def test_what_is_expected_after_a_run_knows_what_was_flagged(tmp_path: Path) -> None:
    made = bench(tmp_path)
    run(made, Script())
    made.stages.append({"kind": "dedup.exact"})

    last = forecast(made)[-1]

    # Rows that a stage makes are not counted.
    assert (last.rows, last.at_most) == (COUNT - len(WEAK | BETTER), True)


def test_the_rows_of_a_finished_run_know_what_was_flagged(tmp_path: Path) -> None:
    curation = run(bench(tmp_path), Script())

    assert rows_of(curation.folder).flagged("clear.filter").tolist() == sorted(WEAK)
