"""Write the quickstart sample: short instruction rows, a fifth of them bad in known ways.

    python data/generate_quickstart.py            writes data/quickstart/
    python data/generate_quickstart.py --check    exit 1 when the committed files differ

The texts stand in data/quickstart_source/*.yaml. They were written for this project and have its
licence, Apache-2.0. What is spoiled, how and on which line follows from hashes of the texts and of
SEED, so that the same sources give the same bytes with every version of Python.

quickstart/instructions.jsonl, one object a line:
    id          "qs-0001": the number of the line
    topic       geography, chemistry, arithmetic, rewriting, how-to, tool use ...
    difficulty  easy, medium or hard
    messages    OpenAI's form: one or several turns, some with a system turn or tool calls
    tools       OpenAI's form, where the assistant may call some; absent elsewhere

quickstart/truth.jsonl, one object for each line of it, never read by the pipeline:
    line        counts from 1
    id          null where the line is no JSON
    kind        good, or one of DEFECTS
    of          swapped: the row that the answer belongs to; duplicates: the original, which is good
                and stands before its copies; null otherwise

Kinds of defect:
    swapped          the last answer belongs to another row (a derangement)
    truncated        the answer breaks off in the middle
    wrong_fact       a plausible answer that is wrong
    empty            the answer is an empty text
    exact_duplicate  the messages of another row, once more
    near_duplicate   another row, lightly reworded
    broken_json      the line is no JSON, each in another way
"""

import argparse
import hashlib
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import yaml

HERE: Final = Path(__file__).resolve().parent
SOURCES: Final = HERE / "quickstart_source"
TARGET: Final = HERE / "quickstart"
SEED: Final = 0

# How many of each kind. Of wrong_fact and near_duplicate there are as many as defects.yaml holds.
SWAPPED, EMPTY, BROKEN, EXACT, TRUNCATED = 22, 6, 6, 8, 8
DEFECTS: Final = (
    "swapped",
    "truncated",
    "wrong_fact",
    "empty",
    "exact_duplicate",
    "near_duplicate",
    "broken_json",
)
SHORTEST_TO_TRUNCATE: Final = 14  # words; half of a shorter answer may be a good answer

Record = dict[str, Any]  # topic, difficulty, messages and perhaps tools


@dataclass(frozen=True)
class Row:
    """One line to be. `key` names it until lines are numbered; `of` is the key of another row."""

    key: str
    record: Record
    kind: str = "good"
    of: str | None = None

    @property
    def answer(self) -> str:
        return str(self.record["messages"][-1]["content"])

    @property
    def prompt(self) -> str:
        """The first user turn, by which defects.yaml names a row."""
        turns = self.record["messages"]
        return str(next(turn["content"] for turn in turns if turn["role"] == "user"))

    def answering(self, answer: str) -> Record:
        *turns, last = self.record["messages"]
        return {**self.record, "messages": [*turns, {**last, "content": answer}]}


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--check", action="store_true", help="compare, write nothing")
    check = parser.parse_args().check
    stale = 0
    for name, text in generate().items():
        path = TARGET / name
        if not check:
            TARGET.mkdir(exist_ok=True)
            path.write_bytes(text.encode())
            print(f"wrote {path.relative_to(HERE.parent)}: {text.count(chr(10))} lines")
        elif not path.exists() or path.read_bytes() != text.encode():
            stale = 1
            print(
                f"{path.relative_to(HERE.parent)} is not what the generator writes", file=sys.stderr
            )
    return stale


def generate() -> dict[str, str]:
    """The text of each file of the sample, by its name."""
    written = list(_written_rows())
    defects = yaml.safe_load((SOURCES / "defects.yaml").read_text(encoding="utf-8"))
    wrong = [Row(_hash("row", row), _single(*row), "wrong_fact") for row in defects["wrong_facts"]]
    copies = list(_near_duplicates(written, defects["near_duplicates"]))
    rows = [*_spoiled(written, originals={copy.of for copy in copies}), *wrong, *copies]
    return _files(_in_order(rows))


def _written_rows() -> Iterator[Row]:
    for path in sorted(SOURCES.glob("*.yaml")):
        if path.name == "defects.yaml":
            continue
        source = yaml.safe_load(path.read_text(encoding="utf-8"))
        if isinstance(source, list):  # whole conversations
            records = source
        else:
            records = [_single(topic, *row) for topic, rows in source.items() for row in rows]
        for record in records:
            yield Row(_hash("row", record), record)


def _single(topic: str, difficulty: str, user: str, assistant: str) -> Record:
    turns = [{"role": "user", "content": user}, {"role": "assistant", "content": assistant}]
    return {"topic": topic, "difficulty": difficulty, "messages": turns}


def _near_duplicates(rows: list[Row], reworded: list[list[str]]) -> Iterator[Row]:
    by_prompt = {row.prompt: row for row in rows}
    for prompt, user, assistant in reworded:
        original = by_prompt[prompt]
        record = _single(original.record["topic"], original.record["difficulty"], user, assistant)
        yield Row(_hash("row", record), record, "near_duplicate", original.key)


def _spoiled(rows: list[Row], originals: set[str | None]) -> Iterator[Row]:
    """Every row, some of them spoiled, and the exact copies. `originals` are left alone."""
    yield from (row for row in rows if row.key in originals)
    free = sorted((row for row in rows if row.key not in originals), key=lambda row: row.key)
    swapped, free = free[:SWAPPED], free[SWAPPED:]
    for row, other in zip(swapped, [*swapped[1:], swapped[0]], strict=True):
        yield replace(row, record=row.answering(other.answer), kind="swapped", of=other.key)
    empty, free = free[:EMPTY], free[EMPTY:]
    yield from (replace(row, record=row.answering(""), kind="empty") for row in empty)
    broken, free = free[:BROKEN], free[BROKEN:]
    yield from (replace(row, kind="broken_json") for row in broken)
    for row in free[:EXACT]:
        yield Row(_hash("copy", row.key), row.record, "exact_duplicate", row.key)
    yield from free[:EXACT]
    free = free[EXACT:]
    long = [row for row in free if len(row.answer.split()) >= SHORTEST_TO_TRUNCATE][:TRUNCATED]
    for row in long:
        words = row.answer.split()
        cut = row.answering(" ".join(words[: len(words) * 2 // 5]).rstrip(".,;:"))
        yield replace(row, record=cut, kind="truncated")
    yield from (row for row in free if row not in long)


def _in_order(rows: list[Row]) -> list[Row]:
    """Shuffled by hash, each copy somewhere after its original."""
    share = {row.key: int(_hash(SEED, row.key)[:12], 16) / 16**12 for row in rows}

    def position(row: Row) -> float:
        if row.of is None or not row.kind.endswith("duplicate"):
            return share[row.key]
        return share[row.of] + (1 - share[row.of]) * share[row.key]

    return sorted(rows, key=position)


def _files(rows: list[Row]) -> dict[str, str]:
    ids = {row.key: f"qs-{line:04}" for line, row in enumerate(rows, start=1)}
    if len(ids) != len(rows):
        raise ValueError("two rows of the sources are the same")
    lines, truth = [], []
    ways = iter(range(BROKEN))
    for number, row in enumerate(rows, start=1):
        record = {"id": ids[row.key], **row.record}
        broken = row.kind == "broken_json"
        lines.append(_broken(record, next(ways)) if broken else _json(record))
        truth.append(
            {
                "line": number,
                "id": None if broken else ids[row.key],
                "kind": row.kind,
                "of": None if row.of is None else ids[row.of],
            }
        )
    return {
        "instructions.jsonl": "".join(line + "\n" for line in lines),
        "truth.jsonl": "".join(_json(fact) + "\n" for fact in truth),
    }


def _broken(record: Record, way: int) -> str:
    """The line of `record`, spoiled in one of six ways that are met in real files."""
    line = _json(record)
    answer = '"role": "assistant", "content": "'
    spoiled = (
        line[: len(line) * 3 // 5],  # a writer that was killed
        line[:-1] + ",}",  # a trailing comma
        line.replace(answer, answer + '"', 1),  # a quote that was not escaped
        str(record),  # Python's notation
        line.replace("}, {", "} {", 1),  # a missing comma
        line[:-2],  # the closing brackets are missing
    )[way]
    try:
        json.loads(spoiled)
    except json.JSONDecodeError:
        return spoiled
    raise ValueError(f"way {way} does not break this line: {line}")


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def _hash(*values: object) -> str:
    return hashlib.blake2b(_json([SEED, *values]).encode(), digest_size=16).hexdigest()


if __name__ == "__main__":
    sys.exit(main())
