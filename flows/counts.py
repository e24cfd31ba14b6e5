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


def usage_lines(stages: Sequence[Mapping[str, Any]]) -> list[str]:
    """What the models' caches, retries and prices came to, a line for each stage with any of it.

    `clear.filter: 5,120 of 9,000 prompt tokens cached, 3 requests sent again, cost 0.0342`. An
    entry of before these were counted has none.
    """
    lines = []
    for stage in stages:
        parts = []
        if cached := stage.get("cached_tokens", 0):
            parts.append(f"{cached:,} of {stage['prompt_tokens']:,} prompt tokens cached")
        if retries := stage.get("retries", 0):
            parts.append(f"{retries:,} request{'s' if retries > 1 else ''} sent again")
        if cost := stage.get("cost", 0):
            parts.append(f"cost {money(cost)}")
        if parts:
            lines.append(f"{stage['stage']}: {', '.join(parts)}")
    costs = [stage["cost"] for stage in stages if stage.get("cost", 0)]
    if len(costs) > 1:
        lines.append(f"cost {money(sum(costs))} in all")
    return lines


def money(amount: float) -> str:
    """`1,234.50`, `0.0342`, `under 0.0001`: in the currency of the recipe's prices."""
    if amount and amount < 1e-4:
        return "under 0.0001"
    return f"{amount:,.{2 if amount >= 1 else 4}f}"


def markdown(outcome: Mapping[str, Any]) -> str:
    """The counts and reasons of a run, as Prefect shows them beside its flow run."""
    names, rows = counts_table(outcome["stages"])
    lines = [f"Run `{outcome['run_id']}`: {outcome['status']}", ""]
    lines.append("| " + " | ".join(names) + " |")
    lines.append("|" + " --- |" + " ---: |" * (len(names) - 1))
    lines += ["| " + " | ".join(str(cell) for cell in row) + " |" for row in rows]
    told = [*reason_lines(outcome["stages"]), *usage_lines(outcome["stages"])]
    lines += ["", *(f"- {line}" for line in told)]
    return "\n".join(lines)
