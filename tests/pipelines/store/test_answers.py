"""Paid answers outlive the process until their chunk is stored."""

import errno
import os
import resource
import signal
from contextlib import contextmanager
from dataclasses import replace

import pytest

from pipelines.store.answers import AnswerStore
from pipelines.store.processes import this_machine

DEAD = 2**22 + 1  # beyond the numbers that Linux gives to processes


def left_by(folder, process, digest, *asked):
    """A file of another process, with an answer to each question."""
    chunk = AnswerStore.open(folder).of_chunk(digest)
    for question in asked:
        chunk.keep(question, "Ada")
    chunk.close()
    return chunk.path.rename(folder / f"{digest}-{this_machine()}-{process}.jsonl")


def told_to(store, digest, *asked):
    """A chunk that needs these answers, keeps those that it lacks, and is stored."""
    chunk = store.of_chunk(digest)
    for question in asked:
        if chunk.recall(question) is None:
            chunk.keep(question, "Ada")
    chunk.close()
    store.forget(digest)


def test_what_a_stopped_run_was_told_is_known_to_the_next(tmp_path):
    folder = tmp_path / "answers"
    told = AnswerStore.open(folder).of_chunk("aa")
    told.keep("who?", {"text": "Ada 🙂\n"})
    told.keep("when?", [1815, None])
    told.close()
    again = AnswerStore.open(folder).of_chunk("bb")  # however the rows are cut into chunks
    assert again.recall("who?") == {"text": "Ada 🙂\n"}
    assert again.recall("when?") == [1815, None]
    assert again.recall("where?") is None


def test_a_line_that_was_being_written_when_the_process_died_is_asked_again(tmp_path):
    folder = tmp_path / "answers"
    told = AnswerStore.open(folder).of_chunk("aa")
    told.keep("who?", "Ada")
    told.keep("when?", "1815")
    told.close()
    told.path.write_bytes(told.path.read_bytes()[:-3])
    again = AnswerStore.open(folder)
    assert again.left_over == {"who?": "Ada"}


def test_a_stored_chunk_leaves_nothing_behind(tmp_path):
    folder = tmp_path / "answers"
    store = AnswerStore.open(folder)
    for digest in ("aa", "bb"):
        chunk = store.of_chunk(digest)
        chunk.keep("who?", digest)
        chunk.close()
    store.forget("aa")
    assert [path.name[:2] for path in folder.iterdir()] == ["bb"]
    store.forget("bb")
    store.forget_left_over()
    assert not folder.exists()


def test_what_stopped_runs_left_goes_when_it_was_used(tmp_path):
    folder = tmp_path / "answers"
    left_by(folder, DEAD, "aa", "who?", "when?")
    store = AnswerStore.open(folder)
    told_to(store, "bb", "who?")  # the rows are cut into other chunks now
    told_to(store, "cc", "when?", "where?")
    store.forget_left_over()
    assert not folder.exists()


def test_answers_about_rows_that_this_run_does_not_see_stay(tmp_path):
    folder = tmp_path / "answers"
    file = left_by(folder, DEAD, "aa", "who?", "when?")
    store = AnswerStore.open(folder)
    told_to(store, "bb", "who?")
    store.forget_left_over()
    assert AnswerStore.open(folder).left_over == {"who?": "Ada", "when?": "Ada"}
    assert list(folder.iterdir()) == [file]


def test_answers_that_came_while_this_run_went_on_stay(tmp_path):
    folder = tmp_path / "answers"
    file = left_by(folder, DEAD, "aa", "who?")
    store = AnswerStore.open(folder)
    told_to(store, "bb", "who?")
    with file.open("ab") as more:
        more.write(b'["when?","1815"]\n')
    store.forget_left_over()
    assert list(folder.iterdir()) == [file]


def test_the_file_of_a_process_at_work_stays(tmp_path):
    folder = tmp_path / "answers"
    file = left_by(folder, DEAD, "aa", "who?")
    store = replace(AnswerStore.open(folder), alive=lambda process: process == DEAD)
    told_to(store, "bb", "who?")
    store.forget_left_over()
    assert list(folder.iterdir()) == [file]


def test_a_chunk_recalls_what_it_was_told_itself(tmp_path):
    """It is halved when a row in it fails, and each half asked for again."""
    chunk = AnswerStore.open(tmp_path / "answers").of_chunk("aa")
    chunk.keep("who?", "Ada")
    assert chunk.recall("who?") == "Ada"
    chunk.close()


@contextmanager
def small_files():
    """No file of this process can have more than 64 bytes; its output may be a file too."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (64, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


def test_an_answer_that_the_disk_has_no_room_for_spoils_no_other(tmp_path):
    chunk = AnswerStore.open(tmp_path / "answers").of_chunk("aa")
    chunk.keep("who?", "Ada")
    with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)) as raised, small_files():
        chunk.keep("when?", "1815 " * 20)
    chunk.keep("where?", "London")
    chunk.close()
    assert raised.value.errno == errno.ENOSPC
    assert AnswerStore.open(tmp_path / "answers").left_over == {"who?": "Ada", "where?": "London"}


def test_a_chunk_without_answers_makes_no_file(tmp_path):
    AnswerStore.open(tmp_path / "answers").of_chunk("aa").close()
    assert list(tmp_path.iterdir()) == []
