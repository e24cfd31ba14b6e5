"""Small trainings for the tests."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.train.config import TrainingConfig, parse_training
from pipelines.train.training import Trained, train

WORDS = (
    "red",
    "green",
    "blue",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "sea",
)

TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}"
    "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def row(number: int) -> dict[str, Any]:
    """A chat of its own length: from 4 to 40 words of answer."""
    words = [WORDS[(number * 7 + k * k) % len(WORDS)] for k in range(4 + number * 5 % 37)]
    return {
        "winnow_id": f"row-{number}",
        "messages": [
            {"role": "user", "content": f"Say {number} words."},
            {"role": "assistant", "content": " ".join(words)},
        ],
    }


def write_table(path: Path, rows: Sequence[Mapping[str, Any]], run_id: str = "a run") -> Path:
    """An export of the format messages with its manifest."""
    path.parent.mkdir(parents=True, exist_ok=True)
    raw = "".join(f"{json.dumps(one)}\n" for one in rows).encode()
    path.write_bytes(raw)
    entry = {"name": path.name, "rows": len(rows), "bytes": len(raw)}
    manifest = {
        "format": 1,
        "run_id": run_id,
        "export": {"format": "messages"},
        "splits": {},
        "files": [{**entry, "sha256": hashlib.sha256(raw).hexdigest()}],
    }
    path.with_name(f"{path.name}.manifest.json").write_text(json.dumps(manifest))
    return path


def tiny_tokenizer() -> Any:
    """A few hundred tokens in place of 49,152: the head is what costs a tiny model its time."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=600,
        special_tokens=["<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    texts = [message["content"] for n in range(40) for message in row(n)["messages"]]
    made.train_from_iterator([*texts, *WORDS * 9, *["user", "assistant"] * 9], trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=made,
        bos_token="<|im_start|>",
        eos_token="<|im_end|>",
        pad_token="<|im_end|>",
        chat_template=TEMPLATE,
    )


def tiny_llama(folder: Path) -> Path:
    """Random weights, the same every time; 2 layers, width 64."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = tiny_tokenizer()
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    torch.manual_seed(0)
    LlamaForCausalLM(config).save_pretrained(str(folder))
    tokenizer.save_pretrained(str(folder))
    return folder


@dataclass
class Bench:
    """A folder with a table of 24 rows, and trainings in it."""

    folder: Path
    model: Path
    rows: int = 24

    def __post_init__(self) -> None:
        write_table(self.folder / "table.jsonl", [row(n) for n in range(self.rows)])

    def raw(self, **changes: Any) -> dict[str, Any]:
        """Two candidate batches of 4 make a step of 4 samples; a figure for each step."""
        return {
            "model": str(self.model),
            "table": {"path": str(self.folder / "table.jsonl")},
            "output": str(self.folder / "out"),
            "max_length": 96,
            "batch_size": 4,
            "max_steps": 3,
            "learning_rate": 1e-2,
            "log_every": 1,
            "device": "cpu",
            "selection": {"method": "uds", "batch": 4, "keep": 2},
            **changes,
        }

    def config(self, **changes: Any) -> TrainingConfig:
        return parse_training(self.raw(**changes))

    def train(self, *, fresh: bool = False, **changes: Any) -> Trained:
        return train(self.config(**changes), workspace=self.folder / ".winnow", fresh=fresh)

    def losses(self, output: str = "out") -> list[float]:
        """As they were logged, step by step."""
        lines = self.lines(self.folder / output / "figures.jsonl")
        return [line["loss"] for line in lines if "loss" in line]

    def tokens(self, output: str = "out") -> list[int]:
        """How many were trained on until each step that was logged."""
        lines = self.lines(self.folder / output / "figures.jsonl")
        return [line["num_tokens"] for line in lines if "loss" in line]

    def selected(self, output: str = "out") -> list[dict[str, Any]]:
        """The lines of selection.jsonl."""
        return self.lines(self.folder / output / "selection.jsonl")

    @staticmethod
    def lines(path: Path) -> list[dict[str, Any]]:
        return [json.loads(line) for line in path.read_text().splitlines()]
