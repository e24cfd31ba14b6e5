"""A trained model as one folder that any engine opens."""

from pathlib import Path
from typing import Any

from pipelines.engines.sources import source_of
from pipelines.store.atomic import replacing_folder
from pipelines.train import opening
from pipelines.train.config import TrainingConfig
from pipelines.train.folder import MODEL

MERGED = "merged"


def merged_folder(config: TrainingConfig) -> Path:
    """Where `merged` puts it."""
    return config.output / (MODEL if config.lora is None else MERGED)


def merged(config: TrainingConfig) -> Path:
    """The folder with the finished training's whole weights and tokenizer.

    Adapters are added to the weights, once; weights that were trained as a whole stay where the
    training has put them. Raises ModelUnavailable.
    """
    folder = merged_folder(config)
    if folder.is_dir():
        return folder
    model, tokenizer = _with_adapters(config)
    with replacing_folder(folder) as unfinished:
        model.save_pretrained(unfinished)
        tokenizer.save_pretrained(unfinished)
    return folder


def _with_adapters(config: TrainingConfig) -> tuple[Any, Any]:
    from peft import PeftModel

    source = source_of(config.model, config.revision)
    tokenizer = opening.open_tokens(source, config).tokenizer
    base = opening.open_model(source, config, tokenizer)
    adapted = PeftModel.from_pretrained(base, str(config.output / MODEL))
    return adapted.merge_and_unload(), tokenizer
