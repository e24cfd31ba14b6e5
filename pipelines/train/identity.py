"""What a training is: all that decides what comes of it, to be compared before it goes on."""

import platform
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from typing import Any, Final

from pipelines.engines.sources import ModelSource, weights_identity
from pipelines.train.config import NOT_THE_TRAINING, TrainingConfig
from pipelines.train.tables import TableFile, TableFiles

_PACKAGES: Final = ("winnow", "torch", "transformers", "trl", "peft", "accelerate")


def identity(
    config: TrainingConfig, source: ModelSource, tables: TableFiles, processes: int
) -> dict[str, Any]:
    """JSON-able. Raises ModelUnavailable where the model's files are not there.

    processes: each of them has candidates and a memory of its own.
    """
    return {
        "config": config.model_dump(mode="json", exclude=set(NOT_THE_TRAINING)),
        "model": weights_identity(source),
        "table": tables.train.identity(),
        "held_out": _of_side(tables.held_out),
        "processes": processes,
    }


def _of_side(side: TableFile | None) -> dict[str, Any] | None:
    return None if side is None else side.identity()


def versions() -> dict[str, str]:
    """Of Python and of the libraries that train. They do not decide whether a training goes on."""
    return {"python": platform.python_version(), **{name: version(name) for name in _PACKAGES}}


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """A line for each value that differs, by its dotted name."""
    old, new = dict(_flat(before)), dict(_flat(now))
    return [
        f"{name}: was {old.get(name)!r}, is {new.get(name)!r}"
        for name in dict.fromkeys([*old, *new])
        if old.get(name) != new.get(name)
    ]


def _flat(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping) and value:
        for key, inner in value.items():
            yield from _flat(inner, f"{name}.{key}" if name else str(key))
    else:
        yield name, value
