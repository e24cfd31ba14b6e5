"""What a stage is given beside its rows: the seed, the engines, and vectors."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from stages.engines import (
    Chooser,
    Contradiction,
    Embedder,
    EngineError,
    Generator,
    HiddenStates,
    Likelihood,
    LogitGeometry,
    Neighbours,
)

T = TypeVar("T")


def _no_matrix(column: str) -> npt.NDArray[np.float16]:
    raise KeyError(f"this stage has no vector column '{column}'")


def _no_neighbours() -> Neighbours:
    raise EngineError("no neighbour index is installed: uv sync --inexact --extra cpu (or gpu)")


@dataclass(frozen=True)
class Context:
    """Engines by their name in the recipe, opened when first asked for.

    engine      opens or returns the engine of that name
    matrix      float16 (rows, dim), memory-mapped, in order of place: the rows that `decide` sees
    neighbours  opens the neighbour index (`decide` only)
    progress    a stage whose `decide` is slow reports (rows done, rows in all) here
    """

    seed: int = 0
    engine: Callable[[str], Any] = field(default=lambda name: _unknown(name))
    matrix: Callable[[str], npt.NDArray[np.float16]] = _no_matrix
    neighbours: Callable[[], Neighbours] = _no_neighbours
    progress: Callable[[int, int], None] = field(default=lambda done, total: None)

    def generator(self, model: str) -> Generator:
        return self._as(model, Generator)

    def chooser(self, model: str) -> Chooser:
        return self._as(model, Chooser)

    def likelihood(self, model: str) -> Likelihood:
        return self._as(model, Likelihood)

    def hidden_states(self, model: str) -> HiddenStates:
        return self._as(model, HiddenStates)

    def logit_geometry(self, model: str) -> LogitGeometry:
        return self._as(model, LogitGeometry)

    def embedder(self, model: str) -> Embedder:
        return self._as(model, Embedder)

    def contradiction(self, model: str) -> Contradiction:
        return self._as(model, Contradiction)

    def with_matrix(self, matrix: Callable[[str], npt.NDArray[np.float16]]) -> "Context":
        return replace(self, matrix=matrix)

    def _as(self, model: str, protocol: type[T]) -> T:
        engine = self.engine(model)
        if not isinstance(engine, protocol):
            raise EngineError(
                f"model '{model}' ({type(engine).__name__}) is no {protocol.__name__}"
            )
        return engine

    @classmethod
    def of(cls, engines: Mapping[str, Any], **kwargs: Any) -> "Context":
        """A context over engines that are open already."""
        return cls(
            engine=lambda name: engines[name] if name in engines else _unknown(name), **kwargs
        )


def _unknown(name: str) -> Any:
    raise EngineError(f"the recipe names no model '{name}'")
