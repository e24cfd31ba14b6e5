"""The one error for a table that does not look as promised.

Whoever checks a table collects every problem first and raises once, so that a user mends a file or
a recipe in one go instead of in ten.
"""

from collections.abc import Sequence


class ContractError(Exception):
    """A table breaks the contract of whoever reads it.

    The message names the reader, lists *all* problems, says what the table does hold and what to
    do. `problems` holds the same list for programs.
    """

    def __init__(
        self, who: str, problems: Sequence[str], *, there: Sequence[str] = (), remedy: str = ""
    ) -> None:
        self.who = who
        self.problems = tuple(problems)
        lines = [f"{who} cannot use this table:", *(f"  - {problem}" for problem in problems)]
        if there:
            lines.append(f"The table has: {', '.join(there)}.")
        if remedy:
            lines.append(remedy)
        super().__init__("\n".join(lines))
