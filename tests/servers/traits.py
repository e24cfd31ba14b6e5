"""What a server of OpenAI's protocol can do, and how it refuses what it cannot."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Feature = Literal["yes", "ignored", "refused"]


@dataclass(frozen=True)
class Traits:
    """key       the only one that is let in; None lets everybody in
    echo         where the server repeats the Authorization header that it was sent
    context      tokens (here: words) that prompt and completion may have together
    wording      how it says that a prompt is too long
    longest_text words that a text to embed may have
    poison       a prompt that contains it is refused with status 400
    """

    n: Feature = "yes"
    logprobs: Feature = "yes"
    response_format: Feature = "yes"
    seed: Feature = "yes"
    usage: bool = True
    limit_name: Literal["either", "max_tokens", "max_completion_tokens"] = "either"
    key: str | None = None
    echo: Literal["nowhere", "400", "500", "completion", "reset"] = "nowhere"
    context: int | None = None
    wording: Literal["openai", "vllm", "vllm_old"] = "openai"
    longest_text: int | None = None
    top_logprobs: int = 20
    poison: str | None = None
    dimension: int = 64


@dataclass
class Refusal(Exception):
    status: int
    message: str
    kind: str = "invalid_request_error"
    param: str | None = None
    code: str | int | None = None

    def body(self) -> dict[str, Any]:
        error = {"message": self.message, "type": self.kind, "param": self.param, "code": self.code}
        return {"error": error}


def words_of(text: str) -> list[str]:
    return text.split()


def prompt_words(body: Mapping[str, Any]) -> int:
    if "messages" in body:
        return sum(len(words_of(turn.get("content") or "")) for turn in body["messages"])
    return sum(len(prompt) for prompt in token_prompts(body))


def token_prompts(body: Mapping[str, Any]) -> list[list[Any]]:
    """The prompts of a completion, each a list of tokens; of a text its words."""
    prompt = body["prompt"]
    if isinstance(prompt, str):
        return [list(words_of(prompt))]
    if prompt and isinstance(prompt[0], int):
        return [prompt]
    return [list(words_of(one)) if isinstance(one, str) else one for one in prompt]


def limit_of(body: Mapping[str, Any], traits: Traits) -> int:
    names = ("max_tokens", "max_completion_tokens")
    known = names if traits.limit_name == "either" else (traits.limit_name,)
    given = [body[name] for name in known if body.get(name) is not None]
    return int(given[0]) if given else 1000


def check_key(authorization: str, traits: Traits) -> None:
    """Raises Refusal; like a careless server, it repeats what it was given."""
    if traits.key is not None and authorization != f"Bearer {traits.key}":
        raise Refusal(401, f"Incorrect API key provided: {authorization}", code="invalid_api_key")


def check_chat(body: Mapping[str, Any], traits: Traits) -> None:
    """Raises Refusal for what this server does not take."""
    if traits.n == "refused" and body.get("n", 1) != 1:
        raise Refusal(400, "Only one completion choice is allowed", param="n")
    if traits.logprobs == "refused" and body.get("logprobs"):
        raise Refusal(
            400, "This model does not support the 'logprobs' parameter.", param="logprobs"
        )
    if (body.get("top_logprobs") or 0) > traits.top_logprobs:
        message = f"top_logprobs must be at most {traits.top_logprobs}"
        raise Refusal(400, message, param="top_logprobs")
    if traits.response_format == "refused" and body.get("response_format"):
        raise Refusal(
            400,
            "Invalid parameter: 'response_format' of type 'json_schema' is not supported.",
            param="response_format",
        )
    if traits.seed == "refused" and body.get("seed") is not None:
        raise Refusal(400, "Unrecognized request argument supplied: seed", param="seed")
    if traits.limit_name == "max_completion_tokens" and body.get("max_tokens") is not None:
        raise Refusal(
            400,
            "Unsupported parameter: 'max_tokens' is not supported with this model. "
            "Use 'max_completion_tokens' instead.",
            param="max_tokens",
            code="unsupported_parameter",
        )
    texts = [turn.get("content") or "" for turn in body.get("messages", [])]
    if traits.poison is not None and any(traits.poison in text for text in texts):
        raise Refusal(400, "The prompt was refused by the content filter.", code="content_filter")
    check_length(body, traits)


def check_length(body: Mapping[str, Any], traits: Traits) -> None:
    prompt, limit = prompt_words(body), limit_of(body, traits)
    if traits.context is None or prompt + limit <= traits.context:
        return
    most = f"This model's maximum context length is {traits.context} tokens"
    if traits.wording == "openai":
        raise Refusal(
            400,
            f"{most}. However, your messages resulted in {prompt} tokens. Please reduce the "
            "length of the messages.",
            param="messages",
            code="context_length_exceeded",
        )
    if traits.wording == "vllm_old":
        raise Refusal(
            400,
            f"{most}. However, you requested {prompt + limit} tokens ({prompt} in the messages, "
            f"{limit} in the completion). Please reduce the length of the messages or completion.",
            kind="BadRequestError",
            code=400,
        )
    raise Refusal(
        400,
        f"'max_tokens' or 'max_completion_tokens' is too large: {limit}. {most} and your request "
        f"has {prompt} input tokens ({limit} > {traits.context} - {prompt}).",
        kind="BadRequestError",
        code=400,
    )


def check_texts(texts: list[str], traits: Traits) -> None:
    longest = max((len(words_of(text)) for text in texts), default=0)
    if traits.longest_text is not None and longest > traits.longest_text:
        raise Refusal(
            400,
            f"This model's maximum context length is {traits.longest_text} tokens. However, you "
            f"requested {longest} tokens in the input for embedding generation. Please reduce the "
            "length of the input.",
            kind="BadRequestError",
            code=400,
        )
