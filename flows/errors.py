"""Errors as a user sees them: one readable paragraph on stderr, and an exit code.

0    done
1    the run failed: too many rows failed, an engine is gone, the disk is full
2    the recipe, the arguments or the input are wrong: change them
130  Ctrl-C
"""

import errno
import functools
import inspect
import traceback
from collections.abc import Callable
from typing import Annotated, Any, Final

import typer

FAILED: Final = 1
WRONG: Final = 2
INTERRUPTED: Final = 130

DebugOption = Annotated[
    bool, typer.Option("--debug", help="Show the traceback of an error as well.")
]


class Failure(Exception):
    """The work is done and its outcome is a failure that has been explained already."""


def readable_errors(command: Callable[..., None]) -> Callable[..., None]:
    """`command` with the option `--debug`; what it raises becomes a message and an exit code."""

    @functools.wraps(command)
    def guarded(*, debug: bool, **options: Any) -> None:
        try:
            command(**options)
        except KeyboardInterrupt as stop:
            typer.echo("Stopped. Nothing is lost: the same command goes on from here.", err=True)
            raise typer.Exit(INTERRUPTED) from stop
        except (typer.Exit, typer.Abort, typer.BadParameter, BrokenPipeError):
            raise  # typer knows what to do, also when a reader like `head` has gone
        except Exception as error:  # the outermost place: everything is told
            if debug:
                typer.echo("".join(traceback.format_exception(error)), err=True)
            message, code = explained(error)
            typer.echo(message, err=True)
            raise typer.Exit(code) from error

    debug = inspect.Parameter(
        "debug", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=DebugOption
    )
    signature = inspect.signature(command)
    guarded.__signature__ = signature.replace(  # type: ignore[attr-defined]  # read by typer
        parameters=[*signature.parameters.values(), debug]
    )
    return guarded


def explained(error: Exception) -> tuple[str, int]:
    """What to tell the user about `error`, and the exit code."""
    if isinstance(error, _wrong()):
        return str(error), WRONG
    if isinstance(error, (Failure, *_stopped())):
        return str(error), FAILED
    if isinstance(error, OSError):
        return _about_files(error)
    return (
        f"winnow failed where it should not have: {type(error).__name__}: {error}\n"
        "Nothing that was computed is lost. --debug shows where it happened; please report it.",
        FAILED,
    )


def _about_files(error: OSError) -> tuple[str, int]:
    where = f": {error.filename}" if error.filename else ""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return (
            f"The disk is full{where}. What was written before is whole; make room (winnow gc "
            "--keep-runs N frees what no run refers to) and run the same command again.",
            FAILED,
        )
    wrong = isinstance(error, FileNotFoundError | IsADirectoryError | NotADirectoryError)
    reason = error.strerror or str(error)
    return f"{reason}{where}", WRONG if wrong or isinstance(error, PermissionError) else FAILED


def _wrong() -> tuple[type[Exception], ...]:
    """What the user can mend in the recipe, the arguments or the input."""
    from pipelines.audit.errors import AuditImpossible
    from pipelines.engines.errors import ModelUnavailable
    from pipelines.exporters.report import ImpossibleExport
    from pipelines.readers.source import SourceError
    from pipelines.recipe import RecipeError
    from pipelines.report.database import NoSuchRow, QueryError
    from pipelines.store.manifest import FormatError
    from pipelines.store.runs import NoSuchRun
    from pipelines.train.errors import TrainingImpossible
    from schemas.errors import ContractError

    return (
        RecipeError,
        SourceError,
        ContractError,
        NoSuchRun,
        NoSuchRow,
        QueryError,
        FormatError,
        ModelUnavailable,
        ImpossibleExport,
        TrainingImpossible,
        AuditImpossible,
    )


def _stopped() -> tuple[type[Exception], ...]:
    """What ends a run although recipe and arguments are sound."""
    from pipelines.exporters.report import ExportError
    from pipelines.runner.conservation import ConservationError
    from pipelines.runner.errors import RunStopped, TooManyFailed
    from pipelines.train.errors import TrainingStopped
    from stages.engines import EngineError

    return (
        RunStopped,
        TooManyFailed,
        EngineError,
        ExportError,
        ConservationError,
        TrainingStopped,
    )
