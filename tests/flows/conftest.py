"""A small recipe without models, and `winnow` called in this process."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

ROWS = [
    {"key": "sum", "prompt": "What is 2 plus 3?", "response": "Two plus three is five."},
    {"key": "paris", "prompt": "Name the capital of France.", "response": "It is Paris."},
    {"key": "again", "prompt": "What is 2 plus 3?", "response": "Two plus three is five."},
    {"key": "blank", "prompt": "Say something about the sea.", "response": ""},
    {
        "key": "sorry",
        "prompt": "How do magnets work?",
        "response": "I'm sorry, but as an AI language model I cannot help with that.",
    },
]
BROKEN = '{"key": "half", "prompt": "What is'
RECIPE = """\
name: small one
source: {path: rows.jsonl, id: key}
stages:
  - {kind: clean.rules}
  - {kind: dedup.exact}
exports:
  - {format: messages, path: out/clean.jsonl}
max_failed: 0.2
"""

Winnow = Callable[..., Result]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder: rows.jsonl (five rows and a broken line) and recipe.yaml."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("WINNOW_WORKSPACE", raising=False)
    lines = [json.dumps(row) for row in ROWS]
    (tmp_path / "rows.jsonl").write_text("\n".join([*lines, BROKEN]) + "\n")
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    return tmp_path


@pytest.fixture
def winnow(folder: Path) -> Winnow:
    """Call the command line in `folder`; stdout, stderr and exit_code are kept apart."""
    from flows.cli import app

    return lambda *arguments: CliRunner().invoke(app, list(arguments))


@pytest.fixture
def run_id(winnow: Winnow) -> str:
    """The id of a finished run of the recipe."""
    result = winnow("run", "recipe.yaml", "--json")
    assert result.exit_code == 0, result.stderr
    return str(json.loads(result.stdout)["run_id"])


@pytest.fixture
def strict_run_id(winnow: Winnow, run_id: str) -> str:
    """A second run, which also drops answers that do not reach 20 characters."""
    change = "stages.clean.rules.min_answer_chars=20"
    result = winnow("run", "recipe.yaml", "--set", change, "--json")
    assert result.exit_code == 0, result.stderr
    return str(json.loads(result.stdout)["run_id"])
