"""The tokenizer of a model that a server holds."""

from typing import Any

from pipelines.engines.bundled import Bundled, bundled_folder
from pipelines.engines.chat_tokens import ChatTokens
from pipelines.engines.errors import ModelUnavailable
from pipelines.engines.server.config import OpenAiModel
from pipelines.engines.server.requests import Server
from pipelines.engines.sources import Hub, source_of
from stages.engines import EngineError


def open_chat_tokens(config: OpenAiModel, server: Server) -> ChatTokens | None:
    """None where the recipe names no tokenizer.

    The context is the recipe's `max_length`, else what the server says of its model, as vLLM does.
    Raises ModelUnavailable when neither is there, and EngineError for a server that fails.
    """
    if config.tokenizer is None:
        return None
    tokenizer = _tokenizer(config.tokenizer, config.tokenizer_revision)
    context = config.max_length or _told_length(config.model, server)
    if context is None:
        raise ModelUnavailable(
            f"{config.base_url} does not say how many tokens the context of '{config.model}' has: "
            "give max_length in the recipe"
        )
    return ChatTokens(tokenizer, context)


def _tokenizer(name: str, revision: str | None) -> Any:
    from transformers import AutoTokenizer

    source = source_of(name, revision)
    try:
        if isinstance(source, Hub):
            return AutoTokenizer.from_pretrained(source.name, revision=source.commit)
        folder = bundled_folder(source) if isinstance(source, Bundled) else source.folder
        return AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
    except (OSError, ValueError) as error:
        raise ModelUnavailable(f"the tokenizer '{name}' cannot be opened: {error}") from error


def _told_length(model: str, server: Server) -> int | None:
    try:
        (models,) = server.together([server.models])
    except EngineError as error:
        raise EngineError(
            f"{error} (asked for the model's context; if it is never told, give max_length in the "
            "recipe)"
        ) from error
    for entry in models:
        length = entry.get("max_model_len")
        if entry["id"] == model and isinstance(length, int):
            return length
    return None
