"""The probability that two texts contradict each other, by a natural-language-inference model."""

import threading
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from pipelines.engines.batching import pack
from pipelines.engines.errors import ModelUnavailable
from pipelines.engines.local.config import NliModel
from pipelines.engines.local.device import (
    chosen_device,
    device_errors,
    free_memory,
    torch_dtype,
)
from pipelines.engines.one_at_a_time import one_at_a_time
from stages.engines import EngineError, Usage

_ADVICE = "a smaller batch_tokens needs less"
_UNSAID = 10**9  # tokens: beyond any model, as transformers writes where a tokenizer has no limit


def contradiction_label(
    label_to_id: Mapping[str, int] | None, id_to_label: Mapping[int, str], model: str
) -> int:
    """The class that means contradiction; its place differs between models.

    Both of a config's tables are looked at: transformers fills in a missing one with LABEL_0 ... or
    with nothing. Raises ModelUnavailable for a model without such a class, and where they disagree.
    """
    pairs = [
        *(label_to_id or {}).items(),
        *((name, number) for number, name in id_to_label.items()),
    ]
    found = {int(number) for name, number in pairs if name.lower() == "contradiction"}
    if len(found) == 1:
        return found.pop()
    if found:
        raise ModelUnavailable(
            f"the config of '{model}' contradicts itself: label2id is {dict(label_to_id or {})} "
            f"and id2label {dict(id_to_label)}"
        )
    names = sorted({name for name, _ in pairs})
    problem = f"'{model}' is no model for contradictions: of its labels {names} one must be "
    problem += "'contradiction'"
    if all(name.startswith("LABEL_") for name in names):
        problem += "; where its authors say which is which, name them in a local copy's config.json"
    raise ModelUnavailable(problem)


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
        own = model.config
        self.label = contradiction_label(own.label2id, own.id2label, config.model)
        self.max_length = min(config.max_length, _longest(model, self.tokenizer))
        usual = 2_048 if self.device.type == "cpu" else 16_384
        self.batch_tokens = config.batch_tokens or usual
        self.usage = Usage()
        self.notes: list[str] = []
        self.lock = threading.RLock()

    @one_at_a_time
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

    @one_at_a_time
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

    @one_at_a_time
    def close(self) -> None:
        del self.model
        free_memory()


def _longest(model: Any, tokenizer: Any) -> int:
    """Tokens that the model has positions for, where its tokenizer does not say."""
    if tokenizer.model_max_length < _UNSAID:
        return int(tokenizer.model_max_length)
    positions = int(getattr(model.config, "max_position_embeddings", None) or _UNSAID)
    for part in model.modules():
        table = getattr(part, "position_embeddings", None)
        if isinstance(table, torch.nn.Embedding) and table.padding_idx is not None:
            positions -= table.padding_idx + 1  # RoBERTa and its kin count from behind the padding
    return positions
