"""The engines of a run: opened when first asked for, counted, closed at the end."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from threading import RLock
from typing import Any

from pipelines.engines.server.budget import Budgeted, Spent
from stages.engines import Engine, EngineError, Usage


@dataclass
class Models:
    """Engines by their name in the recipe. For several threads at once.

    open_engine  turns a model's config into an engine
    spent        of the budgets of closed engines: one that is opened again goes on from there
    """

    configs: Mapping[str, Any]
    open_engine: Callable[[Any], Engine]
    opened: dict[str, Engine] = field(default_factory=dict)
    spent: dict[str, Spent] = field(default_factory=dict)
    making: dict[str, Callable[[], None]] = field(default_factory=dict)
    closed_usage: Usage = field(default_factory=Usage)
    said: set[tuple[str, str]] = field(default_factory=set)
    lock: Any = field(default_factory=RLock, repr=False)

    def engine(self, name: str) -> Engine:
        with self.lock:  # two threads must not open one model twice
            if name not in self.opened:
                if name not in self.configs:
                    raise EngineError(f"the recipe names no model '{name}'")
                self._make(name)
                engine = self.open_engine(self.configs[name])
                if isinstance(engine, Budgeted) and name in self.spent:
                    engine.go_on_from(self.spent[name])
                self.opened[name] = engine
            return self.opened[name]

    def make_before(self, name: str, config: Any, make: Callable[[], None]) -> None:
        """Open `name` by this config, and only after `make` has made it."""
        if name not in self.making and name not in self.opened:
            self.configs = {**self.configs, name: config}
            self.making[name] = make

    def _make(self, name: str) -> None:
        if name in self.making:
            self.close()  # their memory is needed
            self.making[name]()

    def chunks_at_once(self, names: Collection[str]) -> int:
        """How many chunks to have in hand so that none of these models waits for work.

        A model that answers one call at a time lets the others' chunks queue; that costs nothing.
        """
        return max((self.configs[name].chunks_at_once for name in names), default=1)

    def new_notes(self) -> list[str]:
        """What the open engines have to say and have not said before."""
        with self.lock:
            notes = [(name, note) for name, engine in self.opened.items() for note in engine.notes]
        new = [one for one in dict.fromkeys(notes) if one not in self.said]
        self.said.update(new)
        return [f"{name}: {note}" for name, note in new]

    def probe(self) -> None:
        """Ask every open engine something that it must be able to answer."""
        for engine in tuple(self.opened.values()):
            engine.probe()

    def usage(self) -> Usage:
        """What all engines have done since this object was made."""
        with self.lock:
            total = self.closed_usage
            for engine in self.opened.values():
                total = total.plus(engine.usage)
            return total.copy()

    def keep_only(self, names: Collection[str]) -> None:
        """Close the engines that nothing later asks for: their memory is needed."""
        self._close([name for name in self.opened if name not in names])

    def close(self) -> None:
        """Close all engines; the next request opens them anew."""
        self._close(list(self.opened))

    def _close(self, names: Collection[str]) -> None:
        with self.lock:
            leaving = {name: self.opened.pop(name) for name in names}
            for engine in leaving.values():
                self.closed_usage = self.closed_usage.plus(engine.usage)
        for name, engine in leaving.items():
            engine.close()
            if isinstance(engine, Budgeted):
                self.spent[name] = engine.spent
