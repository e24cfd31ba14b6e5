"""A missing library is said at the start, unless stored scores may spare it."""

from pathlib import Path
from typing import Any

import pytest

from pipelines.engines.errors import ModelUnavailable
from pipelines.engines.libraries import not_installed
from pipelines.recipe import Recipe, parse_recipe
from pipelines.runner.dry_run import DryRun
from pipelines.runner.plan import make_plan
from pipelines.runner.readiness import check_before_import, check_plan, missing_libraries
from pipelines.store.workspace import Workspace
from tests.pipelines.runner.curating import FILTER, RULES, Bench, rows, write_jsonl

SEMANTIC = {"kind": "dedup.semantic", "embedder": "embedder"}
MODELS = {
    "judge": {"kind": "vllm", "model": "some/model"},
    "embedder": {"kind": "sentence-transformers", "model": "some/embedder"},
    "idle": {"kind": "vllm", "model": "other/model"},  # which no stage uses
}
FILTER_LACKS = f"clear.filter: model 'judge' (vllm): {not_installed('vllm')}"
INDEX_LACKS = f"dedup.semantic: {not_installed('faiss')}"
EMBEDDER_LACKS = (
    f"dedup.semantic: model 'embedder' (sentence-transformers): "
    f"{not_installed('sentence_transformers')}"
)


def recipe(*stages: dict[str, Any]) -> Recipe:
    return parse_recipe(
        {"name": "r", "source": {"path": "x.jsonl"}, "models": MODELS, "stages": list(stages)}
    )


def without(*libraries: str) -> Any:
    return lambda library: library not in libraries


def plan(curation: Recipe) -> Any:
    return make_plan(curation, [], lambda config: {"model": config.model}).stages


def store(workspace: Workspace, key: str) -> None:
    (workspace.scores / key).mkdir(parents=True)
    (workspace.scores / key / "part-0.parquet").touch()


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "workspace")


def test_every_stage_says_what_it_lacks() -> None:
    found = missing_libraries(
        recipe(RULES, SEMANTIC, FILTER), without("vllm", "faiss", "sentence_transformers")
    )

    assert found == [EMBEDDER_LACKS, INDEX_LACKS, FILTER_LACKS]


def test_models_that_no_stage_uses_need_nothing() -> None:
    assert missing_libraries(recipe(RULES, SEMANTIC), without("vllm")) == []


def test_where_no_score_is_stored_a_run_ends_before_its_import(workspace: Workspace) -> None:
    with pytest.raises(ModelUnavailable) as raised:
        check_before_import(recipe(SEMANTIC, FILTER), workspace, without("vllm", "faiss"))

    assert str(raised.value) == f"this recipe cannot run here:\n{INDEX_LACKS}\n{FILTER_LACKS}"


def test_stored_scores_may_spare_the_library_so_the_import_begins(workspace: Workspace) -> None:
    store(workspace, "some key")

    check_before_import(recipe(FILTER), workspace, without("vllm"))


def test_what_is_all_there_is_never_a_reason_to_stop(workspace: Workspace) -> None:
    whole = recipe(RULES, SEMANTIC, FILTER)

    check_before_import(whole, workspace, without())
    check_plan(plan(whole), whole.models, workspace, without())


def test_a_stage_without_stored_scores_ends_the_run_before_its_first_stage(
    workspace: Workspace,
) -> None:
    whole = recipe(RULES, FILTER)
    store(workspace, plan(whole)[0].scoring_key)  # of clean.rules

    with pytest.raises(ModelUnavailable) as raised:
        check_plan(plan(whole), whole.models, workspace, without("vllm"))

    assert str(raised.value) == f"this recipe cannot run here:\n{FILTER_LACKS}"


def test_a_stage_with_stored_scores_is_left_to_find_out(workspace: Workspace) -> None:
    whole = recipe(RULES, FILTER)
    store(workspace, plan(whole)[1].scoring_key)

    check_plan(plan(whole), whole.models, workspace, without("vllm"))


def test_an_index_is_needed_whatever_is_stored(workspace: Workspace) -> None:
    whole = recipe(SEMANTIC)
    store(workspace, plan(whole)[0].scoring_key)

    with pytest.raises(ModelUnavailable) as raised:
        check_plan(plan(whole), whole.models, workspace, without("faiss"))

    assert str(raised.value) == f"this recipe cannot run here:\n{INDEX_LACKS}"


def test_a_dry_run_notes_what_is_missing(tmp_path: Path) -> None:
    bench = Bench(tmp_path, stages=[RULES, FILTER])
    write_jsonl(bench.source, rows(3))

    told = DryRun(
        bench.recipe(),
        Workspace(tmp_path / "workspace"),
        identify=lambda config: {"model": config.model},
        find=without("transformers"),
    ).run()

    assert told.notes == (
        f"clear.filter: model 'judge' (transformers): {not_installed('transformers')}",
    )
