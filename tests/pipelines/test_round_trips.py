"""What was exported comes back as the same rows: the same ids, in the same order."""

from collections import Counter
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from pipelines.exporters.export import write_export
from pipelines.exporters.provenance import Provenance
from pipelines.exporters.report import ExportReport
from pipelines.exporters.spec import EXPORT
from pipelines.readers.importing import import_source
from pipelines.readers.source import FileSource
from pipelines.store.tables import Table
from pipelines.store.workspace import Workspace

DATA = Path(__file__).parents[3] / "shared" / "data"

INSTRUCTION: dict[str, dict[str, Any]] = {
    "instruct/dolly_3k.jsonl": {},
    "instruct/coachlm_expert_revisions.jsonl": {
        "columns": {
            "prompt": "Raw Instruction",
            "input": "Raw Input",
            "response": "Raw Response",
        }
    },
    "instruct/gsm8k_train.jsonl": {},
    "instruct/gsm8k_model_solutions.jsonl": {
        "columns": {"prompt": "question", "response": "6b_finetuning.solution"}
    },
    "instruct/alpaca_en_demo.json": {},
    "instruct/glaive_toolcall_en_demo.json": {},
    "preference/kto_en_demo.json": {},
}
PREFERENCE: dict[str, dict[str, Any]] = {
    "preference/dpo_en_demo.json": {},
    "preference/hh_rlhf_harmless_test.jsonl.gz": {},
}


def imported(path: Path, folder: Path, **options: Any) -> Table:
    [table] = import_source(FileSource(path=str(path), **options), Workspace(folder / "workspace"))
    return table


def exported(table: Table, path: Path, **options: Any) -> ExportReport:
    spec = EXPORT.validate_python({"path": path, **options})
    rows = pl.scan_parquet(list(table.parts))
    return write_export(rows, table.row_type, spec, Provenance("", {}), seed=0)


def rows_of(table: Table) -> list[dict[str, Any]]:
    parts = [pl.read_parquet(part, columns=["id", "meta"]) for part in table.parts]
    return [row for part in parts for row in part.to_dicts()]


def conversations(table: Table) -> Counter[str]:
    found: Counter[str] = Counter()
    for part in table.parts:
        said = pl.col("messages", "label")
        found.update(pl.read_parquet(part).select(pl.struct(said).struct.json_encode()).to_series())
    return found


def source(name: str) -> Path:
    path = DATA / name
    if not path.exists():
        pytest.skip(f"the shared data is not here: {name}")
    return path


@pytest.mark.parametrize(
    ("name", "format_"),
    [
        *((name, "messages") for name in INSTRUCTION),
        *((name, "preference") for name in PREFERENCE),
    ],
)
def test_real_data_comes_back_with_equal_ids_and_equal_other_columns(
    name: str, format_: str, tmp_path: Path
) -> None:
    options = {**INSTRUCTION, **PREFERENCE}[name]
    first = imported(source(name), tmp_path, **options)

    report = exported(first, tmp_path / "out.jsonl", format=format_)
    second = imported(tmp_path / "out.jsonl", tmp_path)

    assert (report.rows, report.left_out, report.renamed) == (first.rows, {}, {})
    assert second.failed == 0
    assert rows_of(second) == rows_of(first)


@pytest.mark.parametrize("name", list(INSTRUCTION))
@pytest.mark.parametrize("format_", ["prompt-completion", "alpaca", "sharegpt", "parquet"])
def test_what_another_format_holds_comes_back_as_the_same_conversation(
    name: str, format_: str, tmp_path: Path
) -> None:
    first = imported(source(name), tmp_path, **INSTRUCTION[name])
    path = tmp_path / ("out.parquet" if format_ == "parquet" else "out.jsonl")

    report = exported(first, path, format=format_)

    assert report.rows + sum(report.left_out.values()) == first.rows
    options = {"columns": {"messages": "messages", "tools": "tools", "label": "label"}}
    second = imported(path, tmp_path, **(options if format_ == "parquet" else {}))
    assert (second.rows, second.failed) == (report.rows, 0)
    assert conversations(second) <= conversations(first)


def test_other_columns_with_names_that_mean_something_do_not_change_the_rows(
    tmp_path: Path,
) -> None:
    aside = '"system":"s","label":true,"kto_tag":false,"tools":[],"messages":[]'
    line = f'{{"q":"2 + 2?","a":"4",{aside}}}\n'
    (tmp_path / "in.jsonl").write_text(line * 2, encoding="utf-8")
    columns = {"prompt": "q", "response": "a"}
    first = imported(tmp_path / "in.jsonl", tmp_path, columns=columns)

    report = exported(first, tmp_path / "out.jsonl", format="messages")
    second = imported(tmp_path / "out.jsonl", tmp_path)

    assert [row["id"] for row in rows_of(second)] == [row["id"] for row in rows_of(first)]
    assert report.renamed == {
        name: f"meta_{name}" for name in ("kto_tag", "label", "messages", "system", "tools")
    }


def test_the_column_that_names_the_rows_comes_out_under_its_own_name(tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_text(
        '{"key":17,"instruction":"2 + 2?","output":"4"}\n', encoding="utf-8"
    )
    first = imported(tmp_path / "in.jsonl", tmp_path, id="key")

    exported(first, tmp_path / "out.jsonl", format="messages")
    second = imported(tmp_path / "out.jsonl", tmp_path, id="key")

    assert rows_of(first) == [{"id": "17", "meta": '{"key":17}'}]
    assert rows_of(second) == rows_of(first)


def test_a_source_of_typed_columns_keeps_its_types(tmp_path: Path) -> None:
    given = pl.DataFrame(
        {
            "instruction": ["2 + 2?"],
            "output": ["4"],
            "big": [2**62],
            "raw": [b"\x00\xff"],
            "when": pl.Series(["2026-11-20T01:02:03"]).str.to_datetime("%Y-%m-%dT%H:%M:%S"),
            "nested": [{"a": [1, None], "b": None}],
        },
        schema_overrides={"nested": pl.Struct({"a": pl.List(pl.Int16), "b": pl.Date})},
    )
    given.write_parquet(tmp_path / "in.parquet")
    first = imported(tmp_path / "in.parquet", tmp_path)
    manifest = {
        **{"run_id": "r", "recipe": {}, "engines": {}, "versions": {}, "stages": []},
        "tables": [{"rows": first.rows, "failed": first.failed, **first.details}],
    }

    spec = EXPORT.validate_python({"format": "parquet", "path": tmp_path / "out.parquet"})
    rows = pl.scan_parquet(list(first.parts))
    write_export(rows, "instruction", spec, Provenance.from_manifest(manifest), seed=0)

    columns = ["big", "raw", "when", "nested"]
    back = pl.read_parquet(tmp_path / "out.parquet", columns=columns)
    assert back.to_dicts() == given.select(columns).to_dicts()
    assert back.schema == given.select(columns).schema
