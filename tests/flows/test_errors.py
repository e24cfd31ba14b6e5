import errno
import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from flows.errors import explained, readable_errors


def app_that_raises(error: BaseException) -> typer.Typer:
    app = typer.Typer()

    def command() -> None:
        raise error

    app.command()(readable_errors(command))
    return app


def test_a_wrong_recipe_is_told_in_one_message_with_exit_code_2(winnow, folder: Path) -> None:
    Path("recipe.yaml").write_text(
        "name: wrong\nsource: {path: rows.jsonl}\nstages: [{kind: clean.rules}]\nmax_failed: 2\n"
        "sauce: 1\n"
    )

    result = winnow("run", "recipe.yaml")

    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == (
        "recipe.yaml is wrong:\n"
        "  - max_failed: Input should be less than or equal to 1 (found: 2)\n"
        "  - sauce: is not known here (found: 1)\n"
    )


def test_a_missing_recipe_gives_exit_code_2(winnow) -> None:
    result = winnow("run", "gone.yaml")

    assert (result.exit_code, result.stderr) == (
        2,
        "gone.yaml is wrong:\n  - cannot be read: No such file or directory\n",
    )


def test_a_missing_source_gives_exit_code_2(winnow, folder: Path) -> None:
    result = winnow("run", "recipe.yaml", "--set", "source.path=gone.jsonl")

    assert (result.exit_code, result.stderr) == (
        2,
        f"there is no file or folder 'gone.jsonl' (in {folder}).\n",
    )


def test_a_wrong_set_gives_exit_code_2(winnow) -> None:
    result = winnow("run", "recipe.yaml", "--set", "seed")

    assert (result.exit_code, result.stderr) == (
        2,
        "--set is wrong:\n  - 'seed' is not of the form dotted.key=value\n",
    )


@pytest.mark.parametrize(
    "command",
    [["show", "abc"], ["diff", "abc", "def"], ["query", "SELECT 1"], ["explain", "x"]],
    ids=lambda command: command[0],
)
def test_without_a_run_the_exit_code_is_2(winnow, command: list[str]) -> None:
    result = winnow(*command)

    assert result.exit_code == 2
    assert "in .winnow. Finished runs: none.\n" in result.stderr


def test_an_unknown_option_gives_exit_code_2(winnow) -> None:
    assert winnow("runs", "--nonsense").exit_code == 2


def test_ctrl_c_gives_a_clean_line_and_exit_code_130() -> None:
    result = CliRunner().invoke(app_that_raises(KeyboardInterrupt()))

    assert (result.exit_code, result.stderr) == (
        130,
        "Stopped. Nothing is lost: the same command goes on from here.\n",
    )


def test_a_full_disk_gives_exit_code_1_and_says_what_to_do() -> None:
    full = OSError(errno.ENOSPC, "No space left on device", "scores/part-1.parquet")

    result = CliRunner().invoke(app_that_raises(full))

    assert (result.exit_code, result.stderr) == (
        1,
        "The disk is full: scores/part-1.parquet. What was written before is whole; make room "
        "(winnow gc --keep-runs N frees what no run refers to) and run the same command again.\n",
    )


def test_a_defect_is_told_as_one_and_debug_adds_the_traceback() -> None:
    app = app_that_raises(ZeroDivisionError("division by zero"))

    plain, debug = (CliRunner().invoke(app, options) for options in ([], ["--debug"]))

    told = (
        "winnow failed where it should not have: ZeroDivisionError: division by zero\n"
        "Nothing that was computed is lost. --debug shows where it happened; please report it.\n"
    )
    assert (plain.exit_code, plain.stderr) == (1, told)
    assert debug.exit_code == 1
    assert debug.stderr.startswith("Traceback (most recent call last):")
    assert debug.stderr.endswith(told)


def test_each_error_class_has_its_exit_code() -> None:
    from pipelines.engines.errors import ModelUnavailable
    from pipelines.exporters.report import ExportError
    from pipelines.recipe import RecipeError
    from pipelines.runner.conservation import ConservationError
    from pipelines.runner.errors import RunStopped, TooManyFailed
    from schemas.errors import ContractError
    from stages.engines import EngineError

    errors = [
        RecipeError(["wrong"]),
        ContractError("it", ["wrong"]),
        ModelUnavailable("gone"),
        FileNotFoundError(errno.ENOENT, "No such file", "x"),
        PermissionError(errno.EACCES, "Permission denied", "x"),
        RunStopped("stopped"),
        TooManyFailed("failed"),
        EngineError("gone"),
        ExportError("not written"),
        ConservationError("lost"),
        OSError(errno.EIO, "Input/output error", "x"),
    ]

    assert [explained(error)[1] for error in errors] == [2, 2, 2, 2, 2, 1, 1, 1, 1, 1, 1]


def test_an_error_during_a_run_is_noted_in_the_history(winnow, run_id: str) -> None:
    Path("out/clean.jsonl.manifest.json").unlink()
    Path("out/clean.jsonl.manifest.json").mkdir()

    result = winnow("run", "recipe.yaml")

    assert result.exit_code == 2
    history = json.loads(winnow("show", run_id, "--json").stdout)["history"]
    assert [call["status"] for call in history] == ["ok", "stopped"]
