"""`stages.clear.prompts`: the question first, the instructions after it."""

from stages.clear.prompts import (
    CHOOSE,
    EXPLAIN_AND_CHOOSE,
    reflection_prompt,
    sample_prompt,
    second_reflection_prompt,
)

PROMPT = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "2 + {answer}?"}]


def test_all_prompts_about_a_row_begin_alike() -> None:
    sample = sample_prompt(PROMPT)
    reflection = reflection_prompt(PROMPT, "4", EXPLAIN_AND_CHOOSE)

    assert sample[0] == reflection[0] == PROMPT[0]
    assert len(sample) == len(reflection) == 2
    assert sample[1]["content"].startswith("2 + {answer}?\n\n")
    assert reflection[1]["content"].startswith("2 + {answer}?\n\n")
    assert "reply to the message above:\n4\n" in reflection[1]["content"]


def test_texts_with_braces_stay_as_they_are() -> None:
    asked = reflection_prompt(PROMPT, "{answer} {0} %s", CHOOSE)[1]["content"]

    assert "\n{answer} {0} %s\n" in asked


def test_the_second_reflection_continues_the_first() -> None:
    first = reflection_prompt(PROMPT, "4", CHOOSE)

    second = second_reflection_prompt(first, "A", CHOOSE)

    assert second[:2] == first
    assert second[2] == {"role": "assistant", "content": "A"}
    assert second[3]["content"].startswith("Are you really sure")


def test_a_prompt_that_ends_in_a_tools_result_is_asked_in_a_turn_of_its_own() -> None:
    prompt = [{"role": "user", "content": "Rain?"}, {"role": "tool", "content": "dry"}]

    asked = sample_prompt(prompt)

    assert asked[:2] == prompt
    assert asked[2]["role"] == "user"
    assert asked[2]["content"].startswith("Work out the reply")


def test_the_rows_own_turns_are_not_changed() -> None:
    sample_prompt(PROMPT)

    assert PROMPT[1] == {"role": "user", "content": "2 + {answer}?"}
