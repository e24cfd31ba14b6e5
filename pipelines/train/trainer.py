"""trl's SFTTrainer that trains on a selection of what its loader gives.

The loader yields candidate batches. Each is scored with the model as it stands, without gradients,
and goes on as the part of it that was chosen. Everything else is trl's and transformers' own.

Imported late, by pipelines/train/opening.py: trl takes seconds.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback
from trl import SFTConfig, SFTTrainer
from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

from pipelines.train.candidates import BatchSelection, Candidates, Chosen, NotFinite
from pipelines.train.checkpoints import (
    Counts,
    checkpoint_folder,
    complete,
    keep_latest,
    load_state,
    save_state,
)
from pipelines.train.errors import TrainingStopped
from pipelines.train.held_out_loss import HeldOutLoss
from pipelines.train.samples import ANSWER_FROM, IDS, ROW
from pipelines.train.scorer import ModelScorer
from pipelines.train.selection_log import SelectionLog, log_name
from pipelines.train.timing import StepTimes
from pipelines.yaml_config import RecipeError

_IGNORED = -100  # what losses skip among labels


@dataclass
class SampleCollator(DataCollatorForLanguageModeling):  # type: ignore[misc]  # as trl's trainer
    """Samples padded on the right; labels from the answer's first token on, or all of them.

    Candidates come with `row` and `answer_from` beside what the model reads; rows that are only
    evaluated have no `row` and come without both.
    """

    answer_only: bool = True

    def torch_call(self, examples: list[dict[str, Any]]) -> dict[str, Any]:
        """A batch of tensors."""
        batch: dict[str, Any] = super().torch_call([self._labelled(one) for one in examples])
        if ROW in examples[0]:
            for name in (ROW, ANSWER_FROM):
                batch[name] = torch.tensor([one[name] for one in examples])
        return batch

    def _labelled(self, example: dict[str, Any]) -> dict[str, Any]:
        ids = example[IDS]
        skipped = example[ANSWER_FROM] if self.answer_only else 0
        return {IDS: ids, "labels": [_IGNORED] * skipped + list(ids[skipped:])}


@dataclass(frozen=True)
class Training:
    """What a training is made of, beside trl's own arguments."""

    model: Any
    tokenizer: Any
    peft_config: Any
    args: SFTConfig
    samples: Any
    held_out: Any
    ids: tuple[str, ...]
    answer_only: bool
    keep_checkpoints: int
    manifest: dict[str, Any]
    open_selection: Callable[[Any], BatchSelection]


class SelectingTrainer(SFTTrainer):  # type: ignore[misc]  # trl is not typed
    """Trains on what a selection chooses of each candidate batch."""

    def __init__(self, training: Training) -> None:
        collator = SampleCollator(
            pad_token_id=training.tokenizer.pad_token_id,
            pad_to_multiple_of=training.args.pad_to_multiple_of,
            answer_only=training.answer_only,
        )
        try:
            super().__init__(
                model=training.model,
                args=training.args,
                data_collator=collator,
                train_dataset=training.samples,
                eval_dataset=training.held_out,
                processing_class=training.tokenizer,
                peft_config=training.peft_config,
            )
        except ValueError as error:  # trl's and peft's: an option or a name of modules
            raise RecipeError([str(error)], "the config") from error
        self.setup = training
        self.process = int(training.args.process_index)
        self.scorer = ModelScorer(self.model, self.accelerator.autocast)
        self.selection = training.open_selection(self.model)
        self.selection_log = SelectionLog(Path(training.args.output_dir, log_name(self.process)))
        self.times = StepTimes()
        self.held_out = HeldOutLoss()
        self.add_callback(_StepEnds(self.times))

    def resume_selection(self, checkpoint: Path | None) -> None:
        """Be ready to train: from a checkpoint, or from nothing."""
        counts = Counts()
        if checkpoint is not None:
            state, counts = load_state(checkpoint, self.process)
            self.selection.load_state_dict(state)
        self.selection_log.cut_back(counts.log_bytes)
        self._total_train_tokens = counts.tokens  # trl's own, which it does not save

    def get_batch_samples(
        self, epoch_iterator: Iterator[Any], num_batches: int, device: torch.device
    ) -> tuple[list[Any], Any]:
        """The chosen part of the next `num_batches` candidate batches; what they count is theirs.

        transformers calls this once for each step of the optimiser.
        """
        if self.state.global_step >= self.state.max_steps:
            return [], None  # resumed behind the last step: transformers looks only after a step
        self.times.begin_step()
        with self.times.selecting():
            self._begin_selection()
        chosen = (self._chosen(batch) for batch in epoch_iterator)
        samples: tuple[list[Any], Any] = super().get_batch_samples(chosen, num_batches, device)
        return samples

    def _begin_selection(self) -> None:
        try:
            self.selection.begin_step()
        except ValueError as error:  # an output head that is no numbers any more
            raise TrainingStopped(self._diverged(str(error))) from error

    def check_end(self) -> None:
        """Raises TrainingStopped where training ended before its last step, or diverged."""
        if self.state.global_step < self.state.max_steps:
            raise TrainingStopped(
                f"the training ended at step {self.state.global_step:,} of "
                f"{self.state.max_steps:,}; the same command goes on from its last checkpoint"
            )
        self.check_weights()

    def check_weights(self) -> None:
        """Raises TrainingStopped where what is trained is NaN or inf: nothing to save."""
        trained = (one for one in self.model.parameters() if one.requires_grad)
        if not all(bool(torch.isfinite(one).all()) for one in trained):
            raise TrainingStopped(self._diverged("weights are NaN or inf"))

    def _diverged(self, what: str) -> str:
        return (
            f"step {self.state.global_step}: {what}; the model has diverged. A lower learning "
            "rate may help, or no half precision."
        )

    def _chosen(self, batch: dict[str, Any]) -> dict[str, Any]:
        batch = {name: values.to(self.args.device) for name, values in batch.items()}
        ids = [self.setup.ids[row] for row in batch.pop(ROW).tolist()]
        answer_from = batch.pop(ANSWER_FROM)
        candidates = Candidates(batch[IDS], batch["attention_mask"], answer_from, self.scorer)
        forward = self.scorer.seconds
        with self.times.selecting(), torch.no_grad():
            try:
                chosen = self.selection.choose(candidates)
            except NotFinite as error:
                raise TrainingStopped(self._about(error, ids)) from error
        self.times.add_forward(self.scorer.seconds - forward)
        self._note(chosen, ids)
        return _part(batch, sorted(chosen.picked), self.args.pad_to_multiple_of)

    def _about(self, error: NotFinite, ids: list[str]) -> str:
        named = [ids[place] for place in error.places] or ids
        return (
            f"step {self.state.global_step + 1}: candidates cannot be scored: {error}\n"
            f"The rows: {', '.join(named)}. Either their text is broken, or the model has "
            "diverged (then: a lower learning rate, or no half precision)."
        )

    def _note(self, chosen: Chosen, ids: list[str]) -> None:
        step = self.state.global_step + 1
        self.selection_log.add(step, ids, chosen.picked, chosen.figures)
        metrics = self._metrics["train"]
        metrics["kept_share"].append(len(chosen.picked) / len(ids))
        for name, values in chosen.figures.items():
            metrics[name].append(float(values.mean()))
            metrics[f"{name}_kept"].append(float(values[list(chosen.picked)].mean()))

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """The figures of trl, and those of the selection, which are this process's own."""
        if "loss" in logs:
            logs.update(self.times.taken())
        super().log(logs, start_time)
        if not math.isfinite(logs.get("loss", 0.0)):
            raise TrainingStopped(self._diverged(f"the loss is {logs['loss']}"))

    def prediction_step(self, model: Any, inputs: dict[str, Any], *args: Any, **named: Any) -> Any:
        """trl's, whose mean loss is noted with the number of tokens that it is of."""
        step = super().prediction_step(model, inputs, *args, **named)
        self.held_out.add(step[0], int((inputs["labels"][:, 1:] != _IGNORED).sum()))
        return step

    def evaluation_loop(self, *args: Any, **named: Any) -> Any:
        """transformers', with the loss per token whatever the batches are; its own is per batch."""
        self.held_out = HeldOutLoss()
        output = super().evaluation_loop(*args, **named)
        output.metrics["eval_loss"] = self.held_out.mean(self._added_up)
        return output

    def _added_up(self, figures: torch.Tensor) -> torch.Tensor:
        if self.accelerator.num_processes == 1:
            return figures
        # NCCL adds up what lies on a GPU and nothing else.
        on_device = figures.to(self.accelerator.device)
        summed: torch.Tensor = self.accelerator.reduce(on_device, reduction="sum")
        return summed

    def create_model_card(self, *_: Any, **__: Any) -> None:
        """None: it would name folders of this machine. The manifest says what was trained."""

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        self.check_weights()  # a checkpoint of them would replace sound ones
        super()._save_checkpoint(model, trial)
        output = Path(self.args.output_dir)
        folder = checkpoint_folder(output, self.state.global_step)
        counts = Counts(self.selection_log.size(), self._total_train_tokens)
        save_state(folder, self.process, self.selection.state_dict(), counts)
        self.accelerator.wait_for_everyone()
        if self.is_world_process_zero():
            complete(folder, {**self.setup.manifest, "step": self.state.global_step})
            keep_latest(output, self.setup.keep_checkpoints)


class _StepEnds(TrainerCallback):  # type: ignore[misc]  # transformers has no types here
    def __init__(self, times: StepTimes) -> None:
        self.times = times

    def on_train_begin(self, args: Any, state: Any, *_: Any, **__: Any) -> None:
        # A checkpoint brings the intervals that it was written with; these may change.
        state.compute_steps(args, state.max_steps)

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self.times.end_step()


def _part(batch: dict[str, Any], kept: list[int], multiple: int | None) -> dict[str, Any]:
    """These samples, without the padding that only the others needed."""
    part = {name: values[kept] for name, values in batch.items()}
    longest = int(part["attention_mask"].sum(dim=1).max())
    if multiple:
        longest = -(-longest // multiple) * multiple
    return {name: values[:, :longest] for name, values in part.items()}
