"""Paths as people write them in recipes."""

from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path


def from_home(path: Path) -> Path:
    """`path` with a leading `~` as the home folder; in YAML no shell sees to that."""
    return path.expanduser() if path.parts[:1] == ("~",) else path


def matches(path: Path, pattern: Path) -> bool:
    """Whether a glob (`*`, `?`, `[...]`, `**` for any folders) finds `path`, both absolute."""
    return path == pattern or _matches(path.parts, pattern.parts)


def _matches(parts: Sequence[str], pattern: Sequence[str]) -> bool:
    if not pattern or not parts:
        return not pattern and not parts
    if pattern[0] == "**":
        return _matches(parts, pattern[1:]) or _matches(parts[1:], pattern)
    return fnmatchcase(parts[0], pattern[0]) and _matches(parts[1:], pattern[1:])
