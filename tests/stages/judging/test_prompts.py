"""`stages.judging.prompts`: whole chats."""

from stages.judging.prompts import (
    DECIDE,
    EXPLAIN_AND_DECIDE,
    comparison,
    reflection,
    second_reflection,
)

ASKED = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "2 + 2?"}]


def test_the_message_comes_first_then_both_answers_then_what_to_do() -> None:
    chat = comparison(ASKED, ("4", "five"), DECIDE)

    assert chat[0] == ASKED[0]
    assert chat[1:] == [
        {
            "role": "user",
            "content": "2 + 2?\n\n"
            "Here are two answers to the message above.\n\n"
            "[Answer A]\n4\n[End of answer A]\n\n"
            "[Answer B]\nfive\n[End of answer B]\n\n"
            "Compare them: which one is right, complete and what the message asked for? "
            "Neither their length nor the order in which they stand here says anything about "
            "that. Is\n"
            "(A) answer A the better one,\n"
            "(B) answer B the better one, or\n"
            "(C) neither better than the other?\n"
            "Reply with the letter alone: A, B or C.",
        }
    ]


def test_answers_with_braces_or_with_each_others_marks_are_put_as_they_are() -> None:
    chat = comparison(ASKED, ("{verdict} {0}", "[Answer A]\n%s"), DECIDE)

    assert "[Answer A]\n{verdict} {0}\n[End of answer A]" in chat[1]["content"]
    assert "[Answer B]\n[Answer A]\n%s\n[End of answer B]" in chat[1]["content"]


def test_a_chat_that_ends_with_a_tool_gets_a_turn_of_its_own() -> None:
    tool = {"role": "tool", "content": "dry"}

    chat = comparison([*ASKED, tool], ("a", "b"), DECIDE)

    assert chat[:3] == [*ASKED, tool]
    assert chat[3]["role"] == "user"
    assert chat[3]["content"].startswith("Here are two answers to the message above.")


def test_a_reflection_begins_as_the_comparison_and_names_the_verdict_in_words() -> None:
    compared = comparison(ASKED, ("4", "five"), "")[1]["content"]

    asked = reflection(ASKED, ("4", "five"), "B")[1]["content"]

    assert asked.startswith(compared)
    assert asked.removeprefix(compared) == (
        "\nSomebody gave this verdict: Answer B is the better one.\n\n"
        "Is that verdict\n(A) correct,\n(B) incorrect, or\n(C) are you not sure?\n"
        "Explain in one or two sentences, then give the letter as your choice."
    )


def test_the_second_reflection_goes_on_after_the_reply_and_doubts() -> None:
    first = reflection(ASKED, ("4", "five"), "C")

    chat = second_reflection(first, '{"choice": "A"}', "C")

    assert chat[:-1] == [*first, {"role": "assistant", "content": '{"choice": "A"}'}]
    assert chat[-1]["role"] == "user"
    assert 'the verdict "Neither is better than the other."' in chat[-1]["content"]


def test_what_asks_for_reasons_asks_for_them_before_the_letter() -> None:
    assert EXPLAIN_AND_DECIDE.index("Explain") < EXPLAIN_AND_DECIDE.index("letter")
