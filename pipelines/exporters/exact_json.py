"""JSON whose integers stay what they are, however long."""

import json
import re
from typing import Any, Final

import orjson
import polars as pl

# orjson turns integers above 64 bits into floats without a word; such texts have this many digits.
_LONG_NUMBER: Final = re.compile(r"\d{19}")


def loads(text: str) -> Any:
    """The value of a JSON text. Raises ValueError."""
    return json.loads(text) if _LONG_NUMBER.search(text) else orjson.loads(text)


def loads_all(texts: pl.Series) -> list[Any]:
    """The value of each text; one search over all of them instead of one for each."""
    exactly = texts.str.contains(_LONG_NUMBER.pattern).any()
    return [loads(text) for text in texts] if exactly else [orjson.loads(text) for text in texts]


def dumps(value: Any) -> bytes:
    """Compact UTF-8 JSON on one line."""
    try:
        return orjson.dumps(value)
    except TypeError:  # an integer above 64 bits
        return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def one_line(text: str) -> str:
    """A JSON text without line breaks, otherwise byte for byte as it is. Raises ValueError.

    Within strings JSON has line breaks only escaped, so every bare one stands between two tokens.
    """
    orjson.loads(text)
    return text.replace("\n", " ").replace("\r", " ")
