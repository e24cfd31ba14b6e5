import pytest

from pipelines.audit.planting import KINDS, Candidate, Kind, candidate_of, plant

FACTS = [
    ("What is the capital of France?", "The capital of France is Paris, and it has 2 rivers."),
    ("What is the capital of Spain?", "The capital of Spain is Madrid, and it has 1 river."),
    ("How do you bake rye bread at home?", "You can mix flour with water and wait for 12 hours."),
    ("How do you bake white bread at home?", "You will need yeast, flour, and about 3 hours."),
    ("Who wrote the novel Emma?", "The novel was written by Jane Austen in the year 1815."),
    ("Who wrote the novel Ulysses?", "The novel was written by James Joyce in the year 1922."),
]


def candidates(*facts: tuple[str, str]) -> list[Candidate]:
    return [
        Candidate(number, f"row {number}", prompt, answer)
        for number, (prompt, answer) in enumerate(facts)
    ]


@pytest.mark.parametrize("kind", KINDS)
def test_bad_rows_depend_on_the_seed_and_not_on_the_order(kind: Kind) -> None:
    rows = candidates(*FACTS)

    first, again, other = (
        {one.candidate.id: one.answer for one in plant(kind, given, 3, seed).rows}
        for given, seed in ((rows, 5), (rows[::-1], 5), (rows, 6))
    )

    assert first == again
    assert kind in ("context", "echo") or first != other


@pytest.mark.parametrize("kind", ["truncated", "number", "negated"])
def test_another_seed_spoils_a_row_in_another_way(kind: Kind) -> None:
    rows = candidates(("Why?", "It is 10 to 20. It was 30 to 40, so they will not agree."))

    found = {plant(kind, rows, 1, seed).rows[0].answer for seed in range(9)}

    assert len(found) > 1


@pytest.mark.parametrize("kind", KINDS)
def test_no_planted_answer_is_the_right_one(kind: Kind) -> None:
    rows = candidates(
        *FACTS, ("Say it.", "say  IT."), ("Say it!", "The capital of France is Paris")
    )

    assert [one for one in plant(kind, rows, 9, 0).rows if one.answer == one.candidate.answer] == []


def test_swapped_answers_come_from_other_questions() -> None:
    rows = candidates(*FACTS)
    right = dict(FACTS)

    found = plant("swapped", rows, 6, 0).rows

    assert len(found) == 6
    assert sorted(one.answer for one in found) == sorted(right.values())  # each answer once
    assert all(right[one.candidate.prompt] != one.answer for one in found)


def test_rows_that_all_say_the_same_cannot_be_swapped() -> None:
    rows = candidates(("What?", "Yes."), ("Who?", "yes."), ("What?", "No."))

    # The second and third differ in both; the first differs from none in both.
    found = {one.candidate.id: one.answer for one in plant("swapped", rows, 3, 0).rows}
    assert found == {"row 1": "No.", "row 2": "yes."}


def test_the_neighbour_is_the_most_similar_other_question() -> None:
    found = plant("neighbour", candidates(*FACTS), 6, 0).rows

    assert {one.candidate.number: one.answer for one in found} == {
        0: FACTS[1][1],
        1: FACTS[0][1],
        2: FACTS[3][1],
        3: FACTS[2][1],
        4: FACTS[5][1],
        5: FACTS[4][1],
    }


def test_a_question_in_nearly_the_same_words_is_no_neighbour() -> None:
    rows = candidates(
        ("Who wrote the long novel Emma?", "Jane Austen."),
        ("who wrote the long novel EMMA", "It was Miss Austen."),
        ("Where do whales sleep?", "In the sea."),
    )

    assert plant("neighbour", rows, 3, 0).rows == ()


def test_questions_without_words_have_no_neighbours() -> None:
    assert plant("neighbour", candidates(("?", "a"), ("!", "b")), 2, 0).rows == ()


def test_an_echo_is_the_question() -> None:
    found = plant("echo", candidates(FACTS[0]), 1, 0).rows

    assert [one.answer for one in found] == ["What is the capital of France?"]


def test_a_kind_that_fits_few_rows_says_how_many_were_tried() -> None:
    rows = candidates(*FACTS, ("Hi", "Ho"), ("Why?", "Because"))

    found = plant("number", rows, 20, 0)

    assert (len(found.rows), found.tried) == (6, 8)


def test_planting_ends_when_there_are_enough() -> None:
    found = plant("echo", candidates(*FACTS), 2, 0)

    assert (len(found.rows), found.tried) == (2, 2)


def turn(role: str, content: str | None, calls: str | None = None) -> dict[str, str | None]:
    return {"role": role, "content": content, "tool_calls": calls}


def test_a_candidate_has_the_last_question_before_the_last_answer() -> None:
    turns = [
        turn("system", "Be brief."),
        *(turn("user", "One?"), turn("assistant", "1")),
        *(turn("user", "Two?"), turn("assistant", "2"), turn("user", "Thanks.")),
    ]

    assert candidate_of(7, {"id": "a", "messages": turns}) == Candidate(7, "a", "Two?", "2")


@pytest.mark.parametrize(
    "turns",
    [
        [],
        [turn("user", "One?")],
        [turn("system", "Speak."), turn("assistant", "1")],
        [turn("user", " "), turn("assistant", "1")],
        [turn("user", "One?"), turn("assistant", " ")],
        [turn("user", "One?"), turn("assistant", "I call.", '[{"id": "1"}]')],
    ],
)
def test_a_row_without_a_question_and_an_answer_in_text_is_no_candidate(turns) -> None:
    assert candidate_of(0, {"id": "a", "messages": turns}) is None
