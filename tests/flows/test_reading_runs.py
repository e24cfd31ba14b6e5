"""runs, show, diff."""

import json
from pathlib import Path


def test_runs_lists_the_latest_first(winnow, run_id: str, strict_run_id: str) -> None:
    told = json.loads(winnow("runs", "--json").stdout)

    assert [
        {name: run[name] for name in ("run_id", "recipe", "status", "in", "kept", "calls")}
        for run in told
    ] == [
        {
            "run_id": strict_run_id,
            "recipe": "small one",
            "status": "ok",
            "in": 6,
            "kept": 1,
            "calls": 1,
        },
        {"run_id": run_id, "recipe": "small one", "status": "ok", "in": 6, "kept": 2, "calls": 1},
    ]


def test_runs_prints_a_table(winnow, run_id: str) -> None:
    head, line = winnow("runs").stdout.splitlines()

    assert head.split("  ")[0] == "run"
    assert line.startswith(f"{run_id}  small one  ")


def test_a_run_that_was_killed_is_listed_as_unfinished(winnow, run_id: str) -> None:
    folder = Path(".winnow/runs") / run_id
    (folder / "manifest.json").unlink()
    (folder / "calls.json").unlink()

    assert json.loads(winnow("runs", "--json").stdout)[0]["status"] == "unfinished"


def test_runs_says_when_there_are_none(winnow) -> None:
    assert winnow("runs").stdout == "There are no runs in .winnow yet:  winnow run RECIPE\n"


def test_show_prints_counts_reasons_and_calls(winnow, run_id: str) -> None:
    lines = winnow("show", run_id).stdout.splitlines()

    assert lines[0] == f"run_id       {run_id}"
    at = lines.index("stage        in  kept  dropped  failed")
    assert lines[at + 1 : at + 7] == [
        "import        6     5        0       1",
        "clean.rules   5     3        2       0",
        "dedup.exact   3     2        1       0",
        "import: 1 broken_json",
        "clean.rules: 1 empty, 1 refusal",
        "dedup.exact: 1 duplicate",
    ]
    assert [line.split()[3] for line in lines[-3:]] == ["import", "clean.rules", "dedup.exact"]


def test_show_json_has_stages_and_history(winnow, run_id: str) -> None:
    told = json.loads(winnow("show", run_id[:6], "--json").stdout)

    assert told["stages"][1] == {
        "stage": "clean.rules",
        "kind": "clean.rules",
        "in": 5,
        "kept": 3,
        "dropped": 2,
        "failed": 0,
        "flagged": 0,
        "created": 0,
        "reasons": {"empty": 1, "refusal": 1},
    }
    assert [call["status"] for call in told["history"]] == ["ok"]


def test_show_dropped_prints_rows_with_their_reasons(winnow, run_id: str) -> None:
    result = winnow("show", run_id, "--dropped", "dedup.exact")

    assert result.stdout == (
        "1. again\n"
        "   dedup.exact  duplicate\n"
        "   evidence     duplicate_of sum\n"
        "   user         What is 2 plus 3?\n"
        "   answer       Two plus three is five.\n"
    )


def test_show_dropped_samples_the_same_rows_for_the_same_seed(winnow, run_id: str) -> None:
    ask = ["show", run_id, "--dropped", "clean.rules", "--sample", "1", "--json", "--seed"]

    seeds = [json.loads(winnow(*ask, str(seed)).stdout)[0]["id"] for seed in (0, 0, *range(1, 9))]

    assert seeds[0] == seeds[1]
    assert set(seeds) == {"blank", "sorry"}


def test_show_failed_prints_where_the_record_stands(winnow, run_id: str) -> None:
    (row,) = json.loads(winnow("show", run_id, "--failed", "--json").stdout)

    assert (row["stage"], row["reason"], row["text"]) == ("import", "broken_json", {})
    assert (row["evidence"]["file"], row["evidence"]["line"]) == ("rows.jsonl", 6)
    assert row["evidence"]["raw"] == '{"key": "half", "prompt": "What is'


def test_show_dropped_of_an_unknown_stage_names_the_stages(winnow, run_id: str) -> None:
    result = winnow("show", run_id, "--dropped", "clean")

    assert (result.exit_code, result.stderr) == (
        2,
        f"Run {run_id} has no stage 'clean'. Its stages: import, clean.rules, dedup.exact.\n",
    )


def test_diff_groups_the_rows_whose_verdict_changed(winnow, run_id, strict_run_id) -> None:
    result = winnow("diff", run_id, strict_run_id)

    first, blank, group, row = result.stdout.splitlines()
    assert (first, blank) == ("1 row changed, 5 did not.", "")
    assert group == "kept -> dropped by clean.rules: too_short: 1 row"
    assert row.startswith('  paris  {"rules":["too_short"]')


def test_diff_json(winnow, run_id: str, strict_run_id: str) -> None:
    told = json.loads(winnow("diff", run_id, strict_run_id, "--json", "--examples", "0").stdout)

    assert told == {
        "before": run_id,
        "after": strict_run_id,
        "same": 5,
        "changed": 1,
        "groups": [
            {
                "before": {"verdict": "keep", "stage": "", "reason": ""},
                "after": {"verdict": "drop", "stage": "clean.rules", "reason": "too_short"},
                "rows": 1,
                "examples": [],
            }
        ],
    }


def test_diff_names_rows_that_only_one_run_has(winnow, run_id: str) -> None:
    limited = json.loads(winnow("run", "recipe.yaml", "--limit", "5", "--json").stdout)["run_id"]

    result = winnow("diff", limited, run_id, "--examples", "0")

    assert result.stdout == (
        "1 row changed, 5 did not.\n\nnot there -> failed by import: broken_json: 1 row\n"
    )


def test_diff_and_query_take_a_run_without_any_row(winnow, run_id: str) -> None:
    Path("broken.jsonl").write_text("{\n")
    sets = ["--set", "source={path: broken.jsonl}", "--set", "max_failed=1"]
    other = json.loads(winnow("run", "recipe.yaml", *sets, "--json").stdout)["run_id"]

    told = json.loads(winnow("diff", run_id, other, "--json").stdout)
    asked = winnow("query", "SELECT messages[1].content FROM rows", "--run", other)

    assert (told["same"], told["changed"]) == (0, 7)
    assert asked.exit_code == 0


def test_the_manifest_says_of_each_stage_what_it_is_and_does(winnow, run_id: str) -> None:
    manifest = json.loads((Path(".winnow/runs") / run_id / "manifest.json").read_bytes())

    rules, exact = manifest["recipe"]["stages"]
    assert (rules["kind"], rules["max_chars"]) == ("clean.rules", 100_000)
    assert (exact["kind"], exact["normalize"]) == ("dedup.exact", "nfc-lower")


def test_of_several_runs_that_begin_alike_all_are_named(
    winnow, run_id: str, strict_run_id: str
) -> None:
    result = winnow("show", "")

    assert (result.exit_code, result.stderr) == (
        2,
        "There is more than one run that begins with '' in .winnow. "
        f"Finished runs: {strict_run_id}, {run_id}.\n",
    )
