"""Real rows, the quickstart recipe, the bundled models."""

from pathlib import Path

import pytest

from pipelines.audit.run import Audit, AuditOptions
from pipelines.recipe import load_recipe
from pipelines.store.workspace import Workspace

ROOT = Path(__file__).parents[3]
DOLLY = ROOT.parent / "shared" / "data" / "instruct" / "dolly_3k.jsonl"


@pytest.mark.slow
def test_swapped_answers_are_caught_and_repeated_questions_are_not(tmp_path: Path) -> None:
    if not DOLLY.exists():
        pytest.skip("the shared data is not here: instruct/dolly_3k.jsonl")
    changes = [f"source.path={DOLLY}", "source.id=null"]
    recipe = load_recipe(ROOT / "pipelines" / "recipes" / "quickstart.yaml", changes)
    options = AuditOptions(rows=60, planted=15, kinds=("swapped", "echo"))

    report = Audit(recipe, Workspace(tmp_path / "workspace"), options).run()

    auroc = {
        one["kind"]: one["auroc"]["value"]
        for one in report["figures"]
        if one["stage"] == "clear.filter"
    }
    assert auroc["swapped"] >= 0.95
    assert auroc["echo"] < 0.5
    assert {one["kind"]: one["caught"] for one in report["findings"]} == {
        "swapped": True,
        "echo": False,
    }
