"""How a run looks while it works: bars on a terminal, plain lines elsewhere, always on stderr."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

import typer
from rich.console import Console
from rich.progress import BarColumn, TaskID, TextColumn
from rich.progress import Progress as Bars

from pipelines.runner.progress import Progress
from stages.engines import Usage

# Lines of a log that somebody scrolls through tomorrow: often enough to see that it moves.
LINE_EVERY_S: Final = 10.0


@contextmanager
def shown_progress() -> Iterator[Progress]:
    """The progress that fits stderr."""
    if sys.stderr is None or not sys.stderr.isatty():  # None: closed by whoever called
        yield Lines(lambda line: typer.echo(line, err=True))
        return
    bars = TerminalBars(Console(stderr=True))
    try:
        yield bars
    finally:
        bars.close()


@dataclass
class Meter:
    """One step's figures."""

    step: str = ""
    total: int = 0
    before: int = 0  # units that needed no work
    unit: str = "rows"
    done: int = 0  # units done by now, those included
    usage: Usage = field(default_factory=Usage)
    started: float = 0.0

    def advance(self, amount: int, usage: Usage) -> None:
        self.done += amount
        if usage.calls >= self.usage.calls:  # `decide` reports without usage
            self.usage = usage

    def position(self) -> str:
        """`300 of 900 rows`, or "" where the total is not known."""
        if not self.total:
            return ""
        if self.unit == "bytes":
            return f"{size(self.done)} of {size(self.total)}"
        return f"{self.done:,} of {self.total:,} {self.unit}"

    def remaining(self, now: float) -> str:
        """`50 s left`, or "" where nobody can say."""
        done, seconds = self.done - self.before, now - self.started
        if done <= 0 or seconds < 0.5 or self.total <= self.done:
            return ""
        return f"{duration((self.total - self.done) * seconds / done)} left"

    def under_way(self, now: float) -> str:
        """Rates and the time that remains."""
        return ", ".join(part for part in (self.rates(now), self.remaining(now)) if part)

    def rates(self, now: float) -> str:
        """`12 rows/s, 600 model calls, 850 tokens/s`, as far as there is something."""
        seconds = now - self.started
        speed = (self.done - self.before) / seconds if seconds > 0 else 0.0
        parts = []
        if speed > 0 and seconds >= 0.5:  # before that a rate says nothing
            parts.append(
                f"{size(speed)}/s"
                if self.unit == "bytes"
                else f"{speed:,.{0 if speed >= 10 else 1}f} {self.unit}/s"
            )
        if self.usage.calls:
            tokens = self.usage.prompt_tokens + self.usage.completion_tokens
            parts.append(f"{self.usage.calls:,} model calls")
            parts.append(f"{tokens / seconds if seconds > 0 else 0:,.0f} tokens/s")
        return ", ".join(parts)


def size(number: float) -> str:
    """`12 kB`, `3.4 MB`, `1,250.0 MB`."""
    return f"{number / 1e3:,.0f} kB" if number < 1e6 else f"{number / 1e6:,.1f} MB"


def duration(seconds: float) -> str:
    """`0.4 s`, `50 s`, `2 min 5 s`, `3 h 20 min`."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


@dataclass
class Lines:
    """A line for each step when it ends, and one every ten seconds while it works."""

    write: Callable[[str], None]
    clock: Callable[[], float] = time.monotonic
    meter: Meter = field(default_factory=Meter)
    last_line: float = 0.0

    def start(self, step: str, total: int, done: int, unit: str) -> None:
        self.meter = Meter(step, total, done, unit, done, started=self.clock())
        self.last_line = self.meter.started

    def advance(self, amount: int, usage: Usage) -> None:
        self.meter.advance(amount, usage)
        now = self.clock()
        if now - self.last_line >= LINE_EVERY_S:
            self.last_line = now
            parts = [self.meter.position(), self.meter.under_way(now)]
            self.write(f"{self.meter.step}: " + ", ".join(part for part in parts if part))

    def finish(self, summary: str) -> None:
        self.write(finished(self.meter, summary, self.clock()))

    def note(self, text: str) -> None:
        self.write(f"note: {text}")


@dataclass
class TerminalBars:
    """A bar for the step at work; finished steps stay as lines above it."""

    console: Console
    meter: Meter = field(default_factory=Meter)
    task: TaskID | None = None

    def __post_init__(self) -> None:
        self.bars = Bars(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[position]}"),
            TextColumn("{task.fields[rates]}", style="dim"),
            console=self.console,
            transient=True,
        )
        self.bars.start()

    def start(self, step: str, total: int, done: int, unit: str) -> None:
        self._remove_bar()
        self.meter = Meter(step, total, done, unit, done, started=time.monotonic())
        self.task = self.bars.add_task(
            step, total=total or None, completed=done, position=self.meter.position(), rates=""
        )

    def advance(self, amount: int, usage: Usage) -> None:
        self.meter.advance(amount, usage)
        if self.task is not None:
            self.bars.update(
                self.task,
                completed=self.meter.done,
                position=self.meter.position(),
                rates=self.meter.under_way(time.monotonic()),
            )

    def finish(self, summary: str) -> None:
        self._remove_bar()
        self._print(finished(self.meter, summary, time.monotonic()))

    def note(self, text: str) -> None:
        self._print(f"note: {text}")

    def close(self) -> None:
        self.bars.stop()

    def _print(self, line: str) -> None:
        self.console.print(line, markup=False, highlight=False)

    def _remove_bar(self) -> None:
        if self.task is not None:
            self.bars.remove_task(self.task)
            self.bars.refresh()  # or the next line would be printed above the bar that is gone
            self.task = None


def finished(meter: Meter, summary: str, now: float) -> str:
    """`clean.rules: 900 kept, 100 dropped (0.3 s, 3,300 rows/s)`."""
    took = [duration(now - meter.started), meter.rates(now)]
    return f"{meter.step}: {summary} ({', '.join(part for part in took if part)})"
