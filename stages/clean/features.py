"""Cheap numbers about a conversation, for `clean.rules` to set thresholds on.

The target is the last assistant turn. Everything is vectorised over the turns of all rows; the few
Python loops run over rows that a vectorised look has picked out, at most some percent.
"""

from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from stages.clean.phrases import (
    GARBAGE,
    MAYBE_PLACEHOLDER,
    PLACEHOLDER,
    REFUSAL,
)
from stages.conversation import Turns, picked

Numbers = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]
Shares = npt.NDArray[np.float32]

FEATURES: Final = pa.schema(
    [
        pa.field("chars", pa.int64()),  # characters of all turns
        pa.field("prompt_chars", pa.int64()),  # of user and tool turns before the target
        pa.field("answer_chars", pa.int64()),  # of the target; 0 where it is blank
        pa.field("blank_turns", pa.int32()),  # user and assistant turns without any text
        pa.field("garbage", pa.int32()),  # broken or control characters, in all turns
        pa.field("refusal", pa.bool_()),
        pa.field("placeholder", pa.bool_()),
        pa.field("repeated_line_share", pa.float32()),  # share 0-1 of the target's characters
        pa.field("loop_share", pa.float32()),  # share 0-1 of the target's characters
    ]
)

_PLACEHOLDER_BYTES = 60
_LINE_CHARS = 12  # bytes; shorter lines repeat in sound answers: "}", "end", "| --- |", "Yes."
_LOOP_PROBE = 8  # characters at the end that must stand in the text before
_LOOP_REACH = 72  # how far before the end: periods of up to 64 characters
# The second byte, after 0xC3, of each letter that a sequence of phrases.GARBAGE begins with.
_GARBAGE_FOLLOWERS = [sign.encode()[1] for sign in "ÂÃÐÑâðï"]
_LOOP_REPEATS = 5
_LOOP_CHARS = 40


def features(messages: pa.Array, tools: pa.Array) -> pa.Table:
    """The columns of `FEATURES` for one array of conversations, and `error` without a target.

    tools: JSON text of the tools that each row offers, or null.
    """
    turns = Turns.of(messages)
    targets, user = turns.targets(), turns.by("user")
    before = turns.before(targets)
    said = turns.texts()
    texts = pl.Series("text", said)
    chars, blank = _sizes(texts)
    answers = picked(texts, targets).fill_null("")
    questions = picked(texts, turns.last(user & before)).fill_null("")
    looks = _looks(answers)
    columns = {
        "chars": turns.total(chars),
        "prompt_chars": turns.total(np.where(before & (user | turns.by("tool")), chars, 0)),
        "answer_chars": np.where(targets < 0, 0, chars[targets] if len(chars) else 0),
        "blank_turns": turns.total(blank & (user | turns.by("assistant"))),
        "garbage": turns.total(garbage(said)),
        "refusal": looks["refuses"].to_numpy() & ~_offers(tools),
        "placeholder": placeholder(questions, answers, looks["short"].to_numpy()),
        "repeated_line_share": repeated_line_share(answers, looks["lines"].to_numpy()),
        "loop_share": loop_share(answers, looks["loops"].to_numpy()),
    }
    table = pa.table({name: pa.array(column) for name, column in columns.items()}).cast(FEATURES)
    missing = pc.if_else(pa.array(targets < 0), "there is no assistant turn", None)
    return table.append_column("error", missing)


def _sizes(texts: pl.Series) -> tuple[Numbers, Flags]:
    """Characters of each text, 0 where it is blank; and where it is blank."""
    sizes = texts.to_frame().select(
        chars=pl.col("text").str.len_chars().cast(pl.Int64),
        blank=~pl.col("text").str.contains(r"\S"),
    )
    blank = sizes["blank"].to_numpy()
    return np.where(blank, 0, sizes["chars"].to_numpy()), blank


def _looks(answers: pl.Series) -> pl.DataFrame:
    """Four first looks at each answer, side by side on all cores: bool columns.

    refuses  begins by refusing
    short    may be a placeholder
    lines    has lines to compare
    loops    what stands at its end stands right before it too
    """
    answer = pl.col("a")
    end = answer.str.tail(_LOOP_REACH)
    return pl.DataFrame({"a": answers}).select(
        refuses=answer.str.contains(REFUSAL),
        short=answer.str.len_bytes() <= _PLACEHOLDER_BYTES,
        lines=answer.str.count_matches("\n", literal=True) >= 2,
        loops=end.str.count_matches(answer.str.tail(_LOOP_PROBE), literal=True) >= 2,
    )


def _offers(tools: pa.Array) -> Flags:
    """Where a row offers tools. There, saying that none of them can do it is the right answer: each
    of the 40 answers that look like refusals among 300 rows of a tool-calling set.
    """
    offered = pl.Series(tools).fill_null("").str.strip_chars()
    return ~offered.is_in(["", "[]", "null"]).to_numpy()


def garbage(texts: pa.StringArray) -> Numbers:
    """How many broken or control characters each text has; a broken sequence counts once."""
    counts = np.zeros(len(texts), np.int64)
    suspects = _suspects(texts)
    counts[suspects] = pl.Series(texts).gather(suspects).str.count_matches(GARBAGE).to_numpy()
    return counts


def _suspects(texts: pa.StringArray) -> Numbers:
    """Numbers of the texts that hold a control byte or the first two bytes of broken text.

    Two passes over the bytes are four times faster than the expression over all texts.
    """
    if not len(texts) or texts.buffers()[2] is None:
        return np.zeros(0, np.int64)
    offsets = np.frombuffer(texts.buffers()[1], np.int32)[texts.offset :][: len(texts) + 1]
    data = np.frombuffer(texts.buffers()[2], np.uint8)[offsets[0] : offsets[-1]]
    places = np.flatnonzero(
        data - np.uint8(32) >= 95
    )  # below 32 it wraps around: both ends at once
    byte, follower = data[places], data[np.minimum(places + 1, len(data) - 1)]
    suspect = (
        ((byte < 128) & (byte != 9) & (byte != 10) & (byte != 13))
        | ((byte == 0xC2) & (follower < 0xA0))  # control characters above ASCII
        | ((byte == 0xC3) & np.isin(follower, _GARBAGE_FOLLOWERS))
        | ((byte == 0xEF) & (follower == 0xBF))  # U+FFFD
    )
    return np.unique(np.searchsorted(offsets, places[suspect] + offsets[0], side="right") - 1)


def placeholder(questions: pl.Series, answers: pl.Series, short: Flags) -> Flags:
    """Whether an answer is a stand-in such as "N/A" or "<answer here>". Only `short` ones are."""
    found = short.copy()
    few = answers.filter(pl.Series(short))
    found[short] = few.str.contains(PLACEHOLDER).to_numpy()
    maybe = np.flatnonzero(short)[few.str.contains(MAYBE_PLACEHOLDER).to_numpy()]
    word = pl.col("a").str.strip_chars(" \t\r\n.!").str.to_lowercase()
    question = pl.col("q").str.to_lowercase()
    near = pl.DataFrame({"q": questions.gather(maybe), "a": answers.gather(maybe)})
    asked = question.str.contains(r"[?？]") | question.str.contains(word, literal=True)
    found[maybe] = near.select(~asked).to_series().to_numpy()
    return found


def repeated_line_share(answers: pl.Series, several: Flags) -> Shares:
    """The share of an answer's characters that stand in lines which occurred before in it.

    Lines are compared without surrounding whitespace; short ones do not count as repeated. Only
    answers of `several` lines are looked at.
    """
    share = np.zeros(len(answers), np.float32)
    many = np.flatnonzero(several)
    chosen = answers.gather(many)
    lines = (
        pl.LazyFrame({"at": np.arange(len(many)), "line": chosen.str.split("\n")})
        .explode("line")
        .with_columns(pl.col("line").str.strip_chars())
        .filter(pl.col("line").str.len_bytes() >= _LINE_CHARS)
        .group_by("at", "line")
        .agg(again=pl.len() - 1)
        .filter(pl.col("again") > 0)
    )
    size = pl.col("line").str.len_chars().cast(pl.Int64)
    repeats = lines.group_by("at").agg(size=(size * pl.col("again")).sum()).collect()
    at = repeats["at"].to_numpy()
    share[many[at]] = repeats["size"].to_numpy() / chosen.gather(at).str.len_chars().to_numpy()
    return share


def loop_share(answers: pl.Series, looping: Flags) -> Shares:
    """The share of an answer that is one piece of up to 64 characters over and over, at its end.

    A model caught in a loop does not leave it, so the end is the place to look. 0 for fewer than
    five repeats, for less than 40 characters, and for pieces without a letter or digit (rules of
    dashes, dot leaders). Only `looping` answers are looked at.
    """
    share = np.zeros(len(answers), np.float32)
    # Python: comparing a text with itself shifted has no vectorised form; a few rows get here.
    for row in np.flatnonzero(looping).tolist():
        share[row] = _looped(answers[row].rstrip())
    return share


def _looped(text: str) -> float:
    before = text.rfind(text[-_LOOP_PROBE:], 0, -1)
    period = len(text) - _LOOP_PROBE - before
    if before < 0 or not any(sign.isalnum() for sign in text[-period:]):
        return 0.0
    start = len(text) - period
    while start > 0 and text[start - 1] == text[start - 1 + period]:
        start -= 1
    looped = len(text) - start
    return looped / len(text) if looped >= max(_LOOP_REPEATS * period, _LOOP_CHARS) else 0.0
