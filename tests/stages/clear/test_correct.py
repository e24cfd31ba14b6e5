"""`clear.correct`: verdicts and new rows, in a table that can be checked by eye."""

import json
from typing import Any

import polars as pl
import pyarrow as pa
import pytest

from stages.clear.correct import ClearCorrect

CALL = '[{"id":"1","function":{"name":"rain","arguments":"{}"}}]'
PARIS = [("user", "Capital of France?"), ("assistant", "Lyon")]
STAGE = ClearCorrect()


def table(
    instructions: Any,
    *rows: tuple[Any, ...],
    conversation: Any = PARIS,
    tools: str | None = None,
    judged: str = "second",
) -> pa.Table:
    """Rows of (p, flagged) or (p, flagged, finished)."""
    ps, flags, finished = zip(
        *[row if len(row) == 3 else (*row, True) for row in rows], strict=True
    )
    found = instructions(*[conversation] * len(rows), tools=[tools] * len(rows))
    for name, values, kind in (
        ("clear.judge.p", ps, pa.float64()),
        ("clear.judge.verdict", [judged] * len(rows), pa.string()),
        ("clear.filter.flagged", flags, pa.bool_()),
        ("clear.propose.finished", finished, pa.bool_()),
        ("clear.propose.candidate", ["Paris"] * len(rows), pa.string()),
    ):
        found = found.append_column(name, pa.array(values, kind))
    return found


def decided(stage: ClearCorrect, rows: pa.Table) -> list[tuple[str, str | None, Any]]:
    found = stage.decide(pl.DataFrame(rows).lazy(), None).collect()  # type: ignore[arg-type]  # it asks for nothing
    return [
        (verdict, reason, json.loads(evidence))
        for verdict, reason, evidence in found.select("verdict", "reason", "evidence").iter_rows()
    ]


def created(rows: pa.Table, *reasons: str | None) -> list[dict[str, Any]]:
    judged = rows.append_column("reason", pa.array(reasons, pa.string()))
    made = STAGE.create(judged, None)  # type: ignore[arg-type]  # it asks for nothing
    return [] if made is None else made.to_pylist()


def test_each_line_of_the_table(instructions: Any) -> None:
    rows = table(instructions, (0.9, False), (0.9, True), (0.8, False), (0.8, True), (None, False))

    def told(p: float | None, flagged: bool) -> dict[str, Any]:
        return {"p": p, "eta": 0.8, "flagged": flagged}

    assert decided(STAGE, rows) == [
        ("drop", "revised", told(0.9, False)),
        ("drop", "revised", told(0.9, True)),
        ("keep", None, told(0.8, False)),
        ("drop", "low_confidence", told(0.8, True)),
        ("fail", "undecided", told(None, False)),
    ]


def test_another_eta_needs_no_other_score(instructions: Any) -> None:
    rows = table(instructions, (0.6, False))

    assert decided(ClearCorrect(eta=0.5), rows) == [
        ("drop", "revised", {"p": 0.6, "eta": 0.5, "flagged": False})
    ]
    assert ClearCorrect(eta=0.5).for_scoring() == STAGE


def test_a_candidate_that_was_cut_is_never_put_into_the_data(instructions: Any) -> None:
    rows = table(instructions, (0.9, False, False), (0.9, True, False), (0.7, False, False))

    assert decided(STAGE, rows) == [
        ("keep", None, {"p": 0.9, "eta": 0.8, "flagged": False, "not_revised": "candidate_cut"}),
        (
            "drop",
            "low_confidence",
            {"p": 0.9, "eta": 0.8, "flagged": True, "not_revised": "candidate_cut"},
        ),
        ("keep", None, {"p": 0.7, "eta": 0.8, "flagged": False}),
    ]


def test_an_answer_that_calls_tools_is_not_replaced_by_text(instructions: Any) -> None:
    calling = [("user", "Rain?"), {"role": "assistant", "content": "", "tool_calls": CALL}]

    assert decided(STAGE, table(instructions, (0.9, False), conversation=calling)) == [
        (
            "keep",
            None,
            {"p": 0.9, "eta": 0.8, "flagged": False, "not_revised": "answer_calls_tools"},
        )
    ]


def test_a_row_that_declares_tools_is_not_revised(instructions: Any) -> None:
    rows = table(instructions, (0.9, False), (0.9, True), (0.7, False), tools="[{}]")

    assert decided(STAGE, rows) == [
        (
            "keep",
            None,
            {"p": 0.9, "eta": 0.8, "flagged": False, "not_revised": "row_declares_tools"},
        ),
        (
            "drop",
            "low_confidence",
            {"p": 0.9, "eta": 0.8, "flagged": True, "not_revised": "row_declares_tools"},
        ),
        ("keep", None, {"p": 0.7, "eta": 0.8, "flagged": False}),
    ]


def test_a_row_whose_list_of_tools_is_empty_declares_none(instructions: Any) -> None:
    rows = table(instructions, (0.9, False), tools="[]")

    assert [verdict for verdict, _, _ in decided(STAGE, rows)] == ["drop"]  # for a better row


@pytest.mark.parametrize("judged", ["split", "tie", "first"])
def test_nothing_is_revised_that_the_judge_does_not_prefer_in_all_orders(
    instructions: Any, judged: str
) -> None:
    rows = table(instructions, (0.7, False), (0.7, True), (0.5, False), judged=judged)

    assert decided(ClearCorrect(eta=0.6), rows) == [
        (
            "keep",
            None,
            {"p": 0.7, "eta": 0.6, "flagged": False, "not_revised": f"judged_{judged}"},
        ),
        (
            "drop",
            "low_confidence",
            {"p": 0.7, "eta": 0.6, "flagged": True, "not_revised": f"judged_{judged}"},
        ),
        ("keep", None, {"p": 0.5, "eta": 0.6, "flagged": False}),
    ]


def test_an_answer_after_a_tool_call_is_replaced(instructions: Any) -> None:
    answering = [
        ("user", "Rain?"),
        {"role": "assistant", "tool_calls": CALL},
        {"role": "tool", "content": "no", "tool_call_id": "1"},
        ("assistant", "Rain!"),
    ]

    ((verdict, reason, _),) = decided(
        STAGE, table(instructions, (0.9, False), conversation=answering)
    )

    assert (verdict, reason) == ("drop", "revised")


def test_a_new_row_is_the_chat_with_the_candidate_as_its_answer(instructions: Any) -> None:
    conversation = [
        ("system", "Be brief."),
        *PARIS[:1],
        ("assistant", "Lyon", "bot"),
        ("user", "Really?"),
    ]
    rows = table(instructions, (0.9, False), (0.9, False), conversation=conversation)

    made = created(rows, "revised", None)

    turns = [{**turn, "name": turn["name"]} for turn in rows["messages"].to_pylist()[0][:2]]
    answer = {"role": "assistant", "content": "Paris", "name": "bot"}
    empty = {"tool_calls": None, "tool_call_id": None}
    assert made == [
        {
            "messages": [*turns, {**answer, **empty}],
            "tools": None,
            "label": None,
            "parents": ["r0"],
            "sample": 0,
        }
    ]


@pytest.mark.parametrize("reason", [None, "low_confidence", "undecided"])
def test_nothing_is_made_of_a_row_that_is_not_revised(
    instructions: Any, reason: str | None
) -> None:
    assert created(table(instructions, (0.9, False)), reason) == []


def test_it_reads_from_the_stages_that_it_names() -> None:
    stage = ClearCorrect(filter="f", proposals="p.2", judge="j")

    assert stage.reads() == ("messages", "tools", "p.2.candidate")
    assert stage.consults() == ("j.p", "j.verdict", "p.2.finished", "f.flagged")
