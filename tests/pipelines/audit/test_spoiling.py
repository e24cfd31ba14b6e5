import re
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.audit.spoiling import (
    context_sentence,
    context_sentences,
    negated,
    number_changed,
    truncated,
)

TEXT = (
    "Rain falls on the hills of the west for most of the year. Farmers there keep sheep, "
    "and they sell the wool in town."
)
seeds = st.integers(0, 10_000)


@given(seeds)
def test_a_cut_answer_is_a_beginning_of_20_to_70_percent_that_ends_inside_a_sentence(seed) -> None:
    cut = truncated(TEXT, Random(seed))

    assert cut is not None
    assert TEXT.startswith(cut)
    assert 0.2 <= len(cut) / len(TEXT) <= 0.7
    assert cut[-1].isalnum()
    assert TEXT[len(cut)].isalnum() or TEXT[len(cut)] == " "


@pytest.mark.parametrize("answer", ["Paris.", "Yes, it is true that it is so.", "." * 80])
def test_an_answer_that_is_short_or_has_no_words_is_not_cut(answer: str) -> None:
    assert truncated(answer, Random(0)) is None


@given(st.text(max_size=200), seeds)
def test_whatever_is_cut_is_a_shorter_beginning(answer: str, seed: int) -> None:
    cut = truncated(answer, Random(seed))

    assert cut is None or (answer.strip().startswith(cut) and len(cut) < len(answer.strip()))


@pytest.mark.parametrize(
    ("answer", "pattern"),
    [
        ("It has 12 moons.", r"It has (\d+) moons\."),
        ("It cost $1,250.75 then.", r"It cost \$([\d,]+\.\d\d) then\."),
        ("Only 0 of them.", r"Only (\d+) of them\."),
        ("About 3.5% more", r"About (\d+\.\d)% more"),
    ],
)
@pytest.mark.parametrize("seed", range(20))
def test_a_number_becomes_another_one_that_is_written_alike(answer, pattern, seed) -> None:
    changed = number_changed(answer, Random(seed))

    assert changed is not None
    before, after = re.fullmatch(pattern, answer), re.fullmatch(pattern, changed)
    assert before is not None
    assert after is not None
    old, new = (float(found.group(1).replace(",", "")) for found in (before, after))
    assert old != new
    assert abs(new - old) <= max(1, old / 2)


@given(seeds)
def test_a_year_moves_by_2_to_40(seed: int) -> None:
    changed = number_changed("She was born in 1955.", Random(seed))

    assert changed is not None
    assert 2 <= abs(int(changed[16:20]) - 1955) <= 40


@pytest.mark.parametrize(
    "answer", ["No number here.", "1. apples\n2) pears", "B2B, a4 and v1.2.3", "x 007 y", ""]
)
def test_marks_of_lists_and_numbers_within_names_are_left_alone(answer: str) -> None:
    assert number_changed(answer, Random(0)) is None


@pytest.mark.parametrize(
    "answer",
    [
        "**1. Sleep**\n**2. Eat**",
        "**1.** Sleep\n**2)** Eat",
        "## 1. Why\n### 2. Title",
        "> - 1: sleep\n> - 2: eat",
        "Step 1. Sleep.\nStep 2. Eat, then repeat step 1.",
        "1) sleep, 2) eat and (3) drink",
        "Day 1: sleep\n**Day 2:** eat",
        "1. sleep 2. eat 3. drink",
        "It rains a lot [1], says the report [12].",
    ],
)
@pytest.mark.parametrize("seed", range(5))
def test_numbers_that_count_parts_or_name_sources_are_left_alone(answer: str, seed: int) -> None:
    assert number_changed(answer, Random(seed)) is None
    changed = number_changed(f"{answer}\nIn all: 640 grams.", Random(seed))
    assert changed is not None
    assert changed.startswith(f"{answer}\nIn all: ")


@pytest.mark.parametrize(
    "answer", ["42.", "**42.**", "He has 2. She has some.", "1955. Not before."]
)
def test_a_number_that_only_stands_like_a_mark_is_changed(answer: str) -> None:
    assert number_changed(answer, Random(0)) is not None


@pytest.mark.parametrize("digits", [20, 5_000])
def test_very_long_numbers_are_left_alone(digits: int) -> None:
    pi = "3" * digits

    assert number_changed(pi, Random(0)) is None
    assert number_changed(f"{pi} and 12", Random(0)).startswith(f"{pi} and ")


@given(st.text("0123456789.,- abc\n", max_size=60), seeds)
def test_a_changed_number_is_a_changed_answer(answer: str, seed: int) -> None:
    assert number_changed(answer, Random(seed)) != answer


@pytest.mark.parametrize(
    ("answer", "opposite"),
    [
        ("The sky is blue.", "The sky is not blue."),
        ("The sky is not green.", "The sky is green."),
        ("You can't eat it.", "You can eat it."),
        ("It cannot fly.", "It can fly."),
        ("It won't work.", "It will work."),
        ("They haven't left.", "They have left."),
        ("She did not come.", "She did come."),
        ("Is it so? It was so.", "Is it so? It was not so."),
        (
            "In May it rains - what a pity!\nWe will wait",
            "In May it rains - what a pity!\nWe will not wait",
        ),
    ],
)
def test_one_statement_is_turned_round(answer: str, opposite: str) -> None:
    assert negated(answer, Random(0)) == opposite


@pytest.mark.parametrize("answer", ["It may rain.", "It might not rain.", "It mightn't."])
def test_what_may_be_may_also_not_be_and_is_left_alone(answer: str) -> None:
    assert negated(answer, Random(0)) is None


@pytest.mark.parametrize("answer", ["Paris", "May I go, or is it late?", "A thesis, isn’t it", ""])
def test_an_answer_without_a_statement_that_the_rules_know_is_not_negated(answer: str) -> None:
    assert negated(answer, Random(0)) is None


@given(seeds)
def test_of_several_statements_just_one_is_negated(seed: int) -> None:
    answer = "It is old. It was new. It will rest."

    changed = negated(answer, Random(seed))

    assert changed in (
        "It is not old. It was new. It will rest.",
        "It is old. It was not new. It will rest.",
        "It is old. It was new. It will not rest.",
    )


CONTEXT = (
    "The mill was built in 1790 by a miller. It burned down in the year 1840.\n"
    "A museum has stood there since 1990. Gone."
)
SENTENCES = [
    "The mill was built in 1790 by a miller.",
    "It burned down in the year 1840.",
    "A museum has stood there since 1990.",
]


@pytest.mark.parametrize(
    "prompt",
    [f"When did it burn down?\n\n{CONTEXT}", f"{CONTEXT}\n\nWhen did the mill burn down?"],
)
def test_the_context_is_the_longer_part_and_short_sentences_are_none(prompt: str) -> None:
    assert context_sentences(prompt) == SENTENCES


@pytest.mark.parametrize("seed", range(10))
def test_the_answer_becomes_a_sentence_that_does_not_hold_it(seed: int) -> None:
    prompt = f"When did it burn down?\n\n{CONTEXT}"

    assert context_sentence(prompt, "In the year 1840.", Random(seed)) in (
        SENTENCES[0],
        SENTENCES[2],
    )


@pytest.mark.parametrize("prompt", ["When?", "When?\n\nIt was so. It was not.", CONTEXT])
def test_a_prompt_without_a_context_of_three_sentences_does_not_fit(prompt: str) -> None:
    assert context_sentence(prompt, "1840", Random(0)) is None
