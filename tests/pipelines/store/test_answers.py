"""Paid answers outlive the process until their chunk is stored."""

from pipelines.store.answers import AnswerStore


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
    AnswerStore.open(folder).forget_left_over()
    assert not folder.exists()


def test_a_chunk_without_answers_makes_no_file(tmp_path):
    AnswerStore.open(tmp_path / "answers").of_chunk("aa").close()
    assert list(tmp_path.iterdir()) == []
