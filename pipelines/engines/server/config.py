"""Models behind a server that speaks OpenAI's protocol: vLLM serve, Ollama, llama.cpp, hosted APIs.

A recipe is written to manifests, so it holds no secret: the key is the *name* of an environment
variable.
"""

import re
from collections.abc import Set
from typing import ClassVar, Literal, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, Field, field_validator, model_validator

from pipelines.engines.local.config import Model
from pipelines.engines.sources import JSON, source_of, tokenizer_identity


class Price(BaseModel, frozen=True, extra="forbid", allow_inf_nan=False):
    """What a million tokens cost, in any one currency."""

    prompt_per_million: float = Field(ge=0)
    completion_per_million: float = Field(default=0.0, ge=0)
    cached_per_million: float | None = Field(
        default=None, ge=0, description="Prompt tokens from the server's cache; default: as others."
    )


class Budget(BaseModel, frozen=True, extra="forbid", allow_inf_nan=False):
    """What one call of `winnow run` may spend on this model. It then stops, and resumes."""

    max_requests: int | None = Field(default=None, ge=1, description="Sent, tries included.")
    max_tokens: int | None = Field(default=None, ge=1, description="Read and written together.")
    max_cost: float | None = Field(default=None, gt=0, description="In the currency of the price.")


class _ServedModel(Model, frozen=True):
    model: str = Field(min_length=1, description="The name under which the server knows it.")
    base_url: str = Field(description="Up to /v1: http://localhost:8000/v1")
    api_key_env: str | None = Field(
        default=None, description="The name of the environment variable that holds the key."
    )
    known_as: str | None = Field(
        default=None,
        min_length=1,
        description="By what its scores are kept; default: base_url and model. Give it when the "
        "same model moves to another address, change it when another model takes over the name.",
    )
    concurrency: int = Field(default=32, ge=1, description="Requests in flight at most.")
    timeout_s: float = Field(
        default=120.0,
        gt=0,
        allow_inf_nan=False,
        description="Of one try, from sending to the answer's last byte.",
    )
    max_tries: int = Field(
        default=8,
        ge=1,
        description="Of one request, before the run stops. Waits double from 0.5 s to 60 s.",
    )
    price: Price | None = Field(default=None, description="To count money and for max_cost.")
    budget: Budget = Budget()

    chunks_at_once: ClassVar[int] = 4

    @field_validator("api_key_env")
    @classmethod
    def _a_name(cls, name: str | None) -> str | None:
        # In capitals, as such names are: most keys are not, and one that stands here by mistake
        # would go into manifests. The message does not show it.
        if name is not None and not re.fullmatch(r"[A-Z][A-Z0-9_]*", name):
            raise ValueError(
                "is the name of an environment variable, in capitals (JUDGE_KEY), not the key"
            )
        return name

    @field_validator("base_url")
    @classmethod
    def _an_address(cls, url: str) -> str:
        if any(char.isspace() or not char.isprintable() for char in url):
            raise ValueError("holds a space or a character that no address has")
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("is no http(s) address, such as http://localhost:8000/v1")
        if parts.username or parts.password or parts.query or parts.fragment:
            raise ValueError("holds more than an address: the key belongs into api_key_env")
        if parts.port == 0:  # one that is no number or too large raises ValueError
            raise ValueError("names port 0, which no server has")
        # One server has one name: scores are kept by it.
        return parts._replace(netloc=parts.netloc.lower()).geturl().rstrip("/")

    @model_validator(mode="after")
    def _priced(self) -> Self:
        if self.budget.max_cost is not None and self.price is None:
            raise ValueError("budget.max_cost needs price")
        return self

    def known(self) -> dict[str, JSON]:
        """What the model's answers are known by."""
        if self.known_as is not None:
            return {"known_as": self.known_as}
        return {"base_url": self.base_url, "model": self.model}


class OpenAiModel(_ServedModel, frozen=True):
    """A chat model behind a server.

    Without `tokenizer` the server renders the chats, and options are looked up among the 20 most
    probable first tokens. With it chats are rendered and cut into tokens here, as for a model in
    this process: prompts that are too long are refused before they are sent, and a server that
    takes tokens and gives log-probabilities of a prompt (vLLM does) can do all that vLLM in process
    can.
    """

    kind: Literal["openai"] = "openai"

    tokenizer: str | None = Field(
        default=None, description="The model's tokenizer: bundled name, local folder or hub id."
    )
    tokenizer_revision: str | None = Field(default=None, description="Of a hub id; default: main.")
    max_length: int | None = Field(
        default=None,
        ge=2,
        description="Context limit in tokens; default: what the server says, where it does.",
    )

    @property
    def capabilities(self) -> Set[str]:
        exact = {"log_probs"} if self.tokenizer is not None else set()
        return frozenset({"generate", "choose"} | exact)

    def known(self) -> dict[str, JSON]:
        rendered: dict[str, JSON] = {}
        if self.tokenizer is not None:
            source = source_of(self.tokenizer, self.tokenizer_revision)
            rendered = {"tokenizer": tokenizer_identity(source)}
        return {**super().known(), **rendered, "max_length": self.max_length}


class OpenAiEmbedder(_ServedModel, frozen=True):
    """An embedder behind a server's /v1/embeddings. A text that is too long fails its row."""

    kind: Literal["openai-embedder"] = "openai-embedder"

    dimensions: int | None = Field(
        default=None, ge=1, description="Length of the vectors, where the server can choose it."
    )
    batch_size: int = Field(default=64, ge=1, description="Texts in one request.")

    @property
    def capabilities(self) -> Set[str]:
        return frozenset({"embed"})

    def known(self) -> dict[str, JSON]:
        return {**super().known(), "dimensions": self.dimensions}
