"""Compare what a run decided about the quickstart sample with what was planted in it.

    python data/compare_with_truth.py [WORKSPACE/runs/RUN_ID] [--json]

Without a folder it takes the latest run of the workspace .winnow.

Reads the verdict files of the run (`<nn>-<stage>.parquet`) and truth.jsonl. A row counts as caught
by the first stage that dropped or failed it. `00-import` holds the lines that gave no row; they are
found by their line. A row that was only flagged (`on_drop: flag`) counts as caught too.

precision  share of the caught rows that are bad (0-1)
recall     share of the bad rows that were caught (0-1); of a stage: of the bad rows that it saw

Exit code 2 when the run is not one over this sample.
"""

import argparse
import json
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import polars as pl
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from pipelines.store.runs import NoSuchRun, find_run
from pipelines.store.workspace import Workspace

WORKSPACE: Final = Path(".winnow")
SAMPLE: Final = Path(__file__).resolve().parent / "quickstart"
IMPORT: Final = "import"
EXAMPLES: Final = 3
EXCERPT: Final = 70  # characters of a text that is shown as an example

Facts = dict[str, Any]


class NotThisSample(Exception):
    """The folder holds no run over the sample. The message says what was found instead."""


@dataclass(frozen=True)
class Caught:
    """The stage that took a row out, and its reason."""

    stage: str
    reason: str

    def __str__(self) -> str:
        return f"{self.stage}: {self.reason}"


@dataclass(frozen=True)
class Outcome:
    """What a run did. Lines count from 1; a line in no set of `seen` was not part of the run."""

    caught: dict[int, Caught]
    seen: dict[str, set[int]]  # the lines that each stage decided about, in the stages' order


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("run", type=Path, nargs="?", help="the run's folder in the workspace")
    parser.add_argument("--sample", type=Path, default=SAMPLE, help="folder of the sample")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    args = parser.parse_args(arguments)
    try:
        run = args.run or find_run(Workspace(WORKSPACE), None).path
        figures = compare(run, args.sample)
    except (NotThisSample, NoSuchRun) as error:
        print(error, file=sys.stderr)
        return 2
    if args.json:
        print(json.dumps(figures, ensure_ascii=False, indent=2))
    else:
        show(figures, Console(highlight=False))
    return 0


def compare(run: Path, sample: Path) -> Facts:
    """All figures, as `--json` prints them.

    kinds         per kind of defect: planted, caught, missed, by {"stage: reason": rows}
    all, stages   bad, caught, caught_bad, precision, recall (null where nothing was caught or bad)
    good_dropped  count, by, and the first three with their texts
    not_in_run    lines of the sample that the run did not read

    Raises NotThisSample.
    """
    truth = {fact["line"]: fact for fact in _json_lines(sample / "truth.jsonl")}
    outcome = _outcome(run, {fact["id"]: line for line, fact in truth.items() if fact["id"]})
    took_part = set().union(*outcome.seen.values())
    bad = {line for line in took_part if truth[line]["kind"] != "good"}
    stages = {
        stage: _rates({n for n, why in outcome.caught.items() if why.stage == stage}, bad & seen)
        for stage, seen in outcome.seen.items()
    }
    dropped = sorted(set(outcome.caught) - bad)
    return {
        "kinds": _kinds({line: truth[line]["kind"] for line in sorted(bad)}, outcome.caught),
        "all": _rates(set(outcome.caught), bad),
        "stages": stages,
        "good_dropped": {
            "count": len(dropped),
            "of": len(took_part - bad),
            "by": _by(dropped, outcome.caught),
            "examples": list(_examples(dropped, outcome.caught, sample)),
        },
        "not_in_run": len(truth) - len(took_part),
    }


def _outcome(run: Path, line_of: dict[str, int]) -> Outcome:
    files = sorted(run.glob("[0-9]*-*.parquet"))
    if not files:
        raise NotThisSample(f"{run} holds no verdicts (files like 01-clean.rules.parquet).")
    caught: dict[int, Caught] = {}
    seen: dict[str, set[int]] = {}
    for file in files:
        stage = file.stem.split("-", 1)[1]
        verdicts = pl.read_parquet(file).sort("place")
        decided = seen.setdefault(stage, set())
        columns = verdicts.select("id", "verdict", "reason", "evidence")
        for row_id, verdict, reason, evidence in columns.iter_rows():
            line = json.loads(evidence)["line"] if stage == IMPORT else line_of.get(row_id)
            if line is None:
                raise NotThisSample(
                    f"{file} decides about '{row_id}', which is no row of the sample. "
                    "Give the folder of a run over instructions.jsonl with `id: id`."
                )
            decided.add(line)
            if verdict != "keep" and line not in caught:
                # The import names an error in words, different for each line.
                caught[line] = Caught(stage, "unreadable" if stage == IMPORT else reason)
    return Outcome(caught, seen)


def _kinds(kind_of: dict[int, str], caught: dict[int, Caught]) -> dict[str, Facts]:
    kinds: dict[str, Facts] = {}
    for kind in sorted(set(kind_of.values())):
        lines = [line for line in kind_of if kind_of[line] == kind]
        hit = [line for line in lines if line in caught]
        kinds[kind] = {
            "planted": len(lines),
            "caught": len(hit),
            "missed": len(lines) - len(hit),
            "by": _by(hit, caught),
        }
    return kinds


def _rates(caught: set[int], bad: set[int]) -> Facts:
    hit = len(caught & bad)
    return {
        "bad": len(bad),
        "caught": len(caught),
        "caught_bad": hit,
        "precision": hit / len(caught) if caught else None,
        "recall": hit / len(bad) if bad else None,
    }


def _by(lines: Sequence[int], caught: dict[int, Caught]) -> dict[str, int]:
    return dict(Counter(str(caught[line]) for line in lines).most_common())


def _examples(lines: Sequence[int], caught: dict[int, Caught], sample: Path) -> Iterator[Facts]:
    text = (sample / "instructions.jsonl").read_text(encoding="utf-8").split("\n")
    for line in lines[:EXAMPLES]:
        row = json.loads(text[line - 1])
        *turns, answer = row["messages"]
        asked = [turn["content"] for turn in turns if turn["role"] == "user"]
        yield {
            "id": row["id"],
            "caught": str(caught[line]),
            "prompt": asked[-1],
            "answer": answer["content"],
        }


def _json_lines(path: Path) -> list[Facts]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def show(figures: Facts, console: Console) -> None:
    """Two tables and the good rows that were lost, as plain text."""
    console.print(_kinds_table(figures["kinds"]))
    console.print(_stages_table(figures))
    lost = figures["good_dropped"]
    console.print(
        f"\nGood rows dropped or failed: {lost['count']} of {lost['of']}{_counts(lost['by'])}"
    )
    for example in lost["examples"]:
        console.print(f"  {example['id']} ({example['caught']})", markup=False)
        console.print(f"    {_excerpt(example['prompt'])}", markup=False)
        console.print(f"    -> {_excerpt(example['answer'])}", markup=False)
    if figures["not_in_run"]:
        console.print(f"{figures['not_in_run']} lines of the sample are not in this run.")


def _kinds_table(kinds: dict[str, Facts]) -> Table:
    table = Table("kind of defect", box=None, title="Planted and caught", title_justify="left")
    for name in ("planted", "caught", "missed"):
        table.add_column(name, justify="right")
    table.add_column("by (stage: reason)")
    for kind, row in kinds.items():
        counts = (str(row[name]) for name in ("planted", "caught", "missed"))
        by = ", ".join(f"{why} {count}" for why, count in row["by"].items())
        table.add_row(kind, *counts, escape(by))
    return table


def _stages_table(figures: Facts) -> Table:
    table = Table("stage", box=None, title="\nPrecision and recall", title_justify="left")
    for name in ("bad seen", "caught", "of them bad", "precision", "recall"):
        table.add_column(name, justify="right")
    for stage, row in [*figures["stages"].items(), ("all", figures["all"])]:
        counts = (str(row[name]) for name in ("bad", "caught", "caught_bad"))
        rates = (
            "-" if row[name] is None else f"{row[name]:.2f}" for name in ("precision", "recall")
        )
        table.add_row(escape(stage), *counts, *rates)
    return table


def _counts(by: dict[str, int]) -> str:
    return f" ({', '.join(f'{why} {count}' for why, count in by.items())})" if by else ""


def _excerpt(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= EXCERPT else line[: EXCERPT - 1] + "…"


if __name__ == "__main__":
    sys.exit(main())
