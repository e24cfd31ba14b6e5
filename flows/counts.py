"""The counts of a run as a table: for the terminal and, in Markdown, for Prefect's artifact."""

from collections.abc import Mapping, Sequence
from typing import Any

COLUMNS = ("stage", "in", "kept", "dropped", "failed")
WHERE_ANY = ("flagged", "created", "model_calls")


def counts_table(stages: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[list[object]]]:
    """Names and rows. Columns that are zero everywhere (flagged, created, calls) are left out.

    `stages`: the entries of `Outcome.as_json()["stages"]`.
    """
    extra = [name for name in WHERE_ANY if any(stage.get(name) for stage in stages)]
    names = [*COLUMNS, *extra, *(["seconds"] if any("seconds" in s for s in stages) else [])]
    rows = [[stage.get(name, 0) for name in names] for stage in stages]
    return [name.replace("_", " ") for name in names], rows


def reason_lines(stages: Sequence[Mapping[str, Any]]) -> list[str]:
    """One line for each stage that dropped or failed rows: `clean.rules: 12 refusal, 3 empty`."""
    return [
        f"{stage['stage']}: "
        + ", ".join(f"{number:,} {reason}" for reason, number in stage["reasons"].items())
        for stage in stages
        if stage["reasons"]
    ]


def markdown(outcome: Mapping[str, Any]) -> str:
    """The counts and reasons of a run, as Prefect shows them beside its flow run."""
    names, rows = counts_table(outcome["stages"])
    lines = [f"Run `{outcome['run_id']}`: {outcome['status']}", ""]
    lines.append("| " + " | ".join(names) + " |")
    lines.append("|" + " --- |" + " ---: |" * (len(names) - 1))
    lines += ["| " + " | ".join(str(cell) for cell in row) + " |" for row in rows]
    lines += ["", *(f"- {line}" for line in reason_lines(outcome["stages"]))]
    return "\n".join(lines)
