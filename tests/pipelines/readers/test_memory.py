"""Memory does not grow with the file: a file ten times as long needs at most 60 MiB more."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
LARGEST_GROWTH = (
    60 << 20
)  # a row of the long file takes 28 bytes, and freed memory is not all returned
SCRIPT = """
import re, sys
from pathlib import Path
from pipelines.readers.importing import import_source
from pipelines.readers.source import FileSource
from pipelines.store.workspace import Workspace
[table] = import_source(FileSource(path=sys.argv[1]), Workspace(Path(sys.argv[2])))
# Of this process alone: ru_maxrss begins with what the parent had.
print(table.rows, re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
"""


def peak(path: Path, rows: int) -> int:
    """Peak resident bytes of a process that imports the file."""
    command = [sys.executable, "-c", SCRIPT, path.name, f"{path.name}.workspace"]
    environment = {"PYTHONPATH": str(ROOT), "PATH": ""}
    done = subprocess.run(
        command, cwd=path.parent, env=environment, check=True, capture_output=True, text=True
    )
    found, most = map(int, done.stdout.split())
    assert found == rows
    return most << 10


def lines(rows: int) -> Iterator[bytes]:
    for n in range(rows):
        yield json.dumps({"prompt": f"Who is {n}?", "response": f"{n:05} " * 150}).encode()


def jsonl(rows: int) -> Iterator[bytes]:
    """Every other record fails; the first 2,000 bytes of each are kept, on disk."""
    for n, line in enumerate(lines(rows)):
        yield (line.replace(b'"response"', b'"reply"') if n % 2 else line) + b"\n"


def array(rows: int) -> Iterator[bytes]:
    yield b"[{}"
    for line in lines(rows):
        yield b",\n" + line
    yield b"]"


@pytest.mark.skipif(sys.platform != "linux", reason="the peak is read from /proc")
@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "content", "rows"),
    [("a.jsonl", jsonl, lambda n: n // 2), ("a.json", array, lambda n: n)],
)
def test_memory_does_not_grow_with_the_file(tmp_path, name, content, rows):
    peaks = []
    for size in (40_000, 400_000):  # one part, ten parts
        path = tmp_path / f"{size}-{name}"
        with path.open("wb") as file:
            file.writelines(content(size))
        peaks.append(peak(path, rows(size)))
    assert peaks[1] - peaks[0] < LARGEST_GROWTH
