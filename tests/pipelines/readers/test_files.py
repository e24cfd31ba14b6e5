import gzip
import json
import math
from datetime import date
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from pipelines.readers.importing import import_source
from pipelines.readers.source import FileSource, SourceError
from pipelines.store.workspace import Workspace

RECORDS = [{"prompt": f"Who is {n}?", "response": "x" * n, "n": n} for n in range(200)]
LINES = b"".join(json.dumps(record).encode() + b"\n" for record in RECORDS)
CSV = "prompt,response\nWho?,Me.\n"


def parquet(records, **options) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(records), sink, **options)
    return sink.getvalue().to_pybytes()


def separated(character: str) -> bytes:
    return "".join(
        f"{r['prompt']}{character}{r['response']}{character}{r['n']}\n"
        for r in [{"prompt": "prompt", "response": "response", "n": "n"}, *RECORDS]
    ).encode()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.jsonl", LINES),
        ("a.json", LINES),
        ("a.jsonl", LINES.replace(b"\n", b"\r\n")),
        ("a.jsonl", b"\xef\xbb\xbf" + LINES),
        ("a.jsonl", LINES.rstrip()),
        ("a.jsonl.gz", gzip.compress(LINES)),
        ("a.jsonl.gz", gzip.compress(LINES[:3_000]) + gzip.compress(LINES[3_000:]) + b"\0" * 50),
        ("a.jsonl.zst", zstandard.compress(LINES)),
        ("a.jsonl.zst", zstandard.compress(LINES[:3_000]) + zstandard.compress(LINES[3_000:])),
        ("a.json", json.dumps(RECORDS).encode()),
        ("a.json", json.dumps(RECORDS, indent=2).encode()),
        ("a.jsonl", json.dumps(RECORDS).encode()),
        ("a.json", b"\xef\xbb\xbf" + json.dumps(RECORDS).encode()),
        ("a.json.gz", gzip.compress(json.dumps(RECORDS).encode())),
        ("a.json", b"\n".join(json.dumps(record, indent=2).encode() for record in RECORDS)),
        ("a.parquet", parquet(RECORDS)),
        ("a.parquet", parquet(RECORDS, row_group_size=7)),
        ("a", parquet(RECORDS)),
    ],
)
def test_the_same_records_come_out_of_every_kind_of_file(importing, name, content):
    found = importing(content, name)
    assert found.chats == [[("user", r["prompt"]), ("assistant", r["response"])] for r in RECORDS]
    assert found.metas == [{"n": r["n"]} for r in RECORDS]
    assert [row["place"] for row in found.rows] == list(range(200))
    assert {row["source"] for row in found.rows} == {name}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", separated(",")),
        ("a.csv", separated(";")),
        ("a.tsv", separated("\t")),
        ("a.csv.gz", gzip.compress(b"\xef\xbb\xbf" + separated(","))),
    ],
)
def test_delimited_files_give_texts(importing, name, content):
    found = importing(content, name)
    assert found.chats == [[("user", r["prompt"]), ("assistant", r["response"])] for r in RECORDS]
    assert found.metas == [{"n": str(r["n"])} for r in RECORDS]


def test_a_delimited_value_may_hold_line_breaks_quotes_and_delimiters(importing):
    found = importing(b'prompt,response\n"a\nb, ""c""",d\n', "a.csv")
    assert found.chats == [[("user", 'a\nb, "c"'), ("assistant", "d")]]


@pytest.mark.parametrize(
    ("content", "reasons"),
    [
        (CSV + "a,b,c\nd,e\n", [(2, "broken_csv")]),
        (CSV + "a\nd,e\n", [(2, "broken_csv")]),
        (CSV + 'd,e\na,"b\nc,d\n', [(3, "truncated")]),
        (CSV + '"a"b,c\nd,e\n', [(2, "broken_csv")]),
    ],
)
def test_bad_rows_of_a_delimited_file_fail(importing, content, reasons):
    found = importing(content.encode(), "a.csv")
    assert (found.reasons, found.table.rows) == (reasons, 2)


def test_an_undecodable_row_of_a_delimited_file_fails(importing):
    found = importing(CSV.encode() + b"\xff,b\nc,d\n", "a.csv")
    assert (found.reasons, found.table.rows) == ([(2, "undecodable")], 2)


@pytest.mark.parametrize("pack", [gzip.compress, zstandard.compress])
def test_rows_before_the_break_of_a_compressed_file_come_in(importing, pack):
    import random

    letters = random.Random(0).choices("abcdefghijklmnop", k=400_000)
    records = [
        {"prompt": str(n), "response": "".join(letters[n * 200 : n * 200 + 200])}
        for n in range(2_000)
    ]
    whole = pack(b"".join(json.dumps(record).encode() + b"\n" for record in records))
    found = importing(whole[: len(whole) // 2], "a.jsonl.packed")
    rows = found.table.rows
    assert 300 < rows < 1_700
    assert found.chats == [
        [("user", r["prompt"]), ("assistant", r["response"])] for r in records[:rows]
    ]
    assert found.reasons == [(rows + 1, "truncated")]


def test_a_damaged_compressed_file_is_one_failure(importing):
    packed = bytearray(gzip.compress(LINES))
    packed[-6] ^= 255  # the checksum
    [failure] = importing(bytes(packed), "a.jsonl.gz").failures
    assert failure["reason"] == "truncated"
    assert failure["error"].startswith("the compressed data is damaged")


@pytest.mark.parametrize("cut", [5, 60, 95])
def test_an_array_that_breaks_off_gives_the_records_before(importing, cut):
    content = json.dumps(RECORDS).encode()
    found = importing(content[: len(content) * cut // 100], "a.json")
    rows = found.table.rows
    assert 0 < rows < 200
    assert found.reasons == [(rows + 1, "truncated")]


def test_a_parquet_file_without_its_end_is_one_failure(importing):
    found = importing(parquet(RECORDS)[:-10], "a.parquet")
    assert (found.reasons, found.table.rows) == ([(1, "unreadable_file")], 0)


def test_blank_lines_are_no_records_but_count_as_lines(importing):
    record = json.dumps(RECORDS[0]).encode()
    found = importing(b"\n  \n" + record + b"\r\n\r\n\n{\n" + record)
    assert [row["place"] for row in found.rows] == [2, 6]
    assert found.reasons == [(6, "broken_json")]


def test_a_file_without_records_is_an_empty_table(importing):
    assert importing(b"").table.rows == 0
    assert importing(b"[]", "a.json").table.rows == 0
    assert importing(b"prompt,response\n", "a.csv").table.rows == 0


def test_numbers_keep_all_their_digits_in_meta(importing):
    numbers = (
        '{"a": 123456789012345678901234567890, "b": [1e30, {"c": -9223372036854775809}], "d": 0.1}'
    )
    line = f'{{"prompt": "?", "response": "!", "x": {numbers}, "y": NaN, "z": 1e999}}'
    [row] = importing(line.encode()).rows
    expected = {"x": json.loads(numbers), "y": "NaN", "z": "1e999"}
    assert json.loads(row["meta"]) == expected
    assert "123456789012345678901234567890" in row["meta"]


def test_large_integers_within_tool_calls_keep_all_their_digits(importing):
    calls = '[{"function": {"arguments": {"n": 123456789012345678901}}}]'
    line = f'{{"messages": [{{"role": "assistant", "tool_calls": {calls}}}]}}'
    [row] = importing(line.encode()).rows
    assert row["messages"][0]["tool_calls"] == calls


def test_of_keys_that_stand_twice_the_last_one_counts(importing):
    assert importing(b'{"prompt": "a", "prompt": "b", "response": "c"}').chats == [
        [("user", "b"), ("assistant", "c")]
    ]


def test_nul_and_emoji_survive(importing):
    text = "a\0b \N{PARTY POPPER}   "
    assert importing([{"prompt": text, "response": text}]).chats == [
        [("user", text), ("assistant", text)]
    ]


def test_parquet_values_that_json_cannot_hold_stay_exact_in_meta(importing):
    record = {
        "prompt": "?",
        "response": "!",
        "blob": b"\x00\xff",
        "day": date(2024, 2, 29),
        "price": Decimal("1.10"),
        "ratio": math.nan,
        "nested": {"deep": [b"a"]},
    }
    found = importing(parquet([record]), "a.parquet")
    assert found.metas == [
        {
            "blob": "AP8=",
            "day": "2024-02-29",
            "price": "1.10",
            "ratio": "NaN",
            "nested": {"deep": ["YQ=="]},
        }
    ]


def test_the_schema_of_a_parquet_file_is_kept(importing):
    import base64

    table = importing(parquet(RECORDS), "a.parquet").table
    schema = pa.ipc.read_schema(pa.py_buffer(base64.b64decode(table.details["source_schema"])))
    assert schema == pa.schema(
        [("prompt", pa.string()), ("response", pa.string()), ("n", pa.int64())]
    )


def test_a_parquet_answer_of_bytes_is_of_the_wrong_type(importing):
    records = [{"prompt": "?", "response": b"!"}]
    with pytest.raises(SourceError, match=r"text in 'response' \(it is no JSON value"):
        importing(
            parquet(records),
            "a.parquet",
            format="question-answer",
            columns={"prompt": "prompt", "response": "response"},
        )


def test_undecodable_text_in_parquet_fails_that_row(importing):
    bad = pa.StringArray.from_buffers(
        2, pa.py_buffer(b"\0\0\0\0\1\0\0\0\2\0\0\0"), pa.py_buffer(b"a\xff")
    )
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({"prompt": bad, "response": pa.array(["b", "c"])}), sink)
    found = importing(sink.getvalue().to_pybytes(), "a.parquet")
    assert (found.chats, found.reasons) == (
        [[("user", "a"), ("assistant", "b")]],
        [(2, "undecodable")],
    )


def test_a_folder_saved_by_datasets_is_read(importing, tmp_path):
    import datasets

    whole = datasets.Dataset.from_list(RECORDS)
    whole.save_to_disk("one", num_shards=3)
    datasets.DatasetDict({"train": whole, "test": whole.select([5, 3])}).save_to_disk("two")
    workspace = Workspace(tmp_path / "w")
    one = import_source(FileSource(path="one"), workspace)
    two = import_source(FileSource(path="two"), workspace)
    assert [table.rows for table in one] == [67, 67, 66]
    assert [table.rows for table in two] == [200, 2]
    assert one[0].details["source"] == "one/data-00000-of-00003.arrow"
    assert two[1].details["source"] == "two/test/data-00000-of-00001.arrow"
    tested = pq.read_table(two[1].parts[0])["messages"].to_pylist()
    assert [turns[0]["content"] for turns in tested] == ["Who is 5?", "Who is 3?"]


def test_a_folder_of_other_things_says_what_to_write(importing):
    Path("things").mkdir()
    Path("things/a.txt").touch()
    with pytest.raises(SourceError, match=r"holds a\.txt.*path: things/\*\.jsonl"):
        import_source(FileSource(path="things"), Workspace(Path("w")))


def test_a_glob_gives_its_files_in_order_and_their_names(tmp_path, importing):
    for name in ("b/2.jsonl", "a/10.jsonl", "a/1.jsonl"):
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_bytes(LINES[:200])
    relative = import_source(
        FileSource(path="**/*.jsonl", format="prompt-response"), Workspace(Path("w"))
    )
    absolute = import_source(FileSource(path=str(tmp_path / "*/*.jsonl")), Workspace(Path("w")))
    names = ["a/1.jsonl", "a/10.jsonl", "b/2.jsonl"]
    assert [table.details["source"] for table in relative] == names
    assert [table.details["source"] for table in absolute] == names


def test_very_long_lines_come_in(importing):
    answer = "long " * 600_000
    found = importing(
        [{"prompt": "?", "response": answer}] * 2 + [{"prompt": "?", "response": "!"}]
    )
    assert [chat[1][1] == answer for chat in found.chats] == [True, True, False]
