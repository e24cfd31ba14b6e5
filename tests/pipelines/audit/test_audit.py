"""Whole audits over a real file, with a scripted judge."""

import hashlib
import re
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from pipelines.audit.auditing import Auditing
from pipelines.audit.errors import AuditImpossible
from pipelines.audit.run import Audit, AuditOptions
from pipelines.audit.sample import draw, plant_kinds, planted_table, stored
from pipelines.engines.fake import FakeEngine
from pipelines.readers.importing import import_source
from pipelines.runner.errors import RunStopped
from pipelines.runner.models import Models
from pipelines.runner.plan import PlannedStage
from pipelines.runner.progress import Silent
from pipelines.runner.rowset import RowSet
from pipelines.store.gc import Collector, Freed
from pipelines.store.workspace import Workspace
from stages.base import Stage
from stages.context import Context
from stages.engines import Chat, Engine, EngineError, Geometry, Refused
from stages.verdicts import verdict
from tests.pipelines.runner.curating import EXACT, FILTER, Bench, Judge, rows, write_jsonl

ABOVE_0 = {**FILTER, "keep": {"above": 0}}
SHORT = {"kind": "clean.rules", "min_answer_chars": 45}  # answers have 50 characters and more
FEW = AuditOptions(rows=20, planted=6)


def knows(chat: Chat) -> Any:
    """A judge that knows which answer goes with which question, by the number in both.

    The confidence is 0.5 for the right one, -0.25 for another, and counts no other fault.
    """
    answer = str(chat[-1]["content"])
    question = re.search(r"number (\d+) about", str(chat[-2]["content"]))
    if question is None:
        return [-4.0] * len(answer.split())
    chapter = re.search(r"chapter (\d+),", answer)
    right = chapter is None or chapter[1] == question[1]
    return [-2.0 if right else -5.0] * len(answer.split())


class Proposer(Judge):
    """Proposes right answers and prefers them where the row's own is wrong."""

    def open(self, config: object) -> Engine:
        return FakeEngine(
            generate=lambda chat, sampling, sample: f"It is {_number(chat)}.",
            choose=self.weights,
            log_probs=knows,
        )

    def weights(self, chat: Chat, options: Sequence[str]) -> list[float]:
        text = str(chat[-1]["content"])
        if f"chapter {_number(chat)}," in text or "chapter" not in text:
            return [0.4, 0.4, 0.2]
        own_is_first = text.index("chapter") < text.index("[Answer B]")
        return [0.1, 0.8, 0.1] if own_is_first else [0.8, 0.1, 0.1]


def _number(chat: Chat) -> str:
    found = re.search(r"question number (\d+)", str(chat[-1]["content"]))
    assert found is not None
    return found[1]


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    made = Bench(tmp_path, stages=[SHORT, EXACT, ABOVE_0])
    write_jsonl(made.source, rows(60))
    return made


def audit(bench: Bench, judge: Judge | None = None, options: AuditOptions = FEW) -> dict[str, Any]:
    return Audit(
        bench.recipe(),
        Workspace(bench.folder / "workspace"),
        options,
        open_engine=(judge or Judge(knows)).open,
        identify=lambda config: {"model": config.model},
        find=lambda library: True,
    ).run()


def recalls(report: dict[str, Any], stage: str) -> dict[str, float]:
    return {
        one["kind"]: one["recall"]["value"] for one in report["figures"] if one["stage"] == stage
    }


def files(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_each_stage_catches_what_it_can_see(bench: Bench) -> None:
    report = audit(bench)

    nothing = {"swapped": 0.0, "neighbour": 0.0, "number": 0.0, "negated": 0.0}
    assert recalls(report, "clean.rules") == {**nothing, "truncated": 1.0, "echo": 1.0}
    assert recalls(report, "dedup.exact") == {**nothing, "truncated": 0.0, "echo": 0.0}
    found = recalls(report, "clear.filter")
    assert (found["swapped"], found["neighbour"], found["negated"]) == (1.0, 1.0, 0.0)
    # Neither names a wrong chapter.
    assert (found["truncated"], found["echo"]) == (0.0, 0.0)
    assert {kind for kind, share in recalls(report, "whole recipe").items() if share == 1.0} == {
        "swapped",
        "neighbour",
        "truncated",
        "echo",
    }


def test_figures_of_a_score_and_its_threshold(bench: Bench) -> None:
    report = audit(bench)

    (swapped,) = (
        one
        for one in report["figures"]
        if (one["stage"], one["kind"]) == ("clear.filter", "swapped")
    )
    sure, none = {"value": 1.0, "low": 1.0, "high": 1.0}, {"value": 0.0, "low": 0.0, "high": 0.0}
    assert swapped == {
        "stage": "clear.filter",
        "kind": "swapped",
        "failed": 0,
        "failed_clean": 0,
        "catches": True,
        "clean": 20,
        "bad": 6,
        "auroc": sure,
        "recall": sure,
        "precision": sure,
        "clean_lost": none,
        "threshold": {"value": 0.0, "precision": 1.0, "recall": 1.0, "clean_lost": 0.0},
    }


def test_it_is_said_in_words_what_is_caught_and_what_is_not(bench: Bench) -> None:
    report = audit(bench, options=replace(FEW, kinds=("swapped", "truncated", "negated")))

    assert report["findings"] == [
        {
            "kind": "swapped",
            "caught": True,
            "text": "swapped is caught: 6 of 6 dropped or flagged, and 0 of 20 clean rows "
            "(clear.filter: 6).",
        },
        {
            "kind": "truncated",
            "caught": True,
            "text": "truncated is caught: 6 of 6 dropped or flagged, and 0 of 20 clean rows "
            "(clean.rules: 6).",
        },
        {
            "kind": "negated",
            "caught": False,
            "text": "negated is NOT caught: 0 of 6 dropped or flagged, and 0 of 20 clean "
            "rows. The score of clear.filter does not tell them from clean rows (AUROC 0.50, at "
            "most 0.50).",
        },
    ]


def test_a_kind_that_fits_no_row_is_reported_and_has_no_figures(bench: Bench) -> None:
    report = audit(bench, options=replace(FEW, kinds=("swapped", "context")))

    assert report["planted"] == [
        {"kind": "swapped", "rows": 6, "wanted": 6, "tried": 6},
        {"kind": "context", "rows": 0, "wanted": 6, "tried": 40},
    ]
    assert {one["kind"] for one in report["figures"]} == {"swapped"}


def test_where_no_kind_fits_there_is_no_audit(bench: Bench) -> None:
    with pytest.raises(AuditImpossible) as stopped:
        audit(bench, options=replace(FEW, kinds=("context",)))

    assert str(stopped.value) == (
        "No kind of bad row (context) can be made of the 40 instruction rows that there are to "
        "make it of."
    )


def test_runs_and_verdicts_are_left_alone_and_their_scores_are_shared(bench: Bench) -> None:
    bench.run(Judge(knows))
    runs = files(bench.folder / "workspace" / "runs")
    judge = Judge(knows)

    report = audit(bench, judge)

    assert files(bench.folder / "workspace" / "runs") == runs
    # Two calls for each of the planted rows, none for the 20 that the run has scored.
    planted = sum(one["rows"] for one in report["planted"])
    assert (len(judge.asked), report["efforts"][-1]["scored"]) == (2 * planted, planted)


def test_a_run_uses_the_scores_of_an_audit(bench: Bench) -> None:
    audit(bench)
    judge = Judge(knows)

    bench.run(judge)

    assert len(judge.asked) == 2 * (60 - 20)


def test_the_same_audit_again_calls_no_model_and_writes_nothing(bench: Bench) -> None:
    first = audit(bench)
    before = files(bench.folder / "workspace")
    judge = Judge(knows)

    again = audit(bench, judge)

    assert (first.pop("reused"), again.pop("reused")) == (False, True)
    assert (again, judge.asked) == (first, [])
    assert files(bench.folder / "workspace") == before


def test_another_precision_finds_another_threshold(bench: Bench) -> None:
    bench.stages = [ABOVE_0]
    asked = replace(FEW, kinds=("negated",))

    found = [audit(bench, options=replace(asked, precision=share)) for share in (0.9, 0.2)]

    # All rows have one value: dropping them gives a precision of 6 in 26.
    assert [one["figures"][0]["threshold"] for one in found] == [
        None,
        {"value": 0.5, "precision": 6 / 26, "recall": 1.0, "clean_lost": 1.0},
    ]


def test_another_precision_or_threshold_calls_no_model(bench: Bench) -> None:
    audit(bench)
    judge = Judge(knows)
    bench.stages = [SHORT, EXACT, {**FILTER, "keep": {"above": 0.6}}]

    report = audit(bench, judge, replace(FEW, precision=0.2))

    assert judge.asked == []
    assert set(recalls(report, "clear.filter").values()) == {1.0}


def test_an_audit_that_was_stopped_goes_on(bench: Bench) -> None:
    broken = Judge(knows)

    def dies(chat: Chat) -> Any:
        if len(broken.asked) >= 20:
            raise EngineError("out of memory")
        return knows(chat)

    broken.answer = dies
    broken.probe = lambda: dies([])
    with pytest.raises(RunStopped):
        audit(bench, broken)
    judge = Judge(knows)

    report = audit(bench, judge)

    whole = Judge(knows)
    assert recalls(report, "clear.filter") == recalls(
        audit(Bench(_copied(bench), stages=bench.stages), whole), "clear.filter"
    )
    # Chunks of 4 rows, 2 calls each: 16 of the first 20 calls were stored.
    assert len(judge.asked) == len(whole.asked) - 16


def _copied(bench: Bench) -> Path:
    folder = bench.folder / "copy"
    folder.mkdir()
    (folder / "rows.jsonl").write_bytes(bench.source.read_bytes())
    return folder


def test_a_median_sees_the_rows_of_one_kind_at_a_time(bench: Bench) -> None:
    bench.stages = [FILTER]

    report = audit(bench, options=replace(FEW, kinds=("swapped", "neighbour")))

    # The lower half of 20 clean and 6 bad rows: the median of 26 is a clean value, 0.5, and all
    # that are not above it are dropped.
    assert recalls(report, "clear.filter") == {"swapped": 1.0, "neighbour": 1.0}
    assert [one["clean"] + one["bad"] for one in report["figures"]] == [26] * 4


def test_a_row_that_fails_is_out_of_the_figures_and_counted(bench: Bench) -> None:
    def refuses(chat: Chat) -> Any:
        answer = str(chat[-1]["content"])
        return Refused("too long") if answer.startswith("What is") else knows(chat)

    report = audit(bench, Judge(refuses), replace(FEW, kinds=("swapped", "echo")))

    found = {
        one["kind"]: (one["failed"], one["failed_clean"], one["bad"], one["clean"])
        for one in report["figures"]
        if one["stage"] == "clear.filter"
    }
    assert found == {"swapped": (0, 0, 6, 20), "echo": (6, 0, 0, 20)}
    assert report["findings"][1]["text"] == "echo: nothing is known, all rows have failed."


def test_clean_rows_that_fail_are_counted_beside_the_bad_ones(bench: Bench) -> None:
    def refuses(chat: Chat) -> Any:
        return Refused("too long") if "chapter 1" in str(chat[-1]["content"]) else knows(chat)

    report = audit(bench, Judge(refuses), replace(FEW, kinds=("swapped",)))

    (found,) = (one for one in report["figures"] if one["stage"] == "clear.filter")
    assert 0 < found["failed_clean"] == 20 - found["clean"]
    assert 0 < found["failed"] - found["failed_clean"] == 6 - found["bad"]


def test_a_budget_is_the_share_of_the_sample_that_it_is_of_the_data(bench: Bench) -> None:
    bench.stages = [{**FILTER, "keep": {"budget": 36}}]

    report = audit(bench, options=replace(FEW, kinds=("swapped",)))

    # 36 of 60: of 26, 15.6. What is not kept are the 6 bad rows and 4 of the clean ones.
    assert report["budgets"] == [
        {
            "stage": "clear.filter",
            "kind": "swapped",
            "budget": 36,
            "of": 60,
            "taken_as": 16,
            "taken_of": 26,
        }
    ]
    (found,) = (one for one in report["figures"] if one["stage"] == "clear.filter")
    assert (found["recall"]["value"], found["clean_lost"]["value"]) == (1.0, 4 / 20)


class Measures(Judge):
    """Finds short answers useless."""

    def open(self, config: object) -> Engine:
        return FakeEngine(logit_geometry=lambda chat, *_: self.geometry(str(chat[-1]["content"])))

    def geometry(self, answer: str) -> Geometry:
        return Geometry(float(len(answer)), np.ones(1_024, np.float32), len(answer.split()), False)


def test_the_budget_of_a_selection_is_a_share_too(bench: Bench) -> None:
    bench.stages = [{"kind": "uds.select", "model": "judge", "budget": 36}]

    report = audit(bench, Measures(), replace(FEW, kinds=("truncated",)))

    assert [(one["taken_as"], one["taken_of"]) for one in report["budgets"]] == [(16, 26)]
    (found,) = (one for one in report["figures"] if one["stage"] == "uds.select")
    assert (found["recall"]["value"], found["clean_lost"]["value"]) == (1.0, 4 / 20)


def test_a_collection_meanwhile_takes_nothing_that_an_audit_uses(bench: Bench) -> None:
    freed: list[Freed] = []

    def collects(chat: Chat) -> Any:
        if len(judge.asked) == 20:  # the first scores are stored
            workspace, month = Workspace(bench.folder / "workspace"), 30 * 24 * 3600
            freed.append(Collector(workspace, 0, now=lambda: time.time() + month).run())
        return knows(chat)

    judge = Judge(collects)

    report = audit(bench, judge)

    assert freed == [Freed()]
    assert list(Path(report["folder"]).glob("uses-*")) == []


def test_everything_stands_in_tables(bench: Bench) -> None:
    report = audit(bench)

    folder = Path(report["folder"])
    kept = pl.read_parquet(folder / "rows.parquet")
    scores = pl.read_parquet(folder / "scores.parquet")
    figures = pl.read_parquet(folder / "figures.parquet")
    counts = dict(kept.group_by("kind").len().iter_rows())
    assert counts == {
        "clean": 20,
        **{one["kind"]: one["rows"] for one in report["planted"] if one["rows"]},
    }
    kinds = len(counts) - 1
    assert scores.height == 3 * sum(20 + counts[kind] for kind in counts if kind != "clean")
    assert figures.height == len(report["figures"]) == 4 * kinds
    joined = kept.filter(kind="swapped").join(
        scores.filter(stage="clear.filter", kind="swapped"), on="id"
    )
    assert (joined["value"] == -0.25).all()
    assert (joined["answer"] != joined["right"]).all()


LATER = {
    "kind": "clear.calibrate",
    "score_column": "clear.filter.confidence",
    "labels": "meta.weight",
}


def test_a_stage_that_needs_true_labels_is_left_out(bench: Bench) -> None:
    bench.stages = [ABOVE_0, LATER]

    report = audit(bench)

    assert report["left_out"] == [
        {
            "stage": "clear.calibrate",
            "why": "meta.weight says of a planted row what was true before it was spoiled",
        }
    ]


def test_a_reused_audit_tells_what_is_left_out_of_the_recipe_that_it_is_asked_for(
    bench: Bench,
) -> None:
    bench.stages = [ABOVE_0]
    audit(bench)
    bench.stages = [ABOVE_0, LATER]

    report = audit(bench)

    assert report["reused"]
    assert [one["stage"] for one in report["left_out"]] == ["clear.calibrate"]


def test_a_recipe_without_a_stage_for_instruction_rows_cannot_be_audited(bench: Bench) -> None:
    bench.stages = [{**EXACT, "row_type": "document"}]

    with pytest.raises(AuditImpossible) as stopped:
        audit(bench)

    assert str(stopped.value) == (
        "This recipe cannot be audited:\ndedup.exact is left out: it works on document rows"
    )


def test_where_much_of_a_score_is_bad_the_figures_turn_round(bench: Bench) -> None:
    """`clear.judge`: a row is bad where a proposed answer beats its own."""
    propose = {"kind": "clear.propose", "model": "judge"}
    judge = {"kind": "clear.judge", "judge": "expected", "model": "judge"}
    bench.stages = [propose, judge]

    report = audit(bench, Proposer(), replace(FEW, kinds=("swapped",)))

    (found,) = (one for one in report["figures"] if one["stage"] == "clear.judge")
    assert found["auroc"]["value"] == 1.0
    assert found["recall"]["value"] == 0.0  # it keeps all
    threshold = found["threshold"]
    assert 0.5 < threshold.pop("value") < 1.0
    assert threshold == {"precision": 1.0, "recall": 1.0, "clean_lost": 0.0}


def test_a_stage_sees_what_earlier_ones_have_flagged_and_scored(bench: Bench) -> None:
    bench.stages = [
        {**ABOVE_0, "on_drop": "flag"},
        {"kind": "clear.propose", "model": "judge"},
        {"kind": "clear.judge", "judge": "expected", "model": "judge"},
        {"kind": "clear.correct", "eta": 0.95},  # never revises, and drops what is flagged
    ]

    report = audit(bench, Proposer(), replace(FEW, kinds=("swapped", "echo")))

    assert recalls(report, "clear.correct") == {"swapped": 1.0, "echo": 0.0}


class FailsBesideMany(Stage, frozen=True):
    """Fails the first row where there are more than 24, drops the last one."""

    kind: str = "fails.beside.many"

    def decide(self, rows: pl.LazyFrame, ctx: Context) -> pl.DataFrame:
        ids = rows.select("id").collect()
        number = pl.int_range(pl.len())
        fails = (number == 0) & (pl.len() > 24)
        keep = pl.when(~fails).then(number < pl.len() - 1)
        return ids.select("id", *verdict(keep, reason="last"))


def test_a_clean_row_that_fails_beside_one_kind_is_out_for_all(
    bench: Bench,
) -> None:
    workspace = Workspace(bench.folder / "workspace")
    tables = import_source(bench.recipe().source, workspace)
    sample = draw(RowSet(list(tables)), 20, 6, seed=0)
    few, many = (
        plant_kinds(sample.candidates, (kind,), count, seed=0)[0]
        for kind, count in (("echo", 3), ("swapped", 6))
    )
    made = [stored(workspace, "clean", sample.clean)]
    made += [stored(workspace, p.kind, planted_table(sample.candidates, p)) for p in (few, many)]
    auditing = Auditing(
        workspace, made, ("echo", "swapped"), Models({}, Judge().open), Context(), Silent(), 60
    )

    found = auditing.run_stage(PlannedStage(1, FailsBesideMany(), "instruction", ""))
    again = auditing.run_stage(PlannedStage(2, FailsBesideMany(name="again"), "instruction", ""))

    first = sample.clean["id"][0].as_py()
    for one in found:
        failed = one.rows.filter(verdict="fail")["id"].to_list()
        assert (one.kind, failed) == (one.kind, [first])
        assert one.rows.filter(verdict="drop")["bad"].to_list() == [True]
    # What is dropped stays for the next stage, what has failed does not.
    assert [one.rows.height for one in found] == [23, 26]
    assert [one.rows.height for one in again] == [22, 25]
