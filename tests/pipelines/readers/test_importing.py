import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.readers.importing import import_source
from pipelines.readers.source import FileSource
from pipelines.store.workspace import Workspace
from schemas.ids import content_of
from schemas.rows import row_schema

SAME = {"prompt": "?", "response": "!"}


def said(text):
    return {"prompt": "?", "response": text}


def write(name, records):
    Path(name).write_bytes(b"".join(json.dumps(record).encode() + b"\n" for record in records))


def ids(tables):
    return [pq.read_table(part)["id"].to_pylist() for table in tables for part in table.parts]


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return Workspace(tmp_path / "workspace")


def turn(role, content):
    return {
        "role": role,
        "content": content,
        "name": None,
        "tool_calls": None,
        "tool_call_id": None,
    }


def test_the_id_is_the_hash_of_the_content_and_repeats_are_numbered(importing):
    found = importing([SAME, said("other"), SAME, SAME])
    content = content_of("instruction", ([turn("user", "?"), turn("assistant", "!")], None, None))
    assert [row["content"] for row in found.rows][::2] == [content] * 2
    name = content.hex()
    assert [found.rows[n]["id"] for n in (0, 2, 3)] == [name, f"{name}-1", f"{name}-2"]


def test_the_table_has_the_canonical_schema(importing):
    table = importing([SAME]).table
    assert pq.read_schema(table.parts[0]).equals(row_schema("instruction"))


def test_ids_are_unique_over_all_files_of_a_source(here):
    write("a.jsonl", [SAME, said("a"), SAME])
    write("b.jsonl", [said("b"), SAME, said("a")])
    first, second = ids(import_source(FileSource(path="*.jsonl"), here))
    assert second[1:] == [f"{first[0]}-2", f"{first[1]}-1"]


def test_a_named_id_is_unique_over_all_files_of_a_source(here):
    write("a.jsonl", [{**SAME, "id": "x"}, {**SAME, "id": "y"}])
    write("b.jsonl", [{**SAME, "id": "z"}, {**SAME, "id": "y"}])
    import_source(FileSource(path="a.jsonl", id="id"), here)
    tables = import_source(FileSource(path="*.jsonl", id="id"), here)
    [failure] = pq.read_table(tables[1].failures).to_pylist()
    assert ids(tables) == [["x", "y"], ["z"]]
    assert json.loads(failure["evidence"])["first"] == {"file": "a.jsonl", "line": 2}


def test_a_table_that_is_there_is_not_read_again(here):
    write("a.jsonl", [SAME])
    seen = []
    [first] = import_source(FileSource(path="a.jsonl"), here)
    before = first.parts[0].stat().st_mtime_ns
    [again] = import_source(
        FileSource(path="a.jsonl"), here, progress=lambda *told: seen.append(told)
    )
    assert again == first
    assert again.parts[0].stat().st_mtime_ns == before
    assert seen == [("a.jsonl", 33, 33, 1)]


def test_a_grown_source_reads_only_its_new_files_and_knows_the_old_rows(here):
    write("a.jsonl", [SAME])
    [old] = import_source(FileSource(path="*.jsonl"), here)
    write("b.jsonl", [SAME])
    kept, new = import_source(FileSource(path="*.jsonl"), here)
    assert kept == old
    assert ids([new]) == [[f"{ids([old])[0][0]}-1"]]


@pytest.mark.parametrize(
    "changed",
    [
        {"columns": {"prompt": "response", "response": "prompt"}},
        {"id": "key"},
        {"format": "prompt-response"},
    ],
)
def test_the_key_depends_on_how_records_are_read(here, changed):
    write("a.jsonl", [{**SAME, "key": "k"}])
    [plain] = import_source(FileSource(path="a.jsonl"), here)
    [other] = import_source(FileSource(path="a.jsonl", **changed), here)
    assert plain.key != other.key


def test_the_key_depends_on_the_name_and_the_bytes_and_not_on_the_place(here, tmp_path):
    write("a.jsonl", [SAME])
    write("b.jsonl", [SAME])
    (tmp_path / "elsewhere").mkdir()
    write("elsewhere/a.jsonl", [SAME])
    a, b, moved = (
        import_source(FileSource(path=str(tmp_path / name)), here)[0].key
        for name in ("a.jsonl", "b.jsonl", "elsewhere/a.jsonl")
    )
    assert a == moved != b


def test_a_limit_counts_records_over_all_files(here):
    write("a.jsonl", [said("1"), {}, said("2")])
    write("b.jsonl", [said("3"), said("4")])
    write("c.jsonl", [said("5")])
    tables = import_source(FileSource(path="*.jsonl"), here, limit=4)
    assert [(table.rows, table.failed) for table in tables] == [(2, 1), (1, 0)]


def test_a_limit_has_a_table_of_its_own(here):
    write("a.jsonl", [said("1"), said("2")])
    [some] = import_source(FileSource(path="a.jsonl"), here, limit=1)
    [whole] = import_source(FileSource(path="a.jsonl"), here)
    assert (some.rows, whole.rows) == (1, 2)


def test_long_texts_make_small_parts(here):
    write("a.jsonl", [said("x" * 2_000_000) for _ in range(40)])
    [table] = import_source(FileSource(path="a.jsonl"), here)
    assert [pq.read_metadata(part).num_rows for part in table.parts] == [17, 17, 6]


def test_progress_ends_with_the_whole_file(here):
    write("a.jsonl", [said(str(n)) for n in range(100_000)])
    told = []
    import_source(FileSource(path="a.jsonl"), here, progress=lambda *one: told.append(one))
    size = Path("a.jsonl").stat().st_size
    assert len(told) > 3
    assert told == sorted(told, key=lambda one: one[1])
    assert told[-1] == ("a.jsonl", size, size, 100_000)


def test_many_failures_and_repeats_are_all_there(here):
    records = [SAME if n % 3 else {"prompt": n} for n in range(60_000)]
    write("a.jsonl", records)
    [table] = import_source(FileSource(path="a.jsonl"), here)
    found = [name for part in ids([table]) for name in part]
    places = pq.read_table(table.failures)["place"].to_pylist()
    assert (table.rows, table.failed, len(set(found))) == (40_000, 20_000, 40_000)
    assert places == list(range(0, 60_000, 3))


def test_nothing_is_left_behind_by_an_import_that_fails(here):
    write("a.jsonl", [SAME] * 10)

    def stop(*told):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        import_source(FileSource(path="a.jsonl"), here, progress=stop)
    assert list(here.tables.iterdir()) == []


def test_a_dataset_of_the_hub_is_read_like_a_file(here):
    import datasets

    from pipelines.readers.hub import open_hub
    from pipelines.readers.importing import import_inputs
    from pipelines.readers.source import HubSource

    source = HubSource(hub="someone/talks", split="validation")
    loaded = datasets.Dataset.from_list([{**SAME, "n": 1}, {**said("a"), "n": 2}])
    [table] = import_inputs([open_hub(source, lambda asked: loaded)], source, here)
    assert pq.read_table(table.parts[0])["meta"].to_pylist() == ['{"n":1}', '{"n":2}']
    assert table.details["source"] == "someone/talks/validation"
    assert table.details["source_schema"] is not None
    part = loaded.select([0])
    [other] = import_inputs([open_hub(source, lambda asked: part)], source, here)
    assert (other.key != table.key, other.rows) == (True, 1)


def test_a_local_folder_opens_like_a_dataset_of_the_hub(here):
    from pipelines.readers.source import HubSource

    Path("talks").mkdir()
    write("talks/train.jsonl", [SAME, said("a")])
    [table] = import_source(HubSource(hub="./talks"), here)
    assert table.rows == 2


def test_a_hub_dataset_that_is_not_there_is_a_source_error(here):
    from pipelines.readers.source import HubSource, SourceError

    with pytest.raises(SourceError, match=r"the dataset '\./nowhere' \(split train\)"):
        import_source(HubSource(hub="./nowhere"), here)


def test_the_arrow_columns_of_a_pair_table_are_canonical(importing):
    pair = {"prompt": "?", "chosen": "a", "rejected": "b", "margin": 2}
    table = importing([pair, {**pair, "margin": None}]).table
    read = pq.read_table(table.parts[0])
    assert read.schema.equals(row_schema("preference"))
    assert read["margin"].equals(pa.chunked_array([[2.0, None]]))
