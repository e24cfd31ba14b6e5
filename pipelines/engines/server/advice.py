"""What to do about a server that answers nothing."""

from collections.abc import Sequence

from pipelines.engines.errors import ModelUnavailable
from pipelines.engines.server.config import OpenAiEmbedder, OpenAiModel
from pipelines.engines.server.faults import Denied, shortened
from stages.engines import EngineError


def advice(
    config: OpenAiModel | OpenAiEmbedder, denied: Denied, models: Sequence[str]
) -> ModelUnavailable:
    """Why nothing can be asked, and what to do. `models`: what the server lists as its own."""
    told = f"{config.base_url} answers {denied.status}: {denied.message}"
    return ModelUnavailable(f"{told}\n{_advice(config, denied.status, models)}")


def refuses_now(config: OpenAiModel | OpenAiEmbedder, denied: Denied) -> EngineError:
    """Of a server that has answered such requests: it may again."""
    return EngineError(
        f"{config.base_url} answered such requests before and refuses even a plain one now "
        f"({denied.status}): {denied.message}"
    )


def _advice(config: OpenAiModel | OpenAiEmbedder, status: int, models: Sequence[str]) -> str:
    if status in (401, 403) and config.api_key_env is None:
        return (
            "It asks for a key: put it into an environment variable and name that one in the "
            "recipe, as api_key_env"
        )
    if status == 401:
        return f"It does not take the key in the environment variable {config.api_key_env}"
    if status == 403:
        return f"The key in the environment variable {config.api_key_env} may not ask it"
    if status == 407:
        return "That is the proxy which HTTPS_PROXY or HTTP_PROXY names: it asks for its user"
    if status == 402:
        return "The account behind the key has nothing left to spend"
    if status == 404 and config.model in models:
        return f"It lists the model '{config.model}' all the same: has it been loaded?"
    if status == 404 and models:
        names = shortened(", ".join(models))
        return f"The recipe asks for '{config.model}'. Its models are: {names}"
    if status == 404:
        return "Is base_url right? Most end with /v1"
    if status < 400:
        return "It sends elsewhere: give that address as base_url"
    return "It refuses a plain request with the same parameters too"
