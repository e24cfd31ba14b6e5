from pipelines.runner.progress import DecideProgress, Silent
from stages.engines import Usage


class Told(Silent):
    """Progress that keeps what it was told."""

    def __init__(self) -> None:
        self.told: list[tuple[object, ...]] = []

    def start(self, step: str, total: int, done: int, unit: str) -> None:
        self.told.append((step, total, done, unit))

    def advance(self, amount: int, usage: Usage) -> None:
        self.told.append((amount,))


def test_a_slow_decide_is_a_step_that_advances_by_its_rows() -> None:
    progress = Told()
    report = DecideProgress("dedup.semantic", progress)
    report(40, 100)
    report(100, 100)
    assert progress.told == [("dedup.semantic: deciding", 100, 0, "rows"), (40,), (60,)]


def test_a_quick_decide_says_nothing() -> None:
    progress = Told()
    DecideProgress("dedup.semantic", progress)(39, 39)
    assert progress.told == []
