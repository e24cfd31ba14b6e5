"""Whatever stands in a row, its line says the same to Python's own JSON parser."""

import json
import tempfile
from pathlib import Path
from typing import Any

import orjson
import polars as pl
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.exporters.export import write_export
from pipelines.exporters.lines import LineEncoder
from pipelines.exporters.provenance import Provenance
from pipelines.exporters.records import messages_record
from pipelines.exporters.spec import Messages, Preference
from schemas.rows import RowType, row_schema

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12) | st.sampled_from(
    [
        '","name":null',
        '"',
        "\\",
        '\\\\"',
        "\x00\x1f\x7f",
        "\u2028\u2029",
        "😀👩‍👩‍👧",
        '}],"',
        "\r\n",
        "",
    ]
)
scalars = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
)
values = st.recursive(
    scalars | texts, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner)
)
turns = st.fixed_dictionaries(
    {
        "role": st.sampled_from(["system", "user", "assistant", "tool"]),
        "content": st.none() | texts,
        "name": st.none() | texts,
        "tool_calls": st.none() | st.lists(st.dictionaries(texts, values, max_size=2), max_size=2),
        "tool_call_id": st.none() | texts,
    }
)
plain_turns = st.fixed_dictionaries(
    {"role": st.sampled_from(["user", "assistant"]), "content": texts}
)
conversations = st.lists(plain_turns, max_size=4) | st.lists(turns, max_size=4)
metas = st.dictionaries(
    texts | st.sampled_from(["label", "messages", "meta_tools", "category"]), values, max_size=4
)
row = st.fixed_dictionaries(
    {
        "messages": conversations,
        "tools": st.none() | st.lists(st.dictionaries(texts, values, max_size=2), max_size=2),
        "label": st.none() | st.booleans(),
        "meta": metas,
    }
)


def canonical(rows: list[dict[str, Any]], row_type: RowType) -> pl.LazyFrame:
    table = [
        {
            **{name: value for name, value in one.items() if name not in ("meta", "tools")},
            "id": str(place),
            "place": place,
            "content": bytes(16),
            "tools": _json(one["tools"]),
            "meta": _json(one["meta"]),
        }
        for place, one in enumerate(rows)
    ]
    for one in table:
        for side in ("messages", "prompt", "chosen", "rejected"):
            if side in one:
                one[side] = [{**t, "tool_calls": _json(t.get("tool_calls"))} for t in one[side]]
    schema = row_schema(row_type)
    return pl.LazyFrame(pl.from_arrow(pa.Table.from_pylist(table, schema=schema)))


def _json(value: Any) -> str | None:
    return None if value is None else json.dumps(value, ensure_ascii=False)


def _renamed(meta: dict[str, Any]) -> dict[str, Any]:
    reserved = {"label", "messages", "meta_tools"}
    return {f"meta_{key}" if key in reserved else key: value for key, value in meta.items()}


def _shaped(turn: dict[str, Any]) -> dict[str, Any]:
    kept = ("role", "content")
    return {key: value for key, value in turn.items() if key in kept or value is not None}


def export(rows: list[dict[str, Any]], row_type: RowType, kind: Any) -> list[Any]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "out.jsonl"
        report = write_export(
            canonical(rows, row_type), row_type, kind(path=path), Provenance("", {}), seed=0
        )
        lines = path.read_bytes().split(b"\n")
        assert (report.rows, lines.pop()) == (len(rows), b"")
        return [json.loads(line) for line in lines]


@settings(max_examples=100, deadline=None)
@given(st.lists(row, max_size=6))
def test_messages_say_what_the_rows_say(rows: list[dict[str, Any]]) -> None:
    lines = export(rows, "instruction", Messages)

    assert lines == [
        {
            "messages": [_shaped(turn) for turn in one["messages"]],
            **({} if one["tools"] is None else {"tools": one["tools"]}),
            **({} if one["label"] is None else {"label": one["label"]}),
            **_renamed(one["meta"]),
        }
        for one in rows
    ]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(plain_turns, plain_turns), min_size=1, max_size=5))
def test_the_fast_way_gives_the_bytes_of_the_definition(rows: list[tuple[Any, Any]]) -> None:
    given_rows = [{"messages": one, "tools": None, "label": None, "meta": {}} for one in rows]
    encoder = LineEncoder(Messages(path=Path("out.jsonl")), "instruction")

    table, _ = encoder.encode(
        canonical(given_rows, "instruction").select(encoder.columns).collect()
    )

    definition = [
        orjson.dumps(messages_record(row)).decode() + "\n"
        for row in canonical(given_rows, "instruction").collect().to_dicts()
    ]
    assert table["line"].to_pylist() == definition


numbers = st.none() | st.floats(allow_nan=False, allow_infinity=False)
pairs = st.fixed_dictionaries(
    {
        "prompt": conversations,
        "chosen": conversations,
        "rejected": conversations,
        "tools": st.none(),
        "score_chosen": numbers,
        "score_rejected": numbers,
        "margin": numbers,
        "meta": st.just({}),
    }
)


@settings(max_examples=50, deadline=None)
@given(st.lists(pairs, max_size=4))
def test_preferences_say_what_the_rows_say(rows: list[dict[str, Any]]) -> None:
    lines = export(rows, "preference", Preference)

    assert lines == [
        {
            **{side: [_shaped(t) for t in one[side]] for side in ("prompt", "chosen", "rejected")},
            **{
                name: one[name]
                for name in ("score_chosen", "score_rejected", "margin")
                if one[name] is not None
            },
        }
        for one in rows
    ]
