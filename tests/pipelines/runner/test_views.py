"""The views say what the manifest and the exports say."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb  # its types stand in quotes: kept by a fixture they outlive torch, which it reports
import pytest

from pipelines.recipe import parse_recipe
from pipelines.runner.curation import Curation
from pipelines.runner.restoring import rows_of
from pipelines.store.workspace import Workspace
from stages.engines import Chat
from tests.pipelines.runner.curating import (
    EXACT,
    FILTER,
    Judge,
    curate,
    log_probs,
    rows,
    write_jsonl,
)


def pair(number: int, **changes: Any) -> dict[str, Any]:
    return {
        "prompt": f"Question {number}?",
        "chosen": f"Good {number}.",
        "rejected": f"Bad {number}.",
    } | changes


@pytest.fixture
def curation(tmp_path: Path) -> Curation:
    """Two files of instructions and one of pairs, with broken, repeated, flagged, poison rows."""
    write_jsonl(tmp_path / "b.jsonl", [*rows(12, start=6), {"instruction": "no answer"}])
    write_jsonl(tmp_path / "a.jsonl", [*rows(12), *rows(3)])
    write_jsonl(tmp_path / "c.jsonl", [*map(pair, range(7)), pair(1), pair(8, prompt=None)])
    poison = rows(1, start=8)[0]["output"]

    def answer(chat: Chat) -> list[float]:
        if chat[-1]["content"] == poison:
            raise ValueError("poison")
        return log_probs(chat)

    instructions = {"row_type": "instruction"}
    recipe = parse_recipe(
        {
            "name": "everything",
            "source": {"path": [str(tmp_path / f"{name}.jsonl") for name in "bac"]},
            "models": {"judge": {"kind": "transformers", "model": "scripted"}},
            "stages": [
                {**FILTER, "name": "flags", "keep": {"budget": 5}, "on_drop": "flag"},
                {**EXACT, **instructions},
                {**EXACT, "name": "pairs", "row_type": "preference"},
                {**FILTER, "keep": {"quantile": 0.3}},
            ],
            "exports": [
                {"format": "messages", "path": str(tmp_path / "kept.jsonl"), **instructions},
                {"format": "preference", "path": str(tmp_path / "pairs.jsonl")},
            ],
            "max_failed": 0.5,
        }
    )
    made = Curation(
        recipe,
        Workspace(tmp_path / "workspace"),
        open_engine=Judge(answer).open,
        identify=lambda config: {"model": config.model},
    )
    curate(made)
    return made


@pytest.fixture
def views(curation: Curation) -> "Iterator[duckdb.DuckDBPyConnection]":
    with duckdb.connect() as connection:
        connection.execute((curation.folder.path / "views.sql").read_text(encoding="utf-8"))
        yield connection


def manifest(curation: Curation) -> dict[str, Any]:
    found = curation.folder.manifest()
    assert found is not None
    return found


def exported(path: Path, column: str) -> list[Any]:
    lines = path.read_text(encoding="utf-8").splitlines()
    return [json.loads(line)[column][0]["content"] for line in lines]


def test_the_verdicts_are_those_that_the_manifest_counts(
    curation: Curation, views: "duckdb.DuckDBPyConnection"
) -> None:
    stages = manifest(curation)["stages"]
    counted = {
        (stage["stage"], verdict, stage["counts"][count])
        for stage in stages
        for verdict, count in (("keep", "kept"), ("drop", "dropped"), ("fail", "failed"))
        if stage["counts"][count] and (stage["stage"], verdict) != ("import", "keep")
    }
    seen = views.sql("SELECT stage, verdict, count(*) FROM verdicts GROUP BY ALL").fetchall()
    assert set(seen) == counted
    told = views.sql(
        "SELECT stage, reason, count(*) FROM verdicts WHERE verdict <> 'keep' GROUP BY ALL"
    ).fetchall()
    assert set(told) == {
        (stage["stage"], reason, count)
        for stage in stages
        for reason, count in stage["reasons"].items()
    }
    assert {(s["stage"], s["counts"]["in"], s["counts"]["flagged"]) for s in stages} == {
        ("import", 37, 0),
        ("flags", 27, 20),
        ("dedup.exact", 25, 0),
        ("pairs", 8, 0),
        ("clear.filter", 17, 0),
    }


def test_kept_holds_the_exported_rows_in_their_order(
    curation: Curation, views: "duckdb.DuckDBPyConnection"
) -> None:
    folder = curation.workspace.root.parent
    for row_type, column, file in (
        ("instruction", "messages", "kept.jsonl"),
        ("preference", "prompt", "pairs.jsonl"),
    ):
        kept = views.sql(
            f"SELECT {column}[1].content FROM kept WHERE type = '{row_type}' ORDER BY place"
        ).fetchall()
        assert [text for (text,) in kept] == exported(folder / file, column)
        assert len(kept) > 0


def test_dropped_and_failed_hold_every_other_row_with_its_text(
    curation: Curation, views: "duckdb.DuckDBPyConnection"
) -> None:
    stages = manifest(curation)["stages"]
    for view, count in (("dropped", "dropped"), ("failed", "failed")):
        by_stage = views.sql(f"SELECT stage, count(*) FROM {view} GROUP BY 1").fetchall()
        told = {(stage["stage"], stage["counts"][count]) for stage in stages}
        assert set(by_stage) == {(stage, gone) for stage, gone in told if gone}
    assert views.sql("SELECT count(*) FROM dropped WHERE type IS NULL").fetchall() == [(0,)]
    lost = views.sql(
        "SELECT count(*) FROM rows WHERE id NOT IN (SELECT id FROM kept) AND id NOT IN "
        "(SELECT id FROM dropped WHERE NOT flagged UNION ALL SELECT id FROM failed)"
    )
    assert lost.fetchall() == [(0,)]


def test_scores_has_one_line_for_each_row_that_the_stage_saw(
    curation: Curation, views: "duckdb.DuckDBPyConnection"
) -> None:
    seen = {s["stage"]: s["counts"]["in"] for s in manifest(curation)["stages"][1:]}
    for stage, count in seen.items():
        view = "scores_" + stage.replace(".", "_")
        found = views.sql(f"SELECT count(*), count(DISTINCT id) FROM {view}").fetchall()
        assert found == [(count, count)]
    assert views.sql("SELECT error FROM scores_flags WHERE error IS NOT NULL").fetchall() == [
        ("ValueError: poison",),
        ("ValueError: poison",),
    ]


def test_a_finished_run_gives_the_same_rows_from_its_manifest(curation: Curation) -> None:
    for row_type in ("instruction", "preference"):
        now = curation.rows.scan(row_type).collect()
        assert rows_of(curation.folder).scan(row_type).collect().equals(now)
