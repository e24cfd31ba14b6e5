"""Conversations as tokens; nothing is lost without a word."""

import copy

import pytest

from pipelines.engines.bundled import BUNDLED, bundled_folder
from pipelines.engines.chat_tokens import ChatTokens
from pipelines.train.errors import TrainingImpossible
from pipelines.train.samples import tokenised
from pipelines.train.tables import TableRow

LONG = "word " * 60


def chat(question: str, answer: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]


@pytest.fixture(scope="module")
def tokens() -> ChatTokens:
    from transformers import AutoTokenizer

    folder = str(bundled_folder(BUNDLED["smollm2-135m-instruct"]))
    return ChatTokens(AutoTokenizer.from_pretrained(folder, local_files_only=True), 256)


def test_a_sample_is_the_chat_as_the_template_renders_it(tokens: ChatTokens) -> None:
    found = tokenised([TableRow("a", chat("Hi.", "Hello!"), True)], tokens, 64)

    (sample,) = found.table.to_pylist()
    whole = tokens.tokenizer.decode(sample["input_ids"])
    answer = tokens.tokenizer.decode(sample["input_ids"][sample["answer_from"] :])
    assert whole.endswith(
        "<|im_start|>user\nHi.<|im_end|>\n<|im_start|>assistant\nHello!<|im_end|>"
    )
    assert answer == "Hello!<|im_end|>"
    assert found.ids == ("a",)


def test_what_cannot_be_trained_on_is_listed_with_its_reason(tokens: ChatTokens) -> None:
    rows = [
        TableRow("good", chat("Hi.", "Hello!"), True),
        TableRow("long answer", chat("Hi.", LONG), True),
        TableRow("long prompt", chat(LONG, "Yes."), True),
        TableRow("open end", chat("Hi.", "Hello!")[:1], True),
        TableRow("voted down", chat("Hi.", "Go away."), False),
    ]

    found = tokenised(rows, tokens, 50)

    assert found.counts("trained") == {"trained": 2, "left_out": 3, "cut": 1}
    assert [len(one) for one in found.table["input_ids"].to_pylist()][1] == 50
    reasons = {row_id: reason.split(",")[0] for row_id, reason in found.left_out}
    assert reasons["open end"] == "the last turn is not the assistant's"
    assert reasons["voted down"] == "label is false: the answer is not one to imitate"
    assert reasons["long prompt"].startswith("the prompt has ")
    assert list(found.lines("train"))[-1] == {
        "id": "long answer",
        "side": "train",
        "state": "cut",
    }


TOOLS = [{"type": "function", "function": {"name": "weather", "parameters": {}}}]


def test_tools_that_a_row_declares_are_part_of_its_prompt(tokens: ChatTokens) -> None:
    whole = copy.deepcopy(tokens.tokenizer)
    whole.chat_template = "{% if tools %}<tools>{{ tools | tojson }}</tools>{% endif %}" + (
        whole.chat_template
    )
    row = TableRow("a", chat("Rain?", "No."), True, TOOLS)

    found = tokenised([row], ChatTokens(whole, 256), 256)

    (sample,) = found.table.to_pylist()
    prompt = tokens.tokenizer.decode(sample["input_ids"][: sample["answer_from"]])
    assert prompt.startswith("<tools>[{")
    assert '"weather"' in prompt


def test_a_row_whose_tools_the_template_has_no_place_for_is_left_out(tokens: ChatTokens) -> None:
    rows = [
        TableRow("a", chat("Rain?", "No."), True, TOOLS),
        TableRow("b", chat("Rain?", "No."), True),
    ]

    found = tokenised(rows, tokens, 64)

    assert found.ids == ("b",)
    assert found.left_out == (
        ("a", "the model's chat template has no place for the tools of this chat"),
    )


def test_where_nothing_is_left_the_reasons_are_told(tokens: ChatTokens) -> None:
    rows = [TableRow(str(n), chat("Hi.", "Hello!")[:1], True) for n in range(3)]

    with pytest.raises(TrainingImpossible) as caught:
        tokenised(rows, tokens, 50)

    assert str(caught.value) == (
        "none of 3 rows can be used:\n  - 3 rows: the last turn is not the assistant's"
    )


def test_an_empty_table_is_told(tokens: ChatTokens) -> None:
    with pytest.raises(TrainingImpossible, match="the table holds no rows"):
        tokenised([], tokens, 50)
