"""The engines of a run: opened when first asked for, counted, closed at the end."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from stages.engines import Engine, EngineError, Usage


@dataclass
class Models:
    """Engines by their name in the recipe.

    open_engine  turns a model's config into an engine
    """

    configs: Mapping[str, Any]
    open_engine: Callable[[Any], Engine]
    opened: dict[str, Engine] = field(default_factory=dict)
    closed_usage: Usage = field(default_factory=Usage)

    def engine(self, name: str) -> Engine:
        if name not in self.opened:
            if name not in self.configs:
                raise EngineError(f"the recipe names no model '{name}'")
            self.opened[name] = self.open_engine(self.configs[name])
        return self.opened[name]

    def probe(self) -> None:
        """Ask every open engine something that it must be able to answer."""
        for engine in self.opened.values():
            engine.probe()

    def usage(self) -> Usage:
        """What all engines have done since this object was made."""
        total = self.closed_usage
        for engine in self.opened.values():
            total = total.plus(engine.usage)
        return total.copy()

    def close(self) -> None:
        """Close all engines; the next request opens them anew."""
        self.closed_usage = self.usage()
        opened, self.opened = self.opened, {}
        for engine in opened.values():
            engine.close()
