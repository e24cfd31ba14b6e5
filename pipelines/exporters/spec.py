"""What an export is to look like: one frozen config for each format, joined on `format`."""

from pathlib import Path
from typing import Annotated, ClassVar, Final, Literal, get_args

from pydantic import (
    AfterValidator,
    AliasChoices,
    BaseModel,
    ConfigDict,
    Field,
    TypeAdapter,
    field_validator,
    model_validator,
)

from pipelines.paths import from_home
from schemas.rows import RowType

COMPRESSIONS: Final = (".gz", ".zst")
TEXT_SUFFIXES: Final = (".jsonl", ".ndjson", ".json")


class Split(BaseModel, frozen=True, extra="forbid"):
    """Set a share of the prompts aside.

    A row is held out if the hash of (seed, prompt) falls under `held_out`. So all rows with one
    prompt are on the same side, a row never changes sides when others are added or dropped, and
    the share is met on average: its standard deviation is sqrt(p * (1 - p) / prompts), 0.7 % for
    5 % of 1,000 prompts.

    The prompt is the first system turn and the first user turn, so that a conversation and its own
    continuation are never parted; for audio questions it is the sound.
    """

    held_out: float = Field(gt=0, lt=1, description="Share of the prompts, above 0 and below 1.")
    by: Literal["prompt"] = "prompt"
    seed: int | None = Field(default=None, description="By default the seed of the recipe.")


class Card(BaseModel):
    """What the dataset card says beside what the run knows by itself."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    license: str | None = Field(
        default=None,
        validation_alias=AliasChoices("license", "licence"),
        description="An identifier of the hub, such as apache-2.0 or cc-by-sa-4.0.",
    )
    language: tuple[str, ...] = Field(default=(), description="ISO 639-1 codes, such as en.")
    title: str | None = None
    description: str | None = None
    tags: tuple[str, ...] = ()

    @field_validator("language", "tags", mode="before")
    @classmethod
    def _one_or_many(cls, value: object) -> object:
        return (value,) if isinstance(value, str) else value


class _Export(BaseModel, frozen=True, extra="forbid"):
    """`path` may end in .gz or .zst where the format is text.

    With `split`, `clean.jsonl` becomes `clean.train.jsonl` and `clean.held_out.jsonl`. The manifest
    is `clean.jsonl.manifest.json` either way.
    """

    path: Annotated[Path, AfterValidator(from_home)]
    split: Split | None = None
    row_type: RowType | None = Field(
        default=None, description="Which rows to write, where the set holds several types."
    )

    suffixes: ClassVar[tuple[str, ...]] = TEXT_SUFFIXES
    row_types: ClassVar[tuple[RowType, ...]] = ("instruction",)

    @field_validator("path")
    @classmethod
    def _known_suffix(cls, path: Path) -> Path:
        packed = cls.suffixes == TEXT_SUFFIXES and path.suffix in COMPRESSIONS
        suffix = path.with_suffix("").suffix if packed else path.suffix
        if suffix not in cls.suffixes:
            endings = ", ".join(cls.suffixes)
            more = (
                f", also followed by {' or '.join(COMPRESSIONS)}" if len(cls.suffixes) > 1 else ""
            )
            raise ValueError(f"this format is written to a file ending in {endings}{more}")
        return path


class _Records(_Export, frozen=True):
    """JSON records, one a line; a path ending in .json gets one JSON array."""

    with_id: bool = Field(default=False, description="Add the column winnow_id, the row's id.")


class Messages(_Records, frozen=True):
    """`messages` in OpenAI's shape, `tools` and `label` where a row has them. Holds every row."""

    format: Literal["messages"] = "messages"


class PromptCompletion(_Records, frozen=True):
    """`prompt` and `completion` (the last assistant turn), as TRL's SFT and KTO trainers take them.

    Holds rows that end with an answer and have a turn before it.

    `conversational` writes lists of messages; `plain` writes strings and holds rows of one user
    turn and one answer.
    """

    format: Literal["prompt-completion"] = "prompt-completion"
    style: Literal["conversational", "plain"] = "conversational"


class Alpaca(_Records, frozen=True):
    """`instruction`, `input`, `output`, and `system` and `history` as LLaMA-Factory reads them.

    The user's turn is the instruction and `input` is empty. Holds no tools.
    """

    format: Literal["alpaca"] = "alpaca"


class ShareGpt(_Records, frozen=True):
    """`conversations` of `from` (system, human, gpt, function_call, observation) and `value`.

    Holds one tool call a turn, without words beside it; the ids of calls are left out, since each
    observation follows its call. After a system turn, human (or observation) and gpt (or
    function_call) speak by turns and the latter last: LLaMA-Factory skips all other rows.
    """

    format: Literal["sharegpt"] = "sharegpt"


class Preference(_Records, frozen=True):
    """`prompt`, `chosen`, `rejected`, and tools and scores where a pair has them.

    `conversational` writes lists of messages; `plain` writes strings and holds pairs of one user
    turn and one answer each.
    """

    format: Literal["preference"] = "preference"
    style: Literal["conversational", "plain"] = "conversational"

    row_types: ClassVar[tuple[RowType, ...]] = ("preference",)


class Parquet(_Export, frozen=True):
    """The canonical columns as they are, and each column of the source that was not mapped."""

    format: Literal["parquet"] = "parquet"

    suffixes: ClassVar[tuple[str, ...]] = (".parquet",)
    row_types: ClassVar[tuple[RowType, ...]] = get_args(RowType)


Layout = Literal["messages", "prompt-completion", "preference", "rows"]
LAYOUTS: Final[dict[RowType, tuple[Layout, ...]]] = {
    "instruction": ("messages", "prompt-completion"),
    "preference": ("preference",),
    "audio_question": ("rows",),
    "document": ("rows",),
    "response": ("rows",),
}


class HuggingFace(_Export, frozen=True):
    """A folder that `datasets.load_from_disk` and `load_dataset` both open, with a dataset card.

    With `split` the sides are `train` and `test`, as trainers call them by default.
    """

    format: Literal["hf"] = "hf"
    layout: Layout | None = Field(
        default=None, description="By default the first that the row type has."
    )
    with_id: bool = Field(default=False, description="Add the column winnow_id, the row's id.")
    card: Card = Card()

    suffixes: ClassVar[tuple[str, ...]] = ()
    row_types: ClassVar[tuple[RowType, ...]] = get_args(RowType)

    @field_validator("path")
    @classmethod
    def _known_suffix(cls, path: Path) -> Path:
        if path.name in ("", ".."):
            raise ValueError(
                "the folder needs a name of its own, since an export replaces it whole"
            )
        if path.suffix in (*TEXT_SUFFIXES, *COMPRESSIONS, ".parquet"):
            raise ValueError(
                f"this format is written to a folder, and {path.name} is a file's name"
            )
        return path

    @model_validator(mode="after")
    def _layout_of_the_row_type(self) -> "HuggingFace":
        if self.layout and self.row_type and self.layout not in LAYOUTS[self.row_type]:
            fitting = ", ".join(LAYOUTS[self.row_type])
            raise ValueError(f"layout {self.layout} does not hold {self.row_type} rows: {fitting}")
        return self


Records = Messages | PromptCompletion | Alpaca | ShareGpt | Preference
Export = Annotated[Records | Parquet | HuggingFace, Field(discriminator="format")]
EXPORT: Final[TypeAdapter[Records | Parquet | HuggingFace]] = TypeAdapter(Export)
FORMATS: Final[dict[str, type[_Export]]] = {
    "messages": Messages,
    "prompt-completion": PromptCompletion,
    "alpaca": Alpaca,
    "sharegpt": ShareGpt,
    "preference": Preference,
    "parquet": Parquet,
    "hf": HuggingFace,
}


def formats_for(row_type: RowType) -> tuple[str, ...]:
    """The formats that can hold rows of that type."""
    return tuple(name for name, export in FORMATS.items() if row_type in export.row_types)
