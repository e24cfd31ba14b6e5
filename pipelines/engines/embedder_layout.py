"""How a sentence embedder makes one vector of a text, as sentence-transformers writes it down.

Another library that runs the same weights would choose a pooling of its own where it finds none
that it knows, without a word, and its vectors would not be those of the model.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.engines.errors import ModelUnavailable

_MODULES = {"Transformer", "Pooling", "Normalize", "Dense"}
_OLD_NAMES = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}


@dataclass(frozen=True)
class Layout:
    """How an embedder is put together.

    pooling     of the vectors of a text's tokens: mean, cls or lasttoken
    prefix      what is written before each text when nothing else is asked for; often empty
    lower_case  whether texts are lower-cased before the tokenizer sees them
    max_length  tokens of a text that are read; None: as many as the model takes
    """

    pooling: str
    prefix: str
    lower_case: bool
    max_length: int | None


def layout(folder: str, hub: Mapping[str, Any]) -> Layout:
    """The layout of the embedder in `folder`, or under this hub id.

    A model without any word of sentence-transformers is pooled by the mean, as there. Raises
    ModelUnavailable for a layout that only sentence-transformers can follow.
    """
    modules = _json(folder, "modules.json", hub) or []
    odd = sorted({_kind(module) for module in modules} - _MODULES)
    if odd:
        raise _only_there(folder, f"has the modules {odd}")
    pooling: dict[str, Any] = {}
    for module in modules:
        if _kind(module) == "Pooling":
            pooling = _json(folder, f"{module['path']}/config.json", hub) or {}
    named = pooling.get("pooling_mode", [_OLD_NAMES[key] for key in _OLD_NAMES if pooling.get(key)])
    modes = [named] if isinstance(named, str) else list(named)
    if modes not in ([], ["mean"], ["cls"], ["lasttoken"]):
        raise _only_there(folder, f"pools by {modes}")
    settings = _json(folder, "config_sentence_transformers.json", hub) or {}
    name = settings.get("default_prompt_name")
    prefix = (settings.get("prompts") or {}).get(name) or "" if name else ""
    if prefix and not pooling.get("include_prompt", True):
        raise _only_there(folder, "leaves its prompt out of the pooling")
    reading = _json(folder, "sentence_bert_config.json", hub) or {}
    return Layout(
        pooling=modes[0] if modes else "mean",
        prefix=prefix,
        lower_case=bool(reading.get("do_lower_case")),
        max_length=reading.get("max_seq_length"),
    )


def _kind(module: Mapping[str, str]) -> str:
    return module["type"].rsplit(".", 1)[-1]


def _only_there(folder: str, what: str) -> ModelUnavailable:
    return ModelUnavailable(f"'{folder}' {what}: open it with kind: sentence-transformers")


def _json(folder: str, name: str, hub: Mapping[str, Any]) -> Any:
    from transformers.utils import cached_file

    path = cached_file(folder, name, _raise_exceptions_for_missing_entries=False, **hub)
    if path is None:
        return None
    return json.loads(Path(path).read_bytes())
