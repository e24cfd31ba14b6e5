"""Values of a pydantic model from a scripted engine, every path; whole chats and whole reasons."""

import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field

from pipelines.engines.fake import FakeEngine
from schemas.ids import digest
from stages.engines import Chat, Completion, Refused, Sampling
from stages.structured import schema_text, structured


class Grade(BaseModel, frozen=True, extra="forbid"):
    why: str
    score: int = Field(ge=1, le=5)


SCHEMA = (
    '{"additionalProperties":false,"properties":{"why":{"type":"string"},'
    '"score":{"maximum":5,"minimum":1,"type":"integer"}},"required":["why","score"],'
    '"type":"object"}'
)
ASKED = (
    "\n\nReply with one JSON object and nothing else. It must follow this JSON schema:\n" + SCHEMA
)
GOOD = '{"why": "right", "score": 5}'
SAMPLING = Sampling(max_tokens=50)
GUIDED = replace(SAMPLING, json_schema=SCHEMA)


class Script:
    """Replies by the first word of a chat, in turn; remembers what it was asked, call by call."""

    def __init__(self, **replies: Sequence[str | Refused]) -> None:
        waiting = {word: list(given) for word, given in replies.items()}
        self.engine = FakeEngine(
            generate=lambda chat, sampling, sample: waiting[_word(chat)].pop(0)
        )
        self.calls: list[tuple[list[Chat], Sampling, list[bytes]]] = []

    def generate(
        self, chats: Sequence[Chat], sampling: Sampling, keys: Sequence[bytes]
    ) -> list[list[Completion] | Refused]:
        self.calls.append((list(chats), sampling, list(keys)))
        return self.engine.generate(chats, sampling, keys)  # type: ignore[attr-defined]  # set per instance


def _word(chat: Chat) -> str:
    return (chat[0]["content"] or "").split()[0]


def ask(script: Script, *words: str, sampling: Sampling = SAMPLING) -> list[Any]:
    chats = [[{"role": "user", "content": word}] for word in words]
    return structured(script, chats, Grade, sampling, [word.encode() for word in words])


def test_an_answer_is_a_value_and_one_call_gives_those_of_all_chats() -> None:
    script = Script(one=[GOOD], two=['So: {"why": "wrong", "score": 1}'])

    found = ask(script, "one", "two")

    assert found == [[Grade(why="right", score=5)], [Grade(why="wrong", score=1)]]
    assert script.calls == [
        (
            [[{"role": "user", "content": word + ASKED}] for word in ("one", "two")],
            GUIDED,
            [b"one", b"two"],
        )
    ]


def test_a_reply_that_does_not_fit_is_asked_for_once_more_with_what_was_wrong() -> None:
    script = Script(one=[GOOD], two=['{"score": 7}', GOOD])

    found = ask(script, "one", "two")

    assert found == [[Grade(why="right", score=5)]] * 2
    (chat,), sampling, keys = script.calls[1]
    assert chat == [
        {"role": "user", "content": "two" + ASKED},
        {"role": "assistant", "content": '{"score": 7}'},
        {
            "role": "user",
            "content": "That reply cannot be used: why: Field required; score: Input should be "
            "less than or equal to 5 (found: 7)\n"
            "Reply once more, with the corrected JSON object and nothing else.",
        },
    ]
    assert sampling == GUIDED
    assert keys == [digest(b"two".hex(), "repair", 0)]
    assert len(script.calls) == 2


def test_all_repairs_of_all_samples_go_together_each_under_a_key_of_its_own() -> None:
    script = Script(one=["no", GOOD, "no", GOOD, GOOD], two=[GOOD, GOOD, "no", GOOD])

    found = ask(script, "one", "two", sampling=replace(SAMPLING, samples=3, temperature=1.0))

    assert found == [[Grade(why="right", score=5)] * 3] * 2
    assert [(len(chats), sampling.samples) for chats, sampling, _ in script.calls] == [
        (2, 3),
        (3, 1),
    ]
    assert script.calls[1][1].temperature == 1.0
    assert script.calls[1][2] == [
        digest(b"one".hex(), "repair", 0),
        digest(b"one".hex(), "repair", 2),
        digest(b"two".hex(), "repair", 2),
    ]


def test_what_is_wrong_twice_is_a_reason_and_spoils_no_other_sample() -> None:
    script = Script(one=["no", GOOD, "no again {"])

    assert ask(script, "one", sampling=replace(SAMPLING, samples=2)) == [
        [
            "the reply is not what was asked for: there is no JSON object (asked twice)",
            Grade(why="right", score=5),
        ]
    ]


@pytest.mark.parametrize(
    ("replies", "reason"),
    [
        (
            ["", '{"why": "well'],
            "the reply is not what was asked for: it is empty "
            "(asked again: the JSON object is not complete)",
        ),
        (
            ['{"why": "a", "score": "high"}', '{"why": 3, "score": 3, "more": null}'],
            "the reply is not what was asked for: score: Input should be a valid integer, unable "
            'to parse string as an integer (found: "high") (asked again: why: Input should be a '
            "valid string (found: 3); more: Extra inputs are not permitted (found: null))",
        ),
        (
            ["no", Refused("a prompt of 90 tokens, the model takes 64")],
            "the reply is not what was asked for: there is no JSON object (the repair request was "
            "refused: a prompt of 90 tokens, the model takes 64)",
        ),
        (
            ['{"why": "\\ud800", "score": 1}'] * 2,
            "the reply is not what was asked for: it holds half of a character, such as \\ud800 "
            "(asked twice)",
        ),
    ],
)
def test_a_reason_names_both_replies(replies: Sequence[str | Refused], reason: str) -> None:
    assert ask(Script(one=replies), "one") == [[reason]]


def test_a_reply_that_was_cut_says_so() -> None:
    long = '{"why": "' + "word " * 60
    script = Script(one=[long, long])

    assert ask(script, "one") == [
        [
            "the reply is not what was asked for: it was cut (max_tokens: 50); the JSON object "
            "is not complete (asked twice)"
        ]
    ]


def test_a_reply_that_was_cut_behind_its_object_is_sound() -> None:
    script = Script(one=[GOOD + " word" * 60])

    assert ask(script, "one") == [[Grade(why="right", score=5)]]


def test_a_chat_that_is_refused_is_refused_and_not_asked_again() -> None:
    script = Script(one=[Refused("too long")], two=[GOOD])

    assert ask(script, "one", "two") == [Refused("too long"), [Grade(why="right", score=5)]]
    assert len(script.calls) == 1


def test_no_chats_are_no_answers() -> None:
    assert ask(Script()) == []


def test_a_huge_wrong_reply_is_cut_before_it_is_sent_back() -> None:
    huge = "x" * 2_000_000
    script = Script(one=[huge, GOOD])

    found = ask(script, "one", sampling=replace(SAMPLING, max_tokens=10_000_000))

    assert found == [[Grade(why="right", score=5)]]
    assert script.calls[1][0][0][1] == {"role": "assistant", "content": "x" * 4_000 + " ..."}


def test_a_reason_stays_short_whatever_was_found() -> None:
    class Many(BaseModel, frozen=True):
        values: list[int]

    reply = json.dumps({"values": ["y" * 1_000] * 1_000})

    ((reason,),) = structured(
        FakeEngine(generate=lambda *_: reply),  # type: ignore[arg-type]  # its method is set late
        [[{"role": "user", "content": "?"}]],
        Many,
        Sampling(max_tokens=10_000),
        [b""],
    )

    assert isinstance(reason, str)
    assert reason.startswith("the reply is not what was asked for: values.0: Input should be a")
    assert reason.endswith(" ... (asked twice)")
    assert len(reason) < 600


def test_the_instruction_gets_a_turn_of_its_own_behind_an_assistant_turn() -> None:
    script = Script(one=[GOOD])
    chat = [{"role": "user", "content": "one"}, {"role": "assistant", "content": "1"}]

    structured(script, [chat], Grade, SAMPLING, [b""])

    assert script.calls[0][0] == [[*chat, {"role": "user", "content": ASKED.lstrip()}]]


def test_the_instruction_keeps_the_other_fields_of_the_turn_and_the_chat_as_it_was() -> None:
    script = Script(one=[GOOD])
    chat = [
        {"role": "system", "content": "one"},
        {"role": "user", "content": None, "name": "ada"},
    ]
    before = [dict(turn) for turn in chat]

    structured(script, [chat], Grade, SAMPLING, [b""])

    assert script.calls[0][0] == [[chat[0], {"role": "user", "content": ASKED, "name": "ada"}]]
    assert chat == before


def test_braces_in_the_data_are_left_alone() -> None:
    script = Script(one=['{"problem": "{schema} {problem}"}', GOOD])

    ask(script, "one")

    assert script.calls[1][0][0][1]["content"] == '{"problem": "{schema} {problem}"}'


class Part(BaseModel, frozen=True):
    title: str
    day: date


class Whole(BaseModel, frozen=True):
    parts: tuple[Part, ...]
    level: Literal["low", "high"]
    title: Annotated[str | None, Field(description="Of the whole.")] = None


def test_a_schema_is_compact_and_keeps_fields_that_are_called_title() -> None:
    assert schema_text(Whole) == (
        '{"$defs":{"Part":{"properties":{"title":{"type":"string"},"day":{"format":"date",'
        '"type":"string"}},"required":["title","day"],"type":"object"}},"properties":{"parts":'
        '{"items":{"$ref":"#/$defs/Part"},"type":"array"},"level":{"enum":["low","high"],'
        '"type":"string"},"title":{"anyOf":[{"type":"string"},{"type":"null"}],"default":null,'
        '"description":"Of the whole."}},"required":["parts","level"],"type":"object"}'
    )


def test_values_are_read_as_json_is() -> None:
    value = Whole(parts=(Part(title="a", day=date(2026, 1, 2)),), level="low")
    engine = FakeEngine(generate=lambda *_: value.model_dump_json())

    assert structured(
        engine,  # type: ignore[arg-type]  # its method is set late
        [[{"role": "user", "content": "?"}]],
        Whole,
        SAMPLING,
        [b""],
    ) == [[value]]


REPLIES = st.sampled_from(
    [GOOD, "no", "", '{"why": "", "score": 9}', f"```\n{GOOD}\n```", Refused("no")]
)


@given(st.lists(st.lists(REPLIES, min_size=2, max_size=2), max_size=8))
def test_each_chat_gets_its_own_outcome_whoever_its_neighbours_are(replies) -> None:
    names = [f"chat{number}" for number in range(len(replies))]
    together = ask(Script(**dict(zip(names, replies, strict=True))), *names)
    alone = [ask(Script(one=own), "one")[0] for own in replies]

    assert together == alone
