"""Write the surviving rows as a trainer takes them, with a manifest beside them.

An export is complete or absent: a failure leaves the earlier one as it was. The same rows give the
same bytes, whatever the number of threads.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import polars as pl

from pipelines.exporters import hf_folder
from pipelines.exporters.card import dataset_card
from pipelines.exporters.lines import ID, LineEncoder
from pipelines.exporters.meta_columns import MetaColumn, survey
from pipelines.exporters.provenance import Provenance
from pipelines.exporters.records import RESERVED
from pipelines.exporters.report import ExportedFile, ExportError, ExportReport, ImpossibleExport
from pipelines.exporters.sinks import ArrowSink, LineSink, ParquetSink, Sink
from pipelines.exporters.spec import LAYOUTS, HuggingFace, Layout, Parquet, Records, formats_for
from pipelines.exporters.split import PROMPTS, held_out
from pipelines.exporters.staging import OpenFile, Output, Staging, open_file, staging
from pipelines.exporters.tables import (
    CanonicalEncoder,
    Encoder,
    LayoutEncoder,
    used_optionals,
)
from pipelines.exporters.targets import (
    HELD_OUT,
    TRAIN,
    data_paths,
    left_behind,
    manifest_path,
    side_path,
)
from pipelines.store import manifest
from schemas.errors import ContractError
from schemas.rows import RowType, row_schema

# 220-byte rows: 5,000 to 50,000 a chunk take the same time; fewer keep long documents in memory.
CHUNK_ROWS: Final = 10_000
TEST: Final = "test"  # what trainers look for in a dataset folder

Spec = Records | Parquet | HuggingFace


def write_export(
    rows: pl.LazyFrame,
    row_type: RowType,
    spec: Spec,
    provenance: Provenance,
    *,
    seed: int,
    opener: OpenFile = open_file,
    progress: Callable[[int], None] = lambda rows: None,
) -> ExportReport:
    """Write `rows` (canonical columns, in order of place) as `spec` says, and the manifest last.

    seed: of the recipe; `spec.split.seed` goes first. progress is told the rows of each chunk.
    Memory does not grow with the number of rows.

    Raises ExportError (ImpossibleExport for what can never be written like that), and ContractError
    for rows that lack columns; nothing is written then.
    """
    _check(rows, row_type, spec)
    try:
        with staging(opener) as stage:
            return _Writing(rows, row_type, spec, provenance, seed, stage, progress).run()
    except OSError as error:
        raise ExportError(
            f"{spec.path} cannot be written: {error}. Earlier exports are as they were."
        ) from error


@dataclass
class _Side:
    output: Output
    sink: Sink


@dataclass
class _Writing:
    """One export under way."""

    rows: pl.LazyFrame
    row_type: RowType
    spec: Spec
    provenance: Provenance
    seed: int
    stage: Staging
    progress: Callable[[int], None]

    def run(self) -> ExportReport:
        encoder, metas = self._encoder()
        folder = self.stage.folder(self.spec.path) if isinstance(self.spec, HuggingFace) else None
        sides = {name: self._side(name, folder, encoder) for name in self._sides()}
        left_out = self._write_rows(encoder, sides)
        for side in sides.values():
            side.sink.close()
        files = {name: side.output.close() for name, side in sides.items()}
        renamed = {meta.key: meta.name for meta in metas if meta.key != meta.name}
        if isinstance(encoder, LineEncoder):
            renamed = encoder.renamed
        # A folder is replaced whole.
        left = () if folder else left_behind(self.spec.path, [file.name for file in files.values()])
        report = ExportReport(
            path=self.spec.path,
            format=self.spec.format,
            rows=sum(file.rows for file in files.values()),
            files=tuple(files.values()),
            manifest=manifest_path(self.spec.path),
            left_out=dict(sorted(left_out.items())),
            splits={name: file.rows for name, file in files.items()} if self.spec.split else {},
            renamed=dict(sorted(renamed.items())),
            notes=(
                *(_note(meta) for meta in metas if meta.as_json),
                *(_note_left(name, held_out=self.spec.split is not None) for name in left),
            ),
            left_behind=left,
        )
        if isinstance(self.spec, HuggingFace) and folder is not None:
            report = self._complete_folder(self.spec, folder, report, files)
        self._write(self.stage.file(report.manifest), self._manifest(report))
        return report

    def _encoder(self) -> tuple[Encoder, list[MetaColumn]]:
        if not isinstance(self.spec, Parquet | HuggingFace):
            return LineEncoder(self.spec, self.row_type), []
        pieces = (chunk["meta"] for chunk in _chunks(self.rows.select("meta")))
        schemas = self.provenance.schemas()
        if isinstance(self.spec, Parquet):
            metas = survey(pieces, schemas, row_schema(self.row_type).names)
            return CanonicalEncoder(self.row_type, metas), metas
        layout = _layout(self.spec, self.row_type)
        reserved = [*RESERVED.get(layout, row_schema(self.row_type).names), ID]
        metas = survey(pieces, schemas, reserved)
        used = used_optionals(self.rows, self.row_type)
        with_id = self.spec.with_id
        return LayoutEncoder(self.row_type, layout, used, metas, with_id=with_id), metas

    def _sides(self) -> tuple[str, ...]:
        if isinstance(self.spec, HuggingFace):
            return (TRAIN, TEST) if self.spec.split else (TRAIN,)
        return (TRAIN, HELD_OUT) if self.spec.split else ("",)

    def _side(self, name: str, folder: Path | None, encoder: Encoder) -> _Side:
        if folder is not None:
            output = self.stage.file_within(folder, hf_folder.data_name(name))
            return _Side(output, ArrowSink(output, encoder.schema))
        path = side_path(self.spec.path, name) if name else self.spec.path
        output = self.stage.file(path)
        if isinstance(encoder, LineEncoder):
            return _Side(output, LineSink(output, array=encoder.array))
        return _Side(output, ParquetSink(output, encoder.schema))

    def _write_rows(self, encoder: Encoder, sides: Mapping[str, _Side]) -> Counter[str]:
        left_out: Counter[str] = Counter()
        first, *others = sides.values()
        for chunk in _chunks(self.rows.select(encoder.columns)):
            table, reasons = encoder.encode(chunk)
            fit = reasons.is_null()
            if not fit.all():
                left_out.update(reasons.drop_nulls())
            if self.spec.split and others:
                aside = held_out(chunk, self.row_type, self.spec.split, self.seed)
                others[0].sink.write(table.filter((fit & aside).to_arrow()))
                fit = fit & ~aside
            first.sink.write(table if fit.all() else table.filter(fit.to_arrow()))
            self.progress(chunk.height)
        return left_out

    def _complete_folder(
        self,
        spec: HuggingFace,
        folder: Path,
        report: ExportReport,
        data: Mapping[str, ExportedFile],
    ) -> ExportReport:
        """The small files around the data; the report with all of them."""
        data, report = _without_empty_sides(folder, data, report)
        small = {"dataset_dict.json": manifest.dump({"splits": list(data)})}
        for split, file in data.items():
            for name, value in hf_folder.side_files(split, file.sha256).items():
                small[name] = manifest.dump(value)
        splits = {name: file.rows for name, file in data.items()}
        small[hf_folder.CARD] = dataset_card(spec, report, self.provenance, splits).encode()
        written = [
            self._write(self.stage.file_within(folder, name), content)
            for name, content in small.items()
        ]
        report = replace(report, files=(*report.files, *written))
        inside = self.stage.file_within(folder, hf_folder.MANIFEST)
        self._write(inside, self._manifest(report))
        return report

    def _manifest(self, report: ExportReport) -> bytes:
        options = self.spec.model_dump(mode="json", exclude={"path", "row_type"})
        if self.spec.split and self.spec.split.seed is None:
            options["split"]["seed"] = self.seed
        export = {**options, "name": self.spec.path.name, "row_type": self.row_type}
        content = {**self.provenance.as_json(), **report.content(), "export": export}
        return manifest.dump({"format": manifest.FORMAT, **content})

    def _write(self, output: Output, content: bytes) -> ExportedFile:
        output.stream.write(content)
        return output.close()


def _check(rows: pl.LazyFrame, row_type: RowType, spec: Spec) -> None:
    """Raise for whatever can be known to be wrong before anything is written."""
    path = spec.path
    fitting = ", ".join(formats_for(row_type))
    if row_type not in spec.row_types:
        raise ImpossibleExport(
            f"{path}: the format {spec.format} does not hold {row_type} rows. "
            f"Formats that do: {fitting}."
        )
    if spec.row_type not in (None, row_type):
        raise ImpossibleExport(
            f"{path}: the export is for {spec.row_type} rows, these are {row_type}."
        )
    if isinstance(spec, HuggingFace):
        if _layout(spec, row_type) not in LAYOUTS[row_type]:
            fitting = ", ".join(LAYOUTS[row_type])
            raise ImpossibleExport(
                f"{path}: layout {spec.layout} does not hold {row_type} rows. "
                f"Layouts that do: {fitting}."
            )
        hf_folder.check_target(path)
    if spec.split and row_type not in PROMPTS:
        raise ImpossibleExport(f"{path}: {row_type} rows have no prompt to split by.")
    data = () if isinstance(spec, HuggingFace) else data_paths(spec)
    for file in (manifest_path(path), *data):
        if file.is_dir():
            raise ImpossibleExport(f"{file} is a folder, and the export would write a file there.")
    there = rows.collect_schema().names()
    missing = [name for name in row_schema(row_type).names if name not in there]
    if missing:
        problems = [f"column '{name}' is missing" for name in missing]
        raise ContractError(f"the export {path}", problems, there=there)


def _layout(spec: HuggingFace, row_type: RowType) -> Layout:
    return spec.layout or LAYOUTS[row_type][0]


def _without_empty_sides(
    folder: Path, data: Mapping[str, ExportedFile], report: ExportReport
) -> tuple[Mapping[str, ExportedFile], ExportReport]:
    """load_dataset refuses a folder with an empty split; one without rows keeps it."""
    empty = [name for name, file in data.items() if not file.rows and report.rows]
    for name in empty:
        file = folder / data[name].name
        file.unlink()
        file.parent.rmdir()
    data = {name: file for name, file in data.items() if name not in empty}
    notes = (f"No row is in {name}, so the folder has no such split." for name in empty)
    return data, replace(report, files=tuple(data.values()), notes=(*report.notes, *notes))


def _note(meta: MetaColumn) -> str:
    return f"Column '{meta.name}' has values that no one type of column holds: it is JSON text."


def _note_left(name: str, *, held_out: bool) -> str:
    rows = " and may hold held-out rows" if held_out else ""
    return f"{name} is of an earlier export{rows}: remove it."


def _chunks(rows: pl.LazyFrame) -> Iterator[pl.DataFrame]:
    """The rows in order, CHUNK_ROWS at a time: row groups are cut by it, so it must not vary."""
    held: list[pl.DataFrame] = []
    for batch in rows.collect_batches(chunk_size=CHUNK_ROWS, engine="streaming"):
        held.append(batch)
        if sum(one.height for one in held) < CHUNK_ROWS:
            continue
        whole = held[0] if len(held) == 1 else pl.concat(held)
        while whole.height >= CHUNK_ROWS:
            yield whole.head(CHUNK_ROWS)
            whole = whole.slice(CHUNK_ROWS)
        held = [whole] if whole.height else []
    if held:
        yield pl.concat(held)
