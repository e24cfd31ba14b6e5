"""Which format a file is in, from its first records."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from pipelines.readers.formats.catalog import FORMATS, Columns, Convert, Format
from pipelines.readers.formats.conversation import Conversation
from pipelines.readers.formats.fields import MISSING, Fields, peek
from pipelines.readers.formats.pair import Pair
from pipelines.readers.formats.plain import Plain
from pipelines.readers.formats.turns import is_turn, is_turns
from pipelines.readers.records import named
from pipelines.readers.source import SourceError
from schemas.rows import RowType

# Of the sound records at the beginning of a file; fewer than this share in a format is none.
SAMPLE: Final = 300
LEAST_SHARE: Final = 0.05
# What `columns:` without a format may map: the parts that make the family, and those beside them.
_FAMILIES: Final[tuple[tuple[RowType, Any, frozenset[str], frozenset[str]], ...]] = (
    (
        "preference",
        Pair,
        frozenset({"chosen", "rejected"}),
        frozenset(
            {"prompt", "input", "system", "messages", "tools"}
            | {"score_chosen", "score_rejected", "margin"}
        ),
    ),
    ("instruction", Conversation, frozenset({"messages"}), frozenset({"system", "tools", "label"})),
    (
        "instruction",
        Plain,
        frozenset({"prompt", "response"}),
        frozenset({"input", "system", "history", "tools", "label"}),
    ),
)


@dataclass(frozen=True)
class Found:
    """The format of a file: its name, what rows it gives, which column plays which part.

    `columns` has those that are there in the first records; `convert` knows of the others too.
    """

    name: str
    row_type: RowType
    columns: Columns
    convert: Convert


def find_format(file: str, sample: list[Fields], name: str | None, given: Columns) -> Found | None:
    """The format of `file`, whose first sound records are `sample`; None if that is empty.

    `name` and `given` are what the recipe says under `format` and `columns`. Raises SourceError,
    saying what columns there are, what each format lacks, and what to write.
    """
    if given and name is None:
        found = _mapped(file, given)
        check_there(file, sample, found.columns.values(), "columns:")
        return found
    formats = [one for one in FORMATS if name in (None, one.name)]
    if not sample:
        return _found(formats[0], sample, given) if name else None
    counted = [(_fitting(one, sample, given), one) for one in formats]
    most = max(count for count, _ in counted)
    if most < LEAST_SHARE * len(sample):
        raise SourceError(_unknown(file, sample, formats, given))
    best = [one for count, one in counted if count == most]
    rivals = {one.name for one in best}
    if len(rivals) > 1 and not best[0].pairs:
        names = ", ".join(sorted(rivals))
        raise SourceError(
            f"{file} could be read as {names}. Say which: source: {{format: {best[0].name}}}. "
            f"Columns: {_columns(sample)}."
        )
    return _found(best[0], sample, given)


def _found(one: Format, sample: list[Fields], given: Columns) -> Found:
    columns = one.mapped(sample, given)
    there = {
        part: column
        for part, column in columns.items()
        if any(peek(record, column) is not MISSING for record in sample)
    }
    return Found(one.name, one.row_type, there, one.convert(columns))


def _fitting(one: Format, sample: list[Fields], given: Columns) -> int:
    columns = {**one.columns, **given}
    return sum(not one.lacks(record, columns) for record in sample)


def _mapped(file: str, given: Columns) -> Found:
    parts = set(given)
    for row_type, convert, needed, beside in _FAMILIES:
        if needed <= parts:
            if strange := sorted(parts - needed - beside):
                raise SourceError(
                    f"columns: {', '.join(strange)} cannot stand beside "
                    f"{', '.join(sorted(needed))} (allowed: {', '.join(sorted(beside))})."
                )
            return Found("columns", row_type, dict(given), convert(dict(given)))
    raise SourceError(
        f"columns: for {file} names {', '.join(sorted(parts))}; a mapping needs prompt and "
        "response, or messages, or chosen and rejected (or a format: whose columns it renames)."
    )


def check_there(file: str, sample: list[Fields], columns: Iterable[str], option: str) -> None:
    """Raise SourceError for columns, named under `option`, that none of the sample has."""
    absent = [
        column
        for column in columns
        if sample and all(peek(record, column) is MISSING for record in sample)
    ]
    if absent:
        raise SourceError(
            f"{file} has no column {', '.join(absent)}, which {option} names. "
            f"There are: {_columns(sample)}."
        )


def _unknown(file: str, sample: list[Fields], formats: list[Format], given: Columns) -> str:
    lines = [
        f"{file}: the first {len(sample)} records are in none of the known formats.",
        f"Columns: {_columns(sample)}.",
        "Each format lacks:",
    ]
    for one in {one.name: one for one in formats}.values():
        columns = {**one.columns, **given}
        common = Counter(tuple(one.lacks(record, columns)) for record in sample)
        lines.append(f"  - {one.name}: {' and '.join(common.most_common(1)[0][0])}")
    lines += [
        "Map the columns in the recipe, dots lead into nested values:",
        "  source: {path: ..., columns: {prompt: COLUMN, response: COLUMN}}",
        "  (or messages: COLUMN; or prompt, chosen and rejected)",
    ]
    return "\n".join(lines)


def _columns(sample: list[Fields]) -> str:
    """Each column with what it mostly holds."""
    kinds: dict[str, Counter[str]] = {}
    for record in sample:
        for column, value in record.items():
            kinds.setdefault(column, Counter())[_kind(value)] += 1
    return ", ".join(f"{name} ({kind.most_common(1)[0][0]})" for name, kind in kinds.items())


def _kind(value: Any) -> str:
    if is_turns(value):
        return "a list of messages"
    if is_turn(value):
        return "a message"
    if type(value) is dict:
        return f"an object with {', '.join(list(value)[:6])}"
    return named(value).partition(" (")[0]
