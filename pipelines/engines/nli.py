"""The probability that two texts contradict each other, by a natural-language-inference model."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from pipelines.engines.batching import pack
from pipelines.engines.local_config import NliModel
from pipelines.engines.device import chosen_device, device_errors, torch_dtype
from pipelines.engines.errors import ModelUnavailable
from stages.engines import EngineError, Usage

_ADVICE = "a smaller batch_tokens needs less"


def contradiction_label(label_to_id: Mapping[str, int], model: str) -> int:
    """The class that means contradiction; its place differs between models.

    Raises ModelUnavailable for a model without one.
    """
    found = [number for label, number in label_to_id.items() if label.lower() == "contradiction"]
    if len(found) != 1:
        raise ModelUnavailable(
            f"'{model}' is no model for contradictions: of its labels {sorted(label_to_id)} one "
            "must be 'contradiction'"
        )
    return found[0]


class NliClassifier:
    """One open classifier of (premise, hypothesis)."""

    def __init__(self, config: NliModel, folder: str, **hub: Any) -> None:
        from transformers import AutoModelForSequenceClassification, AutoTokenizer

        self.device = chosen_device(config.device)
        with device_errors(_ADVICE):
            model = AutoModelForSequenceClassification.from_pretrained(
                folder, dtype=torch_dtype(config.dtype), **hub
            )
            self.model = model.to(self.device).eval()
        self.tokenizer = AutoTokenizer.from_pretrained(folder, **hub)
        self.label = contradiction_label(model.config.label2id, config.model)
        self.max_length = min(config.max_length, self.tokenizer.model_max_length)
        own = 2_048 if self.device.type == "cpu" else 16_384
        self.batch_tokens = config.batch_tokens or own
        self.usage = Usage()
        self.notes: list[str] = []

    @torch.inference_mode()
    def probability(self, pairs: Sequence[tuple[str, str]]) -> npt.NDArray[np.float32]:
        """See stages.engines.Contradiction. Of a pair that is too long, the longer text is cut."""
        out = np.empty(len(pairs), dtype=np.float32)
        if not pairs:
            return out
        encoded = self.tokenizer(
            [premise for premise, _ in pairs],
            [hypothesis for _, hypothesis in pairs],
            truncation="longest_first",
            max_length=self.max_length,
        )
        lengths = [len(ids) for ids in encoded["input_ids"]]
        for batch in pack(lengths, self.batch_tokens):
            rows = {key: [values[i] for i in batch] for key, values in encoded.items()}
            padded = self.tokenizer.pad(rows, return_tensors="pt").to(self.device)
            with device_errors(_ADVICE):
                logits = self.model(**padded).logits.float()
                out[batch] = logits.softmax(-1)[:, self.label].cpu().numpy()
            self.usage.calls += len(batch)
            self.usage.prompt_tokens += sum(lengths[i] for i in batch)
        return out

    def probe(self) -> None:
        """A small real request; raises EngineError. Not counted in `usage`."""
        before = self.usage.copy()
        try:
            (value,) = self.probability([("It rains.", "It is dry.")])
        except (RuntimeError, ValueError) as error:
            raise EngineError(f"the classifier does not answer: {error}") from error
        finally:
            self.usage = before
        if not np.isfinite(value):
            raise EngineError("the classifier answers with a probability that is not finite")

    def close(self) -> None:
        del self.model
