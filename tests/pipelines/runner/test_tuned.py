"""Models that a run makes of its own rows."""

import io
import json
from pathlib import Path
from typing import Any, ClassVar

import pytest

from pipelines.engines.errors import ModelUnavailable
from pipelines.engines.local.config import TransformersModel
from pipelines.engines.opening import open_engine, prepare_environment
from pipelines.recipe import RecipeError, parse_recipe
from pipelines.runner.curation import Curation
from pipelines.runner.dry_run import DryRun
from pipelines.runner.progress import Silent
from pipelines.runner.tuned import one_device, pass_on
from pipelines.store.gc import Collector
from pipelines.store.runs import find_run
from pipelines.store.uses import read_uses
from pipelines.store.workspace import Workspace
from stages.engines import EngineError
from tests.pipelines.train.bench import row, tiny_llama

prepare_environment()

TUNED = {
    "kind": "tuned",
    "base": "base",
    "rows": {"unflagged_by": "clear.filter"},
    "max_length": 96,
    "learning_rate": 0.01,
    "max_steps": 2,
}
STAGES: list[dict[str, Any]] = [
    {
        "kind": "clear.filter",
        "estimator": "likelihood",
        "model": "base",
        "on_drop": "flag",
        "keep": {"above": -1.0},
    },
    {"kind": "clear.propose", "model": "tuned", "max_tokens": 4},
]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_llama(tmp_path_factory.mktemp("tiny"))


class Runs:
    """A folder with rows and a workspace; counts what is opened and trained."""

    def __init__(self, folder: Path, model: Path) -> None:
        self.folder, self.model = folder, model
        self.workspace = Workspace(folder / "workspace")
        self.opened: list[str] = []
        self.write(range(10))

    def write(self, numbers: Any) -> None:
        lines = []
        for n in numbers:
            asked, answered = (turn["content"] for turn in row(n)["messages"])
            lines.append(json.dumps({"instruction": asked, "input": "", "output": answered}))
        (self.folder / "rows.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")

    def recipe(self, *, tuned: dict[str, Any] | None = None, **changes: Any) -> Any:
        return parse_recipe(
            {
                "name": "tuned",
                "source": {"path": str(self.folder / "rows.jsonl"), "format": "alpaca"},
                "models": {
                    "base": {"kind": "transformers", "model": str(self.model), "device": "cpu"},
                    "tuned": {**TUNED, **(tuned or {})},
                },
                "stages": STAGES,
                "max_failed": 1.0,
                **changes,
            }
        )

    def run(self, **changes: Any) -> dict[str, Any]:
        """The run's manifest."""
        curation = Curation(self.recipe(**changes), self.workspace, open_engine=self._open)
        try:
            if not curation.begin():
                for planned in curation.plan.stages:
                    curation.run_stage(planned)
                curation.finish()
        finally:
            outcome = curation.close("ok")
        manifest = find_run(self.workspace, outcome.run_id).manifest()
        assert manifest is not None
        return manifest

    def _open(self, config: Any) -> Any:
        self.opened.append(config.model)
        return open_engine(config)

    def models(self) -> list[str]:
        return sorted(path.name for path in self.workspace.models.iterdir())


@pytest.fixture
def runs(tiny: Path, tmp_path: Path) -> Runs:
    return Runs(tmp_path, tiny)


def test_a_run_at_work_holds_on_to_the_scores_of_all_its_tuned_models(tmp_path: Path) -> None:
    runs = Runs(tmp_path, Path("scripted"))
    runs.write([])  # no row is scored, so that no model is made
    propose = [{**STAGES[1], "name": f"p{n}", "max_tokens": n} for n in (4, 5)]
    curation = Curation(
        runs.recipe(stages=[STAGES[0], *propose]),
        runs.workspace,
        identify=lambda config: {"model": config.model},
        find=lambda library: True,
    )
    curation.begin()
    settled = {curation.run_stage(planned).scoring_key for planned in curation.plan.stages}

    (uses,) = read_uses(curation.folder.path)
    assert len(settled) == 3
    assert uses.scores == settled


@pytest.mark.slow
def test_a_model_is_made_once_of_the_rows_that_are_not_flagged(runs: Runs) -> None:
    manifest = runs.run()
    known = manifest["engines"]["tuned"]
    flagged = manifest["stages"][1]["counts"]["flagged"]
    (key,) = runs.models()
    trained = runs.workspace.model(key) / "training" / "manifest.json"

    assert known["key"] == key
    assert known["trained_on"] == 10 - flagged
    assert json.loads(trained.read_bytes())["table"]["rows"] == 10 - flagged
    assert json.loads(trained.read_bytes())["table"]["run_id"] == manifest["run_id"]
    assert len(runs.opened) == 2

    before = trained.stat().st_mtime_ns
    stages = [STAGES[0], {**STAGES[1], "max_tokens": 5}]
    again = runs.run(stages=stages)  # another run that asks for the same model

    assert again["engines"]["tuned"] == known
    assert trained.stat().st_mtime_ns == before


@pytest.mark.slow
def test_other_rows_or_settings_make_another_model_and_a_pin_keeps_it(runs: Runs) -> None:
    first = runs.run()
    runs.write(range(12))
    grown = runs.run()
    other = runs.run(tuned={"learning_rate": 0.02})
    pinned = runs.run(tuned={"pin": first["run_id"]})

    keys = [manifest["engines"]["tuned"]["key"] for manifest in (first, grown, other, pinned)]
    assert len(set(keys[:3])) == 3
    assert keys[3] == keys[0]
    assert len(runs.models()) == 3
    # What the first model answered is not asked again of the pinned one: 10 of 12 rows.
    assert pinned["stages"][2]["scoring_key"] == first["stages"][2]["scoring_key"]

    with pytest.raises(ModelUnavailable, match=r"otherwise than this recipe says: its tuning was"):
        runs.run(tuned={"pin": first["run_id"], "learning_rate": 0.02})


@pytest.mark.slow
def test_a_pinned_latest_run_is_settled_before_the_run_has_its_name(runs: Runs) -> None:
    runs.run()
    found = [runs.run(tuned={"pin": "latest"})]
    runs.run(stages=[STAGES[0], {**STAGES[1], "max_tokens": 5}])
    found.append(runs.run(tuned={"pin": "latest"}))
    other = runs.run(tuned={"learning_rate": 0.02})

    assert found[1]["run_id"] == found[0]["run_id"]  # the same model, whichever run was latest
    with pytest.raises(ModelUnavailable, match="its tuning was"):
        runs.run(tuned={"pin": "latest"})
    assert other["engines"]["tuned"]["key"] != found[0]["engines"]["tuned"]["key"]


@pytest.mark.slow
def test_a_training_that_was_left_unfinished_is_finished_by_another_run(runs: Runs) -> None:
    first = runs.run()
    training = runs.workspace.model(first["engines"]["tuned"]["key"]) / "training"
    (training / "manifest.json").unlink()  # as if it had been killed

    stages = [STAGES[0], {**STAGES[1], "max_tokens": 5}]
    second = runs.run(stages=stages)  # another run, the same rows and settings

    assert second["run_id"] != first["run_id"]
    assert second["engines"]["tuned"] == first["engines"]["tuned"]
    assert (training / "manifest.json").is_file()


@pytest.mark.parametrize(
    ("device", "visible", "seen"),
    [
        ("auto", None, "0"),
        ("cuda:1", None, "1"),
        ("cuda:1", "4,6", "6"),
        ("auto", "4,6", "4"),
        ("auto", "", ""),  # none is to be seen
    ],
)
def test_a_tuning_sees_the_one_gpu_that_its_base_names(
    device: str, visible: str | None, seen: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    base = TransformersModel(model="some-model", device=device)

    assert one_device(base) == {"CUDA_VISIBLE_DEVICES": seen}


def test_a_library_that_prints_disturbs_nothing() -> None:
    class Notes(Silent):
        said: ClassVar[list[str]] = []

        def note(self, text: str) -> None:
            self.said.append(text)

    lines = [
        "0",
        "null",
        '{"a": 1}',
        '["note", "so"]',
        '["advance"]',
        "Loading weights",
        '["?", 1]',
    ]

    pass_on(io.StringIO("\n".join(lines)), Notes())

    assert Notes.said == [
        "0",
        "null",
        '{"a": 1}',
        "so",
        '["advance"]',
        "Loading weights",
        '["?", 1]',
    ]


@pytest.mark.slow
def test_where_all_answers_are_there_the_model_need_not_be(runs: Runs) -> None:
    first = runs.run()
    removed = runs.workspace.model(runs.models()[0])
    removed.rename(removed.with_name("elsewhere"))
    runs.opened.clear()
    stages = [STAGES[0], {**STAGES[1], "on_drop": "flag"}]  # another run, the same scores

    assert runs.run(stages=stages)["run_id"] != first["run_id"]
    assert runs.opened == []


@pytest.mark.slow
def test_gc_keeps_the_models_of_kept_runs(runs: Runs) -> None:
    first = runs.run()
    second = runs.run(tuned={"learning_rate": 0.02})
    a_week = 7 * 24 * 3600.0
    now = runs.workspace.models.stat().st_mtime + a_week

    freed = Collector(runs.workspace, keep_runs=1, now=lambda: now).run()

    assert freed.models == [first["engines"]["tuned"]["key"]]
    assert runs.models() == [second["engines"]["tuned"]["key"]]


@pytest.mark.slow
def test_rows_that_cannot_be_trained_on_end_the_run_and_say_why(runs: Runs) -> None:
    with pytest.raises(EngineError, match=r"'tuned' cannot be trained: .*"):
        runs.run(tuned={"max_length": 2})


def test_a_dry_run_trains_nothing(runs: Runs) -> None:
    forecast = DryRun(runs.recipe(), runs.workspace).run()

    assert [stage.to_score for stage in forecast.stages] == [10, 10]
    assert not runs.workspace.models.exists()


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        (
            {"base": "judge"},
            "models.tuned.base: 'judge' (no such model) cannot be fine-tuned: name a model of the "
            "recipe of kind transformers or vllm",
        ),
        (
            {"rows": {"unflagged_by": "clean.rules"}},
            "models.tuned.rows: no stage 'clean.rules' with on_drop: flag stands before "
            "clear.propose, which asks for the model",
        ),
        ({"epochs": 1}, "models.tuned: epochs and max_steps: give one of them"),
        ({"batch_size": 5}, "models.tuned: batch_size 5 is no multiple of 8 (keep)"),
    ],
)
def test_a_wrong_tuned_model_is_told_before_anything_is_read(
    runs: Runs, changes: dict[str, Any], problem: str
) -> None:
    with pytest.raises(RecipeError) as caught:
        runs.recipe(tuned=changes)
    assert problem in caught.value.problems
