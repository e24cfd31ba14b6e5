import os
import socket
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pipelines.store.atomic import (
    TEMPORARY,
    replacing,
    replacing_folder,
    sweep,
    temporary_beside,
    write_bytes,
)
from pipelines.store.processes import this_machine


def test_a_file_appears_whole(tmp_path: Path) -> None:
    write_bytes(tmp_path / "deep" / "file", b"content")
    assert [(p.name, p.read_bytes()) for p in (tmp_path / "deep").iterdir()] == [
        ("file", b"content")
    ]


def test_a_failure_leaves_the_earlier_file_and_nothing_else(tmp_path: Path) -> None:
    write_bytes(tmp_path / "file", b"earlier")

    def fill_the_disk() -> None:
        with replacing(tmp_path / "file") as unfinished:
            unfinished.write_bytes(b"half")
            raise OSError("no space")

    with pytest.raises(OSError, match="no space"):
        fill_the_disk()
    assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == [("file", b"earlier")]


def test_a_folder_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    def interrupt() -> None:
        with replacing_folder(tmp_path / "folder") as unfinished:
            (unfinished / "part").write_bytes(b"1")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupt()
    assert list(tmp_path.iterdir()) == []


def test_the_first_of_two_writers_of_a_folder_wins(tmp_path: Path) -> None:
    with replacing_folder(tmp_path / "folder") as slow:
        (slow / "part").write_bytes(b"slow")
        with replacing_folder(tmp_path / "folder") as fast:
            (fast / "part").write_bytes(b"fast")
    assert (tmp_path / "folder" / "part").read_bytes() == b"fast"
    assert [p.name for p in tmp_path.iterdir()] == ["folder"]


def test_sweeping_removes_what_dead_processes_left_and_spares_the_living(tmp_path: Path) -> None:
    with replacing(tmp_path / "sub" / "file") as unfinished:
        unfinished.write_bytes(b"half")
        assert sweep(tmp_path) == 0  # it is ours, and we live
        assert sweep(tmp_path, alive=lambda process: False) == 1
        unfinished.write_bytes(b"again")
    assert [p.name for p in (tmp_path / "sub").iterdir()] == ["file"]


def test_a_number_that_another_process_has_by_now_spares_nothing(tmp_path: Path) -> None:
    """Of a process that was killed before this one, which has its number, began."""
    here, number = this_machine(), os.getpid()
    left = tmp_path / f"{TEMPORARY}{here}-{number}-1000-clean.jsonl"  # made at the machine's start
    left.write_bytes(b"half")
    own = tmp_path / f"{TEMPORARY}{here}-{number}-{time.monotonic_ns()}-clean.jsonl"
    own.write_bytes(b"half")

    assert sweep(tmp_path) == 1
    assert [path.name for path in tmp_path.iterdir()] == [own.name]


@pytest.mark.parametrize(
    "other",
    [
        lambda host, namespace: f"elsewhere@{namespace}",
        lambda host, namespace: f"{host}-7@{namespace}",  # gpu-7 is not gpu
        lambda host, namespace: f"{host}@{namespace}1",
        lambda host, namespace: f"{host}@1",  # a container with the network of its host
        lambda host, namespace: f"{host}@",
    ],
)
def test_a_temporary_file_of_another_machine_is_spared_for_a_day(
    tmp_path: Path, other: Callable[[str, str], str]
) -> None:
    here = this_machine()
    own = temporary_beside(tmp_path / "file")
    foreign = own.with_name(own.name.replace(here, other(*here.split("@"))))
    foreign.write_bytes(b"half")

    young = sweep(tmp_path, alive=lambda process: False)
    old = time.time() - 25 * 3600
    os.utime(foreign, (old, old))

    assert foreign != own
    assert (young, sweep(tmp_path, alive=lambda process: True)) == (0, 1)


def test_a_machine_is_named_by_its_host_and_its_numbers_of_processes() -> None:
    host, namespace = this_machine().split("@")

    assert host == socket.gethostname()
    assert f"pid:[{namespace}]" == str(Path("/proc/self/ns/pid").readlink())


def test_sweeping_stands_folders_that_others_rename_meanwhile(tmp_path: Path) -> None:
    others = [tmp_path / f"other-{number}" for number in range(20)]
    for folder in others:
        folder.mkdir()

    def rename_and_live(process: int) -> bool:
        for folder in others:
            folder.rename(folder.with_name(f"renamed-{folder.name}"))
        return True

    with replacing(tmp_path / "sub" / "file") as unfinished:
        unfinished.write_bytes(b"half")
        assert sweep(tmp_path, alive=rename_and_live) == 0
