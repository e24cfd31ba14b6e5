"""`clear.calibrate` in a whole run: labels in meta, rows made before it, a second call."""

from pathlib import Path

import duckdb

from pipelines.runner.curation import Curation
from pipelines.runner.views import run_views
from tests.pipelines.runner.correcting import BETTER, COUNT, Script, bench, run
from tests.pipelines.runner.curating import Bench, rows, write_jsonl

CALIBRATE = {"kind": "clear.calibrate", "labels": "meta.right", "method": "platt"}


def calibrating(folder: Path) -> Bench:
    """The correcting recipe and then the calibration, on rows of which three in four are right."""
    made = bench(folder)
    write_jsonl(made.source, [{**row, "right": row["weight"] % 4 != 1} for row in rows(COUNT)])
    made.stages = [*made.stages, CALIBRATE]
    return made


def ask(curation: Curation, sql: str) -> list[tuple[object, ...]]:
    with duckdb.connect() as database:
        for view in run_views(curation.folder):
            database.execute(view)
        return database.execute(sql).fetchall()


def test_a_row_that_was_made_after_the_score_is_kept_without_a_probability(tmp_path) -> None:
    curation = run(calibrating(tmp_path), Script())

    told = "SELECT r.source = 'clear.correct', v.verdict, v.calibrated IS NULL, count(*) FROM "
    joined = "verdicts v JOIN rows r USING (id) WHERE stage = 'clear.calibrate' GROUP BY ALL"
    found = ask(curation, f"{told}{joined} ORDER BY 1")
    assert [row[:3] for row in found] == [(False, "keep", False), (True, "keep", True)]
    assert found[1][3] == len(BETTER)


def test_the_scores_stay_as_they_are_and_the_second_call_does_nothing(tmp_path) -> None:
    made, script = calibrating(tmp_path), Script()
    scores = "SELECT id, confidence FROM scores_clear_filter ORDER BY id"
    raw = ask(run(bench(tmp_path / "plain"), Script()), scores)

    first = run(made, script)
    asked = len(script.asked)
    again = run(made, script)

    assert [row[1] for row in ask(first, scores)] == [row[1] for row in raw]
    assert (again.outcome.reused, len(script.asked)) == (True, asked)
    told = "SELECT id, calibrated FROM verdicts WHERE stage = 'clear.calibrate' ORDER BY id"
    assert ask(again, told) == ask(first, told)
