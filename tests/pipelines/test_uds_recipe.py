"""The recipe of `uds.select` on real rows with the bundled models."""

from pathlib import Path

import duckdb
import pytest

from pipelines.recipe import load_recipe
from pipelines.runner.curation import Curation
from pipelines.store.workspace import Workspace
from tests.pipelines.runner.curating import curate

ROOT = Path(__file__).parents[2]
DOLLY = ROOT.parent / "shared" / "data" / "instruct" / "dolly_3k.jsonl"


@pytest.mark.slow
def test_of_sixteen_real_rows_two_of_each_eight_are_chosen(tmp_path: Path) -> None:
    if not DOLLY.exists():
        pytest.skip("the shared data is not here: instruct/dolly_3k.jsonl")
    changes = [f"source={{path: {DOLLY}}}", f"exports.0.path={tmp_path / 'uds.jsonl'}"]
    recipe = load_recipe(ROOT / "pipelines" / "recipes" / "uds.yaml", changes)
    curation = Curation(recipe, Workspace(tmp_path / "workspace"), limit=16)

    curate(curation)
    outcome = curation.close("ok")

    stages = {stage.stage: stage.counts for stage in outcome.stages}
    assert stages["dedup.semantic"].kept == 16
    assert (stages["uds.select"].kept, stages["uds.select"].dropped) == (4, 12)
    assert len((tmp_path / "uds.jsonl").read_text(encoding="utf-8").splitlines()) == 4
    views = duckdb.connect()
    views.execute((curation.folder.path / "views.sql").read_text(encoding="utf-8"))
    ours = "FROM verdicts WHERE stage = 'uds.select'"
    assert views.execute(
        f"SELECT count(*) {ours} AND utility > 0 AND diversity > 0"
    ).fetchone() == (8,)
    counts = "count_if(random), count_if(longest), count_if(utility_only)"
    assert views.execute(f"SELECT {counts} {ours}").fetchone() == (4, 4, 4)
