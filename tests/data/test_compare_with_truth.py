"""The comparison is run as `make demo` runs it, over a sample of six lines."""

import json
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from schemas.ledger import VERDICTS

SCRIPT = Path(__file__).resolve().parents[2] / "data" / "compare_with_truth.py"


def row(row_id, prompt, answer):
    turns = [{"role": "user", "content": prompt}, {"role": "assistant", "content": answer}]
    return json.dumps({"id": row_id, "messages": turns})


@pytest.fixture
def sample(tmp_path):
    folder = tmp_path / "sample"
    folder.mkdir()
    lines = [
        row("qs-0001", "One?", "1"),
        row("qs-0002", "Two?", "2"),
        row("qs-0003", "Three?", ""),
        row("qs-0004", "Four?", "2"),
        row("qs-0005", "Five?", "cut"),
        '{"id": "qs-0006", ',
    ]
    kinds = ["good", "good", "empty", "swapped", "truncated", "broken_json"]
    truth = [
        {"line": n, "id": None if n == 6 else f"qs-000{n}", "kind": kind, "of": None}
        for n, kind in enumerate(kinds, start=1)
    ]
    (folder / "instructions.jsonl").write_text("\n".join(lines) + "\n")
    (folder / "truth.jsonl").write_text("".join(json.dumps(fact) + "\n" for fact in truth))
    return folder


def write_verdicts(path, *verdicts):
    places = range(len(verdicts))
    records = [
        {"id": i, "place": place, "verdict": verdict, "reason": reason, "evidence": evidence}
        for place, (i, verdict, reason, evidence) in zip(places, verdicts, strict=True)
    ]
    pq.write_table(pa.Table.from_pylist(records, schema=VERDICTS), path)


@pytest.fixture
def run(tmp_path):
    """The broken line failed, the empty row and later a swapped and a good one were dropped."""
    folder = tmp_path / "run"
    folder.mkdir()
    evidence = json.dumps({"file": "instructions.jsonl", "line": 6, "error": "no", "raw": "{"})
    write_verdicts(folder / "00-import.parquet", ("failed-ab", "fail", "json", evidence))
    write_verdicts(
        folder / "01-clean.rules.parquet",
        ("qs-0001", "keep", None, "{}"),
        ("qs-0002", "keep", None, "{}"),
        ("qs-0003", "drop", "empty", "{}"),
        ("qs-0004", "keep", None, "{}"),
        ("qs-0005", "keep", None, "{}"),
    )
    write_verdicts(
        folder / "02-clear.filter.parquet",
        ("qs-0001", "keep", None, "{}"),
        ("qs-0002", "drop", "low_confidence", "{}"),
        ("qs-0004", "drop", "low_confidence", "{}"),
        ("qs-0005", "keep", None, "{}"),
    )
    return folder


def compare(*arguments):
    return subprocess.run(
        [sys.executable, SCRIPT, *arguments], capture_output=True, text=True, check=False
    )


def test_a_run_is_compared_by_kind_by_stage_and_over_all(run, sample):
    compared = compare(run, "--sample", sample, "--json")

    assert json.loads(compared.stdout) == {
        "kinds": {
            "broken_json": {
                "planted": 1,
                "caught": 1,
                "missed": 0,
                "by": {"import: unreadable": 1},
            },
            "empty": {"planted": 1, "caught": 1, "missed": 0, "by": {"clean.rules: empty": 1}},
            "swapped": {
                "planted": 1,
                "caught": 1,
                "missed": 0,
                "by": {"clear.filter: low_confidence": 1},
            },
            "truncated": {"planted": 1, "caught": 0, "missed": 1, "by": {}},
        },
        "all": {"bad": 4, "caught": 4, "caught_bad": 3, "precision": 0.75, "recall": 0.75},
        "stages": {
            "import": {"bad": 1, "caught": 1, "caught_bad": 1, "precision": 1.0, "recall": 1.0},
            "clean.rules": {
                "bad": 3,
                "caught": 1,
                "caught_bad": 1,
                "precision": 1.0,
                "recall": 1 / 3,
            },
            "clear.filter": {
                "bad": 2,
                "caught": 2,
                "caught_bad": 1,
                "precision": 0.5,
                "recall": 0.5,
            },
        },
        "good_dropped": {
            "count": 1,
            "of": 2,
            "by": {"clear.filter: low_confidence": 1},
            "examples": [
                {
                    "id": "qs-0002",
                    "caught": "clear.filter: low_confidence",
                    "prompt": "Two?",
                    "answer": "2",
                }
            ],
        },
        "not_in_run": 0,
    }


def test_the_tables_show_the_same_figures_as_plain_text(run, sample):
    compared = compare(run, "--sample", sample)
    words = [" ".join(line.split()) for line in compared.stdout.splitlines()]

    assert "truncated 1 0 1" in words
    assert "swapped 1 1 0 clear.filter: low_confidence 1" in words
    assert "clear.filter 2 2 1 0.50 0.50" in words
    assert "all 4 4 3 0.75 0.75" in words
    assert "Good rows dropped or failed: 1 of 2 (clear.filter: low_confidence 1)" in words


def test_a_row_that_the_run_never_read_is_counted_apart(run, sample):
    truth = sample / "truth.jsonl"
    more = {"line": 7, "id": "qs-0007", "kind": "swapped", "of": None}
    truth.write_text(truth.read_text() + json.dumps(more) + "\n")

    figures = json.loads(compare(run, "--sample", sample, "--json").stdout)

    assert figures["not_in_run"] == 1
    assert figures["kinds"]["swapped"]["planted"] == 1


def test_the_first_stage_that_takes_a_row_out_has_caught_it(run, sample):
    write_verdicts(run / "03-late.parquet", ("qs-0003", "drop", "late", "{}"))

    figures = json.loads(compare(run, "--sample", sample, "--json").stdout)

    assert figures["kinds"]["empty"]["by"] == {"clean.rules: empty": 1}


def test_a_run_over_other_data_is_refused(run, sample):
    write_verdicts(run / "03-other.parquet", ("abc", "keep", None, "{}"))

    compared = compare(run, "--sample", sample)

    assert compared.returncode == 2
    assert compared.stderr == (
        f"{run / '03-other.parquet'} decides about 'abc', which is no row of the sample. "
        "Give the folder of a run over instructions.jsonl with `id: id`.\n"
    )


def test_a_folder_without_verdicts_is_refused(tmp_path):
    compared = compare(tmp_path)

    assert compared.returncode == 2
    assert compared.stderr == (
        f"{tmp_path} holds no verdicts (files like 01-clean.rules.parquet).\n"
    )
