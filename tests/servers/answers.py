"""The answers of a model that never was: each a function of what was asked and of nothing else.

A chat that asks for one letter gets one, with log-probabilities that differ from chat to chat. Any
other gets an explanation and, nineteen times in twenty, an `answer:` of a few words of its own.
A text's vector counts its words, so that texts with common words are near each other.
"""

import base64
import hashlib
import json
import math
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from tests.servers.traits import Traits, limit_of, prompt_words, token_prompts, words_of

LETTER = re.compile(r"\b(?:letter|option)s?\b.*\balone\b|\bonly the letter\b", re.IGNORECASE)


def fraction(*parts: object) -> float:
    """A number in [0, 1) that is known by `parts`."""
    text = "\x00".join(str(part) for part in parts).encode()
    return int.from_bytes(hashlib.sha256(text).digest()[:6], "big") / 2**48


def identity_of(body: Mapping[str, Any]) -> str:
    """By what an answer is known: all of the request but the number of choices."""
    return json.dumps({name: body[name] for name in body if name != "n"}, sort_keys=True)


def chat_answer(body: Mapping[str, Any], traits: Traits, echoed: str) -> dict[str, Any]:
    count = body.get("n") or 1 if traits.n == "yes" else 1
    known = identity_of(body)
    choices = [_choice(body, known, number, traits, echoed) for number in range(count)]
    written = sum(len(words_of(choice["message"]["content"])) for choice in choices)
    return {
        "id": "chatcmpl-" + hashlib.sha256(known.encode()).hexdigest()[:12],
        "object": "chat.completion",
        "created": 1_700_000_000,
        "model": body["model"],
        "choices": choices,
        **usage(prompt_words(body), written, traits),
    }


def usage(read: int, written: int, traits: Traits) -> dict[str, Any]:
    if not traits.usage:
        return {}
    counts = {
        "prompt_tokens": read,
        "completion_tokens": written,
        "total_tokens": read + written,
        "prompt_tokens_details": {"cached_tokens": read // 4},
    }
    return {"usage": counts}


def _choice(
    body: Mapping[str, Any], known: str, number: int, traits: Traits, echoed: str
) -> dict[str, Any]:
    question = str(body["messages"][-1].get("content") or "")
    sample = number if body.get("temperature", 1) else 0
    chances = letter_chances(known)
    structured = body.get("response_format") if traits.response_format == "yes" else None
    if structured:
        text = json.dumps(_instance(_schema_of(structured), known, sample))
    elif LETTER.search(question):
        text = _drawn(chances, known, sample, greedy=not body.get("temperature", 1))
    else:
        text = explained(question, known, sample)
    text = f"{text} {echoed}" if echoed else text
    text, finish = _cut(text, body, limit_of(body, traits))
    choice: dict[str, Any] = {
        "index": number,
        "message": {"role": "assistant", "content": text},
        "finish_reason": finish,
    }
    if body.get("logprobs") and traits.logprobs == "yes":
        choice["logprobs"] = {"content": [_first_token(text, chances, body.get("top_logprobs"))]}
    return choice


def explained(question: str, known: str, sample: int) -> str:
    """An explanation and an answer; one reply in twenty lacks the answer."""
    given = [word.strip(".,:()?") for word in words_of(question)[:40]] or ["nothing"]
    at = int(fraction(known, sample, "from") * len(given))
    said = " ".join(given[at : at + 4])
    if fraction(known, sample, "form") < 0.05:
        return f"I would rather not say more about {said}."
    shade = int(fraction(known, sample, "shade") * 50)
    return f"explanation: it follows from the text.\nanswer: It is about {said}, chapter {shade}."


def letter_chances(known: str) -> dict[str, float]:
    weights = {letter: math.exp(3 * fraction(known, letter)) for letter in "ABC"}
    return {letter: 0.96 * weight / sum(weights.values()) for letter, weight in weights.items()}


def _drawn(chances: Mapping[str, float], known: str, sample: int, *, greedy: bool) -> str:
    if greedy:
        return max(chances, key=lambda letter: chances[letter])
    left = fraction(known, sample, "letter") * sum(chances.values())
    for letter, chance in chances.items():
        left -= chance
        if left <= 0:
            return letter
    return "C"


def _first_token(text: str, chances: Mapping[str, float], top: int | None) -> dict[str, Any]:
    """The letters, one of them also with a space before it, and a few other tokens."""
    b = chances["B"]
    options = {"A": chances["A"], "B": 0.75 * b, " B": 0.25 * b, "C": chances["C"]}
    options |= {"The": 0.02, "I": 0.01, "(": 0.005}
    ranked = sorted(options.items(), key=lambda item: -item[1])[: top or 0]
    first = text if text in options else "The"
    return {**_token(first, options[first]), "top_logprobs": [_token(*item) for item in ranked]}


def _token(token: str, chance: float) -> dict[str, Any]:
    return {"token": token, "logprob": math.log(chance), "bytes": list(token.encode())}


def _cut(text: str, body: Mapping[str, Any], limit: int) -> tuple[str, str]:
    stops = body.get("stop") or []
    for stop in [stops] if isinstance(stops, str) else stops:
        text = text.split(stop)[0]
    tokens = re.findall(r"\s*\S+", text)
    return (text, "stop") if len(tokens) <= limit else ("".join(tokens[:limit]), "length")


def _schema_of(response_format: Mapping[str, Any]) -> dict[str, Any]:
    return dict(response_format.get("json_schema", {}).get("schema", {"type": "object"}))


def _instance(schema: Mapping[str, Any], known: str, sample: int, root: Any = None) -> Any:
    """A value that follows the schema; enough of JSON schema for what pydantic writes."""
    root = schema if root is None else root
    if "$ref" in schema:
        schema = root["$defs"][schema["$ref"].rsplit("/", 1)[-1]]
    drawn = fraction(known, sample, json.dumps(schema, sort_keys=True))
    if "const" in schema:
        return schema["const"]
    if "enum" in schema:
        return schema["enum"][int(drawn * len(schema["enum"]))]
    if "anyOf" in schema:
        return _instance(schema["anyOf"][0], known, sample, root)
    match schema.get("type"):
        case "object":
            properties = schema.get("properties", {})
            return {name: _instance(one, known, sample, root) for name, one in properties.items()}
        case "array":
            return [_instance(schema.get("items", {}), known, sample, root)]
        case "integer":
            low, high = schema.get("minimum", 0), schema.get("maximum", 10)
            return low + int(drawn * (high - low + 1))
        case "number":
            return round(drawn, 3)
        case "boolean":
            return drawn < 0.5
    return f"text {int(drawn * 1000)}"


def completion_answer(body: Mapping[str, Any], traits: Traits, echoed: str) -> dict[str, Any]:
    """Prompts of token ids or texts; `prompt_logprobs` as vLLM gives them."""
    count, known = (body.get("n") or 1 if traits.n == "yes" else 1), identity_of(body)
    prompts = token_prompts(body)
    choices = [
        _text_choice(body, prompt, f"{known} {at}", at * count + number, traits, echoed)
        for at, prompt in enumerate(prompts)
        for number in range(count)
    ]
    written = sum(len(words_of(choice["text"])) for choice in choices)
    return {
        "id": "cmpl-" + hashlib.sha256(known.encode()).hexdigest()[:12],
        "object": "text_completion",
        "created": 1_700_000_000,
        "model": body["model"],
        "choices": choices,
        **usage(sum(map(len, prompts)), written, traits),
    }


def _text_choice(
    body: Mapping[str, Any], prompt: list[Any], known: str, index: int, traits: Traits, echoed: str
) -> dict[str, Any]:
    text = explained(" ".join(map(str, prompt)), known, index) + (f" {echoed}" if echoed else "")
    text, finish = _cut(text, body, limit_of(body, traits))
    choice: dict[str, Any] = {"index": index, "text": text, "finish_reason": finish}
    if body.get("prompt_logprobs") is not None and traits.logprobs == "yes":
        values = [-0.1 - 3 * fraction(*prompt[:at], token) for at, token in enumerate(prompt)]
        choice["prompt_logprobs"] = [None] + [
            {str(token): {"logprob": value, "rank": 1, "decoded_token": str(token)}}
            for token, value in zip(prompt[1:], values[1:], strict=True)
        ]
    return choice


def embedding_answer(body: Mapping[str, Any], traits: Traits) -> dict[str, Any]:
    texts = texts_of(body)
    size = body.get("dimensions") or traits.dimension
    as_text = body.get("encoding_format") == "base64"
    data = [
        {"object": "embedding", "index": at, "embedding": _sent(vector(text, size), as_text)}
        for at, text in enumerate(texts)
    ]
    read = sum(len(words_of(text)) for text in texts)
    counts = {"usage": {"prompt_tokens": read, "total_tokens": read}} if traits.usage else {}
    return {"object": "list", "model": body["model"], "data": data, **counts}


def texts_of(body: Mapping[str, Any]) -> list[str]:
    given = body["input"]
    return [given] if isinstance(given, str) else list(given)


def vector(text: str, size: int) -> "np.ndarray[Any, np.dtype[np.float32]]":
    """Not of length 1: a server's vectors need not be."""
    found = np.full(size, 0.05, np.float32)
    for word in words_of(text.lower()):
        found[int(fraction(word) * size)] += 1
    return found


def _sent(values: "np.ndarray[Any, np.dtype[np.float32]]", as_text: bool) -> Any:
    if as_text:
        return base64.b64encode(values.astype("<f4").tobytes()).decode()
    return [float(value) for value in values]
