"""What is trained on is what a manifest says, to the byte."""

import gzip
import hashlib
import json
from pathlib import Path

import pytest

from pipelines.train.errors import TrainingImpossible
from pipelines.train.tables import rows_of_file, table_files
from tests.pipelines.train.bench import row, write_table


def refusal(path: Path) -> str:
    with pytest.raises(TrainingImpossible) as caught:
        table_files(path)
    return str(caught.value)


def test_a_table_is_known_by_its_hash_its_rows_and_its_run(tmp_path: Path) -> None:
    path = write_table(tmp_path / "clean.jsonl", [row(0), row(1)], run_id="293f")

    found = table_files(path)

    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    assert found.train.identity() == {"run_id": "293f", "sha256": sha256, "rows": 2}
    assert found.held_out is None


def test_a_file_that_was_changed_is_refused(tmp_path: Path) -> None:
    path = write_table(tmp_path / "clean.jsonl", [row(0), row(1)])
    path.write_bytes(path.read_bytes().replace(b"Say 1", b"Say 2"))

    assert f"{path} was changed after its export: its SHA-256 is " in refusal(path)


def test_a_file_without_a_manifest_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("{}\n")

    assert refusal(path).startswith(f"{path} has no manifest beside it (rows.jsonl.manifest.json)")


def test_another_format_is_refused(tmp_path: Path) -> None:
    path = write_table(tmp_path / "clean.jsonl", [row(0)])
    manifest = tmp_path / "clean.jsonl.manifest.json"
    manifest.write_text(manifest.read_text().replace('"messages"', '"alpaca"'))

    assert "is of an export of the format alpaca; training takes messages" in refusal(path)


@pytest.fixture
def split(tmp_path: Path) -> Path:
    """An export with a split, at clean.jsonl."""
    files = []
    for side, numbers in (("train", (0, 1, 2)), ("held_out", (3,))):
        part = write_table(tmp_path / f"clean.{side}.jsonl", [row(n) for n in numbers])
        manifest = part.with_name(f"{part.name}.manifest.json")
        files += json.loads(manifest.read_text())["files"]
        manifest.unlink()
    content = {
        "format": 1,
        "run_id": "293f",
        "export": {"format": "messages"},
        "splits": {"train": 3, "held_out": 1},
        "files": files,
    }
    (tmp_path / "clean.jsonl.manifest.json").write_text(json.dumps(content))
    return tmp_path / "clean.jsonl"


def test_an_export_with_a_split_has_two_sides(split: Path) -> None:
    found = table_files(split)

    assert found.held_out is not None
    assert (found.train.path.name, found.train.rows) == ("clean.train.jsonl", 3)
    assert (found.held_out.path.name, found.held_out.rows) == ("clean.held_out.jsonl", 1)


def test_a_side_can_be_named_by_itself(split: Path) -> None:
    found = table_files(split.with_name("clean.train.jsonl"))

    assert (found.train.rows, found.held_out) == (3, None)


def test_rows_are_called_by_their_id_or_their_number(tmp_path: Path) -> None:
    bare = {"messages": row(1)["messages"]}
    path = write_table(tmp_path / "clean.jsonl", [row(0), bare])

    rows = list(rows_of_file(table_files(path).train))

    assert [one.id for one in rows] == ["row-0", "2"]
    assert [one.chat for one in rows] == [row(0)["messages"], row(1)["messages"]]


def test_tool_calls_become_the_text_that_templates_are_given(tmp_path: Path) -> None:
    calls = [{"type": "function", "function": {"name": "add", "arguments": {"a": 1}}}]
    chat = [{"role": "assistant", "tool_calls": calls}]
    path = write_table(tmp_path / "clean.jsonl", [{"messages": chat}])

    (found,) = rows_of_file(table_files(path).train)

    assert json.loads(found.chat[0]["tool_calls"]) == calls


def test_an_answer_that_was_voted_down_is_not_good(tmp_path: Path) -> None:
    rows = [{**row(0), "label": label} for label in (True, False)] + [row(1)]
    path = write_table(tmp_path / "clean.jsonl", rows)

    assert [one.good for one in rows_of_file(table_files(path).train)] == [True, False, True]


def test_a_packed_table_is_read_too(tmp_path: Path) -> None:
    path = write_table(tmp_path / "clean.jsonl.gz", [row(0), row(1)])
    packed = gzip.compress(path.read_bytes())
    manifest = tmp_path / "clean.jsonl.gz.manifest.json"
    found = json.loads(manifest.read_text())
    found["files"][0]["sha256"] = hashlib.sha256(packed).hexdigest()
    manifest.write_text(json.dumps(found))
    path.write_bytes(packed)

    assert [one.id for one in rows_of_file(table_files(path).train)] == ["row-0", "row-1"]


def test_tools_come_along(tmp_path: Path) -> None:
    tools = [{"type": "function", "function": {"name": "weather"}}]
    path = write_table(tmp_path / "clean.jsonl", [{**row(0), "tools": tools}, row(1)])

    found = [one.tools for one in rows_of_file(table_files(path).train)]

    assert found == [tools, ()]
