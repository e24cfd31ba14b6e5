"""The formats, and how each is known: which columns it needs and what must be in them.

The order matters where several fit one record equally well: pairs go before everything else.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from pipelines.readers.formats.conversation import Conversation
from pipelines.readers.formats.fields import MISSING, Fields, flag_of, peek
from pipelines.readers.formats.pair import Pair, Transcripts, is_transcript
from pipelines.readers.formats.plain import Plain
from pipelines.readers.formats.turns import is_turn, is_turns
from pipelines.readers.records import named
from schemas.rows import RowType

Columns = Mapping[Any, str]  # part (a ColumnName) -> input column
Convert = Callable[[Fields], tuple[Any, ...]]


def _is_text(value: Any) -> bool:
    return type(value) is str


def _is_text_or_turns(value: Any) -> bool:
    return _is_text(value) or is_turns(value)


def _is_answer(value: Any) -> bool:
    return is_turn(value) or is_turns(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_label(value: Any) -> bool:
    return flag_of(value) is not None


def _is_tools(value: Any) -> bool:
    """A list, or the JSON text of one."""
    return type(value) is list or (_is_text(value) and value.strip()[:1] in ("", "["))


_OPTIONAL: Final[Mapping[str, Callable[[Any], bool]]] = {
    "input": _is_text,
    "system": _is_text,
    "history": lambda value: type(value) is list,
    "tools": _is_tools,
    "label": _is_label,
    "score_chosen": _is_number,
    "score_rejected": _is_number,
    "margin": _is_number,
}
_KINDS: Final[Mapping[Callable[[Any], bool], str]] = {
    _is_text: "text",
    is_transcript: "a Human/Assistant transcript",
    is_turns: "a list of messages",
    _is_text_or_turns: "text or messages",
    _is_answer: "messages",
}


@dataclass(frozen=True)
class Format:
    """One way of writing rows. Several entries of one name are spellings of the same format.

    needs     part -> what its values must be, in at least some records
    columns   part -> the usual name of its column; parts beyond `needs` may be absent
    """

    name: str
    row_type: RowType
    convert: Callable[[Columns], Convert]
    needs: Mapping[str, Callable[[Any], bool]]
    columns: Columns
    pairs: bool = field(default=False)

    def lacks(self, record: Fields, columns: Columns) -> list[str]:
        """What keeps a record from being of this format; empty if nothing does."""
        lacking = []
        for part, fits in self.needs.items():
            value = peek(record, columns[part])
            if value is MISSING or value is None:
                lacking.append(f"'{columns[part]}'")
            elif not fits(value):
                kind = _KINDS[fits]
                lacking.append(f"{kind} in '{columns[part]}' (it is {named(value)})")
        return lacking

    def mapped(self, sample: list[Fields], given: Columns) -> Columns:
        """Columns to use: `given` before the usual ones.

        A usual column that need not be there is left alone if all its values are of another kind
        (a `label` that holds class names is no KTO label).
        """
        columns = {**self.columns, **given}
        for part, fits in _OPTIONAL.items():
            if part in given or part not in columns:
                continue
            if part == "label" and _fit(sample, "kto_tag", fits) and "label" not in given:
                columns[part] = "kto_tag"
            values = [peek(record, columns[part]) for record in sample]
            there = [value for value in values if value is not MISSING and value is not None]
            if there and not any(fits(value) for value in there):
                del columns[part]
        return columns


def _fit(sample: list[Fields], column: str, fits: Callable[[Any], bool]) -> bool:
    return any(fits(record.get(column)) for record in sample)


_ASIDE: Final = {"system": "system", "tools": "tools", "label": "label"}
_SCORES: Final = {name: name for name in ("score_chosen", "score_rejected", "margin")}
_SIDES: Final = {"chosen": "chosen", "rejected": "rejected"}


def _plain(name: str, prompt: str, response: str, **more: str) -> Format:
    fits = _is_text_or_turns if name.startswith("prompt") else _is_text
    columns = {"prompt": prompt, "response": response, **_ASIDE, **more}
    return Format(name, "instruction", Plain, {"prompt": fits, "response": fits}, columns)


def _conversation(name: str, column: str) -> Format:
    columns = {"messages": column, **_ASIDE}
    return Format(name, "instruction", Conversation, {"messages": is_turns}, columns)


def _pair(needs: Mapping[str, Callable[[Any], bool]], **more: str) -> Format:
    columns = {**_SIDES, **_SCORES, "system": "system", "tools": "tools", **more}
    return Format("preference", "preference", Pair, needs, columns, pairs=True)


_SIDE_NEEDS: Final = {"chosen": _is_text_or_turns, "rejected": _is_text_or_turns}
_ANSWER_NEEDS: Final = {"chosen": _is_answer, "rejected": _is_answer}

FORMATS: Final = (
    Format(
        "transcripts",
        "preference",
        Transcripts,
        {"chosen": is_transcript, "rejected": is_transcript},
        {**_SIDES, **_SCORES},
        pairs=True,
    ),
    _pair({**_SIDE_NEEDS, "prompt": _is_text_or_turns}, prompt="prompt"),
    _pair({**_ANSWER_NEEDS, "messages": is_turns}, messages="conversations"),
    _pair({**_SIDE_NEEDS, "prompt": _is_text}, prompt="instruction", input="input"),
    _pair({**_SIDE_NEEDS, "prompt": _is_text}, prompt="question"),
    _pair({"chosen": is_turns, "rejected": is_turns}),
    _conversation("messages", "messages"),
    _conversation("sharegpt", "conversations"),
    _plain("alpaca", "instruction", "output", input="input", history="history"),
    _plain("dolly", "instruction", "response", input="context"),
    _plain("prompt-completion", "prompt", "completion"),
    _plain("prompt-response", "prompt", "response"),
    _plain("question-answer", "question", "answer"),
)
