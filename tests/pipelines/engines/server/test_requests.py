"""Tries, waits and interrupts of requests to a server."""

import email.utils
import logging
import signal
import threading
import time

import polars  # noqa: F401 - it handles SIGINT from its import on, as in every run
import pytest

from pipelines.engines.server.config import OpenAiModel
from pipelines.engines.server.engine import ServerEngine
from pipelines.engines.server.faults import complaint, passes, shortened, wait_of
from stages.engines import EngineError, Refused, Sampling
from tests.servers.scripted_server import Reply, ScriptedServer, chat_reply, refusal

HI = [{"role": "user", "content": "Hi"}]
SAMPLING = Sampling(max_tokens=9)


def opened(server, **options):
    return ServerEngine(OpenAiModel(model="m", base_url=server.base_url, **options))


def ask_once(script, **options):
    """The result of one chat, the engine and what was asked."""
    with ScriptedServer(script) as server:
        engine = opened(server, **options)
        try:
            (found,) = engine.generate([HI], SAMPLING, [b"k"])
        finally:
            engine.close()
    return found, engine, server.asked


@pytest.mark.parametrize("status", [408, 409, 425, 429, 500, 502, 503, 529])
def test_what_passes_is_tried_again(status):
    replies = iter([Reply({"error": "busy"}, status)])
    found, engine, _ = ask_once(
        lambda asked: next(replies, chat_reply("yes")) if asked.text == "Hi" else chat_reply("ok")
    )
    assert [one.text for one in found] == ["yes"]
    assert engine.usage.retries == 1
    assert engine.usage.calls == 1


@pytest.mark.parametrize(
    "reply",
    [
        Reply(b"<html>Bad gateway</html>"),
        Reply(b""),
        Reply([]),
        Reply({"error": {"message": "overloaded"}}),
        Reply({"choices": None}),
        Reply({"choices": []}),
        Reply({"choices": [{"index": 0}]}),
        Reply({"choices": [{"index": 3, "message": {"content": "x"}}]}),
        chat_reply("one", "two"),
    ],
)
def test_an_answer_of_the_wrong_shape_is_asked_for_again(reply):
    replies = iter([reply])
    found, engine, _ = ask_once(
        lambda asked: next(replies, chat_reply("yes")) if asked.text == "Hi" else chat_reply("ok")
    )
    assert [one.text for one in found] == ["yes"]
    assert engine.usage.retries == 1


@pytest.mark.parametrize(
    ("reply", "why"),
    [
        (Reply({"error": "index out of range"}, 500), "HTTP 500: index out of range"),
        (Reply(b"<html>"), "its answer cannot be used: it is no JSON: <html>"),
    ],
)
def test_a_request_at_which_the_server_fails_for_ever_is_refused_alone(reply, why):
    found, engine, _ = ask_once(
        lambda asked: reply if asked.text == "Hi" else chat_reply("ok"), max_tries=2
    )
    assert found == Refused(
        f"the server fails on this request, 2 tries, and answers a plain one: {why}"
    )
    assert engine.usage.calls == 0


@pytest.mark.parametrize("status", [504, 524, None], ids=str)
def test_a_request_that_always_takes_too_long_is_refused_alone(status):
    """None: it is our own time that runs out."""
    over = threading.Event()

    def script(asked):
        if asked.text != "Hi":
            return chat_reply("ok")
        if status is None:
            over.wait(30)
        return Reply({"error": "upstream timed out"}, status or 200)

    # Long enough for the plain requests on a busy machine.
    found, _, _ = ask_once(script, max_tries=1, timeout_s=3 if status is None else 120)
    over.set()
    why = "HTTP {}: upstream timed out" if status else "no whole answer within timeout_s, 3 s"
    assert found == Refused(
        f"the server fails on this request, tried once, and answers a plain one: "
        f"{why.format(status)}"
    )


def test_a_server_that_stays_away_is_told_of_before_the_last_try():
    replies = iter([Reply({"error": "busy"}, 503)] * 4)
    _, engine, _ = ask_once(
        lambda asked: next(replies, chat_reply("yes")) if asked.text == "Hi" else chat_reply("ok")
    )
    (note,) = engine.notes
    assert "has not answered a request in 3 tries, of 8: HTTP 503: busy" in note


def test_a_server_that_fails_on_everything_stops_the_run():
    with pytest.raises(EngineError, match="does not answer, tried once: HTTP 500: broken"):
        ask_once(lambda asked: Reply({"error": "broken"}, 500), max_tries=1)


def test_a_403_for_one_prompt_alone_is_its_refusal():
    def script(asked):
        return refusal(403, "your input was flagged") if asked.text == "Hi" else chat_reply("ok")

    found, _, _ = ask_once(script)
    assert found == Refused("the server refuses this request (403): your input was flagged")


@pytest.fixture
def interruptible():
    """A shell starts background jobs with SIGINT ignored, and Python leaves it at that."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_ctrl_c_gets_through_while_a_server_is_silent(interruptible):
    hold = threading.Event()

    def script(asked):
        hold.wait(10)
        return chat_reply("late")

    with ScriptedServer(script) as server:
        engine = opened(server)
        main = threading.main_thread().ident
        timer = threading.Timer(0.3, signal.pthread_kill, [main, signal.SIGINT])
        timer.start()
        began = time.monotonic()
        with pytest.raises(KeyboardInterrupt):
            engine.generate([HI], SAMPLING, [b"k"])
        took = time.monotonic() - began
        hold.set()
        engine.close()
    assert took < 2


def test_nothing_is_left_running_after_closing():
    with ScriptedServer(lambda asked: chat_reply("yes")) as server:
        engine = opened(server)
        engine.probe()
        engine.close()
        names = [thread.name for thread in threading.enumerate()]
    assert f"requests to {server.base_url}" not in names


def test_one_calls_failure_leaves_the_others_alone():
    def script(asked):
        return Reply({}, 503) if asked.text == "bad" else chat_reply("yes")

    failed = []

    def fail(engine):
        try:
            engine.generate([[{"role": "user", "content": "bad"}]], SAMPLING, [b"k"])
        except EngineError as error:
            failed.append(str(error))

    with ScriptedServer(script) as server:
        engine = opened(server, max_tries=1)
        thread = threading.Thread(target=fail, args=(engine,))
        thread.start()
        found = engine.generate([HI] * 50, SAMPLING, [b"k"] * 50)
        thread.join()
        engine.close()
    assert len(found) == 50
    assert failed == [f"{server.base_url} does not answer, tried once: HTTP 503: {{}}"]


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "3"}, 3.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after": "-3"}, 0.0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "Mon, 99 Foo 2026"}, None),
        ({"retry-after": "Thu, 01 Jan 1970 00:00:00 GMT"}, 0.0),
        ({"retry-after-ms": "250", "retry-after": "9"}, 0.25),
        ({"retry-after-ms": "x", "retry-after": "9"}, 9.0),
    ],
)
def test_how_long_a_server_wants_to_be_left_alone(headers, seconds):
    assert wait_of(headers) == seconds


def test_it_may_also_be_a_date():
    date = email.utils.formatdate(time.time() + 60, usegmt=True)
    assert 57 < wait_of({"retry-after": date}) <= 60


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b'{"error": {"message": "no", "code": "x"}}', ("no", "x")),
        (b'{"error": {"message": "no", "type": "t"}}', ("no", "t")),
        (b'{"error": {"message": "no", "code": 400}}', ("no", "400")),
        (b'{"error": {"message": "no"}}', ("no", None)),
        (
            b'{"error": {"message": "pay", "type": "insufficient_quota", "code": "billing"}}',
            ("pay", "insufficient_quota"),
        ),
        (b'{"error": "model \'m\' not found"}', ("model 'm' not found", None)),
        (b'{"object": "error", "message": "no", "code": 400}', ("no", "400")),
        (b'{"detail": "Not Found"}', ("Not Found", None)),
        (b'{"detail": [{"msg": "x"}]}', ('{"detail": [{"msg": "x"}]}', None)),
        (b"<html>\xff</html>", ("<html>\ufffd</html>", None)),
    ],
)
def test_a_complaint_is_found_where_servers_put_it(content, words):
    assert complaint(content) == words


def test_a_quota_does_not_pass_and_a_rate_does():
    assert passes(429, "rate_limit_exceeded")
    assert not passes(429, "insufficient_quota")
    assert not passes(400, None)
    assert not passes(501, None)


def test_a_long_complaint_is_cut():
    assert shortened("a " * 1_000) == ("a " * 250) + " ..."


def test_logs_tell_of_requests(caplog):
    """That the filter of the key lets them through."""
    caplog.set_level(logging.DEBUG)
    ask_once(lambda asked: chat_reply("yes"))
    assert "HTTP Request: POST" in caplog.text
