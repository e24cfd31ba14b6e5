"""A training in a process of its own, for a run that needs its model.

    python -m pipelines.train CONFIG

CONFIG is a training's config as JSON. Standard output is a JSON array for each thing that a
Progress would be told, standard error one message when it ends badly: exit code 2 for what the
config or the rows are to blame for, 1 for anything that may pass.

Whoever starts this holds its standard input open, and when that ends, this ends at once: nobody
else may train that model meanwhile, and its last checkpoint is where the next call goes on.
"""

import json
import os
import sys
from pathlib import Path
from threading import Thread
from typing import Final

from pipelines.engines.errors import ModelUnavailable
from pipelines.train.config import TrainingConfig
from pipelines.train.errors import TrainingImpossible, TrainingStopped
from pipelines.train.merging import merged
from pipelines.train.training import train
from pipelines.yaml_config import RecipeError
from stages.engines import EngineError, Usage

_STANDARD_INPUT: Final = 0


class Lines:
    """A Progress that writes down what it is told. See pipelines/runner/progress.py."""

    def start(self, step: str, total: int, done: int, unit: str) -> None:
        """A step begins."""
        _write("start", step, total, done, unit)

    def advance(self, amount: int, usage: Usage) -> None:
        """Of the models' usage there is nothing to say."""
        _write("advance", amount)

    def finish(self, summary: str) -> None:
        """The step is done."""
        _write("finish", summary)

    def note(self, text: str) -> None:
        """Something worth knowing."""
        _write("note", text)


def _write(*what: object) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


def _end_with_the_caller() -> None:
    # Until the other end is closed, be it by kill -9. Not sys.stdin, which has a lock at the exit.
    while os.read(_STANDARD_INPUT, 1024):
        pass
    os._exit(1)


def main(path: str) -> int:
    """Train and merge; the exit code."""
    config = TrainingConfig.model_validate_json(Path(path).read_bytes())
    try:
        train(config, workspace=config.output, progress=Lines())
        merged(config)
    except (TrainingImpossible, TrainingStopped, ModelUnavailable, RecipeError) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    except EngineError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    Thread(target=_end_with_the_caller, daemon=True).start()
    sys.exit(main(sys.argv[1]))
