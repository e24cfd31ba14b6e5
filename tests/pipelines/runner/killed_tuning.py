"""Run as a program: one run that makes a model of its rows, in steps enough to be killed.

python -m tests.pipelines.runner.killed_tuning FOLDER MODEL

Standard output names every model that is opened to be asked, and every note of the run.
"""

import sys
from pathlib import Path
from typing import Any

from pipelines.engines.opening import open_engine, prepare_environment
from pipelines.recipe import Recipe, parse_recipe
from pipelines.runner.curation import Curation
from pipelines.runner.progress import Silent
from pipelines.store.workspace import Workspace
from tests.pipelines.runner.curating import curate

STEPS, SAVED_EVERY = 30, 2


class Notes(Silent):
    """Prints the notes."""

    def note(self, text: str) -> None:
        print(text, flush=True)


def recipe(folder: Path, model: str) -> Recipe:
    return parse_recipe(
        {
            "name": "killed-tuning",
            "source": {"path": str(folder / "rows.jsonl"), "format": "alpaca"},
            "models": {
                "base": {"kind": "transformers", "model": model, "device": "cpu"},
                "tuned": {
                    "kind": "tuned",
                    "base": "base",
                    "rows": {"unflagged_by": "clear.filter"},
                    "max_length": 96,
                    "max_steps": STEPS,
                    "save_every": SAVED_EVERY,
                },
            },
            "stages": [
                {
                    "kind": "clear.filter",
                    "estimator": "likelihood",
                    "model": "base",
                    "on_drop": "flag",
                    "keep": {"above": -1.0},
                },
                {"kind": "clear.propose", "model": "tuned", "max_tokens": 4},
            ],
            "exports": [{"format": "messages", "path": str(folder / "out.jsonl")}],
            "max_failed": 1.0,
        }
    )


def main(folder: Path, model: str) -> None:
    def opened(config: Any) -> Any:
        print("opened", "base" if config.model == model else "tuned", flush=True)
        return open_engine(config)

    prepare_environment()
    workspace = Workspace(folder / "workspace")
    curation = Curation(recipe(folder, model), workspace, open_engine=opened, progress=Notes())
    curate(curation)
    curation.export()
    curation.close("ok")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
