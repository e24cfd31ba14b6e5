import json

import pytest

from pipelines.readers.source import SourceError

GOOD = b'{"prompt": "Who?", "response": "Me."}'
CHAT = b'{"messages": [{"role": "user", "content": "?"}, {"role": "assistant", "content": "!"}]}'


def turns(*said):
    return json.dumps({"messages": [{"role": r, "content": c} for r, c in said]}).encode()


@pytest.mark.parametrize(
    ("bad", "reason", "error"),
    [
        (b'{"prompt": "Who?", "response": "M\xff"}', "undecodable", "no UTF-8"),
        (b'{"prompt": "Who?", "response":', "broken_json", "Expecting value"),
        (b'{"prompt": "Who\x00?", "response": ""}', "broken_json", "Invalid control character"),
        (b'["Who?", "Me."]', "not_an_object", "the record is a list, not an object"),
        (b"3", "not_an_object", "the record is a number (3), not an object"),
        (b'{"prompt": "Who?"}', "missing_field", "'response' is missing"),
        (b'{"prompt": "Who?", "response": null}', "null_field", "'response' is null"),
        (b'{"prompt": "Who?", "response": true}', "wrong_type", "'response' is a boolean (true)"),
        (b'{"prompt": "Who?", "response": 7}', "wrong_type", "'response' is a number (7)"),
        (b'{"prompt": "Who?", "response": NaN}', "wrong_type", "'response' is no JSON value (NaN)"),
        (b'{"prompt": ["a"], "response": "b"}', "wrong_type", "'prompt[0]' is a text"),
        (rb'{"prompt": "\ud800", "response": "b"}', "lone_surrogate", "half a character"),
        (b"[" * 5_000, "broken_json", "nested too deeply"),
    ],
)
def test_a_bad_record_fails_with_its_place_and_reason_and_the_others_come_in(
    importing, bad, reason, error
):
    found = importing(b"\n".join([GOOD, bad, GOOD]))
    [failure] = found.failures
    assert (failure["file"], failure["line"], failure["reason"]) == ("rows.jsonl", 2, reason)
    assert failure["error"].startswith(error)
    assert failure["raw"] == bad[:2_000].decode("utf-8", "backslashreplace")
    assert [row["place"] for row in found.rows] == [0, 2]
    assert found.table.details["reasons"] == {reason: 1}


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (turns(("user", "?")), "no_assistant_turn"),
        (b'{"messages": []}', "no_assistant_turn"),
        (turns(("user", "?"), ("narrator", "!"), ("assistant", "!")), "unknown_role"),
        (turns(("user", None), ("assistant", "!")), "null_field"),
        (turns(("user", "?"), ("assistant", None)), "null_field"),
        (b'{"messages": [{"role": "assistant"}]}', "missing_field"),
        (b'{"messages": [{"content": "?"}]}', "missing_field"),
        (turns(("user", "?"), ("assistant", True)), "wrong_type"),
        (b'{"messages": "hello"}', "wrong_type"),
        (b'{"messages": ["hello"]}', "wrong_type"),
        (b'{"messages": [{"role": "assistant", "content": "", "tool_calls": "{"}]}', "broken_json"),
    ],
)
def test_a_bad_conversation_fails(importing, bad, reason):
    assert importing(b"\n".join([CHAT, bad])).reasons == [(2, reason)]


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ({"prompt": "?", "chosen": "a", "rejected": None}, "null_field"),
        ({"prompt": "?", "chosen": "a"}, "missing_field"),
        ({"prompt": None, "chosen": "a", "rejected": "b"}, "null_field"),
        ({"prompt": "?", "chosen": "a", "rejected": False}, "wrong_type"),
        ({"prompt": [], "chosen": "a", "rejected": "b"}, "no_prompt"),
        ({"prompt": "?", "chosen": "a", "rejected": "b", "score_chosen": True}, "wrong_type"),
    ],
)
def test_a_bad_pair_fails(importing, bad, reason):
    good = {"prompt": "?", "chosen": "a", "rejected": "b", "score_chosen": 1}
    assert importing([good, bad]).reasons == [(2, reason)]


def test_a_text_that_is_no_transcript_fails(importing):
    talk = "\n\nHuman: a\n\nAssistant: b"
    good = {"chosen": talk, "rejected": talk}
    assert importing([good, {"chosen": "hello", "rejected": talk}]).reasons == [
        (2, "broken_transcript")
    ]


def test_equal_sides_and_empty_texts_are_sound(importing):
    found = importing([{"prompt": "", "chosen": "", "rejected": ""}])
    assert (found.table.rows, found.failures) == (1, [])


def test_a_row_with_the_id_of_an_earlier_one_fails_and_names_it(importing):
    records = [{"prompt": "?", "response": "!", "key": key} for key in ("a", 1, "b", "a", "1")]
    found = importing(records, id="key")
    assert [row["id"] for row in found.rows] == ["a", "1", "b"]
    assert [(one["line"], one["reason"], one["first"]) for one in found.failures] == [
        (4, "duplicate_id", {"file": "rows.jsonl", "line": 1}),
        (5, "duplicate_id", {"file": "rows.jsonl", "line": 2}),
    ]


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ({}, "missing_field"),
        ({"key": None}, "null_field"),
        ({"key": ""}, "null_field"),
        ({"key": 0.5}, "wrong_type"),
    ],
)
def test_a_row_without_the_named_id_fails(importing, record, reason):
    good = {"prompt": "?", "response": "!", "key": "a"}
    found = importing([good, {"prompt": "?", "response": "!", **record}], id="key")
    assert found.reasons == [(2, reason)]


def test_an_id_column_that_no_record_has_is_an_error(importing):
    with pytest.raises(SourceError, match=r"no column kye, which id: names\. There are: prompt"):
        importing([{"prompt": "?", "response": "!", "key": "a"}], id="kye")


def test_an_id_of_more_than_64_bits_keeps_its_digits(importing):
    line = b'{"prompt": "?", "response": "!", "key": 98765432109876543210987}'
    found = importing(line, id="key")
    assert [row["id"] for row in found.rows] == ["98765432109876543210987"]


def test_failed_records_have_ids_of_their_own(importing):
    found = importing(b"\n".join([GOOD, b"{", b"{", b"["]))
    import pyarrow.parquet as pq

    failed = pq.read_table(found.table.failures).to_pylist()
    assert len({row["id"] for row in failed}) == 3
    assert [row["place"] for row in failed] == [1, 2, 3]


def test_a_file_of_broken_lines_only_is_an_empty_table_with_failures(importing):
    found = importing(b"hello\n\nworld\n")
    assert (found.table.rows, found.reasons) == (0, [(1, "broken_json"), (3, "broken_json")])


def test_a_file_in_utf_16_says_so(importing):
    [failure] = importing(GOOD.decode().encode("utf-16")).failures
    assert failure["error"] == "the file is UTF-16; convert it to UTF-8"


def test_a_path_that_leads_nowhere_is_an_error_that_knows_the_hub():
    from pipelines.readers.inputs import find_files
    from pipelines.readers.source import FileSource

    with pytest.raises(SourceError, match=r"source: \{hub: tatsu-lab/alpaca\}"):
        find_files(FileSource(path="tatsu-lab/alpaca"))
