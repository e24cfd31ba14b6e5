"""Answers as values of a pydantic model, from any engine that writes text.

The model's JSON schema goes to the engine, which holds its answer to it where it can (guided
decoding), and stands in the chat, because not every engine can and no grammar says everything that
a pydantic model checks. A reply that is not what was asked for is asked for once more, with what
was wrong with it; what is still wrong then is a reason, never a default.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic.json_schema import GenerateJsonSchema

from schemas.ids import digest
from stages.conversation import with_instruction
from stages.engines import Chat, Completion, Generator, Message, Refused, Sampling
from stages.json_reply import Unreadable, json_object

M = TypeVar("M", bound=BaseModel)

INSTRUCTION: Final = """

Reply with one JSON object and nothing else. It must follow this JSON schema:
{schema}"""
REPAIR: Final = """\
That reply cannot be used: {problem}
Reply once more, with the corrected JSON object and nothing else."""

_REPLY: Final = 4_000  # characters of a wrong reply that the repair request repeats
_PROBLEMS: Final = 5  # of them are named
_FOUND: Final = 60  # characters of what was found in the place of the right thing
_NAMED: Final = 500  # characters of all problems together


def structured(
    engine: Generator,
    chats: Sequence[Chat],
    schema: type[M],
    sampling: Sampling,
    keys: Sequence[bytes],
) -> list[list[M | str] | Refused]:
    """`sampling.samples` values of `schema` for each chat; a text says why there is none.

    At most two calls of the engine: one for all chats, one for all repairs. Repairs have noise of
    their own, keyed by the chat's key and the number of the sample, so that an answer depends on
    its own chat alone. What `schema` takes for what (is "4" a number?) is the schema's own affair.
    """
    text = schema_text(schema)
    sampling = replace(sampling, json_schema=text)
    asked = [with_instruction(chat, INSTRUCTION.replace("{schema}", text)) for chat in chats]
    answered: list[list[M | _Problem] | Refused] = [
        found if isinstance(found, Refused) else [_read(one, schema, sampling) for one in found]
        for found in engine.generate(asked, sampling, keys)
    ]
    wrong = {
        (row, number): one
        for row, found in enumerate(answered)
        if not isinstance(found, Refused)
        for number, one in enumerate(found)
        if isinstance(one, _Problem)
    }
    repaired = _repaired(engine, asked, wrong, schema, sampling, keys) if wrong else {}
    return [
        found
        if isinstance(found, Refused)
        else [
            repaired[row, number] if isinstance(one, _Problem) else one
            for number, one in enumerate(found)
        ]
        for row, found in enumerate(answered)
    ]


def schema_text(schema: type[BaseModel]) -> str:
    """The JSON schema of a model in one line, properties in the order of the class, no titles."""
    found = schema.model_json_schema(schema_generator=_Untitled)
    for model in (found, *found.get("$defs", {}).values()):
        model.pop("title", None)
    return json.dumps(found, ensure_ascii=False, separators=(",", ":"))


class _Untitled(GenerateJsonSchema):
    """Without the titles that pydantic derives from the names: tokens that say nothing new."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False


@dataclass(frozen=True)
class _Problem:
    """A reply, and what is wrong with it."""

    reply: str
    what: str


def _read(completion: Completion, schema: type[M], sampling: Sampling) -> M | _Problem:
    reply = completion.text
    try:
        # As JSON, not as Python's values: only so are a date or an enum what they are in the file.
        return schema.model_validate_json(json.dumps(json_object(reply)))
    except Unreadable as error:
        what = str(error)
    except ValidationError as error:
        what = _told(error)
    if not completion.finished:
        what = f"it was cut (max_tokens: {sampling.max_tokens}); {what}"
    return _Problem(reply, what)


def _told(error: ValidationError) -> str:
    """Pydantic's words: where, what, and what was found there, a few of them."""
    problems = error.errors(include_url=False, include_context=False)
    lines = []
    for problem in problems[:_PROBLEMS]:
        where = ".".join(str(part) for part in problem["loc"])
        found = "" if problem["type"] == "missing" else f" (found: {_short(problem['input'])})"
        lines.append((f"{where}: " if where else "") + problem["msg"] + found)
    if len(problems) > _PROBLEMS:
        lines.append(f"{len(problems) - _PROBLEMS} more")
    return _cut("; ".join(lines), _NAMED)


def _short(value: Any) -> str:
    return _cut(json.dumps(value, ensure_ascii=False, default=str), _FOUND)


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else text[:length] + " ..."


def _repaired(
    engine: Generator,
    asked: Sequence[Sequence[Message]],
    wrong: Mapping[tuple[int, int], _Problem],
    schema: type[M],
    sampling: Sampling,
    keys: Sequence[bytes],
) -> dict[tuple[int, int], M | str]:
    """What one more request gives for each wrong reply, by (row, number of the sample)."""
    replies = engine.generate(
        [_repair(asked[row], problem) for (row, _), problem in wrong.items()],
        replace(sampling, samples=1),
        [digest(keys[row].hex(), "repair", number) for row, number in wrong],
    )
    return {
        place: _second(problem, found, schema, sampling)
        for (place, problem), found in zip(wrong.items(), replies, strict=True)
    }


def _repair(asked: Sequence[Message], problem: _Problem) -> list[Message]:
    return [
        *asked,
        {"role": "assistant", "content": _cut(problem.reply, _REPLY)},
        {"role": "user", "content": REPAIR.replace("{problem}", problem.what)},
    ]


def _second(
    first: _Problem, found: list[Completion] | Refused, schema: type[M], sampling: Sampling
) -> M | str:
    """The value of the second reply, or what was wrong with both."""
    before = f"the reply is not what was asked for: {first.what}"
    if isinstance(found, Refused):
        return f"{before} (the repair request was refused: {found.reason})"
    second = _read(found[0], schema, sampling)
    if not isinstance(second, _Problem):
        return second
    if second.what == first.what:
        return f"{before} (asked twice)"
    return f"{before} (asked again: {second.what})"
