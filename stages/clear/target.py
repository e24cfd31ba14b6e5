"""What is to be judged about a row: its last assistant turn, given all turns before it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from stages.clear.prompts import Turn
from stages.conversation import split_at_target


@dataclass(frozen=True)
class Target:
    """`key` names the row: it keys the sampling noise. Turns after the answer are left out."""

    key: bytes
    prompt: tuple[Turn, ...]
    answer: str


def target_of(key: bytes, messages: Sequence[Mapping[str, str | None]]) -> Target | str:
    """The target of one row, or why it has none."""
    parts = split_at_target(messages)
    if parts is None:
        return "there is no assistant turn"
    prompt, answer = parts
    if all(turn["role"] == "system" for turn in prompt):
        return "there is no turn to answer before the last assistant turn"
    return Target(key, tuple(prompt), answer["content"])
