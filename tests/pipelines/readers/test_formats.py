import json

import pytest

from pipelines.readers.source import SourceError

USER, ANSWER = ("user", "Who?"), ("assistant", "Me.")


@pytest.mark.parametrize(
    ("record", "format_", "chat"),
    [
        ({"instruction": "Who?", "input": "", "output": "Me."}, "alpaca", [USER, ANSWER]),
        ({"instruction": "Who?", "output": "Me."}, "alpaca", [USER, ANSWER]),
        (
            {"instruction": "Who?", "input": "Now.", "output": "Me."},
            "alpaca",
            [("user", "Who?\n\nNow."), ANSWER],
        ),
        (
            {
                "instruction": "Who?",
                "input": None,
                "output": "Me.",
                "system": "Be brief.",
                "history": [["Hi", "Hello"]],
            },
            "alpaca",
            [("system", "Be brief."), ("user", "Hi"), ("assistant", "Hello"), USER, ANSWER],
        ),
        (
            {"instruction": "Who?", "context": "Now.", "response": "Me."},
            "dolly",
            [("user", "Who?\n\nNow."), ANSWER],
        ),
        ({"prompt": "Who?", "completion": "Me."}, "prompt-completion", [USER, ANSWER]),
        (
            {
                "prompt": [{"role": "user", "content": "Who?"}],
                "completion": [{"role": "assistant", "content": "Me."}],
            },
            "prompt-completion",
            [USER, ANSWER],
        ),
        ({"prompt": "Who?", "response": "Me."}, "prompt-response", [USER, ANSWER]),
        ({"question": "Who?", "answer": "Me."}, "question-answer", [USER, ANSWER]),
        (
            {
                "messages": [
                    {"role": "system", "content": "Be brief."},
                    {"role": "user", "content": "Who?"},
                    {"role": "assistant", "content": "Me."},
                ]
            },
            "messages",
            [("system", "Be brief."), USER, ANSWER],
        ),
        (
            {
                "messages": [
                    {"role": "user", "content": [{"type": "text", "text": "Who?"}]},
                    {"role": "assistant", "content": "Me."},
                ]
            },
            "messages",
            [USER, ANSWER],
        ),
        (
            {
                "conversations": [
                    {"from": "human", "value": "Who?"},
                    {"from": "gpt", "value": "Me."},
                ]
            },
            "sharegpt",
            [USER, ANSWER],
        ),
        (
            {
                "conversations": [
                    {"role": "user", "content": "Who?"},
                    {"role": "assistant", "content": "Me."},
                ],
                "system": "Be brief.",
            },
            "sharegpt",
            [("system", "Be brief."), USER, ANSWER],
        ),
    ],
)
def test_an_instruction_format_is_found(importing, record, format_, chat):
    found = importing([record])
    assert (found.table.details["format"], found.chats) == (format_, [chat])
    assert (found.metas, found.failures) == ([{}], [])


@pytest.mark.parametrize(
    ("record", "format_", "prompt", "chosen", "rejected"),
    [
        (
            {"prompt": "Who?", "chosen": "Me.", "rejected": "You."},
            "preference",
            "Who?",
            "Me.",
            "You.",
        ),
        (
            {"instruction": "Who?", "input": "Now.", "chosen": "Me.", "rejected": "You."},
            "preference",
            "Who?\n\nNow.",
            "Me.",
            "You.",
        ),
        (
            {
                "prompt": [{"role": "user", "content": "Who?"}],
                "chosen": [{"role": "assistant", "content": "Me."}],
                "rejected": [{"role": "assistant", "content": "You."}],
            },
            "preference",
            "Who?",
            "Me.",
            "You.",
        ),
        (
            {
                "chosen": [
                    {"role": "user", "content": "Who?"},
                    {"role": "assistant", "content": "Me."},
                ],
                "rejected": [
                    {"role": "user", "content": "Who?"},
                    {"role": "assistant", "content": "You."},
                ],
                "prompt": "Who?",
                "messages": None,
            },
            "preference",
            "Who?",
            "Me.",
            "You.",
        ),
        (
            {
                "conversations": [{"from": "human", "value": "Who?"}],
                "chosen": {"from": "gpt", "value": "Me."},
                "rejected": {"from": "gpt", "value": "You."},
            },
            "preference",
            "Who?",
            "Me.",
            "You.",
        ),
        (
            {
                "chosen": "\n\nHuman: Who?\n\nAssistant: Me.",
                "rejected": "\n\nHuman: Who?\n\nAssistant: You.",
            },
            "transcripts",
            "Who?",
            "Me.",
            "You.",
        ),
    ],
)
def test_a_preference_format_is_found(importing, record, format_, prompt, chosen, rejected):
    found = importing([record])
    [row] = found.rows
    said = [
        [(m["role"], m["content"]) for m in row[side]] for side in ("prompt", "chosen", "rejected")
    ]
    assert found.table.details["format"] == format_
    assert said == [[("user", prompt)], [("assistant", chosen)], [("assistant", rejected)]]


def test_a_prompt_column_that_says_something_else_stays_in_meta(importing):
    sides = {
        name: [{"role": "user", "content": "Who?"}, {"role": "assistant", "content": name}]
        for name in ("chosen", "rejected")
    }
    assert importing([{"prompt": "A topic", **sides}]).metas == [{"prompt": "A topic"}]


def test_scores_of_a_pair_give_a_margin(importing):
    pair = {"prompt": "Who?", "chosen": "Me.", "rejected": "You."}
    found = importing([{**pair, "score_chosen": 4, "score_rejected": 1.5}])
    [row] = found.rows
    assert (row["score_chosen"], row["score_rejected"], row["margin"]) == (4.0, 1.5, 2.5)


@pytest.mark.parametrize("column", ["label", "kto_tag"])
def test_a_boolean_label_is_a_verdict_on_the_answer(importing, column):
    turns = [{"role": "user", "content": "Who?"}, {"role": "assistant", "content": "Me."}]
    found = importing([{"messages": turns, column: True}, {"messages": turns, column: False}])
    assert [row["label"] for row in found.rows] == [True, False]


def test_a_label_that_is_no_boolean_stays_in_meta(importing):
    found = importing([{"prompt": "Who?", "response": "Me.", "label": "geography"}])
    assert ([row["label"] for row in found.rows], found.metas) == ([None], [{"label": "geography"}])


def test_a_sharegpt_call_becomes_an_openai_tool_call(importing):
    call = '{"name": "weather", "arguments": {"town": "Köln"}}'
    turns = [
        {"from": "human", "value": "Rain?"},
        {"from": "function_call", "value": call},
        {"from": "observation", "value": "yes"},
        {"from": "gpt", "value": "Yes."},
    ]
    tools = '[{"name": "weather"}]'
    [row] = importing([{"conversations": turns, "tools": tools}]).rows
    expected = '[{"type": "function", "function": ' + call + "}]"
    assert [turn["role"] for turn in row["messages"]] == ["user", "assistant", "tool", "assistant"]
    assert (row["messages"][1]["tool_calls"], row["messages"][1]["content"]) == (expected, None)
    assert row["tools"] == tools


def test_a_call_in_an_unusual_spelling_keeps_its_text_in_meta(importing):
    call = '{"name":"now","arguments":{}}'
    turns = [{"from": "human", "value": "Time?"}, {"from": "function_call", "value": call}]
    assert importing([{"conversations": turns}]).metas == [
        {"conversations_extra": [{}, {"value": call}]}
    ]


def test_openai_tool_calls_come_as_lists_or_as_text(importing):
    calls = [{"id": "a", "type": "function", "function": {"name": "now", "arguments": "{}"}}]
    answers = [{"tool_calls": calls}, {"tool_calls": json.dumps(calls), "content": None}]
    found = importing(
        [
            {"messages": [{"role": "user", "content": "?"}, {"role": "assistant", **answer}]}
            for answer in answers
        ]
    )
    assert [row["messages"][1]["tool_calls"] for row in found.rows] == [json.dumps(calls)] * 2


def test_what_a_turn_holds_beside_its_text_stays_in_meta(importing):
    turns = [{"role": "user", "content": "?"}, {"role": "assistant", "content": "!", "weight": 0}]
    assert importing([{"messages": turns}]).metas == [{"messages_extra": [{}, {"weight": 0}]}]


def test_columns_map_nested_values_and_names_with_spaces(importing):
    record = {"The Question": "Who?", "small.model": "x", "small": {"text": "Me.", "right": True}}
    found = importing([record], columns={"prompt": "The Question", "response": "small.text"})
    assert found.chats == [[USER, ANSWER]]
    assert found.metas == [{"small.model": "x", "small": {"right": True}}]


def test_columns_rename_those_of_a_named_format(importing):
    record = {"dialog": [{"from": "human", "value": "Who?"}, {"from": "gpt", "value": "Me."}]}
    found = importing([record], format="sharegpt", columns={"messages": "dialog"})
    assert (found.chats, found.table.details["format"]) == ([[USER, ANSWER]], "sharegpt")


def test_an_unknown_format_says_what_is_there_and_what_each_format_lacks(importing):
    with pytest.raises(SourceError) as error:
        importing([{"ask": "Who?", "reply": "Me.", "n": 1}])
    lines = str(error.value).splitlines()
    assert lines[0] == "rows.jsonl: the first 1 records are in none of the known formats."
    assert lines[1] == "Columns: ask (a text), reply (a text), n (a number)."
    assert "  - alpaca: 'instruction' and 'output'" in lines
    assert "  source: {path: ..., columns: {prompt: COLUMN, response: COLUMN}}" in lines


def test_an_ambiguous_format_asks_which(importing):
    with pytest.raises(SourceError, match="could be read as alpaca, question-answer"):
        importing([{"instruction": "a", "output": "b", "question": "c", "answer": "d"}])


def test_a_named_format_is_checked(importing):
    with pytest.raises(SourceError, match="messages: 'messages'"):
        importing([{"prompt": "Who?", "response": "Me."}], format="messages")


def test_a_mapped_column_that_is_not_there_is_an_error(importing):
    with pytest.raises(SourceError, match="no column anwser, which columns: names"):
        importing([{"q": "Who?", "answer": "Me."}], columns={"prompt": "q", "response": "anwser"})


def test_a_row_type_that_the_file_has_not_is_an_error(importing):
    with pytest.raises(SourceError, match="holds instruction rows"):
        importing([{"prompt": "Who?", "response": "Me."}], row_type="preference")


def test_the_format_is_found_although_most_records_are_broken(importing):
    good = b'{"prompt": "Who?", "response": "Me."}\n'
    found = importing(b"{\n" * 30 + b'{"prompt": 1}\n' * 5 + good)
    assert (found.chats, len(found.failures)) == ([[USER, ANSWER]], 35)
