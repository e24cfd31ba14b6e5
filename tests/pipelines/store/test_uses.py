import os
import subprocess
import sys
from pathlib import Path

import orjson

from pipelines.store.processes import this_machine
from pipelines.store.uses import drop_uses, note_uses, read_uses

DEAD = 2**22 + 1  # beyond the numbers that Linux gives to processes


def left_by(folder: Path, process: int, *, machine: str = "", **noted_too: int) -> str:
    """The name of another process' note."""
    note_uses(folder, [], ["s"])
    (own,) = folder.glob(f"uses-*-{os.getpid()}.json")
    noted = orjson.loads(own.read_bytes())
    machine = machine or noted["machine"]
    left = own.rename(folder / f"uses-{machine}-{process}.json")
    content = {**noted, "machine": machine, "process": process, **noted_too}
    left.write_bytes(orjson.dumps(content))
    return left.name


def test_another_process_of_the_same_run_takes_nothing_from_the_first(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from pipelines.store.uses import note_uses\n"
        "note_uses(Path(sys.argv[1]), ['t2'], ['s2'])"
    )
    note_uses(tmp_path, ["t1"], ["s1", ""])

    subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], check=True, cwd=Path(__file__).parents[3]
    )

    found = {tuple(uses.tables): tuple(uses.scores) for uses in read_uses(tmp_path)}
    assert found == {("t1",): ("s1",), ("t2",): ("s2",)}


def test_a_later_note_of_a_process_takes_the_place_of_its_earlier_one(tmp_path: Path) -> None:
    note_uses(tmp_path, ["t1"], ["s1"])
    note_uses(tmp_path, ["t1"], ["s2"])

    (uses,) = read_uses(tmp_path)
    assert (uses.machine, uses.process) == (this_machine(), os.getpid())
    assert uses.scores == {"s2"}


def test_what_is_finished_drops_its_own_note_and_those_of_the_dead(tmp_path: Path) -> None:
    left_by(tmp_path, DEAD)
    others = [left_by(tmp_path, os.getppid()), left_by(tmp_path, DEAD, machine="elsewhere@7")]
    note_uses(tmp_path, [], [])

    drop_uses(tmp_path)

    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(others)


def test_a_process_that_began_after_the_note_is_another_one(tmp_path: Path) -> None:
    left_by(tmp_path, os.getppid(), moment_ns=0)

    (uses,) = read_uses(tmp_path)

    assert not uses.lives(lambda process: True)
