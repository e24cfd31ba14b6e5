import json
from pathlib import Path


def test_explain_tells_text_scores_verdicts_and_reasons(winnow, run_id: str) -> None:
    told = json.loads(winnow("explain", "again", "--json").stdout)

    steps = told.pop("steps")
    assert told == {
        "run_id": run_id,
        "id": "again",
        "type": "instruction",
        "place": 2,
        "source": "rows.jsonl",
        "text": {"user": "What is 2 plus 3?", "answer": "Two plus three is five."},
        "tools": None,
        "meta": {"key": "again"},
        "parents": [],
        "children": [],
    }
    assert [(step["stage"], step["verdict"], step["reason"]) for step in steps] == [
        ("clean.rules", "keep", None),
        ("dedup.exact", "drop", "duplicate"),
    ]
    assert steps[0]["scores"]["answer_chars"] == 23
    assert steps[1]["evidence"] == {"duplicate_of": "sum"}


def test_explain_prints_for_people(winnow, run_id: str) -> None:
    lines = winnow("explain", "again").stdout.splitlines()

    assert lines[:10] == [
        "id      again",
        "type    instruction",
        "source  rows.jsonl",
        f"run_id  {run_id}",
        "",
        "[user]",
        "What is 2 plus 3?",
        "",
        "[answer]",
        "Two plus three is five.",
    ]
    assert lines[-1] == "  evidence duplicate_of = sum"


def test_a_unique_beginning_of_an_id_is_enough(winnow, run_id: str) -> None:
    assert json.loads(winnow("explain", "pa", "--json").stdout)["id"] == "paris"


def test_several_rows_that_begin_alike_are_named(winnow, run_id: str) -> None:
    result = winnow("explain", "s")

    assert (result.exit_code, result.stderr) == (2, "Several rows begin with 's': sorry, sum.\n")


def test_an_unknown_row_gives_exit_code_2(winnow, run_id: str) -> None:
    result = winnow("explain", "nobody")

    assert (result.exit_code, result.stderr) == (
        2,
        f"Run {run_id} has no row 'nobody'. Ids are to be found with:  "
        f'winnow query "SELECT id FROM rows LIMIT 10" --run {run_id}\n',
    )


def test_a_record_that_gave_no_row_has_a_story_too(winnow, run_id: str) -> None:
    told = json.loads(winnow("explain", "failed-", "--json").stdout)

    assert (told["type"], told["text"]) == (None, {})
    assert [(step["stage"], step["verdict"], step["reason"]) for step in told["steps"]] == [
        ("import", "fail", "broken_json")
    ]


def test_columns_that_were_not_mapped_are_shown(winnow, folder: Path) -> None:
    Path("rows.jsonl").write_text(
        '{"key": "a", "prompt": "Who wrote Faust?", "response": "Goethe did.", "topic": "books"}\n'
    )
    winnow("run", "recipe.yaml")

    assert json.loads(winnow("explain", "a", "--json").stdout)["meta"] == {
        "key": "a",
        "topic": "books",
    }
