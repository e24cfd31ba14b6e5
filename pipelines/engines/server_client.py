"""The `openai` client as it is used here: one try at a time, and nothing from the environment."""

import httpx2
import openai

from pipelines.engines.server_config import OpenAiEmbedder, OpenAiModel


class _Client(openai.AsyncOpenAI):
    """Without what the library takes from the environment and tells of this machine."""

    @property
    def default_headers(self) -> dict[str, str | openai.Omit]:
        return {
            "Accept": "application/json",
            "Content-Type": "application/json",
            "User-Agent": "winnow",
        }


def client_of(config: OpenAiModel | OpenAiEmbedder, key: str | None) -> openai.AsyncOpenAI:
    """Sends nothing yet. `key`: None where the server asks for none."""
    return _Client(
        api_key=key or "none",
        base_url=config.base_url,
        max_retries=0,
        timeout=config.timeout_s,
        http_client=openai.DefaultAsyncHttpxClient(
            # Elsewhere the key would go along, or a POST would become a GET.
            follow_redirects=False,
            timeout=httpx2.Timeout(config.timeout_s),
            limits=httpx2.Limits(
                max_connections=config.concurrency,
                max_keepalive_connections=config.concurrency,
            ),
        ),
    )
