"""What a training says while it works."""

from typing import Any, Final

from transformers import TrainerCallback

from pipelines.runner.progress import Progress
from stages.engines import Usage

# Of all that trl logs, what tells how it goes; name and how it is written.
_SHOWN: Final = {
    "loss": "loss {:.4f}",
    "eval_loss": "held-out loss {:.4f}",
    "kept_share": "{:.0%} kept",
    "utility_kept": "utility {:.4g}",
    "diversity_kept": "diversity {:.4g}",
    "selection_share": "{:.0%} of the time for choosing",
}


class ShownProgress(TrainerCallback):  # type: ignore[misc]  # transformers has no types here
    """Steps as they are done, and a line for each figure that is logged."""

    def __init__(self, progress: Progress) -> None:
        self.progress = progress

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.progress.start("train", state.max_steps, state.global_step, "steps")

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self.progress.advance(1, Usage())

    def on_log(
        self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **_: Any
    ) -> None:
        told = logs or {}
        shown = [text.format(told[name]) for name, text in _SHOWN.items() if name in told]
        if shown:
            self.progress.note(f"step {state.global_step:,}: {', '.join(shown)}")
