"""The tables of an audit on disk, for DuckDB and for people."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import polars as pl
import pyarrow as pa

from pipelines.audit.auditing import Audited
from pipelines.audit.calibration import Calibration
from pipelines.audit.findings import Figure
from pipelines.audit.planting import Planting
from pipelines.audit.sample import CLEAN, Sample, planted_id
from pipelines.store.atomic import write_table

REPORT: Final = "report.json"

_ROWS: Final = {name: pl.String for name in ("kind", "id", "parent", "prompt", "answer", "right")}
_ESTIMATES: Final = ("auroc", "recall", "precision", "clean_lost")


def write_tables(
    folder: Path,
    sample: Sample,
    plantings: Sequence[Planting],
    audited: Sequence[Audited],
    calibrated: Sequence[Calibration],
    lines: Sequence[Figure],
) -> None:
    """rows.parquet, scores.parquet and figures.parquet."""
    _write(folder / "rows.parquet", _rows(sample, plantings))
    _write(folder / "scores.parquet", _scores(audited, calibrated))
    _write(folder / "figures.parquet", _figures(lines))


def figure_json(line: Figure) -> dict[str, Any]:
    """One line of figures, nested as its dataclasses are."""
    return {
        "stage": line.stage,
        "kind": line.kind,
        "failed": line.failed,
        "failed_clean": line.failed_clean,
        "catches": line.catches,
        **asdict(line.catch),
    }


def _rows(sample: Sample, plantings: Sequence[Planting]) -> pl.DataFrame:
    clean = [{"kind": CLEAN, "id": one} for one in sample.clean["id"].to_pylist()]
    bad = [
        {
            "kind": planting.kind,
            "id": planted_id(planting.kind, planted.candidate.id),
            "parent": planted.candidate.id,
            "prompt": planted.candidate.prompt,
            "answer": planted.answer,
            "right": planted.candidate.answer,
        }
        for planting in plantings
        for planted in planting.rows
    ]
    return pl.DataFrame([*clean, *bad], schema=_ROWS)


def _scores(audited: Sequence[Audited], calibrated: Sequence[Calibration]) -> pl.DataFrame:
    names = ("id", "bad", "value", "calibrated", "verdict", "reason", "evidence")
    known = {one.stage: one.rows.select("id", "calibrated") for one in calibrated}
    none = pl.DataFrame(schema={"id": pl.String, "calibrated": pl.Float64})
    tables = [
        one.rows.join(
            known.get(one.stage.label, none), on="id", how="left", maintain_order="left"
        ).select(pl.lit(one.stage.label).alias("stage"), pl.lit(one.kind).alias("kind"), *names)
        for one in audited
    ]
    return pl.concat(tables)


def _figures(lines: Sequence[Figure]) -> pl.DataFrame:
    return pl.DataFrame([_flat(line) for line in lines], infer_schema_length=None)


def _flat(line: Figure) -> dict[str, Any]:
    """A column for each number."""
    given = figure_json(line)
    plain = ("stage", "kind", "clean", "bad", "failed", "failed_clean", "catches")
    flat = {name: given[name] for name in plain}
    for name in _ESTIMATES:
        estimate = given[name] or {}
        flat[name] = estimate.get("value")
        flat[f"{name}_low"] = estimate.get("low")
        flat[f"{name}_high"] = estimate.get("high")
    threshold = given["threshold"] or {}
    for name in ("value", "precision", "recall", "clean_lost"):
        flat["threshold" if name == "value" else f"threshold_{name}"] = threshold.get(name)
    return flat


def _write(path: Path, frame: pl.DataFrame) -> None:
    table = frame.to_arrow()
    plain = pa.schema([(one.name, _plain(one.type)) for one in table.schema])
    write_table(path, table.cast(plain))


def _plain(kind: pa.DataType) -> pa.DataType:
    return pa.string() if pa.types.is_large_string(kind) or pa.types.is_string_view(kind) else kind
