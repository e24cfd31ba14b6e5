"""Files: where they appear, when, with what beside them."""

import errno
import gzip
import hashlib
import io
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import polars as pl
import pytest
import zstandard
from pydantic import ValidationError

from pipelines.exporters.export import write_export
from pipelines.exporters.provenance import Provenance
from pipelines.exporters.report import ExportedFile, ExportError, ExportReport
from pipelines.exporters.spec import EXPORT, Split, formats_for
from pipelines.exporters.targets import over_inputs
from pipelines.readers.inputs import FileInput
from schemas.errors import ContractError

Export = Callable[..., ExportReport]
USER = {"role": "user", "content": "2 + 2?"}
ANSWER = {"role": "assistant", "content": "4"}


def files(folder: Path) -> dict[str, bytes]:
    found = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


def test_the_manifest_says_where_the_rows_come_from_and_what_became_of_them(
    talk: pl.LazyFrame, export: Export, tmp_path: Path
) -> None:
    export(talk, format="alpaca", path="new/out.jsonl", split={"held_out": 0.5}, seed=3)

    folder = tmp_path / "new"
    manifest = json.loads((folder / "out.jsonl.manifest.json").read_bytes())
    sides = ["out.train.jsonl", "out.held_out.jsonl"]
    assert manifest == {
        "format": 1,
        "run_id": "5f3a",
        "recipe": {"source": {"path": "talk.jsonl"}, "seed": 7},
        "inputs": [
            {"source": "talk.jsonl", "key": "ab12", "format": "messages", "rows": 9, "failed": 1}
        ],
        "engines": {"judge": {"kind": "transformers", "weights": "53aa"}},
        "versions": {"winnow": "0.1.0"},
        "stages": [
            {
                "stage": "clean.rules",
                **{"in": 9, "kept": 6, "dropped": 3, "failed": 0, "flagged": 0, "created": 0},
                "reasons": {"empty": 2, "refusal": 1},
            }
        ],
        "export": {
            "format": "alpaca",
            "name": "out.jsonl",
            "row_type": "instruction",
            "with_id": False,
            "split": {"held_out": 0.5, "by": "prompt", "seed": 3},
        },
        "rows": 4,
        "left_out": {"named_turn": 1, "tools": 1},
        "splits": manifest["splits"],
        "renamed": {},
        "notes": [],
        "left_behind": [],
        "files": [
            {
                "name": name,
                "rows": len((folder / name).read_bytes().splitlines()),
                "bytes": (folder / name).stat().st_size,
                "sha256": hashlib.sha256((folder / name).read_bytes()).hexdigest(),
            }
            for name in sides
        ],
    }
    assert sum(manifest["splits"].values()) == 4
    assert sorted(files(folder)) == sorted([*sides, "out.jsonl.manifest.json"])


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("out.jsonl", {"format": "messages"}),
        ("out.jsonl.gz", {"format": "messages", "split": {"held_out": 0.3}}),
        ("out.parquet", {"format": "parquet"}),
        ("out", {"format": "hf", "split": {"held_out": 0.3}}),
    ],
)
def test_the_same_rows_give_the_same_bytes_whatever_the_number_of_threads(
    rows: Callable[..., pl.LazyFrame], tmp_path: Path, name: str, options: dict[str, Any]
) -> None:
    many = [
        {"messages": [{**USER, "content": str(i)}, ANSWER], "meta": f'{{"n":{i}}}'}
        for i in range(300)
    ]
    rows(*many).collect().write_parquet(tmp_path / "rows.parquet", row_group_size=70)
    program = (
        "import sys, json, polars as pl\n"
        "from pipelines.exporters.export import write_export\n"
        "from pipelines.exporters.provenance import Provenance\n"
        "from pipelines.exporters.spec import EXPORT\n"
        "spec = EXPORT.validate_python(json.loads(sys.argv[1]))\n"
        "rows = pl.concat([pl.scan_parquet(sys.argv[2])] * 50)\n"
        "write_export(rows, 'instruction', spec, Provenance('r', {}), seed=0)\n"
    )

    results = []
    for threads in ("1", "4"):
        path = tmp_path / threads / name
        arguments = [json.dumps({**options, "path": str(path)}), str(tmp_path / "rows.parquet")]
        subprocess.run(
            [sys.executable, "-c", program, *arguments],
            check=True,
            env={"POLARS_MAX_THREADS": threads, "PYTHONPATH": str(Path(__file__).parents[3])},
        )
        results.append(files(tmp_path / threads))

    assert results[0] == results[1]


def test_gz_and_zst_hold_the_bytes_of_the_plain_file(
    talk: pl.LazyFrame, export: Export, tmp_path: Path
) -> None:
    for name in ("out.jsonl", "out.jsonl.gz", "out.jsonl.zst"):
        export(talk, format="messages", path=name)

    plain = (tmp_path / "out.jsonl").read_bytes()
    packed = (tmp_path / "out.jsonl.zst").read_bytes()
    assert gzip.decompress((tmp_path / "out.jsonl.gz").read_bytes()) == plain
    assert zstandard.ZstdDecompressor().decompressobj().decompress(packed) == plain


class FullDisk(io.RawIOBase):
    """A file on a disk with room for so many bytes."""

    def __init__(self, file: IO[bytes], room: list[int]) -> None:
        self.file = file
        self.room = room

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        if len(data) > self.room[0]:
            raise OSError(errno.ENOSPC, "No space left on device")
        self.room[0] -= len(data)
        return self.file.write(data)

    def close(self) -> None:
        self.file.close()
        super().close()


@pytest.mark.parametrize("room", [0, 10, 900, 1_100])
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("out.jsonl", {"format": "messages", "split": {"held_out": 0.5}}),
        ("out.jsonl.gz", {"format": "messages"}),
        ("out.parquet", {"format": "parquet"}),
        ("out", {"format": "hf"}),
    ],
)
def test_a_full_disk_leaves_the_earlier_export_as_it_was(
    talk: pl.LazyFrame,
    export: Export,
    tmp_path: Path,
    name: str,
    options: dict[str, Any],
    room: int,
) -> None:
    export(talk.head(2), path=name, **options)
    before = files(tmp_path)
    left = [room]

    with pytest.raises(ExportError, match=f"{name} cannot be written: .*No space left on device"):
        export(
            talk,
            path=name,
            opener=lambda path: FullDisk(path.open("wb", buffering=0), left),
            **options,
        )

    assert files(tmp_path) == before


def test_a_later_export_takes_the_place_of_the_earlier_one(
    talk: pl.LazyFrame, export: Export, tmp_path: Path
) -> None:
    for name, kind in (("out.jsonl", "messages"), ("out", "hf")):
        export(talk, format=kind, path=name)
        export(talk.head(1), format=kind, path=name)

    assert len((tmp_path / "out.jsonl").read_bytes().splitlines()) == 1
    assert json.loads((tmp_path / "out.manifest.json").read_bytes())["rows"] == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "out",
        "out.jsonl",
        "out.jsonl.manifest.json",
        "out.manifest.json",
    ]


def test_what_an_earlier_export_leaves_beside_the_new_one_is_told_until_it_is_removed(
    talk: pl.LazyFrame, export: Export, tmp_path: Path
) -> None:
    export(talk, format="messages", path="out.jsonl")
    split = {"held_out": 0.5}

    reports = [export(talk, format="messages", path="out.jsonl", split=split) for _ in range(2)]
    (tmp_path / "out.jsonl").unlink()
    after = export(talk, format="messages", path="out.jsonl", split=split)
    whole = export(talk, format="messages", path="out.jsonl")

    told = ("out.jsonl is of an earlier export and may hold held-out rows: remove it.",)
    assert [report.notes for report in reports] == [told, told]
    assert "out.jsonl is of an earlier export" in reports[0].summary()
    assert (after.notes, after.left_behind) == ((), ())
    assert whole.notes == (
        "out.held_out.jsonl is of an earlier export: remove it.",
        "out.train.jsonl is of an earlier export: remove it.",
    )
    assert json.loads(whole.manifest.read_bytes())["notes"] == list(whole.notes)


def test_a_file_that_no_export_wrote_is_not_taken_for_one(
    talk: pl.LazyFrame, export: Export, tmp_path: Path
) -> None:
    (tmp_path / "out.jsonl").write_text("mine")
    (tmp_path / "out.jsonl.manifest.json").write_text("mine")

    report = export(talk, format="messages", path="out.jsonl", split={"held_out": 0.5})

    assert report.notes == ()


@pytest.mark.parametrize(
    ("name", "options"),
    [("out", {"format": "hf"}), ("out.jsonl.gz", {"format": "messages"})],
)
def test_what_a_link_leads_to_is_replaced_and_the_link_stays(
    talk: pl.LazyFrame, export: Export, tmp_path: Path, name: str, options: dict[str, Any]
) -> None:
    there, plain = tmp_path / "disk" / "blob", tmp_path / "plain" / name
    export(talk, path=name, **options)
    there.parent.mkdir()
    (tmp_path / name).rename(there)
    (tmp_path / name).symlink_to(there)

    export(talk.head(1), path=name, **options)

    export(talk.head(1), path=f"plain/{name}", **options)
    assert (tmp_path / name).is_symlink()
    assert [path.name for path in (tmp_path / "disk").iterdir()] == ["blob"]
    if there.is_dir():
        assert files(there) == files(plain)
    else:
        assert there.read_bytes() == plain.read_bytes()
    manifests = [f"{name}.manifest.json", f"plain/{name}.manifest.json"]
    assert (tmp_path / manifests[0]).read_bytes() == (tmp_path / manifests[1]).read_bytes()


def fingerprints(*paths: Path) -> set[str]:
    return {FileInput(path.name, path).fingerprint() for path in paths}


@pytest.mark.parametrize(
    ("name", "options", "read"),
    [
        ("out", {"format": "hf"}, "out/train/data-00000-of-00001.arrow"),
        ("out.jsonl", {"format": "messages"}, "out.jsonl"),
        ("a.jsonl", {"format": "messages", "split": {"held_out": 0.5}}, "a.held_out.jsonl"),
    ],
)
def test_a_file_with_the_bytes_of_an_input_is_not_written_over(
    talk: pl.LazyFrame,
    export: Export,
    tmp_path: Path,
    name: str,
    options: dict[str, Any],
    read: str,
) -> None:
    export(talk, path=name, **options)
    spec = EXPORT.validate_python({"path": tmp_path / name, **options})

    problems = over_inputs(spec, fingerprints(tmp_path / read), "another run")

    assert problems == [
        f"the export {tmp_path / name} writes {read.removeprefix('out/')}, which holds what the "
        "run has read: choose another path"
    ]
    assert over_inputs(spec, {"00"}, "another run") == []


def test_a_run_may_write_again_what_it_has_exported_itself(
    talk: pl.LazyFrame, export: Export, tmp_path: Path
) -> None:
    """Where nothing was dropped, that is what it has read."""
    export(talk, format="messages", path="out.jsonl")
    export(talk, format="messages", path="out.train.jsonl")
    whole = EXPORT.validate_python({"format": "messages", "path": tmp_path / "out.jsonl"})
    halves = whole.model_copy(update={"split": Split(held_out=0.5)})
    read = fingerprints(tmp_path / "out.jsonl")

    assert over_inputs(whole, read, "5f3a") == []
    assert len(over_inputs(halves, read, "5f3a")) == 1  # another file of that name


def test_a_folder_where_the_file_should_be_is_refused(
    talk: pl.LazyFrame, export: Export, tmp_path: Path
) -> None:
    (tmp_path / "out.jsonl").mkdir()

    with pytest.raises(ExportError, match=r"out\.jsonl is a folder, and the export would write"):
        export(talk, format="messages", path="out.jsonl")

    assert [path.name for path in tmp_path.iterdir()] == ["out.jsonl"]


def test_a_file_where_a_folder_should_be_is_refused(
    talk: pl.LazyFrame, export: Export, tmp_path: Path
) -> None:
    (tmp_path / "out").write_text("mine")

    with pytest.raises(ExportError, match="out is a file; the format hf needs a folder"):
        export(talk, format="hf", path="out")
    with pytest.raises(ExportError, match="cannot be written"):
        export(talk, format="messages", path="out/deeper/out.jsonl")

    assert files(tmp_path) == {"out": b"mine"}


@pytest.mark.parametrize("ours", [False, True])
def test_a_folder_with_files_of_somebody_else_is_refused(
    talk: pl.LazyFrame, export: Export, tmp_path: Path, ours: bool
) -> None:
    if ours:
        export(talk, format="hf", path="out")
    (tmp_path / "out").mkdir(exist_ok=True)
    (tmp_path / "out/notes.txt").write_text("mine")
    before = files(tmp_path)

    with pytest.raises(ExportError, match=r"no export of winnow's wrote \(notes\.txt\)"):
        export(talk, format="hf", path="out")

    assert files(tmp_path) == before


def test_caches_that_datasets_left_in_our_folder_go_with_it(
    talk: pl.LazyFrame, export: Export, tmp_path: Path
) -> None:
    export(talk, format="hf", path="out")
    (tmp_path / "out/train/cache-1a2b.arrow").write_bytes(b"")

    export(talk.head(1), format="hf", path="out")

    assert not (tmp_path / "out/train/cache-1a2b.arrow").exists()


def test_a_format_for_other_rows_is_refused_before_anything_is_written(
    talk: pl.LazyFrame, rows: Callable[..., pl.LazyFrame], export: Export, tmp_path: Path
) -> None:
    pairs = rows(row_type="preference")

    with pytest.raises(ExportError) as told:
        export(pairs, row_type="preference", format="messages", path="out.jsonl")
    with pytest.raises(ExportError, match=r"layout preference does not hold instruction rows"):
        export(talk, format="hf", layout="preference", path="out")

    assert str(told.value) == (
        f"{tmp_path / 'out.jsonl'}: the format messages does not hold preference rows. "
        "Formats that do: preference, parquet, hf."
    )
    assert list(tmp_path.iterdir()) == []


def test_documents_have_no_prompt_to_split_by(
    rows: Callable[..., pl.LazyFrame], export: Export
) -> None:
    documents = rows({"uri": "a", "title": "b", "text": "c"}, row_type="document")

    with pytest.raises(ExportError, match="document rows have no prompt to split by"):
        export(
            documents,
            row_type="document",
            format="parquet",
            path="out.parquet",
            split={"held_out": 0.5},
        )


def test_rows_that_lack_columns_are_refused(export: Export) -> None:
    with pytest.raises(ContractError, match="column 'messages' is missing"):
        export(pl.LazyFrame({"id": ["a"]}), format="messages", path="out.jsonl")


def test_meta_that_is_no_object_is_an_error_that_names_the_row(
    rows: Callable[..., pl.LazyFrame], export: Export, tmp_path: Path
) -> None:
    given = rows({"id": "r1", "messages": [USER, ANSWER], "meta": "[1]"})

    with pytest.raises(ExportError, match="The meta of row r1 is no JSON object"):
        export(given, format="messages", path="out.jsonl")

    assert list(tmp_path.iterdir()) == []


def test_progress_counts_every_row(talk: pl.LazyFrame, tmp_path: Path) -> None:
    seen: list[int] = []
    spec = EXPORT.validate_python({"format": "alpaca", "path": tmp_path / "out.jsonl"})

    write_export(talk, "instruction", spec, Provenance("", {}), seed=0, progress=seen.append)

    assert seen == [6]


def test_the_summary_is_one_line_that_says_what_was_left_out() -> None:
    report = ExportReport(
        path=Path("out/clean.jsonl"),
        format="alpaca",
        rows=1_234,
        files=(ExportedFile("clean.jsonl", 1_234, 9, "00"),),
        manifest=Path("out/clean.jsonl.manifest.json"),
        left_out={"tools": 7, "turn_order": 2},
        renamed={"label": "meta_label"},
    )

    assert report.summary() == (
        "out/clean.jsonl: 1,234 rows; 9 left out that alpaca cannot hold (tools 7, turn_order 2); "
        "columns renamed: label -> meta_label"
    )


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"format": "messages", "path": "out.parquet"}, "ending in .jsonl, .ndjson, .json"),
        ({"format": "messages", "path": "out"}, "ending in .jsonl, .ndjson, .json"),
        ({"format": "parquet", "path": "out.jsonl"}, "ending in .parquet"),
        ({"format": "hf", "path": "out.jsonl"}, "is written to a folder"),
        ({"format": "hf", "path": "."}, "needs a name of its own"),
        ({"format": "alpaca", "path": "a.jsonl", "style": "plain"}, "Extra inputs"),
        ({"format": "alpaca", "path": "a.jsonl", "split": {"held_out": 1}}, "less than 1"),
        ({"format": "yaml", "path": "a.jsonl"}, "does not match any of the expected tags"),
        (
            {"format": "hf", "path": "a", "layout": "rows", "row_type": "instruction"},
            "layout rows does not hold instruction rows",
        ),
    ],
)
def test_a_wrong_spec_says_what_is_wrong(options: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValidationError) as told:
        EXPORT.validate_python(options)

    assert problem in str(told.value)


def test_each_row_type_has_formats() -> None:
    assert formats_for("instruction") == (
        "messages",
        "prompt-completion",
        "alpaca",
        "sharegpt",
        "parquet",
        "hf",
    )
    assert formats_for("document") == ("parquet", "hf")
