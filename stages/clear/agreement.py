"""Estimator `agreement`: how many of the given samples come to the same answer? No model at all."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated, Final

import pyarrow as pa
from pydantic import AfterValidator, StringConstraints

from stages.clear.parsing import stripped
from stages.clear.target import Target, target_of

# What follows the last of these, to the end of its line: GSM8K's `#### 72`, `A: 72`, `answer: 72`.
ANSWER_MARK: Final = r"####|\bA:|(?i:\banswer)[*_]*\s*:"

# 1,000 and $1000 and 1000.0; a point or a comma alone is no number, and 1,00 is none either.
_NUMBER: Final = re.compile(
    r"(?P<sign>[-+−]?)\s*[$€£¥]?\s*(?P<sign_behind>[-−]?)"
    r"(?P<whole>\d{1,3}(?:,\d{3})+|\d*)(?:\.(?P<decimals>\d*))?\s*[$€£¥]?",
    re.ASCII,
)
_MINUS: Final = ("-", "−")

Answer = Decimal | str


def _compiles(pattern: str) -> str:
    try:
        re.compile(pattern)
    except re.error as error:
        raise ValueError(f"is no regular expression: {error}") from None
    return pattern


Pattern = Annotated[str, AfterValidator(_compiles)]
MetaField = Annotated[str, StringConstraints(pattern=r"^meta\..+")]


@dataclass(frozen=True)
class Agreement:
    """confidence: the share of samples, 0-1, with the target's answer. unread: without any."""

    confidence: float
    samples: int
    unread: int


def extracted(text: str, pattern: re.Pattern[str]) -> Answer | None:
    """The answer that a text comes to: a number where it is one, else what it says.

    It stands in the first group of the pattern's last match or, where the pattern has no group,
    behind that match to the end of the line. None where nothing stands there.
    """
    matches = list(pattern.finditer(text))
    if not matches:
        return None
    if pattern.groups:
        said = matches[-1].group(1) or ""
    else:
        said = text[matches[-1].end() :].strip().partition("\n")[0]
    said = stripped(said)
    number = _number(said)
    return (said or None) if number is None else number


def _number(text: str) -> Decimal | None:
    found = _NUMBER.fullmatch(text)
    if found is None or not (found["whole"] or found["decimals"]):
        return None
    minus = (found["sign"] in _MINUS) != (found["sign_behind"] in _MINUS)
    value = Decimal(f"{found['whole'].replace(',', '') or 0}.{found['decimals'] or 0}")
    return -value if minus else value


def agreements(
    rows: pa.Table, columns: Sequence[str], answer_pattern: str
) -> list[Agreement | str]:
    """For each of `rows` (key, messages and the columns of samples) how many samples agree."""
    pattern = re.compile(answer_pattern)
    read = [rows[name].to_pylist() for name in ("key", "messages", *columns)]
    # A Python loop over rows: regular expressions and decimals, 0.2 ms a row.
    return [
        _agreement(target_of(key, messages), samples_of(values, columns), pattern)
        for key, messages, *values in zip(*read, strict=True)
    ]


def _agreement(
    target: Target | str, samples: Sequence[str] | str, pattern: re.Pattern[str]
) -> Agreement | str:
    if isinstance(target, str):
        return target
    if isinstance(samples, str):
        return samples
    answer = extracted(target.answer, pattern)
    if answer is None:
        return "no answer can be read in the last assistant turn (answer_pattern)"
    if not samples:
        return "there are no samples"
    found = [extracted(sample, pattern) for sample in samples]
    return Agreement(found.count(answer) / len(found), len(found), found.count(None))


def samples_of(values: Sequence[str | None], columns: Sequence[str]) -> list[str] | str:
    """The samples of one row, or why it has none.

    One column is a JSON list of texts; several columns are a text each, absent ones left out.
    """
    if len(columns) > 1:
        return [value for value in values if value is not None]
    (value,), (column,) = values, columns
    if value is None:
        return f"{column} is not there"
    try:
        found = json.loads(value)
    except json.JSONDecodeError:
        found = None
    if not isinstance(found, list) or not all(isinstance(one, str) for one in found):
        return f"{column} is no list of texts: {value[:60]!r}"
    return found
