import json
from pathlib import Path

import pytest


def test_export_writes_the_kept_rows_in_another_format(winnow, run_id: str) -> None:
    result = winnow("export", run_id, "--format", "alpaca", "--out", "more/rows.jsonl")

    assert (result.exit_code, result.stdout) == (0, "wrote more/rows.jsonl: 2 rows\n")
    assert [json.loads(line) for line in Path("more/rows.jsonl").read_text().splitlines()] == [
        {
            "instruction": "What is 2 plus 3?",
            "input": "",
            "output": "Two plus three is five.",
            "key": "sum",
        },
        {
            "instruction": "Name the capital of France.",
            "input": "",
            "output": "It is Paris.",
            "key": "paris",
        },
    ]
    assert Path("more/rows.jsonl.manifest.json").exists()


def test_export_equals_that_of_the_run_itself(winnow, run_id: str) -> None:
    winnow("export", run_id, "--format", "messages", "--out", "more/clean.jsonl")

    assert Path("more/clean.jsonl").read_bytes() == Path("out/clean.jsonl").read_bytes()


def test_options_of_a_format_are_set(winnow, run_id: str) -> None:
    arguments = ["--format", "prompt-completion", "--out", "rows.json", "--set", "style=plain"]

    told = json.loads(winnow("export", run_id, *arguments, "--json").stdout)

    assert (told["path"], told["rows"]) == ("rows.json", 2)
    assert json.loads(Path("rows.json").read_text())[1] == {
        "prompt": "Name the capital of France.",
        "completion": "It is Paris.",
        "key": "paris",
    }


def test_a_share_is_held_out(winnow, run_id: str) -> None:
    arguments = ["--format", "messages", "--out", "rows2.jsonl", "--held-out", "0.5", "--json"]

    told = json.loads(winnow("export", run_id, *arguments).stdout)

    assert sum(told["splits"].values()) == 2
    assert [file["name"] for file in told["files"]] == ["rows2.train.jsonl", "rows2.held_out.jsonl"]


def test_an_unknown_format_gives_exit_code_2(winnow, run_id: str) -> None:
    result = winnow("export", run_id, "--format", "xml", "--out", "rows.xml")

    assert (result.exit_code, result.stderr) == (
        2,
        "the export is wrong:\n  - Input tag 'xml' found using 'format' does not match any of the "
        "expected tags: 'messages', 'prompt-completion', 'alpaca', 'sharegpt', 'preference', "
        "'parquet', 'hf'\n",
    )


def test_a_format_that_cannot_hold_the_rows_gives_exit_code_2(winnow, run_id: str) -> None:
    result = winnow("export", run_id, "--format", "preference", "--out", "pairs.jsonl")

    assert result.exit_code == 2
    assert (
        "the set holds instruction rows, which the format preference cannot hold" in result.stderr
    )


def test_an_export_over_the_rows_that_it_comes_from_gives_exit_code_2(winnow, run_id: str) -> None:
    before = Path("rows.jsonl").read_bytes()

    result = winnow("export", run_id, "--format", "messages", "--out", "rows.jsonl")

    assert (result.exit_code, result.stderr) == (
        2,
        "the export is wrong:\n  - the export rows.jsonl writes rows.jsonl, where the source reads "
        "(rows.jsonl): choose another path\n",
    )
    assert Path("rows.jsonl").read_bytes() == before


def test_the_rows_that_it_comes_from_are_known_from_another_folder_too(
    winnow, run_id: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = Path("rows.jsonl").read_bytes()
    (folder / "elsewhere").mkdir()
    monkeypatch.chdir(folder / "elsewhere")  # the recipe has the source's path as rows.jsonl
    arguments = ["export", run_id, "--workspace", "../.winnow", "--format", "messages"]

    over = winnow(*arguments, "--out", "../rows.jsonl")
    beside = winnow(*arguments, "--out", "../more.jsonl")

    assert (over.exit_code, over.stderr) == (
        2,
        "the export is wrong:\n  - the export ../rows.jsonl writes rows.jsonl, which holds what "
        "the run has read: choose another path\n",
    )
    assert (folder / "rows.jsonl").read_bytes() == before
    assert (beside.exit_code, beside.stderr) == (0, "")


def test_a_row_type_that_the_format_has_not_gives_exit_code_2(winnow, run_id: str) -> None:
    arguments = ["--format", "messages", "--out", "x.jsonl", "--set", "row_type=preference"]

    assert winnow("export", run_id, *arguments).exit_code == 2
