"""CLEAR's whole recipe on real rows with the bundled model."""

import json
from pathlib import Path

import pytest

from pipelines.recipe import load_recipe
from pipelines.runner.curation import Curation
from pipelines.store.workspace import Workspace
from tests.pipelines.runner.curating import curate

ROOT = Path(__file__).parents[2]
DOLLY = ROOT.parent / "shared" / "data" / "instruct" / "dolly_3k.jsonl"
SMALL = (
    "stages.clear.filter.max_answer_tokens=32",
    "stages.clear.propose.max_tokens=4",
    "models.tuned.max_length=128",
    "models.tuned.max_steps=1",
    "models.tuned.batch_size=2",
    "models.tuned.selection={method: none, batch: 2}",
    "max_failed=1",
)


@pytest.mark.slow
def test_it_runs_from_end_to_end_and_a_second_time_trains_and_asks_nothing(tmp_path: Path) -> None:
    if not DOLLY.exists():
        pytest.skip("the shared data is not here: instruct/dolly_3k.jsonl")
    changes = [f"source={{path: {DOLLY}}}", f"exports.0.path={tmp_path / 'clear.jsonl'}", *SMALL]
    recipe = load_recipe(ROOT / "pipelines" / "recipes" / "clear.yaml", changes)
    workspace = Workspace(tmp_path / "workspace")
    first = Curation(recipe, workspace, limit=10)

    curate(first)
    done = first.close("ok")

    stages = {stage.stage: stage.counts for stage in done.stages}
    flagged = stages["clear.filter"].flagged
    judged = stages["clear.correct"]
    (model,) = workspace.models.iterdir()
    trained = json.loads((model / "training" / "manifest.json").read_bytes())
    assert trained["table"]["rows"] == stages["clear.filter"].rows_in - flagged
    assert judged.rows_in == judged.kept + judged.dropped + judged.failed > 0

    again = Curation(load_recipe(ROOT / "pipelines/recipes/clear.yaml", changes), workspace, 10)
    # The manifest gone, as after a kill at the very end: all parts are there.
    first.folder.reopen()
    curate(again)
    repeated = again.close("ok")

    assert repeated.run_id == done.run_id
    assert sum(effort.usage.calls for effort in repeated.efforts.values()) == 0
