"""Configs in YAML: read with care, changed by `--set`, and told what is wrong with all of them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml


class RecipeError(Exception):
    """A config (or a `--set`) is wrong. `problems` lists everything that is."""

    def __init__(self, problems: Sequence[str], where: str = "the recipe") -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join([f"{where} is wrong:", *(f"  - {p}" for p in problems)]))


class _OneOfEach(yaml.SafeLoader):
    """YAML without keys that stand twice; of those, the first would vanish without a word."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        twice = sorted({key for key in keys if keys.count(key) > 1})
        if twice:
            raise yaml.constructor.ConstructorError(
                None, None, f"'{twice[0]}' stands there twice", node.start_mark
            )
        return super().construct_mapping(node, deep)


def read_yaml(path: Path, changes: Sequence[str], sections: Sequence[str]) -> dict[Any, Any]:
    """What stands in `path`, with `changes` ("dotted.key=value", values in YAML) applied.

    sections: what may stand there, for the message. Raises RecipeError.
    """
    where = str(path)
    try:
        raw = yaml.load(path.read_text(encoding="utf-8"), _OneOfEach)  # a SafeLoader
    except OSError as error:
        raise RecipeError([f"cannot be read: {error.strerror}"], where) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise RecipeError([f"is no YAML: {_what_and_where(error)}"], where) from None
    if not isinstance(raw, dict):
        raise RecipeError(
            [f"holds {type(raw).__name__}, not sections {', '.join(sections)}"], where
        )
    for change in changes:
        apply_change(raw, change)
    return raw


def problem_line(problem: Any) -> str:
    """One of pydantic's errors as a line: where, what, and what was found there."""
    place = problem["loc"]
    # What comes behind these says only of which kind they are: path or hub, path or run.
    if place[:1] in (("source",), ("table",)):
        place = (place[0], *place[2:])
    path = ".".join(str(part) for part in place)
    message = problem["msg"].removeprefix("Value error, ")
    if problem["type"] == "extra_forbidden":
        message = "is not known here"
    if problem["type"] == "missing":
        message = "is missing"
    found = problem.get("input")
    plain = isinstance(found, str | int | float | bool) and not _may_be_a_key(problem)
    where = f"{path}: " if path else ""
    return f"{where}{message}" + (f" (found: {found!r})" if plain else "")


def _may_be_a_key(problem: Any) -> bool:
    """Whether a secret may stand there by mistake: such a value is not repeated.

    That is any text in the place of a model's option, or under a name that is not known.
    """
    strange = problem["type"] == "extra_forbidden" or problem["loc"][:1] == ("models",)
    return strange and isinstance(problem["input"], str)


def _what_and_where(error: yaml.YAMLError | UnicodeDecodeError) -> str:
    """Without the line itself, which yaml would quote: it may hold a key."""
    if not isinstance(error, yaml.MarkedYAMLError) or error.problem_mark is None:
        return str(error) if isinstance(error, UnicodeDecodeError) else type(error).__name__
    mark = error.problem_mark
    return f"{error.problem} (line {mark.line + 1}, column {mark.column + 1})"


def apply_change(raw: dict[Any, Any], change: str) -> None:
    """Set one dotted key. In lists, a part is a number or the name (or kind) of an entry."""
    key, equals, text = change.partition("=")
    if not equals or not key:
        raise RecipeError([f"'{change}' is not of the form dotted.key=value"], "--set")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        what = _what_and_where(error)
        raise RecipeError([f"the value of {key} is no YAML: {what}"], "--set") from None
    place: Any = raw
    parts = key.split(".")
    while True:
        part, parts, place = _step(place, parts, key)
        if not parts:
            place[part] = value
            return
        if isinstance(place, dict) and place.get(part) is None:
            place[part] = {}
        place = place[part]


def _step(place: Any, parts: list[str], key: str) -> tuple[Any, list[str], Any]:
    """The next key or index within `place`, the parts that remain, and `place`."""
    if isinstance(place, dict):
        return parts[0], parts[1:], place
    if not isinstance(place, list):
        raise RecipeError([f"{key}: there is nothing to set below {place!r}"], "--set")
    if parts[0].isdigit() and int(parts[0]) < len(place):
        return int(parts[0]), parts[1:], place
    # Names and kinds hold dots themselves: the longest match wins.
    for length in range(len(parts), 0, -1):
        name = ".".join(parts[:length])
        for index, entry in enumerate(place):
            if isinstance(entry, dict) and name in (entry.get("name"), entry.get("kind")):
                return index, parts[length:], place
    there = [str(e.get("name") or e.get("kind")) for e in place if isinstance(e, dict)]
    raise RecipeError([f"{key}: no entry '{'.'.join(parts)}' (there: {', '.join(there)})"], "--set")
