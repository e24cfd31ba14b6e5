"""What stages there are, told from their docstrings, fields and schemas."""

import importlib
import inspect
import types
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from stages.base import Stage
from stages.catalog import stage_classes


def all_kinds() -> list[dict[str, Any]]:
    """Every kind of stage, in the order of the catalogue: `described_kind` of each."""
    return [described_kind(kind) for kind in stage_classes()]


def described_kind(kind: str) -> dict[str, Any]:
    """kind, summary, and its variants: one, or one for each config of a kind that has several.

    Raises KeyError for a kind that does not exist.
    """
    classes = stage_classes()[kind]
    home = importlib.import_module(f"stages.{kind}")  # the file or folder is named like the kind
    text = inspect.cleandoc(home.__doc__ or "") if len(classes) > 1 else documentation(classes[0])
    # "`clear.filter`: how far ..." -> "how far ..."
    summary = text.partition("\n")[0].removeprefix(f"`{kind}`: ")
    return {
        "kind": kind,
        "summary": summary,
        "variants": [described(stage) for stage in classes],
    }


def documentation(config: type[BaseModel]) -> str:
    return inspect.cleandoc(config.__doc__ or "")


def described(stage: type[Stage]) -> dict[str, Any]:
    """One config of a kind: what picks it, its documentation, fields, reads, scores and needs.

    The last three are those of the stage with its defaults, and with words like `<model>` where a
    field has none.
    """
    example = with_defaults(stage)
    return {
        "when": {
            name: get_args(field.annotation)[0]
            for name, field in stage.model_fields.items()
            if _is_switch(field)
        },
        "version": stage.version,
        "documentation": documentation(stage),
        "accepts": list(stage.accepts),
        "reads": list(example.reads()),
        "scores": {field.name: str(field.type) for field in example.scores()},
        "needs": [
            {"model": need.model, "capabilities": sorted(need.capabilities)}
            for need in example.needs()
        ],
        "calls_per_row": example.calls_per_row(),
        "fields": [
            described_field(name, field)
            for name, field in stage.model_fields.items()
            if name != "kind" and not _is_switch(field)
        ],
    }


def with_defaults(stage: type[Stage]) -> Stage:
    """The stage as a recipe that gives only what must be given would have it."""
    given: dict[str, Any] = {
        name: get_args(field.annotation)[0] if _is_switch(field) else f"<{name}>"
        for name, field in stage.model_fields.items()
        if field.is_required()
    }
    return stage(**given)


def _is_switch(field: FieldInfo) -> bool:
    """Whether the field must be given and tells the configs of a kind apart."""
    return field.is_required() and get_origin(field.annotation) is Literal


def described_field(name: str, field: FieldInfo) -> dict[str, Any]:
    """name, type as `type_name` tells it, required, default, description."""
    default = None if field.is_required() else field.get_default(call_default_factory=True)
    return {
        "name": name,
        "type": type_name(field.annotation),
        "required": field.is_required(),
        "default": default.model_dump(mode="json") if isinstance(default, BaseModel) else default,
        "description": field.description,
    }


def type_name(annotation: Any) -> str:
    """A type as a recipe's author reads it: `drop | flag`, `int | null`, `{above} | {budget}`."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return type_name(inner[0])
    if origin is Literal:
        return " | ".join(str(value) for value in inner)
    if origin in (Union, types.UnionType):
        return " | ".join(type_name(part) for part in inner)
    if annotation is type(None):
        return "null"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "{" + ", ".join(annotation.model_fields) + "}"
    if origin in (tuple, list, frozenset):
        return f"list of {type_name(inner[0])}"
    return str(getattr(annotation, "__name__", annotation))
