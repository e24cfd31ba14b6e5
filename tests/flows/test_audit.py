import json
from pathlib import Path

import pytest

RECIPE = """\
name: rules
source: {path: facts.jsonl}
stages:
  - {kind: clean.rules, min_answer_chars: 60}
  - {kind: dedup.exact}
exports:
  - {format: messages, path: out/clean.jsonl}
"""


@pytest.fixture
def facts(folder: Path) -> Path:
    """recipe.yaml with rules alone and 30 rows whose answers have 70 characters or so."""
    rows = [
        {
            "prompt": f"What happened in room {n}?",
            "response": f"In room {n} somebody had left {3 * n + 2} candles, and all of them were "
            "still burning.",
        }
        for n in range(30)
    ]
    (folder / "facts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "recipe.yaml").write_text(RECIPE)
    return folder


def test_audit_prints_what_was_planted_the_figures_and_what_is_caught(winnow, facts) -> None:
    result = winnow(
        *("audit", "recipe.yaml", "--rows", "20", "--planted", "5"),
        *("--kinds", "echo,negated,context"),
    )

    assert result.exit_code == 0, result.stderr
    before, table, words, _ = result.stdout.split("\n\n")
    assert before.splitlines() == [
        "20 rows as they are, which count as clean, and beside them bad rows of one kind at a "
        "time:",
        "  negated: 5",
        "  echo: 5",
        "  context: 0 of 5: no more fit among 10 rows",
    ]
    assert [line.rstrip() for line in table.splitlines()] == [
        "stage         kind     AUROC  recall            precision         clean lost        "
        "threshold for precision 0.9",
        "clean.rules   negated         0.00 (0.00-0.00)                    0.00 (0.00-0.00)",
        "clean.rules   echo            1.00 (1.00-1.00)  1.00 (1.00-1.00)  0.00 (0.00-0.00)",
        "whole recipe  negated         0.00 (0.00-0.00)                    0.00 (0.00-0.00)",
        "whole recipe  echo            1.00 (1.00-1.00)  1.00 (1.00-1.00)  0.00 (0.00-0.00)",
        "In brackets: 95 % intervals (bootstrap).",
        "No row is dropped, clean or bad of any kind, by: dedup.exact.",
    ]
    assert words.splitlines() == [
        "negated is NOT caught: 0 of 5 dropped or flagged, and 0 of 20 clean rows.",
        "echo is caught: 5 of 5 dropped or flagged, and 0 of 20 clean rows (clean.rules: 5).",
    ]


def test_audit_says_where_its_tables_are_and_writes_no_run(winnow, facts) -> None:
    result = winnow("audit", "recipe.yaml", "--rows", "20", "--planted", "5")

    last = result.stdout.splitlines()[-1]
    assert last.startswith("tables: ")
    folder = Path(last.removeprefix("tables: "))
    assert folder.parent == Path(".winnow/audits")
    assert sorted(path.name for path in folder.iterdir()) == [
        "figures.parquet",
        "report.json",
        "rows.parquet",
        "scores.parquet",
        "tables",
    ]
    assert not Path(".winnow/runs").exists()
    assert not Path("out").exists()


def test_audit_says_when_it_was_finished_before(winnow, facts) -> None:
    winnow("audit", "recipe.yaml", "--rows", "20", "--planted", "5")

    result = winnow("audit", "recipe.yaml", "--rows", "20", "--planted", "5")

    assert "An earlier call had finished this audit; nothing was computed again." in result.stdout


def test_audit_json_is_one_object(winnow, facts) -> None:
    result = winnow(
        *("audit", "recipe.yaml", "--json", "--rows", "20", "--planted", "5", "--seed", "3"),
        *("--set", "stages.clean.rules.min_answer_chars=1"),
    )

    told = json.loads(result.stdout)
    assert sorted(told) == [
        "audit",
        "budgets",
        "calibrations",
        "clean",
        "efforts",
        "figures",
        "findings",
        "folder",
        "left_out",
        "planted",
        "precision",
        "recipe",
        "reused",
    ]
    assert {one["recall"]["value"] for one in told["figures"]} == {0.0}
    assert [one["caught"] for one in told["findings"]] == [False] * 6


AGREEMENT = """\
name: agreement
source: {path: sampled.jsonl}
stages:
  - kind: clear.filter
    estimator: agreement
    answer_pattern: '([0-9]+) candles'
    keep: {budget: 12}
exports:
  - {format: messages, path: out/clean.jsonl}
"""


@pytest.fixture
def sampled(folder: Path) -> Path:
    """30 rows, a third of them without the samples that the recipe asks for."""
    rows = [
        {
            "prompt": f"How many candles are in room {n}?",
            "response": f"There are {3 * n + 2} candles in that room, says the report.",
            "samples": [f"{3 * n + 2} candles"] if n % 3 else None,
        }
        for n in range(30)
    ]
    (folder / "sampled.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "recipe.yaml").write_text(AGREEMENT)
    return folder


def test_audit_says_how_many_rows_have_failed_and_what_a_budget_is_taken_as(
    winnow, sampled
) -> None:
    asked = ("audit", "recipe.yaml", "--rows", "20", "--planted", "5", "--kinds", "swapped,echo")
    first, again = winnow(*asked), winnow(*asked)

    for result in (first, again):
        table = result.stdout.split("\n\n")[1].splitlines()
        assert table[table.index("In brackets: 95 % intervals (bootstrap).") + 1 :] == [
            "clear.filter: 7 of 20 clean rows, 2 of 5 swapped rows and 5 of 5 echo rows failed and "
            "are not in these figures.",
            "clear.filter: budget 12 of 30 rows is taken as 10 of 25.",
        ]
    assert "An earlier call had finished this audit" in again.stdout


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("echo,wrong", "--kinds: there is no wrong; there are swapped, neighbour,"),
        (",", "--kinds: none is named; there are swapped, neighbour,"),
    ],
)
def test_a_kind_that_is_not_known_gives_exit_code_2(winnow, facts, given, message) -> None:
    result = winnow("audit", "recipe.yaml", "--kinds", given)

    assert result.exit_code == 2
    assert message in " ".join(result.stderr.replace("│", " ").split())


def test_data_that_nothing_can_be_planted_in_gives_exit_code_2(winnow, facts) -> None:
    result = winnow("audit", "recipe.yaml", "--kinds", "context", "--rows", "20")

    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.splitlines()[-1] == (
        "No kind of bad row (context) can be made of the 15 instruction rows that there are to "
        "make it of."
    )
