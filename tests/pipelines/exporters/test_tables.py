"""Parquet and dataset folders: types of the columns, and that others really open them."""

import base64
import datetime as dt
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.exporters.provenance import Provenance
from pipelines.exporters.report import ExportReport
from schemas.rows import row_schema

Export = Callable[..., ExportReport]
Rows = Callable[..., pl.LazyFrame]
USER = {"role": "user", "content": "2 + 2?"}
ANSWER = {"role": "assistant", "content": "4"}
CALL = {"type": "function", "function": {"name": "add", "arguments": {"a": 2}}}

SOURCE = pa.schema(
    [
        pa.field("big", pa.int64()),
        pa.field("day", pa.date32()),
        pa.field("at", pa.timestamp("ns", "UTC")),
        pa.field("took", pa.duration("ms")),
        pa.field("clock", pa.time64("us")),
        pa.field("price", pa.decimal128(9, 2)),
        pa.field("raw", pa.binary()),
        pa.field("score", pa.float32()),
        pa.field("kind", pa.dictionary(pa.int32(), pa.string())),
        pa.field("who", pa.struct([pa.field("name", pa.string()), pa.field("age", pa.int8())])),
        pa.field("tags", pa.map_(pa.string(), pa.int64())),
        pa.field("days", pa.large_list(pa.date32())),
        pa.field("messages", pa.string()),
    ]
)
META = {
    "big": 2**53 + 1,
    "day": "2026-11-20",
    "at": "2026-11-20T01:02:03.000000004+00:00",
    "took": "1500000",
    "clock": "01:02:03.000004",
    "price": "12.50",
    "raw": base64.b64encode(b"\x00\xff").decode(),
    "score": "NaN",
    "kind": "a",
    "who": {"name": "Ada", "age": 36},
    "tags": [["x", 1]],
    "days": ["2026-11-20", None],
    "messages": "unread",
}


def test_parquet_gives_meta_back_in_the_types_of_the_source(
    rows: Rows, export: Export, provenance: Provenance, tmp_path: Path
) -> None:
    empty = {name: None for name in META}
    given = rows(
        {"messages": [USER, ANSWER], "source": "talk", "meta": json.dumps(META)},
        {"messages": [USER, ANSWER], "source": "talk", "meta": json.dumps(empty)},
    )
    origin = replace(provenance, source_schemas={"talk": SOURCE.serialize().to_pybytes()})

    report = export(given, format="parquet", path="out.parquet", origin=origin)

    table = pq.read_table(tmp_path / "out.parquet")
    own = [field for field in row_schema("instruction") if field.name != "meta"]
    assert list(table.schema)[: len(own)] == own
    assert {f.name: f.type for f in list(table.schema)[len(own) :]} == {
        "big": pa.int64(),
        "day": pa.date32(),
        "at": pa.timestamp("ns", "UTC"),
        "took": pa.duration("ms"),
        "clock": pa.time64("us"),
        "price": pa.decimal128(9, 2),
        "raw": pa.binary(),
        "score": pa.float32(),
        "kind": pa.string(),
        "who": SOURCE.field("who").type,
        "tags": SOURCE.field("tags").type,
        "days": pa.list_(pa.date32()),
        "meta_messages": pa.string(),
    }
    first, second = table.drop_columns(["at", "score"]).to_pylist()
    assert {name: first[name] for name in ("big", "day", "took", "clock", "price", "raw")} == {
        "big": 2**53 + 1,
        "day": dt.date(2026, 11, 20),
        "took": dt.timedelta(milliseconds=1500),
        "clock": dt.time(1, 2, 3, 4),
        "price": Decimal("12.50"),
        "raw": b"\x00\xff",
    }
    assert {name: first[name] for name in ("kind", "who", "tags", "days", "meta_messages")} == {
        "kind": "a",
        "who": {"name": "Ada", "age": 36},
        "tags": [("x", 1)],
        "days": [dt.date(2026, 11, 20), None],
        "meta_messages": "unread",
    }
    assert table["at"].cast(pa.string()).to_pylist() == ["2026-11-20 01:02:03.000000004Z", None]
    assert str(table["score"][0]) == "nan"
    assert all(second[name] is None for name in first if name in META and name != "messages")
    assert report.renamed == {"messages": "meta_messages"}


def test_without_a_schema_the_values_say_the_type(
    rows: Rows, export: Export, tmp_path: Path
) -> None:
    metas = [
        {"n": 1, "x": 1, "mixed": 1, "open": {}, "nested": {"a": 1}, "huge": 1, "long": 2**60},
        {"x": 0.5, "mixed": "a", "open": {}, "nested": {"b": ["c"]}, "huge": 2**70, "long": 0.5},
        {"n": None, "flag": True, "nothing": None},
    ]
    given = rows(*({"messages": [USER, ANSWER], "meta": json.dumps(meta)} for meta in metas))

    report = export(given, format="parquet", path="out.parquet")

    table = pq.read_table(tmp_path / "out.parquet")
    columns = [name for name in table.column_names if name not in row_schema("instruction").names]
    assert table.select(columns).to_pydict() == {
        "n": [1, None, None],
        "x": [1.0, 0.5, None],
        "mixed": ["1", '"a"', None],
        "open": ["{}", "{}", None],
        "nested": [{"a": 1, "b": None}, {"a": None, "b": ["c"]}, None],
        "huge": ["1", str(2**70), None],
        "long": [str(2**60), "0.5", None],
        "flag": [None, None, True],
        "nothing": [None, None, None],
    }
    assert [note.split("'")[1] for note in report.notes] == ["mixed", "open", "huge", "long"]


def test_values_that_left_the_type_of_the_source_get_a_type_of_their_own(
    rows: Rows, export: Export, provenance: Provenance, tmp_path: Path
) -> None:
    schema = pa.schema([pa.field("n", pa.int8()), pa.field("day", pa.date32())])
    given = rows(
        {"messages": [USER, ANSWER], "meta": '{"n":1,"day":"2026-11-20"}'},
        {"messages": [USER, ANSWER], "meta": '{"n":300,"day":"soon"}'},
    )
    origin = replace(provenance, source_schemas={"talk": schema.serialize().to_pybytes()})

    export(given, format="parquet", path="out.parquet", origin=origin)

    table = pq.read_table(tmp_path / "out.parquet", columns=["n", "day"])
    assert table.to_pydict() == {"n": [1, 300], "day": ["2026-11-20", "soon"]}


def opened(folder: Path, tmp_path: Path) -> dict[str, Any]:
    """What `datasets` itself finds in a folder, both ways; in a process of its own, offline."""
    program = (
        "import sys, json\n"
        "from datasets import load_dataset, load_from_disk\n"
        "disk, hub = load_from_disk(sys.argv[1]), load_dataset(sys.argv[1])\n"
        "say = lambda d: {s: {'features': str(d[s].features), 'rows': list(d[s])} for s in d}\n"
        "print(json.dumps({'disk': say(disk), 'hub': say(hub)}))\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program, str(folder)],
        check=True,
        capture_output=True,
        env={"HF_HOME": str(tmp_path / "hf_home"), "HF_HUB_OFFLINE": "1"},
    )
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["disk"] == found["hub"]
    return dict(found["disk"])


def test_datasets_opens_messages_both_ways_with_tools_as_values(
    talk: pl.LazyFrame, export: Export, tmp_path: Path
) -> None:
    report = export(talk, format="hf", path="out", split={"held_out": 0.5}, with_id=True)

    found = opened(tmp_path / "out", tmp_path)
    assert {split: len(side["rows"]) for split, side in found.items()} == report.splits
    every = [row for side in found.values() for row in side["rows"]]
    called = next(row for row in every if row["tools"])
    turn = {"name": None, "tool_calls": None, "tool_call_id": None}
    assert called["messages"][0] == {"role": "user", "content": "Was ist 2 + 2?", **turn}
    assert called["messages"][1]["tool_calls"] == [{"id": "c1", **CALL}]
    assert called["messages"][2]["tool_call_id"] == "c1"
    assert called["tools"] == [{"name": "add"}]
    assert {row["n"] for row in every} == {None, 2**53 + 1}
    assert {len(row["winnow_id"]) for row in every} == {32}
    assert sorted(str(row["label"]) for row in every) == ["False", *["None"] * 5]


def test_columns_and_fields_that_no_row_uses_are_left_out(
    rows: Rows, export: Export, tmp_path: Path
) -> None:
    export(rows({"messages": [USER, ANSWER], "meta": "{}"}), format="hf", path="out")

    with pa.ipc.open_stream(tmp_path / "out/train/data-00000-of-00001.arrow") as stream:
        assert stream.read_all().to_pylist() == [{"messages": [USER, ANSWER]}]


def test_a_prompt_completion_folder_leaves_out_rows_without_an_answer(
    talk: pl.LazyFrame, rows: Rows, export: Export, tmp_path: Path
) -> None:
    broken = rows(
        {"messages": [USER, ANSWER, USER], "meta": "{}"},
        {"messages": [ANSWER], "meta": "{}"},
        {"messages": [USER, ANSWER], "tools": "[", "meta": "{}"},
    )
    given = pl.concat([talk.head(2), broken])

    report = export(given, format="hf", layout="prompt-completion", path="out")

    with pa.ipc.open_stream(tmp_path / "out/train/data-00000-of-00001.arrow") as stream:
        found = stream.read_all().to_pylist()
    assert [[turn["role"] for turn in row["prompt"]] for row in found] == [
        ["user"],
        ["system", "user"],
    ]
    assert [[turn["role"] for turn in row["completion"]] for row in found] == [["assistant"]] * 2
    assert report.left_out == {"last_turn_no_answer": 1, "no_prompt": 1, "tools_no_json": 1}


def test_a_prompt_of_the_source_does_not_stay_beside_messages(rows: Rows, export: Export) -> None:
    """In the layout of ultrachat_200k and no_robots."""
    given = rows({"messages": [USER, ANSWER], "meta": '{"prompt":"2 + 2?","prompt_id":"a"}'})

    report = export(given, format="hf", path="out")

    with pa.ipc.open_stream(report.path / "train/data-00000-of-00001.arrow") as stream:
        assert stream.schema.names == ["messages", "meta_prompt", "prompt_id"]
    assert report.renamed == {"prompt": "meta_prompt"}


def test_datasets_opens_preferences_and_documents_and_an_empty_side(
    rows: Rows, export: Export, tmp_path: Path
) -> None:
    pairs = rows(
        {"prompt": [USER], "chosen": [ANSWER], "rejected": [USER], "margin": 0.5, "meta": "{}"},
        row_type="preference",
    )
    documents = rows({"uri": "a.md", "title": None, "text": "A", "meta": "{}"}, row_type="document")
    report = export(
        pairs, row_type="preference", format="hf", path="pairs", split={"held_out": 1e-9}
    )
    export(documents, row_type="document", format="hf", path="documents")

    found = opened(tmp_path / "pairs", tmp_path)
    pair = {"prompt": [USER], "chosen": [ANSWER], "rejected": [USER], "margin": 0.5}
    assert {split: side["rows"] for split, side in found.items()} == {"train": [pair]}
    assert report.splits == {"train": 1, "test": 0}
    assert report.notes == ("No row is in test, so the folder has no such split.",)
    assert opened(tmp_path / "documents", tmp_path)["train"]["rows"] == [
        {"uri": "a.md", "title": None, "text": "A"}
    ]


def test_datasets_opens_the_json_lines_too(
    talk: pl.LazyFrame, export: Export, tmp_path: Path
) -> None:
    export(talk, format="messages", path="out.jsonl")
    program = (
        "import sys, json\nfrom datasets import load_dataset\n"
        "d = load_dataset('json', data_files=sys.argv[1], split='train')\nprint(len(d))\n"
    )

    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program, str(tmp_path / "out.jsonl")],
        check=True,
        capture_output=True,
        env={"HF_HOME": str(tmp_path / "hf_home"), "HF_HUB_OFFLINE": "1"},
    )

    assert done.stdout.split()[-1] == b"6"


def test_the_card_says_what_the_set_is_and_where_it_comes_from(
    talk: pl.LazyFrame, export: Export, tmp_path: Path
) -> None:
    card = {"licence": "cc-by-sa-4.0", "language": "de", "title": "Talk | small", "tags": ["maths"]}

    export(talk, format="hf", path="out", card=card)

    assert (tmp_path / "out/README.md").read_text(encoding="utf-8") == EXPECTED_CARD


EXPECTED_CARD = """\
---
license: cc-by-sa-4.0
language:
- de
pretty_name: Talk | small
size_categories:
- n<1K
tags:
- maths
- winnow
configs:
- config_name: default
  data_files:
  - split: train
    path: train/data-*.arrow
---

# Talk | small

## Rows

| split | rows |
| --- | --- |
| train | 6 |

## Sources

| source | format | rows | unreadable | hash |
| --- | --- | --- | --- | --- |
| talk.jsonl | messages | 9 | 1 | `ab12` |

## Licence

cc-by-sa-4.0, as named by whoever made this set.

## Curation

| stage | in | kept | dropped | failed | flagged | created |
| --- | --- | --- | --- | --- | --- | --- |
| clean.rules | 9 | 6 | 3 | 0 | 0 | 0 |

Why rows were dropped or failed:

| stage | reason | rows |
| --- | --- | --- |
| clean.rules | `empty` | 2 |
| clean.rules | `refusal` | 1 |

## Models

```yaml
judge:
  kind: transformers
  weights: 53aa
```

## Recipe

```yaml
source:
  path: talk.jsonl
seed: 7
```

Versions: winnow 0.1.0.

Written by winnow, run `5f3a`.
"""
