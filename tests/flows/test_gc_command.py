import json
import os
import time
from pathlib import Path


def make_old(folder: Path) -> None:
    two_days_ago = time.time() - 2 * 86400
    for path in (folder, *folder.rglob("*")):
        os.utime(path, (two_days_ago, two_days_ago))


def test_gc_removes_older_runs_and_says_what_was_freed(winnow, run_id, strict_run_id) -> None:
    make_old(Path(".winnow"))
    before = sum(path.stat().st_size for path in Path(".winnow").rglob("*") if path.is_file())

    told = json.loads(winnow("gc", "--keep-runs", "1", "--json").stdout)

    after = sum(path.stat().st_size for path in Path(".winnow").rglob("*") if path.is_file())
    assert (told["runs"], told["tables"]) == ([run_id], [])
    assert told["bytes"] == before - after > 0
    assert winnow("show", strict_run_id).exit_code == 0


def test_a_dry_gc_removes_nothing(winnow, run_id: str) -> None:
    make_old(Path(".winnow"))
    before = sorted(Path(".winnow").rglob("*"))

    result = winnow("gc", "--keep-runs", "0", "--dry-run")

    assert sorted(Path(".winnow").rglob("*")) == before
    assert result.stdout.startswith("1 runs, 1 tables, 2 score parts, 0 models: ")
    assert result.stdout.endswith(" bytes would be freed.\n")


def test_after_gc_the_same_run_can_be_made_again(winnow, run_id: str) -> None:
    make_old(Path(".winnow"))
    exported = Path("out/clean.jsonl").read_bytes()
    winnow("gc", "--keep-runs", "0")

    again = json.loads(winnow("run", "recipe.yaml", "--json").stdout)

    assert (again["run_id"], again["reused"]) == (run_id, False)
    assert Path("out/clean.jsonl").read_bytes() == exported
