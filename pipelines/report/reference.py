"""What a recipe and a training's config can say, told from the configs themselves.

    python -m pipelines.report.reference > docs/recipe.md

A test compares docs/recipe.md with this.
"""

import json
import sys
from collections.abc import Iterable, Mapping
from typing import Any, Final, Literal, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from pipelines.engines.local.config import NliModel, SentenceTransformersModel, TransformersModel
from pipelines.engines.server.config import Budget, OpenAiEmbedder, OpenAiModel, Price
from pipelines.engines.vllm.config import VllmEmbedder, VllmHiddenStates, VllmModel
from pipelines.exporters.spec import FORMATS, Card, Split
from pipelines.readers.source import FileSource, HubSource
from pipelines.recipe import Recipe
from pipelines.report.catalogue import described_field, documentation
from pipelines.train.config import FileTable, RunTable, TrainingConfig
from pipelines.train.selection_config import (
    DiversityOnly,
    Everything,
    HighestLoss,
    Longest,
    RandomChoice,
    Uds,
    UtilityOnly,
)
from pipelines.train.tuned_config import TunedModel, UnflaggedBy
from pipelines.train.tuning import Lora
from stages.base import Stage

_INTRODUCTION: Final = """# What a recipe can say

Made from the configs by `python -m pipelines.report.reference`.
The options of each stage: `winnow stages KIND`.
The third column holds the default; what is *required* has none.
"""
_SECTIONS: Final[Mapping[str, Mapping[str, type[BaseModel]]]] = {
    "A recipe": {"the file": Recipe},
    "Sources": {"path": FileSource, "hub": HubSource},
    "Models": {
        "kind: transformers": TransformersModel,
        "kind: sentence-transformers": SentenceTransformersModel,
        "kind: nli": NliModel,
        "kind: vllm": VllmModel,
        "kind: vllm-embedder": VllmEmbedder,
        "kind: vllm-hidden-states": VllmHiddenStates,
        "kind: openai": OpenAiModel,
        "kind: openai-embedder": OpenAiEmbedder,
        "price of a served model": Price,
        "budget of a served model": Budget,
        "kind: tuned": TunedModel,
        "rows of a tuned model": UnflaggedBy,
    },
    "Stages": {"every stage": Stage},
    "Exports": {
        **{f"format: {name}": export for name, export in FORMATS.items()},
        "split of an export": Split,
        "card of an hf export": Card,
    },
    "A training (`winnow train sft`)": {
        "the file": TrainingConfig,
        "table of a run": RunTable,
        "table of an export": FileTable,
        "lora": Lora,
        "selection: {method: uds}": Uds,
        "selection: {method: utility}": UtilityOnly,
        "selection: {method: diversity}": DiversityOnly,
        "selection: {method: loss}": HighestLoss,
        "selection: {method: longest}": Longest,
        "selection: {method: random}": RandomChoice,
        "selection: {method: none}": Everything,
    },
}
_LONGEST_TYPE: Final = 60  # of a union of configs only the beginning is worth reading


def reference() -> str:
    """The document, in Markdown."""
    parts = [_INTRODUCTION]
    for title, configs in _SECTIONS.items():
        parts.append(f"## {title}\n")
        for name, config in configs.items():
            parts += [f"### {name}\n", documentation(config) + "\n", _table(config)]
    return "\n".join(parts)


def _table(config: type[BaseModel]) -> str:
    fields = [
        described_field(name, field)
        for name, field in config.model_fields.items()
        if not _names_the_config(field)
    ]
    lines = ["| option | type | default | |", "|---|---|---|---|"]
    lines += [_row(told) for told in fields]
    return "\n".join(lines) + "\n"


def _names_the_config(field: FieldInfo) -> bool:
    """Whether only one value may stand there, which the section's title has."""
    return get_origin(field.annotation) is Literal and len(get_args(field.annotation)) == 1


def _row(told: Mapping[str, Any]) -> str:
    type_name = told["type"]
    if len(type_name) > _LONGEST_TYPE:
        type_name = "see the sections" if "{" in type_name else type_name
    default = "*required*" if told["required"] else _default(told["default"])
    return _cells([f"`{told['name']}`", type_name, default, told["description"] or ""])


def _default(value: Any) -> str:
    if value is None or value == "":
        return ""
    return f"`{value if isinstance(value, str) else json.dumps(value, default=list)}`"


def _cells(texts: Iterable[str]) -> str:
    return "| " + " | ".join(text.replace("|", "\\|") for text in texts) + " |"


if __name__ == "__main__":
    sys.stdout.write(reference())
