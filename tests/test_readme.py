"""Every command in the README is run here, and its first screen is what `make demo` prints."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BIN = Path(sys.executable).parent
# The counts table: its rows begin like this, and model calls and seconds stand at their end.
COUNTED = {"stage", "import", "clean.rules", "dedup.exact", "dedup.semantic", "clear.filter"}
ROWS = 24  # of the bundled sample, so that the model answers within a minute


def indented_commands() -> list[str]:
    """The lines of the README's indented blocks, without their comments."""
    lines = re.sub(r"```.*?```", "", README, flags=re.DOTALL).splitlines()
    blocks = [line[4:] for line in lines if line.startswith("    ")]
    return [re.sub(r"\s+#.*$", "", line).strip() for line in blocks]


def fenced(language: str) -> str:
    found = re.search(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)
    assert found is not None
    return found.group(1)


def yaml_file(name: str) -> str:
    """The block that begins with the name of its file."""
    found = re.search(rf"```yaml\n(# {re.escape(name)}\n.*?)```", README, flags=re.DOTALL)
    assert found is not None
    return found.group(1)


WINNOW = [command for command in indented_commands() if command.startswith("winnow ")]
OTHERS = {"make demo", "make sync", "source .venv/bin/activate"}


def run(command: str, folder: Path) -> "subprocess.CompletedProcess[str]":
    env = {**os.environ, "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}
    return subprocess.run(
        shlex.split(command), cwd=folder, env=env, capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with the README's recipe and some rows for it, curated once."""
    made = tmp_path_factory.mktemp("readme")
    for name in ("recipe.yaml", "train.yaml"):
        (made / name).write_text(yaml_file(name), encoding="utf-8")
    lines = (ROOT / "data/quickstart/instructions.jsonl").read_text(encoding="utf-8").splitlines()
    sound = [line for line in lines if line.endswith("}")][:ROWS]
    (made / "answers.jsonl").write_text("\n".join(sound) + "\n", encoding="utf-8")
    yield made
    shutil.rmtree(made)


def test_there_is_nothing_in_the_readme_that_no_test_runs() -> None:
    assert set(indented_commands()) - set(WINNOW) - {""} == OTHERS


@pytest.mark.slow
def test_every_winnow_command_of_the_readme_works_in_the_order_given(folder: Path) -> None:
    ended = {}
    for command in WINNOW:
        if command.startswith("winnow serve"):
            continue  # tests/flows/test_prefect.py serves, triggers and stops one
        done = run(_filled(command, folder), folder)
        ended[command] = (done.returncode, done.stderr[-500:] if done.returncode else "")
    assert ended == dict.fromkeys(ended, (0, ""))
    assert (folder / "out" / "answers.train.jsonl").exists()
    assert (folder / "out" / "answers.sharegpt.jsonl").exists()


def _filled(command: str, folder: Path) -> str:
    """The command with real ids in the place of RUN and ID."""
    if " RUN" in command:
        runs = json.loads(run("winnow runs --json", folder).stdout)
        for entry in runs[:2]:
            command = command.replace(" RUN", f" {entry['run_id']}", 1)
    if command.endswith(" ID"):
        query = "winnow query 'SELECT id FROM rows LIMIT 1' --format json"
        row = json.loads(run(query, folder).stdout)[0]["id"]
        command = command.removesuffix("ID") + row
    return command


def test_the_stage_of_the_readme_is_a_stage() -> None:
    """It is checked like any stage: built, run, its verdicts conserved."""
    import polars as pl

    names: dict[str, object] = {"__name__": "readme"}
    exec(compile(fenced("python"), "README.md", "exec"), names)
    stage = names["LongestPrompts"]()  # type: ignore[operator]
    rows = pl.LazyFrame(
        {
            "id": ["a", "b"],
            "messages": [[{"role": "user", "content": text}] for text in ("short", "x" * 30)],
        }
    )
    assert stage.decide(rows, None).collect().to_dicts() == [
        {"id": "a", "verdict": "drop", "reason": "short_prompt", "evidence": '{"chars":5}'},
        {"id": "b", "verdict": "keep", "reason": None, "evidence": '{"chars":30}'},
    ]


@pytest.mark.slow
def test_the_demo_prints_what_the_readme_shows() -> None:
    done = subprocess.run(
        ["make", "--no-print-directory", "demo"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    printed = iter(_without_times(done.stdout))
    missing = [line for line in _without_times(fenced("text")) if line not in printed]
    assert missing == []


def _without_times(text: str) -> list[str]:
    """Lines without what differs from call to call: model calls and seconds, and the run's id."""
    lines = []
    for line in text.splitlines():
        cells = line.split()
        if cells and cells[0] in COUNTED:
            cells = cells[:5]
        lines.append(re.sub(r"^run [0-9a-f]+$", "run", " ".join(cells)))
    return [line for line in lines if line not in ("", "...")]
