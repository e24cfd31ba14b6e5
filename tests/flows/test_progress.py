import io

from rich.console import Console

from flows.progress import Lines, TerminalBars, duration
from stages.engines import Usage


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_lines_say_where_a_long_step_is_every_ten_seconds() -> None:
    said: list[str] = []
    clock = Clock()
    lines = Lines(said.append, clock)

    lines.start("clear.filter", 1000, 200, "rows")
    for _ in range(3):
        clock.now += 6
        lines.advance(100, Usage(calls=200, prompt_tokens=9000, completion_tokens=600))
    lines.finish("450 kept, 50 dropped")

    assert said == [
        "clear.filter: 400 of 1,000 rows, 17 rows/s, 200 model calls, 800 tokens/s, 36 s left",
        "clear.filter: 450 kept, 50 dropped (18 s, 17 rows/s, 200 model calls, 533 tokens/s)",
    ]


def test_rates_leave_out_what_needed_no_work() -> None:
    said: list[str] = []
    clock = Clock()
    lines = Lines(said.append, clock)

    lines.start("clear.filter", 1_000_000, 999_990, "rows")
    clock.now += 10
    lines.advance(10, Usage())

    assert said == ["clear.filter: 1,000,000 of 1,000,000 rows, 1.0 rows/s"]


def test_bytes_are_told_in_kilobytes_or_megabytes() -> None:
    said: list[str] = []
    clock = Clock()
    lines = Lines(said.append, clock)

    lines.start("import rows.jsonl", 30_000_000, 0, "bytes")
    clock.now += 10
    lines.advance(300_000, Usage())

    assert said == ["import rows.jsonl: 300 kB of 30.0 MB, 30 kB/s, 16 min 30 s left"]


def test_a_note_is_a_line_of_its_own() -> None:
    said: list[str] = []

    Lines(said.append).note("dedup.exact works on documents")

    assert said == ["note: dedup.exact works on documents"]


def test_on_a_terminal_finished_steps_stay_as_lines() -> None:
    screen = io.StringIO()
    bars = TerminalBars(Console(file=screen, force_terminal=True, width=120, color_system=None))

    bars.start("clean.rules", 1000, 400, "rows")
    bars.advance(600, Usage())
    bars.finish("900 kept, 100 dropped")
    bars.note("[red]not markup[/red]")
    bars.close()

    shown, _, after = screen.getvalue().partition("clean.rules: 900 kept, 100 dropped (0.0 s)")
    assert "400 of 1,000 rows" in shown
    assert "note: [red]not markup[/red]" in after
    assert "1,000 rows" not in after


def test_durations_are_told_in_their_own_units() -> None:
    assert [duration(seconds) for seconds in (0.04, 9.96, 50.4, 125, 12_000)] == [
        "0.0 s",
        "10.0 s",
        "50 s",
        "2 min 5 s",
        "3 h 20 min",
    ]
