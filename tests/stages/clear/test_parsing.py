"""`stages.clear.parsing`: what a model's reply says, and None where it says nothing."""

import pytest

from stages.clear.parsing import answer_of, letter_of, stripped


@pytest.mark.parametrize(
    ("reply", "answer"),
    [
        ("explanation: France it is.\nanswer: Paris", "Paris"),
        ("Explanation: ...\n**Answer:** Paris.", "Paris"),
        ("ANSWER: \n1. One\n2. Two\n", "1. One\n2. Two"),
        ("The first answer: no, wrong.\nanswer: 42", "42"),
        ("I think that the answer: 42", "42"),
        ('answer: "Paris"', "Paris"),
        ("Paris", None),
        ("explanation: I do not know.\nanswer:", None),
        ("answer: **", None),
        ("", None),
    ],
)
def test_the_answer_is_what_follows_the_last_answer_mark(reply: str, answer: str | None) -> None:
    assert answer_of(reply) == answer


@pytest.mark.parametrize(
    ("reply", "letter"),
    [
        ("explanation: fine.\nchoice: A", "A"),
        ("choice: (b)", "B"),
        ("**Choice:** [C]", "C"),
        ("Choice: A\nNo, on second thought.\nchoice: B", "B"),
        ("It is wrong.\n(B)", "B"),
        ("A", "A"),
        ("**C**.", "C"),
        ("The proposed reply is incorrect. The correct answer is (B).", "B"),
        ("I choose option C.", "C"),
        ("The answer is a good one.", None),
        ("The answer is Correct.", None),
        ("(A) correct,\n(B) incorrect,\n(C) are you not sure?", None),
        ("The right answer is B, which the proposed reply gives.\n(A)", "A"),
        ("The right answer is B, which the proposed reply gives.", None),
        ("The right answer is B.\nThe proposed reply says so.", None),
        ("choice: A, since it is right", "A"),
        ("choice: **B** - it is wrong", "B"),
        ("choice: (A) correct", "A"),
        ("choice: C (not sure)", "C"),
        ("choice: A correct", "A"),
        ("choice: **B** is what I say", "B"),
        ("choice: A because it says so", "A"),
        ("The answer is (A) correct.", "A"),
        ("choice: B\nNo.\nchoice: A good reply", None),
        ("choice: B\nOn reflection it is right.\nchoice: A correct", "A"),
        ("choice: A, B or C", None),
        ("choice: (A), (B) or (C)", None),
        ("choice: A/B/C", None),
        ("choice: A or B", None),
        ("choice: <A, B or C>", None),
        ("choice: (A) correct, (B) incorrect, or (C) not sure", None),
        ("choice: A good reply", None),
        ("choice: A good reply.\nchoice: B", "B"),
        ("A good answer, I would say.", None),
        ("choice: a matter of taste", None),
        ("choice: D", None),
        ("choice: Apples", None),
        ("I am sure.", None),
        ("", None),
    ],
)
def test_the_letter_is_the_last_choice_or_stands_at_the_end(reply: str, letter: str | None) -> None:
    assert letter_of(reply, finished=True) == letter


@pytest.mark.parametrize(
    ("reply", "letter"),
    [
        ("explanation: the right answer is B", None),
        ("explanation: of these options:\n(A)", None),
        ("choice: A\nexplanation: it is right, since", "A"),
    ],
)
def test_of_a_reply_that_was_cut_only_a_choice_counts(reply: str, letter: str | None) -> None:
    assert letter_of(reply, finished=False) == letter


@pytest.mark.parametrize(
    ("text", "bare"),
    [
        (" Paris. ", "Paris"),
        ('"Paris."', "Paris"),
        ("“Paris”", "Paris"),
        ("**Paris**", "Paris"),
        ("'", "'"),
        ("It's", "It's"),
        ("...", ".."),
        ("", ""),
    ],
)
def test_answers_are_compared_without_what_surrounds_them(text: str, bare: str) -> None:
    assert stripped(text) == bare
