"""Models that are made in the middle of a run, from the rows that are there by then.

    models/<key>/table.jsonl     the rows, as an export with its manifest
    models/<key>/config.json     the training's config
    models/<key>/training/       what `winnow train sft` leaves, checkpoints and weights

The key names the model by all that decides its weights. It is trained in a process of its own, so
that the run's memory and its libraries stay as they were.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from threading import Thread
from typing import IO, Any, Final

import orjson
import polars as pl

from pipelines.engines.errors import ModelUnavailable
from pipelines.engines.local.config import TransformersModel
from pipelines.engines.vllm.config import VllmModel
from pipelines.exporters.export import write_export
from pipelines.exporters.provenance import Provenance
from pipelines.exporters.targets import manifest_path
from pipelines.recipe import Recipe, parse_export
from pipelines.runner.progress import Progress
from pipelines.runner.rowset import RowSet
from pipelines.store.atomic import write_bytes
from pipelines.store.manifest import dump
from pipelines.store.runs import find_run
from pipelines.store.workspace import Workspace
from pipelines.train.config import TrainingConfig
from pipelines.train.folder import is_finished
from pipelines.train.merging import merged_folder
from pipelines.train.tuned_config import TunedModel
from schemas.ids import digest
from schemas.rows import RowType
from stages.engines import EngineError, Usage

Identify = Callable[[Any], dict[str, Any]]
Base = TransformersModel | VllmModel

KEY: Final = "key"
_LAST_LINES: Final = 20  # of what a training that failed has said


def planned_identity(
    recipe: Recipe, name: str, identify: Identify, pinned: Mapping[str, Any]
) -> dict[str, Any]:
    """By what a model is known before the run: of a tuned one, all but the rows.

    pinned: what `pinned_models` has found.
    """
    config = recipe.models[name]
    if not isinstance(config, TunedModel):
        return identify(config)
    return {
        "kind": config.kind,
        "base": identify(recipe.models[config.base]),
        "tuning": config.model_dump(mode="json", exclude=set(config.not_tuning)),
        "rows": config.rows.model_dump(),
        "seed": recipe.seed,
        # Not as it is written: `latest` is another run tomorrow.
        **({"pin": pinned[name][KEY]} if name in pinned else {}),
    }


def pinned_models(recipe: Recipe, workspace: Workspace) -> dict[str, dict[str, Any]]:
    """The identities of the models that the recipe takes from earlier runs, by name.

    Raises NoSuchRun, and ModelUnavailable for a run that has made no such model.
    """
    found = {}
    for name, config in recipe.models.items():
        if not isinstance(config, TunedModel) or config.pin is None:
            continue
        manifest = find_run(workspace, config.pin).manifest() or {"engines": {}}
        identity: Mapping[str, Any] = manifest["engines"].get(name, {})
        if KEY not in identity:
            raise ModelUnavailable(
                f"run {config.pin} has made no model '{name}' that could be used"
            )
        found[name] = dict(identity)
    return found


def needs_rows(recipe: Recipe, names: Sequence[str]) -> list[str]:
    """Those of these models that the run makes itself."""
    return [name for name in names if isinstance(recipe.models[name], TunedModel)]


@dataclass
class TunedModels:
    """The tuned models of one run. What is settled stays: a model is made of the rows of once.

    pinned   what `pinned_models` has found
    settled  name: identity, which holds the key
    """

    recipe: Recipe
    workspace: Workspace
    identify: Identify
    progress: Progress
    pinned: Mapping[str, dict[str, Any]]
    settled: dict[str, dict[str, Any]] = field(default_factory=dict)
    chosen: dict[str, pl.LazyFrame] = field(default_factory=dict)

    def settle(self, name: str, rows: RowSet, row_type: RowType) -> dict[str, Any]:
        """The identity of the model, of these rows. Trains nothing."""
        if name in self.settled:
            return self.settled[name]
        config = self._config(name)
        if config.pin:
            identity = self._checked_pin(name, config.pin)
        else:
            flagged = pl.LazyFrame({"place": rows.flagged(config.rows.unflagged_by)})
            chosen = rows.scan(row_type).join(
                flagged, on="place", how="anti", maintain_order="left"
            )
            contents = chosen.select("content").collect()["content"]
            known = self._planned(name)
            known["rows"] = hashlib.blake2b(b"".join(contents), digest_size=16).hexdigest()
            identity = {**known, KEY: digest("tuned", known).hex(), "trained_on": len(contents)}
            # In the order in which a manifest gives it back: a pinned model names the same scores.
            identity = orjson.loads(dump(identity))
            self.chosen[name] = chosen
        self.settled[name] = identity
        return identity

    def engine_config(self, name: str) -> Base:
        """The config of the engine that answers: the base's, with the weights that are to be."""
        folder = merged_folder(self._training(name))
        return self._base(name).model_copy(update={"model": str(folder), "revision": None})

    def make(self, name: str, run_id: str, row_type: RowType) -> None:
        """Train it, unless that is done, or go on where it was left.

        Raises ModelUnavailable for rows or settings that cannot be trained on, and EngineError for
        what may pass.
        """
        training = self._training(name)
        if is_finished(training.output) is not None and merged_folder(training).is_dir():
            return
        folder = training.output.parent
        if name not in self.chosen:
            raise ModelUnavailable(f"the pinned model '{name}' is not in {folder} any more")
        table = folder / "table.jsonl"
        # By the model's key an earlier run has written the same rows, and may have begun with them.
        if not manifest_path(table).is_file():
            self._write_table(table, self.chosen[name], run_id, row_type)
        path = folder / "config.json"
        write_bytes(path, training.model_dump_json().encode())
        self.progress.note(
            f"'{name}' is trained on {self.settled[name]['trained_on']:,} rows ({folder})"
        )
        _trained(path, name, one_device(self._base(name)), self.progress)
        for checkpoint in training.output.glob("checkpoint-*"):
            shutil.rmtree(checkpoint)  # twice the weights each, and of no use any more

    def _write_table(self, path: Path, rows: pl.LazyFrame, run_id: str, row_type: RowType) -> None:
        spec = parse_export({"format": "messages", "path": str(path), "with_id": True})
        origin = Provenance(run_id, self.recipe.model_dump(mode="json"))
        write_export(rows, row_type, spec, origin, seed=self.recipe.seed)

    def _training(self, name: str) -> TrainingConfig:
        config, base = self._config(name), self._base(name)
        folder = self.workspace.model(self.settled[name][KEY])
        return TrainingConfig.model_validate(
            {
                **config.model_dump(exclude=set(config.not_tuning) - {"save_every"}),
                "model": base.model,
                "revision": base.revision,
                "dtype": base.dtype,
                "device": "cpu" if getattr(base, "device", "") == "cpu" else "auto",
                "table": {"path": folder / "table.jsonl"},
                "output": folder / "training",
                "keep_checkpoints": 1,
                "seed": self.recipe.seed,
            }
        )

    def _checked_pin(self, name: str, run: str) -> dict[str, Any]:
        """The pinned identity. Its answers are asked for as this recipe says, so that must fit."""
        found = self.pinned[name]
        now = orjson.loads(dump(self._planned(name)))
        for part in ("base", "tuning"):
            if found[part] != now[part]:
                raise ModelUnavailable(
                    f"run {run} has made its '{name}' otherwise than this recipe says: its {part} "
                    f"was {found[part]} and is {now[part]}. Give the settings that it was made with"
                )
        return found

    def _planned(self, name: str) -> dict[str, Any]:
        return planned_identity(self.recipe, name, self.identify, self.pinned)

    def _config(self, name: str) -> TunedModel:
        config = self.recipe.models[name]
        assert isinstance(config, TunedModel), name
        return config

    def _base(self, name: str) -> Base:
        base = self.recipe.models[self._config(name).base]
        assert isinstance(base, Base), name  # the recipe's check
        return base


def one_device(base: Base) -> dict[str, str]:
    """The environment in which a process sees the one GPU that the base names, or the first one."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    _, _, number = getattr(base, "device", "auto").partition(":")
    place = int(number or 0)
    if visible is None:
        return {"CUDA_VISIBLE_DEVICES": str(place)}
    there = [device for device in visible.split(",") if device]
    return {"CUDA_VISIBLE_DEVICES": there[place] if place < len(there) else visible}


def _trained(config: Path, name: str, device: Mapping[str, str], progress: Progress) -> None:
    command = [sys.executable, "-m", "pipelines.train", str(config)]
    last: deque[str] = deque(maxlen=_LAST_LINES)
    # It ends when its standard input does, which nothing is written to: when this process is gone.
    with subprocess.Popen(
        command,
        env={**os.environ, **device},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        listening = Thread(target=last.extend, args=(process.stderr,), daemon=True)
        listening.start()
        try:
            pass_on(process.stdout, progress)
            code = process.wait()
        except BaseException:
            process.terminate()  # its last checkpoint is where the next call goes on
            raise
        finally:
            listening.join()
    said = "".join(last).strip()
    if code == 2:
        raise ModelUnavailable(f"'{name}' cannot be trained: {said}")
    if code:
        raise EngineError(f"the training of '{name}' ended with exit code {code}: {said}")


def pass_on(lines: IO[str], progress: Progress) -> None:
    """What the training tells (pipelines/train/__main__.py), told on."""
    for line in lines:
        match _said(line):
            case ["start", str(step), int(total), int(done), str(unit)]:
                progress.start(step, total, done, unit)
            case ["advance", int(amount)]:
                progress.advance(amount, Usage())
            case ["finish", str(summary)]:
                progress.finish(summary)
            case ["note", str(text)]:
                progress.note(text)
            case _:
                progress.note(line.rstrip())  # a library that prints


def _said(line: str) -> Any:
    try:
        return json.loads(line)
    except ValueError:
        return None
