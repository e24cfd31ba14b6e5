"""What a recipe says about its input."""

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, get_args

from pydantic import BaseModel, Discriminator, Field, Tag, field_validator

from schemas.rows import RowType

FormatName = Literal[
    "alpaca",
    "dolly",
    "prompt-completion",
    "prompt-response",
    "question-answer",
    "messages",
    "sharegpt",
    "preference",
    "transcripts",
]

ColumnName = Literal[
    "prompt",
    "input",
    "system",
    "history",
    "response",
    "messages",
    "tools",
    "label",
    "chosen",
    "rejected",
    "score_chosen",
    "score_rejected",
    "margin",
]
COLUMN_NAMES: Final[tuple[ColumnName, ...]] = get_args(ColumnName)


class SourceError(Exception):
    """The source cannot be read as the recipe says. The message says what is there instead."""


class _Reading(BaseModel, frozen=True, extra="forbid"):
    format: FormatName | None = Field(
        default=None, description="Found from the first records of each file unless given."
    )
    columns: Mapping[ColumnName, str] = Field(
        default_factory=dict,
        description=(
            "Which input column plays which part; dots lead into nested values "
            "(`response: 6b_finetuning.solution`). With `format`, these replace that format's own "
            "names; without, they are the whole mapping: prompt and response (plus input, system, "
            "history, tools, label), or messages (plus system, tools, label), or chosen and "
            "rejected (plus prompt, input, system, messages, tools, score_chosen, score_rejected, "
            "margin). Whatever is not named here stays in `meta`."
        ),
    )
    id: str | None = Field(
        default=None,
        description="The column with the row's id (text or integer); by default a content hash.",
    )
    row_type: RowType | None = Field(
        default=None, description="Refuse files whose rows are of another type."
    )

    @field_validator("columns")
    @classmethod
    def _one_use_each(cls, columns: Mapping[ColumnName, str]) -> Mapping[ColumnName, str]:
        twice = {name for name in columns.values() if list(columns.values()).count(name) > 1}
        if twice:
            raise ValueError(f"input column '{min(twice)}' is named twice")
        return columns


class FileSource(_Reading, frozen=True, extra="forbid"):
    """Files: jsonl, JSON array, csv, tsv (also .gz and .zst), parquet, folders of `datasets`."""

    path: str | Annotated[tuple[str, ...], Field(min_length=1)] = Field(
        description="File, folder or glob, or a list of them; relative to the current directory. "
        "Files of a glob or folder come in order of their names."
    )

    @property
    def paths(self) -> tuple[str, ...]:
        return (self.path,) if isinstance(self.path, str) else self.path


class HubSource(_Reading, frozen=True, extra="forbid"):
    """A dataset of the Hugging Face hub, or anything else that `datasets.load_dataset` opens."""

    hub: str = Field(description="The dataset's id, like org/name.")
    split: str = "train"
    config: str | None = Field(default=None, description="The dataset's configuration (subset).")
    revision: str | None = Field(default=None, description="Branch, tag or commit.")


def _kind(value: object) -> str | None:
    if isinstance(value, FileSource | HubSource):
        return "hub" if isinstance(value, HubSource) else "path"
    if not isinstance(value, Mapping) or ("path" in value) == ("hub" in value):
        return None
    return "hub" if "hub" in value else "path"


Source = Annotated[
    Annotated[FileSource, Tag("path")] | Annotated[HubSource, Tag("hub")],
    Discriminator(
        _kind,
        custom_error_type="source_kind",
        custom_error_message="a source has either path: (files) or hub: (a dataset's id)",
    ),
]


def described(source: FileSource | HubSource) -> dict[str, Any]:
    """The part of a source that says how records become rows (not where they lie)."""
    return source.model_dump(mode="json", include={"format", "columns", "id", "row_type"})
