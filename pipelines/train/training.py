"""`winnow train sft`: one training from its config, gone on with where it was left.

Importing this imports torch: call `prepare_environment` before, so that its threads sleep while
they wait for one another.
"""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import orjson

from pipelines.engines.chat_tokens import ChatTokens
from pipelines.engines.file_hashes import sha256_of
from pipelines.engines.sources import source_of
from pipelines.exporters.targets import HELD_OUT, TRAIN
from pipelines.runner.progress import Progress, Silent
from pipelines.store.manifest import write_manifest
from pipelines.train import opening
from pipelines.train.checkpoints import last_complete
from pipelines.train.config import TrainingConfig
from pipelines.train.errors import TrainingImpossible
from pipelines.train.folder import FIGURES, LEFT_OUT, MODEL, only_training, write_lines
from pipelines.train.identity import versions
from pipelines.train.open_selection import open_selection
from pipelines.train.preparing import prepare
from pipelines.train.samples import Samples, tokenised
from pipelines.train.tables import TableFile, rows_of_file

if TYPE_CHECKING:
    from pipelines.train.trainer import SelectingTrainer

Status = Literal["trained", "finished before"]


@dataclass(frozen=True)
class Trained:
    """A training that is finished. manifest: what stands in the output folder.

    times: of this call, seconds and shares (pipelines/train/timing.py); empty if nothing was done.
    first: whether this is the first of the processes that trained, the one to tell of it.
    """

    status: Status
    output: Path
    manifest: Mapping[str, Any]
    times: Mapping[str, float]
    first: bool

    def as_json(self) -> dict[str, Any]:
        return {
            "status": self.status,
            "output": str(self.output),
            **{name: self.manifest[name] for name in ("result", "rows", "table")},
            "times": dict(self.times),
        }


def train(
    config: TrainingConfig,
    *,
    workspace: Path,
    fresh: bool = False,
    progress: Progress | None = None,
) -> Trained:
    """Train, from the last complete checkpoint in the output folder or from the beginning.

    workspace: where runs are, for `table: {run: ...}`. fresh: start anew, whatever is there.
    Under torchrun every process calls this; only the first one writes and shows progress.

    Raises RecipeError, TrainingImpossible, NoSuchRun and ModelUnavailable before anything is
    trained; TrainingStopped for candidates whose scores are not finite.
    """
    opening.check_libraries()
    args = opening.open_arguments(config, opening.processes())
    if args.process_index:
        return _train(config, args, workspace, fresh=False, progress=Silent())
    with only_training(config.output):
        return _train(config, args, workspace, fresh=fresh, progress=progress or Silent())


def _train(
    config: TrainingConfig, args: Any, workspace: Path, *, fresh: bool, progress: Progress
) -> Trained:
    first = args.process_index == 0
    source = source_of(config.model, config.revision)
    with _first_process_first(args):
        prepared = prepare(config, source, workspace, args.world_size, fresh=fresh, first=first)
    if prepared.finished is not None:
        return Trained("finished before", config.output, prepared.finished, {}, first)
    tokens = opening.open_tokens(source, config)
    samples = _samples(prepared.tables.train, tokens, config)
    counts: dict[str, Any] = samples.counts("trained")
    lines = list(samples.lines(TRAIN))
    _say_what_is_left_out(samples, "train on", progress)
    held_out = None
    if prepared.tables.held_out is not None:
        held_out = _samples(prepared.tables.held_out, tokens, config)
        counts["held_out"] = held_out.counts("evaluated")
        lines += held_out.lines(HELD_OUT)
        _say_what_is_left_out(held_out, "evaluate on", progress)
    if first:
        write_lines(config.output / LEFT_OUT, lines)
    model = opening.open_model(source, config, tokens.tokenizer)
    about = {**prepared.identity, "versions": versions(), "rows": counts}
    trainer = _trainer(config, args, model, tokens.tokenizer, samples, held_out, about, progress)
    return _run(config, trainer, about, progress)


def _trainer(
    config: TrainingConfig,
    args: Any,
    model: Any,
    tokenizer: Any,
    samples: Samples,
    held_out: Samples | None,
    manifest: dict[str, Any],
    progress: Progress,
) -> "SelectingTrainer":
    from transformers.trainer_callback import PrinterCallback

    from pipelines.train.showing import ShownProgress
    from pipelines.train.trainer import SelectingTrainer, Training

    trainer = SelectingTrainer(
        Training(
            model=model,
            tokenizer=tokenizer,
            peft_config=opening.lora_config(config.lora),
            args=args,
            samples=opening.dataset(samples, candidates=True),
            held_out=None if held_out is None else opening.dataset(held_out, candidates=False),
            ids=samples.ids,
            answer_only=config.train_on == "answer",
            keep_checkpoints=config.keep_checkpoints,
            manifest=manifest,
            open_selection=partial(
                open_selection,
                config.selection,
                max_length=config.max_length,
                seed=config.seed,
                process=args.process_index,
            ),
        )
    )
    trainer.remove_callback(PrinterCallback)  # stdout is for the outcome
    trainer.add_callback(ShownProgress(progress))
    return trainer


def _run(
    config: TrainingConfig, trainer: "SelectingTrainer", about: dict[str, Any], progress: Progress
) -> Trained:
    found = last_complete(config.output)
    checkpoint = None if found is None else found[1]
    if found is not None:
        progress.note(f"going on from the checkpoint of step {found[0]:,}")
    trainer.resume_selection(checkpoint)
    try:
        trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
    except KeyboardInterrupt:
        saved = last_complete(config.output)
        where = "the beginning" if saved is None else f"step {saved[0]:,}"
        progress.note(f"stopped; the same command goes on from {where}")
        raise
    finally:
        trainer.selection_log.close()
    trainer.check_end()
    trainer.save_model(str(config.output / MODEL))
    result = {"steps": trainer.state.global_step, **_losses(trainer)}
    trainer.accelerator.wait_for_everyone()
    manifest = {**about, "result": {**result, **_selected(config.output)}}
    if trainer.is_world_process_zero():
        write_lines(config.output / FIGURES, trainer.state.log_history)
        manifest["files"] = _hashes(config.output / MODEL)
        write_manifest(config.output, manifest)
    trainer.accelerator.wait_for_everyone()
    progress.finish(f"{result['steps']:,} steps")
    times = trainer.times.total
    told = {**vars(times), **times.figures()}
    return Trained("trained", config.output, manifest, told, trainer.is_world_process_zero())


def _losses(trainer: "SelectingTrainer") -> dict[str, Any]:
    """The last training loss that was logged, and the loss on what was held out."""
    logged = [line["loss"] for line in trainer.state.log_history if "loss" in line]
    held_out = trainer.evaluate()["eval_loss"] if trainer.eval_dataset is not None else None
    return {"loss": logged[-1] if logged else None, "held_out_loss": held_out}


def _selected(output: Path) -> dict[str, int]:
    """How many candidates there were and how many of them were trained on, in all processes."""
    candidates = samples = 0
    for path in output.glob("selection*.jsonl"):
        with path.open("rb") as lines:
            for line in map(orjson.loads, lines):
                candidates += len(line["ids"])
                samples += len(line["picked"])
    return {"candidates": candidates, "samples": samples}


def _hashes(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): sha256_of(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def _samples(file: TableFile, tokens: ChatTokens, config: TrainingConfig) -> Samples:
    try:
        return tokenised(rows_of_file(file), tokens, config.max_length)
    except TrainingImpossible as error:
        raise TrainingImpossible(f"{file.path}: {error}") from None


def _say_what_is_left_out(samples: Samples, what_for: str, progress: Progress) -> None:
    if samples.left_out or samples.cut:
        progress.note(
            f"{len(samples.ids):,} rows to {what_for}, {len(samples.left_out):,} left out, "
            f"{len(samples.cut):,} cut at max_length ({LEFT_OUT} names them)"
        )


def _first_process_first(args: Any) -> AbstractContextManager[None]:
    first: AbstractContextManager[None] = args.distributed_state.main_process_first()
    return first
