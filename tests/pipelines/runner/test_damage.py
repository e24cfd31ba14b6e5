"""Files of the workspace that are gone, cut off or moved: done again, or said which."""

from collections.abc import Callable
from pathlib import Path

import duckdb
import pytest

from pipelines.runner.views import run_views
from pipelines.store.manifest import FormatError
from pipelines.store.workspace import Workspace
from tests.pipelines.runner.curating import EXACT, FILTER, RULES, Bench, Judge, rows, write_jsonl


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    made = Bench(tmp_path)
    write_jsonl(made.source, [*rows(30), *rows(2)])
    return made


def in_workspace(bench: Bench, pattern: str) -> Path:
    return next(iter(sorted((bench.folder / "workspace").glob(pattern))))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:100])


REMOVE: Callable[[Path], None] = Path.unlink


@pytest.mark.parametrize(
    ("pattern", "hurt"),
    [
        ("runs/*/00-import.parquet", REMOVE),
        ("runs/*/01-clean.rules.parquet", REMOVE),
        ("runs/*/03-clear.filter.parquet", REMOVE),
        ("runs/*/03-clear.filter.parquet", cut),
        ("tables/*/part-00000.parquet", REMOVE),
        ("tables/*/failed.parquet", REMOVE),
        ("tables/*/manifest.json", REMOVE),
    ],
)
def test_what_is_gone_is_made_again_without_the_model(
    bench: Bench, pattern: str, hurt: Callable[[Path], None]
) -> None:
    first = bench.run()
    written = bench.export.read_bytes()
    manifest = in_workspace(bench, "runs/*/manifest.json").read_bytes()
    hurt(in_workspace(bench, pattern))
    judge = Judge()
    again = bench.run(judge)
    assert judge.asked == []
    assert [one.as_manifest() for one in again.stages] == [
        one.as_manifest() for one in first.stages
    ]
    assert bench.export.read_bytes() == written
    assert in_workspace(bench, "runs/*/manifest.json").read_bytes() == manifest
    assert in_workspace(bench, pattern).exists()


def scores_of_the_filter(bench: Bench) -> list[Path]:
    curation = bench.curation(Judge())
    curation.begin()
    key = curation.plan.stages[-1].scoring_key
    return sorted(curation.workspace.scores_of(key).iterdir())


def test_scores_that_are_gone_are_computed_again_and_no_others(bench: Bench) -> None:
    bench.run()
    written = bench.export.read_bytes()
    scores_of_the_filter(bench)[0].unlink()
    judge = Judge()
    assert not bench.run(judge).reused
    assert len(set(judge.asked)) == FILTER["chunk_rows"]
    assert bench.export.read_bytes() == written


def test_a_damaged_part_of_scores_is_named_with_what_to_do(bench: Bench) -> None:
    bench.run()
    damaged = scores_of_the_filter(bench)[1]
    cut(damaged)
    bench.stages = [RULES, EXACT, {**FILTER, "keep": {"above": 0}}]
    with pytest.raises(FormatError) as caught:
        bench.run()
    assert str(caught.value).startswith(f"{damaged} cannot be read")
    damaged.unlink()
    judge = Judge()
    bench.run(judge)
    assert len(set(judge.asked)) == FILTER["chunk_rows"]


@pytest.mark.parametrize("name", ['it\'s "a" folder', "lang=en", "[a]b", "a*", "a?", "ü;--"])
def test_a_workspace_may_be_called_anything(bench: Bench, name: str) -> None:
    bench.run()
    other = bench.folder / name
    (bench.folder / "aa").mkdir()  # what a pattern would find beside it
    for folder in (bench.folder / "aa", other):
        curation = bench.curation(Judge())
        curation.workspace = Workspace(folder)
        curation.begin()
        for planned in curation.plan.stages:
            curation.run_stage(planned)
        curation.finish()
        curation.close("ok")
    again = bench.curation(Judge())
    again.workspace = Workspace(other)
    assert again.begin()
    with duckdb.connect() as connection:
        connection.execute((again.folder.path / "views.sql").read_text(encoding="utf-8"))
        count = "SELECT count(*) FROM {}"
        found = [
            connection.sql(count.format(view)).fetchall()[0][0] for view in ("rows", "verdicts")
        ]
        assert found == [32, 32 + 32 + 30]
        assert connection.sql(count.format("scores_clear_filter")).fetchall() == [(30,)]
        assert "lang" not in connection.sql("FROM rows").columns


def test_the_views_of_a_workspace_that_has_moved_are_written_anew(bench: Bench) -> None:
    bench.run()
    (bench.folder / "workspace").rename(bench.folder / "elsewhere")
    curation = bench.curation(Judge())
    curation.workspace = Workspace(bench.folder / "elsewhere")
    assert curation.begin()
    assert (curation.folder.path / "views.sql").read_text(encoding="utf-8") == (
        "\n".join(run_views(curation.folder)) + "\n"
    )
