import json
from pathlib import Path

import pytest

from pipelines.engines.libraries import is_installed, not_installed


def test_run_prints_counts_reasons_exports_and_the_run_id_last(winnow, folder: Path) -> None:
    result = winnow("run", "recipe.yaml")

    lines = result.stdout.splitlines()
    without_seconds = [line.rsplit("  ", 1)[0].rstrip() for line in lines[:4]]
    assert without_seconds == [
        "stage        in  kept  dropped  failed",
        "import        6     5        0       1",
        "clean.rules   5     3        2       0",
        "dedup.exact   3     2        1       0",
    ]
    run = next(path.name for path in Path(".winnow/runs").iterdir())
    assert lines[4:] == [
        "import: 1 broken_json",
        "clean.rules: 1 empty, 1 refusal",
        "dedup.exact: 1 duplicate",
        "wrote out/clean.jsonl: 2 rows",
        f"run {run}",
    ]
    assert result.exit_code == 0


def test_run_writes_the_export(winnow, folder: Path) -> None:
    winnow("run", "recipe.yaml")

    kept = [json.loads(line) for line in Path("out/clean.jsonl").read_text().splitlines()]
    assert [row["messages"][-1]["content"] for row in kept] == [
        "Two plus three is five.",
        "It is Paris.",
    ]


def test_json_is_one_object_on_stdout_and_progress_goes_to_stderr(winnow) -> None:
    result = winnow("run", "recipe.yaml", "--json")

    told = json.loads(result.stdout)
    assert sorted(told) == [
        "cost",
        "exports",
        "model_calls",
        "reused",
        "run_id",
        "seconds",
        "stages",
        "status",
    ]
    assert [
        [stage[name] for name in ("stage", "in", "kept", "dropped", "failed", "created")]
        for stage in told["stages"]
    ] == [
        ["import", 6, 5, 0, 1, 0],
        ["clean.rules", 5, 3, 2, 0, 0],
        ["dedup.exact", 3, 2, 1, 0, 0],
    ]
    assert (told["status"], told["reused"], told["model_calls"]) == ("ok", False, 0)
    assert told["cost"] == 0
    steps = [line.split(":")[0] for line in result.stderr.splitlines()]
    assert steps == ["import rows.jsonl", "clean.rules", "dedup.exact", "export"]


def test_the_same_run_again_is_found_and_exported_again(winnow, run_id: str) -> None:
    Path("out/clean.jsonl").unlink()

    result = winnow("run", "recipe.yaml")

    assert "An earlier call had finished this run; nothing was computed again." in result.stdout
    assert result.stdout.split()[-1] == run_id
    assert Path("out/clean.jsonl").exists()


WITH_VLLM = """\
name: with vllm
source: {path: rows.jsonl, id: key}
models:
  judge: {kind: vllm, model: smollm2-135m-instruct}
stages:
  - {kind: clean.rules}
  - {kind: clear.filter, estimator: likelihood, model: judge}
"""
LACKS_VLLM = f"clear.filter: model 'judge' (vllm): {not_installed('vllm')}"


@pytest.mark.skipif(is_installed("vllm"), reason="vllm is installed here")
def test_a_missing_library_is_said_before_anything_is_read(winnow) -> None:
    Path("recipe.yaml").write_text(WITH_VLLM)

    result = winnow("run", "recipe.yaml")

    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == f"this recipe cannot run here:\n{LACKS_VLLM}\n"
    assert not Path(".winnow").exists()


@pytest.mark.skipif(is_installed("vllm"), reason="vllm is installed here")
def test_a_dry_run_says_what_is_missing_and_goes_on(winnow) -> None:
    Path("recipe.yaml").write_text(WITH_VLLM)

    result = winnow("run", "recipe.yaml", "--dry-run")

    assert result.exit_code == 0
    assert f"missing here: {LACKS_VLLM}" in result.stdout.splitlines()


def test_limit_reads_the_first_records_only(winnow) -> None:
    result = winnow("run", "recipe.yaml", "--limit", "2", "--json")

    assert json.loads(result.stdout)["stages"][0]["in"] == 2


def test_set_changes_the_recipe(winnow, run_id: str) -> None:
    result = winnow(
        "run", "recipe.yaml", "--set", "stages.clean.rules.min_answer_chars=20", "--json"
    )

    told = json.loads(result.stdout)
    assert told["run_id"] != run_id
    assert told["stages"][1]["reasons"] == {"empty": 1, "refusal": 1, "too_short": 1}


def test_too_many_failed_rows_give_exit_code_1_and_leave_the_export_alone(winnow, run_id) -> None:
    before = Path("out/clean.jsonl").stat()

    result = winnow("run", "recipe.yaml", "--set", "max_failed=0.1", "--json")

    assert result.exit_code == 1
    assert json.loads(result.stdout)["status"] == "too_many_failed"
    assert result.stderr.splitlines()[-1] == (
        "1 of 6 rows failed, more than max_failed: 0.1 allows. No export was written. Look at "
        f'them:  winnow query "SELECT * FROM failed" --run {run_id}'
    )
    assert Path("out/clean.jsonl").stat() == before


def test_dry_run_counts_what_there_is_to_do_and_writes_no_run(winnow) -> None:
    result = winnow("run", "recipe.yaml", "--dry-run")

    lines = result.stdout.splitlines()
    assert lines[:4] == [
        "stage        rows  already scored  to score  model calls  tokens",
        "clean.rules  5                  5  0         0            0",
        "dedup.exact  3                  3  0         0            0",
        "1 records cannot be read.",
    ]
    assert not Path(".winnow/runs").exists()
    assert result.exit_code == 0


def test_dry_run_tells_that_a_run_is_finished(winnow, run_id: str) -> None:
    result = winnow("run", "recipe.yaml", "--dry-run", "--json")

    told = json.loads(result.stdout)
    assert (told["run_id"], told["finished"], told["model_calls"]) == (run_id, True, 0)


def test_the_workspace_may_be_named_by_the_environment(winnow, monkeypatch) -> None:
    monkeypatch.setenv("WINNOW_WORKSPACE", "elsewhere")

    winnow("run", "recipe.yaml")

    assert Path("elsewhere/runs").is_dir()
    assert not Path(".winnow").exists()
