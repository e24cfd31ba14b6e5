"""Whole files of every text format, compared line by line."""

import json
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from pipelines.exporters.report import ExportReport

Export = Callable[..., ExportReport]

FOUR = 'Vier. "4" \\ 4️⃣\n\u2028\x00'
TWO = "Was ist 2 + 2?"
USER = {"role": "user", "content": TWO}
ANSWER = {"role": "assistant", "content": FOUR}
SYSTEM = {"role": "system", "content": "Be brief."}
CALL = {"name": "add", "arguments": {"a": 2}}
CALLS = [{"id": "c1", "type": "function", "function": CALL}]


def written(path: Path) -> list[object]:
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def test_messages_hold_every_row_in_openai_shape(
    talk: pl.LazyFrame, export: Export, tmp_path: Path
) -> None:
    report = export(talk, format="messages", path="out.jsonl")

    assert written(tmp_path / "out.jsonl") == [
        {"messages": [USER, ANSWER], "topic": "maths", "n": 9007199254740993},
        {"messages": [SYSTEM, USER, ANSWER]},
        {"messages": [USER, ANSWER, {"role": "user", "content": "Sure?"}, ANSWER]},
        {
            "messages": [
                USER,
                {"role": "assistant", "content": None, "tool_calls": CALLS},
                {"role": "tool", "content": "4", "name": "add", "tool_call_id": "c1"},
                ANSWER,
            ],
            "tools": [{"name": "add"}],
            "topic": None,
        },
        {"messages": [USER, {"role": "assistant", "content": ""}], "label": False},
        {"messages": [{"role": "user", "content": TWO, "name": "Ada"}, ANSWER]},
    ]
    assert (report.rows, report.left_out) == (6, {})


def test_the_bytes_of_a_line_are_compact_json_with_the_columns_in_order(
    talk: pl.LazyFrame, export: Export, tmp_path: Path
) -> None:
    export(talk.head(1), format="messages", path="out.jsonl")

    assert (tmp_path / "out.jsonl").read_bytes() == (
        '{"messages":[{"role":"user","content":"Was ist 2 + 2?"},{"role":"assistant","content":'
        '"Vier. \\"4\\" \\\\ 4️⃣\\n\u2028\\u0000"}],"topic":"maths","n":9007199254740993}\n'
    ).encode()


def test_prompt_completion_parts_the_last_answer_from_what_led_to_it(
    talk: pl.LazyFrame, export: Export, tmp_path: Path
) -> None:
    report = export(talk, format="prompt-completion", path="out.jsonl")

    lines = written(tmp_path / "out.jsonl")
    assert lines[1] == {"prompt": [SYSTEM, USER], "completion": [ANSWER]}
    assert lines[2] == {
        "prompt": [USER, ANSWER, {"role": "user", "content": "Sure?"}],
        "completion": [ANSWER],
    }
    assert lines[4] == {
        "prompt": [USER],
        "completion": [{"role": "assistant", "content": ""}],
        "label": False,
    }
    assert (report.rows, report.left_out) == (6, {})


def test_plain_prompt_completion_holds_one_question_and_one_answer(
    talk: pl.LazyFrame, export: Export, tmp_path: Path
) -> None:
    report = export(talk, format="prompt-completion", style="plain", path="out.jsonl")

    assert written(tmp_path / "out.jsonl") == [
        {"prompt": TWO, "completion": FOUR, "topic": "maths", "n": 9007199254740993},
        {"prompt": TWO, "completion": "", "label": False},
    ]
    assert report.left_out == {"multi_turn": 1, "named_turn": 1, "system_turn": 1, "tools": 1}


def test_alpaca_holds_system_and_history_but_no_tools(
    talk: pl.LazyFrame, export: Export, tmp_path: Path
) -> None:
    report = export(talk, format="alpaca", path="out.jsonl")

    first = {"instruction": TWO, "input": "", "output": FOUR}
    assert written(tmp_path / "out.jsonl") == [
        {**first, "topic": "maths", "n": 9007199254740993},
        {**first, "system": "Be brief."},
        {"instruction": "Sure?", "input": "", "output": FOUR, "history": [[TWO, FOUR]]},
        {**first, "output": "", "label": False},
    ]
    assert report.left_out == {"named_turn": 1, "tools": 1}


def test_sharegpt_holds_a_call_as_a_turn_of_its_own(
    talk: pl.LazyFrame, export: Export, tmp_path: Path
) -> None:
    report = export(talk, format="sharegpt", path="out.jsonl")

    lines = written(tmp_path / "out.jsonl")
    assert lines[1] == {
        "conversations": [
            {"from": "system", "value": "Be brief."},
            {"from": "human", "value": TWO},
            {"from": "gpt", "value": FOUR},
        ]
    }
    assert lines[3] == {
        "conversations": [
            {"from": "human", "value": TWO},
            {"from": "function_call", "value": '{"name": "add", "arguments": {"a": 2}}'},
            {"from": "observation", "value": "4"},
            {"from": "gpt", "value": FOUR},
        ],
        "tools": '[{"name":  "add"}]',
        "topic": None,
    }
    assert (report.rows, report.left_out) == (5, {"named_turn": 1})


@pytest.mark.parametrize(
    ("turns", "reason"),
    [
        ([{"content": "Wait.", "tool_calls": json.dumps(CALLS)}], "words_beside_tool_call"),
        ([{"tool_calls": json.dumps(CALLS * 2)}], "several_tool_calls"),
        ([{"tool_calls": "[{]"}], "tool_calls_no_json"),
        ([{"tool_calls": '[{"type": "code"}]'}], "tool_call_shape"),
        ([{"role": "tool", "content": "4"}], "turn_order"),
        (
            [
                {"tool_calls": json.dumps(CALLS)},
                {"role": "tool", "content": "4", "tool_call_id": "c2"},
            ],
            "turn_order",
        ),
        ([{"role": "critic", "content": "Bad."}], "other_role"),
        ([{"content": None}], "no_content"),
        ([], "turn_order"),
        ([{"content": "4"}, {"role": "user", "content": "Sure?"}], "turn_order"),
        ([{"content": "4"}, {"content": "Four."}], "turn_order"),
        ([{"role": "user", "content": "Well?"}, {"content": "4"}], "turn_order"),
        ([{"role": "system", "content": "Be brief."}, {"content": "4"}], "turn_order"),
        ([{"tool_calls": json.dumps(CALLS)}, {"content": "4"}], "turn_order"),
    ],
)
def test_sharegpt_leaves_out_and_names_what_it_cannot_hold(
    rows, export: Export, tmp_path: Path, turns: list[dict[str, str]], reason: str
) -> None:
    unfit = rows({"messages": [USER, *({"role": "assistant", **turn} for turn in turns)]})

    report = export(unfit, format="sharegpt", path="out.jsonl")

    assert (report.rows, report.left_out) == (0, {reason: 1})
    assert (tmp_path / "out.jsonl").read_bytes() == b""


@pytest.mark.parametrize(
    "turns", [[ANSWER], [SYSTEM], [SYSTEM, ANSWER], [ANSWER, USER], [ANSWER, USER, ANSWER]]
)
def test_sharegpt_leaves_out_what_the_user_does_not_begin(
    rows, export: Export, turns: list[dict[str, str]]
) -> None:
    report = export(rows({"messages": turns}), format="sharegpt", path="out.jsonl")

    assert (report.rows, report.left_out) == (0, {"turn_order": 1})


def test_sharegpt_holds_what_ends_with_a_call(rows, export: Export, tmp_path: Path) -> None:
    calling = {"role": "assistant", "tool_calls": json.dumps(CALLS)}
    given = rows({"messages": [SYSTEM, USER, ANSWER, USER, calling]})

    export(given, format="sharegpt", path="out.jsonl")

    [line] = written(tmp_path / "out.jsonl")
    speakers = [turn["from"] for turn in line["conversations"]]
    assert speakers == ["system", "human", "gpt", "human", "function_call"]


def test_text_that_is_no_json_in_tools_leaves_the_row_out_and_not_the_file(
    rows, export: Export, tmp_path: Path
) -> None:
    given = rows(
        {"messages": [USER, ANSWER], "tools": "[1,"},
        {"messages": [USER, {"role": "assistant", "tool_calls": "{]"}]},
        {"messages": [USER, ANSWER]},
    )

    report = export(given, format="messages", path="out.jsonl")

    assert written(tmp_path / "out.jsonl") == [{"messages": [USER, ANSWER]}]
    assert report.left_out == {"tool_calls_no_json": 1, "tools_no_json": 1}


def test_a_conversation_that_ends_with_the_user_has_no_completion(
    rows, export: Export, tmp_path: Path
) -> None:
    given = rows({"messages": [USER, ANSWER, USER]}, {"messages": [USER, ANSWER]})

    report = export(given, format="prompt-completion", path="out.jsonl")

    assert (report.rows, report.left_out) == (1, {"last_turn_no_answer": 1})


def test_an_answer_alone_has_no_prompt(rows, export: Export, tmp_path: Path) -> None:
    given = rows({"messages": [ANSWER]}, {"messages": [SYSTEM, ANSWER]})

    report = export(given, format="prompt-completion", path="out.jsonl")

    assert written(tmp_path / "out.jsonl") == [{"prompt": [SYSTEM], "completion": [ANSWER]}]
    assert report.left_out == {"no_prompt": 1}


def pair(**more: object) -> dict[str, object]:
    chosen, rejected = {"role": "assistant", "content": "4"}, {"role": "assistant", "content": "5"}
    return {"prompt": [USER], "chosen": [chosen], "rejected": [rejected], "meta": "{}", **more}


def test_preference_holds_pairs_as_messages_with_their_scores(
    rows, export: Export, tmp_path: Path
) -> None:
    given = rows(
        pair(score_chosen=0.1, score_rejected=-3.0, margin=3.1, meta='{"by":"Ada"}'),
        pair(prompt=[SYSTEM, USER], tools="[]", margin=float("nan")),
        row_type="preference",
    )

    export(given, row_type="preference", format="preference", path="out.jsonl")

    four, five = {"role": "assistant", "content": "4"}, {"role": "assistant", "content": "5"}
    sides = {"chosen": [four], "rejected": [five]}
    assert written(tmp_path / "out.jsonl") == [
        {
            "prompt": [USER],
            **sides,
            "score_chosen": 0.1,
            "score_rejected": -3.0,
            "margin": 3.1,
            "by": "Ada",
        },
        {"prompt": [SYSTEM, USER], **sides, "tools": []},
    ]


def test_plain_preference_holds_single_turns(rows, export: Export, tmp_path: Path) -> None:
    given = rows(
        pair(),
        pair(prompt=[SYSTEM, USER]),
        pair(prompt=[USER, ANSWER, USER]),
        pair(tools='[{"name":"add"}]'),
        pair(chosen=[USER]),
        row_type="preference",
    )

    report = export(
        given, row_type="preference", format="preference", style="plain", path="out.jsonl"
    )

    assert written(tmp_path / "out.jsonl") == [{"prompt": TWO, "chosen": "4", "rejected": "5"}]
    assert report.left_out == {"multi_turn": 1, "system_turn": 1, "tools": 1, "turn_order": 1}


def test_columns_that_are_called_like_the_formats_own_are_renamed_and_reported(
    rows, export: Export, tmp_path: Path
) -> None:
    given = rows(
        {"messages": [USER, ANSWER], "meta": '{"label":"spam","meta_label":1,"a":"label"}'},
        {"messages": [USER, ANSWER], "meta": '{"label_id":2,"x":{"label":3}}'},
    )

    report = export(given, format="messages", path="out.jsonl")

    assert written(tmp_path / "out.jsonl") == [
        {"messages": [USER, ANSWER], "meta_label": "spam", "meta_meta_label": 1, "a": "label"},
        {"messages": [USER, ANSWER], "label_id": 2, "x": {"label": 3}},
    ]
    assert report.renamed == {"label": "meta_label", "meta_label": "meta_meta_label"}


TRL = ("messages", "conversations", "prompt", "completion", "chosen", "rejected", "input_ids")


@pytest.mark.parametrize(
    ("format_", "more"),
    [
        ("messages", ["label"]),
        ("prompt-completion", ["label", "text"]),
        ("sharegpt", ["label"]),
        ("preference", ["label"]),
    ],
)
def test_no_other_column_makes_trl_take_a_row_for_one_of_another_kind(
    rows, export: Export, tmp_path: Path, format_: str, more: list[str]
) -> None:
    """A row with a `prompt` is prompt and completion to trl's SFTTrainer, for example."""
    names = [*TRL, *more]
    meta = json.dumps(dict.fromkeys([*names, "prompt_id"], "x"))
    kind = "preference" if format_ == "preference" else "instruction"
    row = pair(meta=meta) if kind == "preference" else {"messages": [USER, ANSWER], "meta": meta}

    report = export(rows(row, row_type=kind), row_type=kind, format=format_, path="out.jsonl")

    [line] = written(tmp_path / "out.jsonl")
    assert report.renamed == {name: f"meta_{name}" for name in names}
    assert {name for name in line if line[name] == "x"} == {
        *(f"meta_{name}" for name in names),
        "prompt_id",
    }


def test_integers_of_any_length_come_out_exactly(rows, export: Export, tmp_path: Path) -> None:
    huge = 2**200 + 1
    given = rows(
        {"messages": [USER, ANSWER], "meta": f'{{"n":{huge}}}'},
        {"messages": [USER, ANSWER], "meta": f'{{"n":{huge},"label":{huge}}}'},
    )

    export(given, format="messages", path="out.jsonl")

    assert written(tmp_path / "out.jsonl") == [
        {"messages": [USER, ANSWER], "n": huge},
        {"messages": [USER, ANSWER], "n": huge, "meta_label": huge},
    ]


def test_spread_out_meta_stays_on_one_line(rows, export: Export, tmp_path: Path) -> None:
    given = rows(
        {"messages": [USER, ANSWER], "meta": '{\n  "a": {"b": 1}\r\n}'},
        {"messages": [USER, ANSWER], "meta": "{ }"},
        {"messages": [USER, ANSWER], "meta": None},
    )

    export(given, format="messages", path="out.jsonl")

    assert written(tmp_path / "out.jsonl") == [
        {"messages": [USER, ANSWER], "a": {"b": 1}},
        {"messages": [USER, ANSWER]},
        {"messages": [USER, ANSWER]},
    ]


def test_with_id_adds_the_rows_id(rows, export: Export, tmp_path: Path) -> None:
    given = rows({"id": 'a"1', "messages": [USER, ANSWER], "meta": '{"winnow_id":0}'})

    export(given, format="messages", with_id=True, path="out.jsonl")

    assert written(tmp_path / "out.jsonl") == [
        {"messages": [USER, ANSWER], "winnow_id": 'a"1', "meta_winnow_id": 0}
    ]


def test_a_json_path_gets_one_array(talk: pl.LazyFrame, export: Export, tmp_path: Path) -> None:
    export(talk, format="alpaca", path="lines.jsonl")
    export(talk, format="alpaca", path="array.json")

    assert json.loads((tmp_path / "array.json").read_bytes()) == written(tmp_path / "lines.jsonl")


def test_an_array_of_no_rows_is_an_empty_array(
    talk: pl.LazyFrame, export: Export, tmp_path: Path
) -> None:
    export(talk.head(0), format="messages", path="array.json")

    assert json.loads((tmp_path / "array.json").read_bytes()) == []
