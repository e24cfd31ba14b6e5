"""`clean.rules`: what it drops, why, and above all what it must not drop."""

import json
from typing import Any

import pytest

from schemas.rows import RowType
from stages.clean.rules import CleanRules

Chat = list[tuple[str, str | None]]


def chat(question: str, answer: str) -> Chat:
    return [("user", question), ("assistant", answer)]


TOOL_CALL = {"role": "assistant", "tool_calls": '[{"function":{"name":"weather"}}]'}
SONG = (
    "La la la, the rain came down\n" * 3 + "And I walked home alone\nThrough empty streets at dawn"
)

BROKEN = [
    ("empty", chat("Why?", "")),
    ("empty", chat("Why?", " \n\t ")),
    ("empty", chat("", "Because.")),
    ("empty", [("system", "Be brief."), ("assistant", "Because.")]),
    ("empty", [("user", "A"), ("assistant", " "), ("user", "B"), ("assistant", "C")]),
    ("placeholder", chat("Design a logo.", "<nooutput>")),
    ("placeholder", chat("Design a logo.", "No Output.")),
    ("placeholder", chat("Design a logo.", "N/A")),
    ("placeholder", chat("Is it?", "TODO: ")),
    ("placeholder", chat("Is it?", "<your answer here>")),
    ("placeholder", chat("Is it?", "[Insert your response]")),
    ("placeholder", chat("Is it?", "...........")),
    ("placeholder", chat("Is it?", "<none>")),
    ("placeholder", chat("Write a poem.", "None")),
    ("placeholder", chat("Write a poem.", "nan")),
    ("encoding_garbage", chat("Spell it.", "Le cafÃ© est trÃ¨s bon")),
    ("encoding_garbage", chat("Spell it.", "I donâ€™t know what youâ€™re on about")),
    ("encoding_garbage", chat("Spell it.", "Ð¿Ñ€Ð¸Ð²ÐµÑ‚")),
    ("encoding_garbage", chat("Spell it.", "The caf\ufffd is good")),
    ("encoding_garbage", chat("Spell it.", "\x03\x01\x07 and so on")),
    ("encoding_garbage", chat("My na\x00me is?", "Bob")),
    ("refusal", chat("Who won?", "I'm sorry, but I can't help with that request.")),
    ("refusal", chat("Who won?", "I’m sorry, I cannot assist you with this.")),
    ("refusal", chat("Who won?", "As an AI language model, I do not have opinions.")),
    ("refusal", chat("Who won?", "Unfortunately, I am an AI and have no access to the news.")),
    ("refusal", chat("Who won?", '"I cannot fulfill this request."')),
    ("refusal", chat("Who won?", "I am unable to browse the internet.")),
    ("repeated_lines", chat("List fruit.", "Apples are a good fruit.\n" * 6)),
    (
        "loop",
        chat("Say it.", "It is the case that the the the the the the the the the the the the"),
    ),
    ("loop", chat("Say it.", "Yes. " + "I love you so much. " * 8)),
    (
        "too_long",
        chat("Go on.", " ".join(map(str, range(20_000)))),
    ),
]

SOUND = [
    chat("How many of these are mammals? Trout, pike.", "None"),
    chat("Is any of them prime: 4, 6?", "None."),
    chat("Answer with none where nothing fits.", "none"),
    chat("What does dividing 0 by 0 give in Python's math?", "NaN"),
    chat("Add two to the number\n-2", "0"),
    chat("Output 1 for positive and 0 for negative.", "0"),
    chat("Which option?", "B"),
    chat("Convert to an emoji.", "😈"),
    chat("Flags?", "🇩🇪🇫🇷 👩‍👩‍👧‍👦 ✈️"),
    chat("Übersetze: I am hungry.", "Ich habe Hunger, und die Äpfel schmecken süß."),
    chat("Diga não.", "NÃO. A AÇÃO É À TARDE; Âncora, ESPAÑA, «Ñ», 5 °C."),
    chat("你好吗？", "我很好，谢谢。你呢？"),
    chat("Привет", "Привет! Как дела? РОССИЯ Ъ"),
    chat("שלום", "שלום וברכה"),
    chat(
        "Write a letter of condolence.", "I'm sorry for your loss. She was a dear friend to us all."
    ),
    chat("Decline a party.", "I'm sorry, but I can't make it on Friday. Have a lovely evening!"),
    chat("Begin a story.", "I can't help but wonder what became of the lighthouse keeper."),
    chat("You serve a shop. Greet me.", "As an AI assistant, I would greet you warmly."),
    chat(
        "What is a chatbot?",
        "A chatbot is a program that talks. I cannot overstate how common it is.",
    ),
    chat("Continue: Paris is", "the capital of France..."),
    chat("Write a song about rain.", SONG),
    chat("Loop in Python.", "for i in range(3):\n    print(i)\n    print(i)\n    print(i)\n"),
    chat("Three closed blocks in C.", "{\n{\n{\n}\n}\n}\n"),
    chat("An empty table.", "| a | b |\n|---|---|\n|   |   |\n|   |   |\n|   |   |"),
    chat("Draw a line.", "Here it is:\n" + "-" * 80),
    chat("A form.", "Name: " + "_" * 60),
    chat("Add spaces.", "a\tb\r\nc"),
    chat(
        "Explain mojibake.",
        "Text such as é, "
        + "read in the wrong encoding, shows as Ã©. "
        + " ".join(map(str, range(80))),
    ),
]


@pytest.mark.parametrize(("reason", "turns"), BROKEN)
def test_a_broken_row_is_dropped_for_its_own_reason(
    reason: str, turns: Chat, instructions: Any, curated: Any
) -> None:
    outcome = curated(CleanRules(), instructions(turns))

    assert outcome.reasons() == {"r0": reason}
    assert reason in json.loads(outcome.by_id()["r0"][2])["rules"]


@pytest.mark.parametrize("turns", SOUND)
def test_a_sound_row_is_kept(turns: Chat, instructions: Any, curated: Any) -> None:
    assert curated(CleanRules(), instructions(turns)).by_id() == {"r0": ("keep", None, "{}")}


def test_a_turn_that_calls_tools_is_not_empty_and_a_tool_may_return_nothing(
    instructions: Any, curated: Any
) -> None:
    rows = instructions(
        [("user", "Rain?"), TOOL_CALL],
        [("user", "Rain?"), TOOL_CALL, ("tool", ""), ("assistant", "It is dry.")],
        [("user", "Rain?"), TOOL_CALL | {"content": " "}, ("assistant", "It is dry.")],
    )

    assert curated(CleanRules(), rows).kept() == ["r0", "r1", "r2"]


def test_a_row_that_offers_tools_may_say_that_none_of_them_fits(
    instructions: Any, curated: Any
) -> None:
    turns = chat("Order a pizza.", "I'm sorry, but I don't have the ability to order food.")
    rows = instructions(turns, turns, turns, tools=['[{"name":"weather"}]', "[]", None])

    assert curated(CleanRules(), rows).reasons() == {"r1": "refusal", "r2": "refusal"}


def test_the_first_rule_gives_the_reason_and_the_evidence_all_that_hold(
    instructions: Any, curated: Any
) -> None:
    rows = instructions(chat("", "I cannot assist with that.\ufffd"))

    outcome = curated(CleanRules(min_answer_chars=100), rows)

    _, reason, evidence = outcome.by_id()["r0"]
    assert reason == "empty"
    assert json.loads(evidence) == {
        "rules": ["empty", "encoding_garbage", "refusal", "too_short"],
        "answer_chars": 27,
        "prompt_chars": 0,
        "blank_turns": 1,
        "garbage": 1,
        "garbage_share": 1 / 27,
        "repeated_line_share": 0.0,
        "loop_share": 0.0,
        "chars": 27,
    }


def test_a_skipped_rule_drops_nothing(instructions: Any, curated: Any) -> None:
    rows = instructions(chat("Who won?", "I'm sorry, but I can't help with that."))

    assert curated(CleanRules(skip=("refusal",)), rows).kept() == ["r0"]


def test_with_all_rules_skipped_everything_is_kept(instructions: Any, curated: Any) -> None:
    rows = instructions(*(turns for _, turns in BROKEN))
    every = tuple({reason for reason, _ in BROKEN} | {"too_short"})

    assert len(curated(CleanRules(skip=every), rows).kept()) == len(BROKEN)


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ({"min_answer_chars": 6}, "too_short"),
        ({"min_prompt_chars": 5}, "too_short"),
        ({"max_chars": 8}, "too_long"),
    ],
)
def test_lengths_are_counted_in_characters(
    config: dict[str, int], reason: str, instructions: Any, curated: Any
) -> None:
    rows = instructions(chat("Wie?", "schön"))  # 4 and 5 characters, the answer 6 bytes
    just = {
        name: value - 1 if name.startswith("min") else value + 1 for name, value in config.items()
    }

    assert curated(CleanRules(**config), rows).reasons() == {"r0": reason}
    assert curated(CleanRules(**just), rows).kept() == ["r0"]


def test_a_row_without_an_assistant_turn_has_an_error(instructions: Any, curated: Any) -> None:
    outcome = curated(CleanRules(), instructions([("user", "Hello?")], chat("Hello?", "Hi!")))

    assert outcome.scores["error"].to_list() == ["there is no assistant turn", None]
    assert outcome.kept() == ["r1"]


def test_thresholds_are_free_to_change_without_a_new_score() -> None:
    strict = CleanRules(min_answer_chars=9, max_garbage=0, max_loop=0.1, skip=("empty",))

    assert strict.scoring_config() == CleanRules().scoring_config()


def test_only_instruction_rows_are_accepted() -> None:
    accepted: tuple[RowType, ...] = CleanRules.accepts

    assert accepted == ("instruction",)
