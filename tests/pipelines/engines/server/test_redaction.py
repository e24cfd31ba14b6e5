"""The key of a server is nowhere but in the header of its requests."""

import html
import json
import logging
import traceback
from urllib.parse import quote

import pytest

from pipelines.engines.errors import ModelUnavailable
from pipelines.engines.server.config import OpenAiModel
from pipelines.engines.server.engine import ServerEngine
from pipelines.engines.server.redaction import Redactor, key_of
from stages.engines import EngineError, Sampling
from tests.servers.scripted_server import Reply, ScriptedServer, chat_reply, refusal

KEY = "sk-do-not-tell-4711/ü"[:-1] + "0815"
HI = [{"role": "user", "content": "Hi"}]


@pytest.fixture
def engine_of(monkeypatch):
    monkeypatch.setenv("JUDGE_KEY", KEY)

    def opened(server, **options):
        return ServerEngine(
            OpenAiModel(model="m", base_url=server.base_url, api_key_env="JUDGE_KEY", **options)
        )

    return opened


def echoing(status):
    """A careless server."""

    def script(asked):
        told = asked.headers["authorization"]
        if status == 200:
            return chat_reply(f"You sent {told}.")
        return Reply({"error": {"message": f"You sent {told}."}}, status, {"X-Echo": told})

    return script


def chain(error):
    """All exceptions that a traceback of this one shows, and those that it hides."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def whole_story(error):
    """A traceback with all local variables."""
    shown = traceback.TracebackException.from_exception(error, capture_locals=True)
    return "".join(shown.format()) + repr([one.__dict__ for one in chain(error)])


def test_the_server_gets_the_key(engine_of):
    with ScriptedServer(lambda asked: chat_reply("yes")) as server:
        engine = engine_of(server)
        engine.probe()
        engine.close()
    assert {asked.headers["authorization"] for asked in server.asked} == {f"Bearer {KEY}"}


@pytest.mark.parametrize("status", [400, 401, 403, 404, 422, 429, 500])
def test_a_server_that_repeats_the_key_does_not_bring_it_into_errors(engine_of, status, caplog):
    caplog.set_level(logging.DEBUG)
    with ScriptedServer(echoing(status)) as server:
        engine = engine_of(server, max_tries=1)
        with pytest.raises(EngineError) as raised:
            engine.generate([HI], Sampling(max_tokens=2), [b"k"])
        engine.close()
    story = whole_story(raised.value) + caplog.text + str([r.__dict__ for r in caplog.records])
    assert "You sent Bearer ***." in story
    assert KEY not in story
    assert all(isinstance(one, EngineError) for one in chain(raised.value))


def test_a_server_that_repeats_the_key_does_not_bring_it_into_answers(engine_of, caplog):
    caplog.set_level(logging.DEBUG)
    with ScriptedServer(echoing(200)) as server:
        engine = engine_of(server)
        ((answer,),) = engine.generate([HI], Sampling(max_tokens=2), [b"k"])
        engine.close()
    assert answer.text == "You sent Bearer ***."
    assert KEY not in caplog.text
    assert KEY not in repr(engine) + repr(vars(engine)) + repr(vars(vars(engine)["_server"]))


def test_a_refused_rows_reason_does_not_hold_the_key(engine_of):
    def script(asked):
        if asked.text == "Hi":
            return refusal(400, f"not with {asked.headers['authorization']}")
        return chat_reply("yes")

    with ScriptedServer(script) as server:
        engine = engine_of(server)
        (found,) = engine.generate([HI], Sampling(max_tokens=2), [b"k"])
        engine.close()
    assert found.reason == "the server refuses this request (400): not with Bearer ***"


def test_a_wrong_key_is_told_by_the_name_of_its_variable(engine_of):
    with ScriptedServer(echoing(401)) as server:
        engine = engine_of(server)
        with pytest.raises(
            ModelUnavailable, match="does not take the key in the environment variable JUDGE_KEY"
        ):
            engine.probe()
        engine.close()
    assert len(server.asked) == 1


@pytest.mark.parametrize("before", range(440, 501, 12))
def test_a_key_is_hidden_before_a_page_is_cut(monkeypatch, before):
    """A page that is no JSON, with the key where the message is cut; signs in it are respelled."""
    key = "sk/proj\\-'\"" + "K3Y" * 20
    monkeypatch.setenv("JUDGE_KEY", key)

    def script(asked):
        if asked.text != "Hi":
            return chat_reply("yes")
        return Reply((" " * 600 + "x" * before + asked.headers["authorization"]).encode())

    with ScriptedServer(script) as server:
        engine = ServerEngine(
            OpenAiModel(model="m", base_url=server.base_url, api_key_env="JUDGE_KEY", max_tries=1)
        )
        (found,) = engine.generate([HI], Sampling(max_tokens=2), [b"k"])
        engine.close()
    assert "it is no JSON: xxx" in found.reason
    assert "sk/" not in found.reason
    assert "K3Y" not in found.reason


def test_a_missing_key_says_what_to_do():
    with ScriptedServer(echoing(401)) as server:
        engine = ServerEngine(OpenAiModel(model="m", base_url=server.base_url))
        with pytest.raises(ModelUnavailable, match="name that one in the recipe, as api_key_env"):
            engine.probe()
        engine.close()


@pytest.mark.parametrize("value", [None, "", " \n"])
def test_a_variable_that_is_not_set_is_told_before_anything_is_sent(monkeypatch, value):
    monkeypatch.delenv("JUDGE_KEY", raising=False)
    if value is not None:
        monkeypatch.setenv("JUDGE_KEY", value)
    with ScriptedServer(echoing(200)) as server:
        config = OpenAiModel(model="m", base_url=server.base_url, api_key_env="JUDGE_KEY")
        with pytest.raises(ModelUnavailable, match="JUDGE_KEY, which the recipe names"):
            ServerEngine(config)
    assert server.asked == []


def test_a_key_that_no_header_can_carry_is_not_shown(monkeypatch):
    monkeypatch.setenv("JUDGE_KEY", "sk-one\nsk-two")
    with pytest.raises(ModelUnavailable) as raised:
        key_of("JUDGE_KEY")
    assert "sk-" not in str(raised.value)


def test_a_key_is_taken_without_the_line_end_of_its_file(monkeypatch):
    monkeypatch.setenv("JUDGE_KEY", "sk-one\n")
    assert key_of("JUDGE_KEY") == "sk-one"


def test_all_spellings_are_hidden():
    key = "sk/\"lo\\ng'+=&x"
    redactor = Redactor(key)
    in_json = json.dumps(key)[1:-1]
    spelled = [
        key,
        repr(key)[1:-1],
        in_json,
        in_json.replace("/", "\\/"),
        in_json.replace("+", "\\u002B"),
        repr(in_json)[1:-1],
        quote(key, safe=""),
        quote(key).lower(),
        html.escape(key),
    ]
    assert redactor.message(" ".join(spelled)) == " ".join(["***"] * len(spelled))


def test_a_word_in_the_place_of_a_key_does_not_spoil_answers():
    redactor = Redactor("EMPTY")
    assert redactor.answer("EMPTY is a word") == "EMPTY is a word"
    assert redactor.message("no EMPTY") == "no ***"


def test_logs_of_others_are_left_alone_after_closing(engine_of):
    before = list(logging.getLogger("httpcore2.http11").filters)
    with ScriptedServer(echoing(200)) as server:
        engine = engine_of(server)
        during = list(logging.getLogger("httpcore2.http11").filters)
        engine.close()
    assert len(during) == len(before) + 1
    assert logging.getLogger("httpcore2.http11").filters == before
