"""What `winnow train sft` reads: one YAML file, checked before anything is loaded."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    Discriminator,
    Field,
    Tag,
    ValidationError,
)

from pipelines.engines.local.config import Dtype
from pipelines.paths import from_home
from pipelines.train.selection_config import Selection, Uds
from pipelines.train.tuning import Tuning, tuning_problems
from pipelines.yaml_config import RecipeError, problem_line, read_yaml

HomePath = Annotated[Path, AfterValidator(from_home)]


class RunTable(BaseModel, frozen=True, extra="forbid"):
    """The rows that a finished run kept. They are exported into the output folder."""

    run: str = Field(description="Id of a run, its beginning, or latest.")
    held_out: float | None = Field(
        default=None, gt=0, lt=1, description="Share of the prompts that is set aside."
    )


class FileTable(BaseModel, frozen=True, extra="forbid"):
    """An export of the format messages, by its path. The manifest beside it names its hash."""

    path: HomePath


def _kind(value: object) -> str | None:
    if isinstance(value, RunTable | FileTable):
        return "run" if isinstance(value, RunTable) else "path"
    if not isinstance(value, Mapping) or ("path" in value) == ("run" in value):
        return None
    return "run" if "run" in value else "path"


Table = Annotated[
    Annotated[RunTable, Tag("run")] | Annotated[FileTable, Tag("path")],
    Discriminator(
        _kind,
        custom_error_type="table_kind",
        custom_error_message="a table has either run: (a finished run) or path: (an export)",
    ),
]


class TrainingConfig(Tuning, frozen=True):
    """Supervised fine-tuning. Paths are relative to the current directory."""

    model: str = Field(description="A bundled name, a local folder or a hub id.")
    revision: str | None = Field(default=None, description="Branch, tag or commit of a hub id.")
    dtype: Dtype = Field(default="float32", description="Precision of the weights.")
    table: Table
    held_out: Literal["split"] | FileTable | None = Field(
        default=None,
        description="What the loss is measured on: the held-out side of the table, or a file.",
    )
    output: HomePath
    selection: Selection = Uds()
    keep_checkpoints: int = Field(default=2, ge=1, description="Checkpoints that stay.")
    log_every: int = Field(default=10, ge=1, description="Steps between figures.")
    eval_every: int | None = Field(
        default=None, ge=1, description="Steps between held-out losses; one at the end in any case."
    )
    seed: int = Field(default=0, ge=0)
    device: Literal["auto", "cpu", "cuda"] = Field(
        default="auto", description="auto: a CUDA GPU if there is one."
    )


# These do not change what a training comes to, and a later call may change them.
NOT_THE_TRAINING: Final = frozenset(
    {"output", "table", "held_out", "save_every", "keep_checkpoints", "log_every", "device"}
)


def load_training(path: Path, changes: Sequence[str] = ()) -> TrainingConfig:
    """The config in `path`, with `changes` ("dotted.key=value") applied. Raises RecipeError."""
    raw = read_yaml(path, changes, tuple(TrainingConfig.model_fields))
    return parse_training(raw, str(path))


def parse_training(raw: Mapping[str, Any], where: str = "the config") -> TrainingConfig:
    """A checked config from plain values. Raises RecipeError with all problems."""
    try:
        config = TrainingConfig.model_validate(raw)
    except ValidationError as error:
        raise RecipeError([problem_line(problem) for problem in error.errors()], where) from None
    if problems := _problems(config):
        raise RecipeError(problems, where)
    return config


def _problems(config: TrainingConfig) -> list[str]:
    problems = tuning_problems(config)
    run_split = isinstance(config.table, RunTable) and config.table.held_out
    if config.held_out == "split" and isinstance(config.table, RunTable) and not run_split:
        problems.append("held_out: split needs a share: table: {run: ..., held_out: 0.1}")
    if config.eval_every is not None and config.held_out is None:
        problems.append("eval_every: there is nothing to evaluate on without held_out")
    return problems
