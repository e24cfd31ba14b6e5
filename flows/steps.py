"""The steps of a curation, the same ones whether they are called in process or as Prefect tasks."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, TypeVar

from pipelines.runner.curation import Curation
from pipelines.runner.errors import RunStopped, TooManyFailed

T = TypeVar("T")


class Caller(Protocol):
    """Calls one step. `name` is that of the stage, or import, finish, export."""

    def __call__(self, name: str, step: Callable[[], T]) -> T: ...


@dataclass(frozen=True)
class Ended:
    """How a run ended. `outcome` is what `winnow run --json` prints; `problem` is "" for ok."""

    outcome: dict[str, Any]
    problem: str = ""


def directly(name: str, step: Callable[[], T]) -> T:
    """Call the step here and now."""
    return step()


def curate(curation: Curation, call: Caller = directly) -> Ended:
    """Import, run each stage, finish, export; whatever happens, note the call in the run's folder.

    A run that was stopped or in which too many rows failed has ended, and is returned; other errors
    (a wrong recipe, Ctrl-C) are raised.
    """
    try:
        finished = call("import", curation.begin)
        if not finished:
            for planned in curation.plan.stages:
                call(planned.stage.label, partial(curation.run_stage, planned))
            call("finish", curation.finish)
        call("export", curation.export)
    except TooManyFailed as error:
        return Ended(curation.close("too_many_failed").as_json(), str(error))
    except RunStopped as error:
        return Ended(curation.close("stopped").as_json(), str(error))
    except BaseException:
        curation.close("stopped")
        raise
    return Ended(curation.close("ok").as_json())
