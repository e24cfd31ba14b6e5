"""A whole run over a real file, with a judge whose answers and faults a test scripts."""

import json
from pathlib import Path

import pytest

from pipelines.engines.errors import ModelUnavailable
from pipelines.runner.errors import RunStopped, TooManyFailed
from pipelines.runner.progress import Silent
from schemas.ledger import Counts
from stages.engines import Chat, Engine, EngineError
from tests.pipelines.runner.curating import (
    EXACT,
    FILTER,
    RULES,
    Bench,
    Judge,
    curate,
    log_probs,
    rows,
    write_jsonl,
)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    made = Bench(tmp_path)
    write_jsonl(made.source, rows(30))
    return made


def counts(bench: Bench, judge: Judge | None = None) -> dict[str, Counts]:
    return {stage.stage: stage.counts for stage in bench.run(judge).stages}


def exported(bench: Bench) -> list[dict[str, object]]:
    return [json.loads(line) for line in bench.export.read_text(encoding="utf-8").splitlines()]


def test_rows_flow_from_file_to_export_and_keep_their_other_columns(bench: Bench) -> None:
    write_jsonl(bench.source, [*rows(6), rows(1)[0], {"instruction": "q", "output": True}])
    bench.options = {"max_failed": 0.2}
    bench.stages = [RULES, EXACT, {**FILTER, "keep": {"budget": 4}}]
    assert counts(bench) == {
        "import": Counts(8, 7, 0, 1),
        "clean.rules": Counts(7, 7, 0, 0),
        "dedup.exact": Counts(7, 6, 1, 0),
        "clear.filter": Counts(6, 4, 2, 0),
    }
    assert len(exported(bench)) == 4
    first = exported(bench)[0]
    source = rows(6)[int(str(first["weight"]))]
    assert first == {
        "messages": [
            {"role": "user", "content": source["instruction"]},
            {"role": "assistant", "content": source["output"]},
        ],
        "weight": source["weight"],
    }


def test_an_unchanged_rerun_finds_its_result_and_calls_no_model(bench: Bench) -> None:
    first = bench.run()
    written = bench.export.read_bytes()
    bench.export.unlink()
    judge = Judge()
    again = bench.run(judge)
    assert (again.run_id, again.reused, judge.asked) == (first.run_id, True, [])
    assert [s.as_manifest() for s in again.stages] == [s.as_manifest() for s in first.stages]
    assert bench.export.read_bytes() == written


def test_a_changed_threshold_calls_no_model(bench: Bench) -> None:
    bench.run()
    judge = Judge()
    bench.stages = [RULES, EXACT, {**FILTER, "keep": {"quantile": 0.25}}]
    outcome = bench.run(judge)
    assert judge.asked == []
    assert not outcome.reused


def test_a_grown_file_scores_only_its_new_rows(bench: Bench) -> None:
    bench.run()
    judge = Judge()
    write_jsonl(bench.source, [*rows(30), *rows(1, start=90)])
    bench.run(judge)
    assert set(judge.asked) == {rows(1, start=90)[0]["output"]}


def test_an_engine_that_dies_fails_no_row_and_the_same_command_goes_on(bench: Bench) -> None:
    judge = Judge()
    judge.answer = lambda chat: _dying(judge, 12, chat)
    with pytest.raises(RunStopped, match="the same command goes on from there"):
        bench.run(judge)
    again = Judge()
    outcome = bench.run(again)
    assert [stage.counts.failed for stage in outcome.stages] == [0, 0, 0, 0]
    # 12 chats are 6 rows: one chunk of 4 was stored, the one in flight is asked again.
    assert len(again.asked) == 2 * 30 - 2 * 4
    whole = Bench(bench.folder / "other")
    whole.folder.mkdir()
    write_jsonl(whole.source, rows(30))
    whole.run()
    assert bench.export.read_bytes() == whole.export.read_bytes()


def _dying(judge: Judge, after: int, chat: Chat) -> list[float]:
    if len(judge.asked) >= after:
        raise EngineError("the engine is gone")
    return log_probs(chat)


def test_one_poison_row_among_3000_costs_one_row(tmp_path: Path) -> None:
    bench = Bench(tmp_path, [{**FILTER, "chunk_rows": 64, "keep": {"above": 0}}])
    write_jsonl(bench.source, rows(3000))
    poison = rows(1, start=1234)[0]["instruction"]

    def answer(chat: Chat) -> list[float]:
        if any(turn["content"] == poison for turn in chat):
            raise ValueError("tokens out of range")
        return log_probs(chat)

    outcome = bench.run(Judge(answer))
    assert outcome.stages[1].counts.failed == 1
    assert outcome.stages[1].counts.kept + outcome.stages[1].counts.dropped == 2999
    curation = bench.curation(Judge())
    curation.begin()
    verdicts = curation.folder.verdicts_path(1, "clear.filter")
    failed = [row for row in _read(verdicts) if row["verdict"] == "fail"]
    assert [row["evidence"] for row in failed] == ['{"error":"ValueError: tokens out of range"}']


def test_too_many_failed_rows_fail_the_run_and_leave_the_earlier_export(bench: Bench) -> None:
    bench.run()
    earlier = bench.export.read_bytes()
    write_jsonl(bench.source, [*rows(30), {"instruction": "no answer"}])
    with pytest.raises(TooManyFailed) as caught:
        bench.run()
    assert str(caught.value).startswith(
        "1 of 31 rows failed, more than max_failed: 0.01 allows. No export was written."
    )
    assert bench.export.read_bytes() == earlier
    bench.options = {"max_failed": 0.05}
    assert bench.run().reused  # max_failed is no part of what a run is


def test_failed_rows_are_tried_again_only_on_demand(bench: Bench) -> None:
    bench.options = {"max_failed": 0.5}
    bad = rows(1, start=3)[0]["output"]

    def answer(chat: Chat) -> list[float]:
        if chat[-1]["content"] == bad:
            raise ValueError("hiccup")
        return log_probs(chat)

    assert bench.run(Judge(answer)).failed == 1
    idle = Judge()
    assert bench.run(idle).failed == 1
    assert idle.asked == []
    retried = Judge()
    assert bench.run(retried, retry_failed=True).failed == 0
    assert set(retried.asked) == {bad}
    assert bench.run(Judge()).failed == 0


def test_two_rows_that_fail_alike_are_failed_where_others_have_scores(bench: Bench) -> None:
    bench.options = {"max_failed": 0.5}
    bench.run()
    write_jsonl(bench.source, rows(32))
    bad = {row["output"] for row in rows(2, start=30)}

    def answer(chat: Chat) -> list[float]:
        if chat[-1]["content"] in bad:
            raise ValueError("no words")
        return log_probs(chat)

    assert bench.run(Judge(answer)).failed == 2
    assert bench.run(Judge(answer), retry_failed=True).failed == 2
    assert bench.run(retry_failed=True).failed == 0


def test_flagged_rows_flow_on(bench: Bench) -> None:
    flagging = {**FILTER, "keep": {"budget": 10}, "on_drop": "flag", "name": "flags"}
    bench.stages = [flagging, EXACT]
    found = counts(bench)
    assert found["flags"] == Counts(30, 10, 20, 0, flagged=20)
    assert found["dedup.exact"] == Counts(30, 30, 0, 0)
    assert len(exported(bench)) == 30


def test_a_limit_reads_the_first_records_only(bench: Bench) -> None:
    outcome = bench.run(limit=5)
    assert outcome.stages[0].counts == Counts(5, 5, 0, 0)
    assert outcome.run_id != bench.run().run_id


def test_two_runs_of_one_recipe_give_the_same_bytes(bench: Bench, tmp_path: Path) -> None:
    other = Bench(tmp_path / "other")
    other.folder.mkdir()
    write_jsonl(other.source, rows(30))
    bench.run()
    other.run()
    assert bench.export.read_bytes() == other.export.read_bytes()


def test_a_run_without_any_good_row_is_complete(bench: Bench) -> None:
    write_jsonl(bench.source, [{"instruction": "q", "output": ""} for _ in range(3)])
    assert counts(bench)["clear.filter"] == Counts(0, 0, 0, 0)
    assert exported(bench) == []


def _read(path: Path) -> list[dict[str, object]]:
    import polars as pl

    return pl.read_parquet(path).to_dicts()


def test_a_model_by_another_name_scores_nothing_again(bench: Bench) -> None:
    bench.run()
    judge = Judge()
    bench.options = {"models": {"arbiter": {"kind": "transformers", "model": "scripted"}}}
    bench.stages = [RULES, EXACT, {**FILTER, "model": "arbiter"}]
    bench.run(judge)
    assert judge.asked == []


def test_the_share_of_rows_that_may_fail_is_taken_exactly(bench: Bench) -> None:
    broken = [{"instruction": "no answer"} for _ in range(29)]
    write_jsonl(bench.source, [*rows(71), *broken])
    bench.options = {"max_failed": 0.29}
    bench.stages = [RULES]
    assert bench.run().failed == 29


def test_a_step_that_is_tried_again_counts_the_calls_of_all_its_tries(bench: Bench) -> None:
    judge = Judge()
    judge.answer = lambda chat: _dying(judge, 12, chat)
    curation = bench.curation(judge)
    curation.begin()
    for planned in curation.plan.stages[:2]:
        curation.run_stage(planned)
    with pytest.raises(RunStopped):
        curation.run_stage(curation.plan.stages[2])
    judge.answer = log_probs
    curation.run_stage(curation.plan.stages[2])
    curation.finish()
    assert curation.close("ok").model_calls == len(judge.asked)


def test_a_model_that_cannot_be_opened_is_for_the_user_to_mend(bench: Bench) -> None:
    def unavailable(config: object) -> Engine:
        raise ModelUnavailable("install it")

    curation = bench.curation(Judge())
    curation.open_engine = unavailable
    curation.models.open_engine = unavailable
    with pytest.raises(ModelUnavailable, match="install it"):
        curate(curation)


class Notes(Silent):
    """Progress that keeps what is worth knowing."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


class Stopping(Silent):
    """Ctrl-C when a stage begins."""

    def start(self, step: str, total: int, done: int, unit: str) -> None:
        if step == "clear.filter":
            raise KeyboardInterrupt


def test_a_finished_run_whose_verdicts_are_written_anew_is_unfinished_until_all_are(
    bench: Bench,
) -> None:
    first = bench.run()
    workspace = bench.folder / "workspace"
    (part,) = workspace.glob(f"scores/{first.stages[1].scoring_key}/part-*")
    part.unlink()  # one of clean.rules: all the judge's scores are there

    with pytest.raises(KeyboardInterrupt):
        bench.run(progress=Stopping())
    stopped = list(workspace.glob("runs/*/manifest.json"))
    again = bench.run()

    assert part.exists()
    assert stopped == []
    assert (again.run_id, again.reused) == (first.run_id, False)


def test_an_empty_source_is_noted_since_its_exports_will_be_empty(bench: Bench) -> None:
    write_jsonl(bench.source, [])
    progress = Notes()
    bench.run(progress=progress)
    assert progress.notes == ["the source holds no records: exports will hold none either"]
    assert exported(bench) == []
