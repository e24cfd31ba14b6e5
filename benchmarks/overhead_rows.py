"""Writes short Alpaca rows (about 220 bytes each) as jsonl, for measuring what needs no model.

    python benchmarks/overhead_rows.py 1000000 rows.jsonl

One row in 50 repeats an earlier one exactly; one in 100 has an empty answer. The same number
of rows is always the same file.
"""

import random
import sys
from pathlib import Path

import orjson

_WORDS = (
    *(
        "river",
        "mountain",
        "teacher",
        "carefully",
        "number",
        "little",
        "answer",
        "window",
        "follow",
    ),
    *("orange", "question", "travel", "simple", "because", "winter", "paper", "colour", "music"),
    *("market", "reason", "thought", "bridge", "letter", "yellow", "garden"),
)
_BATCH = 10_000


def rows(count: int, seed: int = 0) -> list[dict[str, str]]:
    """`count` rows; the same ones for the same seed."""
    draw = random.Random(seed)
    made: list[dict[str, str]] = []
    for number in range(count):
        if number and number % 50 == 0:
            made.append(made[draw.randrange(len(made))])
            continue
        words = draw.choices(_WORDS, k=22)
        answer = "" if number % 100 == 7 else f"{number}: {' '.join(words[8:])}."
        made.append(
            {
                "instruction": f"Say something about {' '.join(words[:8])}.",
                "input": "",
                "output": answer,
            }
        )
    return made


def write(count: int, path: Path) -> None:
    with path.open("wb") as file:
        for start in range(0, count, _BATCH):
            batch = rows(min(_BATCH, count - start), seed=start)
            file.writelines(orjson.dumps(row) + b"\n" for row in batch)


if __name__ == "__main__":
    write(int(sys.argv[1]), Path(sys.argv[2]))
