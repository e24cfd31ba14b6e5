import os
import time
from pathlib import Path

import orjson
import pytest

from pipelines.store.gc import Collector, Freed
from pipelines.store.runs import RunFolder
from pipelines.store.uses import note_uses, read_uses
from pipelines.store.workspace import Workspace
from tests.pipelines.runner.curating import EXACT, FILTER, RULES, Bench, rows, write_jsonl

DAY_S = 86400.0


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    made = Bench(tmp_path, stages=[RULES, FILTER])
    write_jsonl(made.source, rows(10))
    return made


def workspace(bench: Bench) -> Workspace:
    return Workspace(bench.folder / "workspace")


def collect(bench: Bench, keep_runs: int, *, days: float = 2, alive: tuple[int, ...] = ()) -> Freed:
    """A collection so many days after everything was written."""
    return Collector(
        workspace(bench),
        keep_runs,
        alive=lambda process: process in alive,
        now=lambda: time.time() + days * DAY_S,
    ).run()


def files(bench: Bench) -> set[str]:
    root = workspace(bench).root
    return {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}


def test_what_the_latest_runs_refer_to_stays(bench: Bench) -> None:
    bench.run()
    before = files(bench)

    freed = collect(bench, 1)

    assert (freed.runs, freed.tables, freed.parts, freed.bytes) == ([], [], 0, 0)
    assert files(bench) == before


def test_older_runs_go_and_what_the_others_share_stays(bench: Bench) -> None:
    first = bench.run()
    bench.stages = [RULES, {**FILTER, "keep": {"budget": 3}}]
    second = bench.run()

    freed = collect(bench, 1)

    assert (freed.runs, freed.tables, freed.parts) == ([first.run_id], [], 0)
    assert bench.run().run_id == second.run_id


def test_tables_and_scores_that_only_a_removed_run_needed_go(bench: Bench) -> None:
    bench.run()
    write_jsonl(bench.source, rows(5, start=100))
    bench.run()

    freed = collect(bench, 1)

    assert (len(freed.runs), len(freed.tables)) == (1, 1)
    assert freed.parts == 4  # one of the rules, three of the filter: 10 rows in chunks of 4
    assert bench.run().reused


@pytest.mark.parametrize("keep_runs", range(8))
def test_as_many_of_the_latest_runs_stay_as_there_are_up_to_n(
    tmp_path: Path, keep_runs: int
) -> None:
    there = Workspace(tmp_path)
    for number in range(4):
        run = RunFolder(there, f"run-{number}")
        run.finish({"tables": [], "stages": [], "engines": {}})
        run.add_call({"started": f"2026-11-2{number}"})

    freed = Collector(there, keep_runs, now=lambda: time.time() + 2 * DAY_S).run()

    assert freed.runs == [f"run-{number}" for number in range(4 - keep_runs)]
    assert len(list(there.runs.iterdir())) == min(4, keep_runs)


def test_what_is_younger_than_a_day_stays_with_its_run_gone(bench: Bench) -> None:
    bench.run()

    freed = collect(bench, 0, days=0.9)

    assert (len(freed.runs), freed.tables, freed.parts) == (1, [], 0)


def test_nothing_of_a_run_at_work_goes_however_old_it_is(bench: Bench) -> None:
    outcome = bench.run()
    folder = RunFolder(workspace(bench), outcome.run_id)
    manifest = folder.manifest() or {}
    (folder.path / "manifest.json").unlink()
    keys = [stage["scoring_key"] for stage in manifest["stages"]]
    note_uses(folder.path, [manifest["tables"][0]["table"]], keys)
    before = files(bench)

    freed = collect(bench, 0, days=10, alive=(os.getpid(),))

    assert (freed.kept_in_use, freed.bytes) == ([outcome.run_id], 0)
    assert files(bench) == before


def test_nothing_that_an_audit_at_work_uses_goes(bench: Bench) -> None:
    outcome = bench.run()
    manifest = RunFolder(workspace(bench), outcome.run_id).manifest() or {}
    keys = [stage["scoring_key"] for stage in manifest["stages"]]
    note_uses(workspace(bench).audits / "a1", [manifest["tables"][0]["table"]], keys)

    freed = collect(bench, 0, days=10, alive=(os.getpid(),))

    assert (freed.runs, freed.tables, freed.parts) == ([outcome.run_id], [], 0)
    assert len(list(workspace(bench).scores.rglob("part-*"))) == 4


def test_an_unfinished_run_whose_process_is_gone_keeps_its_scores_for_a_day(bench: Bench) -> None:
    outcome = bench.run()
    folder = RunFolder(workspace(bench), outcome.run_id)
    keys = [stage["scoring_key"] for stage in (folder.manifest() or {})["stages"]]
    (folder.path / "manifest.json").unlink()
    note_uses(folder.path, [], keys)
    old = time.time() - 3 * DAY_S
    for part in workspace(bench).scores.rglob("part-*"):
        os.utime(part, (old, old))

    assert collect(bench, 0, days=0.9).parts == 0
    assert collect(bench, 0, days=1.1).parts == 4


def test_a_process_of_another_machine_counts_as_at_work_for_a_day(bench: Bench) -> None:
    outcome = bench.run()
    folder = RunFolder(workspace(bench), outcome.run_id)
    (folder.path / "manifest.json").unlink()
    note_uses(folder.path, [], [])
    (own,) = folder.path.glob("uses-*")
    noted = orjson.loads(own.read_bytes())
    own.write_bytes(orjson.dumps({**noted, "machine": "not-" + noted["machine"]}))

    assert collect(bench, 0, days=0.9, alive=(os.getpid(),)).runs == []
    assert collect(bench, 0, days=1.1, alive=(os.getpid(),)).runs == [outcome.run_id]


@pytest.fixture
def kept_answer(bench: Bench) -> Path:
    """Left by a run that stopped, of a scoring key that a finished run used."""
    outcome = bench.run()
    manifest = RunFolder(workspace(bench), outcome.run_id).manifest() or {}
    file = (
        workspace(bench).scores_of(manifest["stages"][-1]["scoring_key"]) / "answers/aa-h-1.jsonl"
    )
    file.parent.mkdir()
    file.write_bytes(b'["who?","Ada"]\n')
    return file


def test_answers_that_nobody_came_back_for_go_after_a_day(bench: Bench, kept_answer: Path) -> None:
    young = collect(bench, 1, days=0.9)
    assert kept_answer.exists()

    freed = collect(bench, 1, days=1.1)

    assert (young.bytes, freed.bytes) == (0, len(b'["who?","Ada"]\n'))
    assert not kept_answer.parent.exists()


def test_answers_stay_while_a_run_is_at_work_with_their_scores(
    bench: Bench, kept_answer: Path
) -> None:
    (run,) = workspace(bench).runs.iterdir()
    note_uses(run, [], [kept_answer.parent.parent.name])

    collect(bench, 1, days=10, alive=(os.getpid(),))

    assert kept_answer.exists()


def test_a_finished_call_holds_on_to_nothing(bench: Bench) -> None:
    outcome = bench.run()

    assert read_uses(RunFolder(workspace(bench), outcome.run_id).path) == []


def test_a_dry_collection_removes_nothing_and_counts_the_same(bench: Bench) -> None:
    bench.run()
    before = files(bench)
    dry = Collector(workspace(bench), 0, dry=True, now=lambda: time.time() + 2 * DAY_S).run()

    assert files(bench) == before
    assert collect(bench, 0) == dry


def test_an_empty_workspace_frees_nothing(bench: Bench) -> None:
    assert collect(bench, 3) == Freed()


def test_runs_that_share_a_table_with_a_removed_one_can_still_be_read(bench: Bench) -> None:
    bench.run()
    bench.stages = [RULES, EXACT]
    kept = bench.run()
    collect(bench, 1)

    from pipelines.runner.restoring import rows_of

    found = rows_of(RunFolder(workspace(bench), kept.run_id))
    assert found.scan("instruction").collect().height == 10
