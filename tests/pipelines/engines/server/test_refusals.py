"""Who is at fault when a server turns away: one row, a feature that it lacks, or the server."""

import pytest

from pipelines.engines.errors import ModelUnavailable
from pipelines.engines.server.config import OpenAiModel
from pipelines.engines.server.engine import ServerEngine
from stages.engines import EngineError, Refused, Sampling
from tests.servers.scripted_server import Reply, ScriptedServer, chat_reply, refusal

SAMPLING = Sampling(max_tokens=9)
SAMPLED = Sampling(max_tokens=9, samples=3, temperature=1.0, seed=4)


def chats(*texts):
    return [[{"role": "user", "content": text}] for text in texts]


def keys(count):
    return [bytes([number]) for number in range(count)]


def opened(server, **options):
    return ServerEngine(OpenAiModel(model="m", base_url=server.base_url, **options))


def written(server, sampling, *texts, **options):
    """The answers to these chats, one at a time, and the engine."""
    engine = opened(server, concurrency=1, **options)
    try:
        return engine.generate(chats(*texts), sampling, keys(len(texts))), engine
    finally:
        engine.close()


def answers(asked):
    return chat_reply(*["yes"] * asked.body.get("n", 1))


@pytest.mark.parametrize("status", [302, 404, 405, 400, 413, 422])
def test_a_server_that_refuses_everything_from_now_on_stops_the_run(status):
    """It has answered such requests before; three refusals of a content may be the rows."""

    def script(asked):
        if any(one.text == "sound 1" for one in server.asked):
            return Reply({"error": "not loaded"}, status, {"Location": "http://other/login"})
        return answers(asked)

    with ScriptedServer(script) as server:
        engine = opened(server, concurrency=1)
        (found,) = engine.generate(chats("sound 0"), SAMPLING, keys(1))
        with pytest.raises(EngineError) as raised:
            engine.generate(chats(*(f"sound {n}" for n in range(1, 9))), SAMPLING, keys(8))
        engine.close()
    assert found[0].text == "yes"
    assert f"refuses even a plain one now ({status}): not loaded" in str(raised.value)
    assert not isinstance(raised.value, ModelUnavailable)
    assert ("(Location: http://other/login)" in str(raised.value)) == (status == 302)


def test_many_refusals_of_a_sound_server_fail_their_rows_alone():
    def script(asked):
        return refusal(400, "no such words") if "bad" in asked.text else answers(asked)

    with ScriptedServer(script) as server:
        found, _ = written(server, SAMPLING, "good", *(f"bad {n}" for n in range(7)), "good")
    refused = [isinstance(one, Refused) for one in found]
    assert refused == [False, *[True] * 7, False]
    assert sum(asked.text == "Say yes." for asked in server.asked) == 3  # the first, two between


@pytest.mark.parametrize(
    "outage", [Reply({"error": {"message": "overloaded"}}), chat_reply("", finish="error")]
)
def test_an_outage_that_is_told_with_status_200_fails_no_row(outage):
    """In the body, or as OpenRouter does it, in a choice."""

    def script(asked):
        return answers(asked) if server_is_up[0] else outage

    server_is_up = [True]
    with ScriptedServer(script) as server:
        engine = opened(server, max_tries=1)
        engine.probe()
        server_is_up[0] = False
        with pytest.raises(EngineError, match="does not answer, tried once: its answer cannot"):
            engine.generate(chats("Hi"), SAMPLING, keys(1))
        engine.close()


IN_TROUBLE = [
    Reply({"error": "overloaded"}, 500),
    Reply({"error": "overloaded"}),
    Reply(b"<html>Down for maintenance</html>"),
    chat_reply("half of", finish="error"),
    Reply({"error": "no healthy upstream"}, 404),
    Reply({"error": "no healthy upstream"}, 403),
]


@pytest.mark.parametrize("reply", IN_TROUBLE)
def test_an_outage_that_ends_after_a_rows_last_try_fails_no_row(reply):
    """The plain request is answered, and so would the row's own be."""
    away = iter([reply])

    def script(asked):
        return next(away, answers(asked)) if asked.text == "Hi" else answers(asked)

    with ScriptedServer(script) as server:
        engine = opened(server, max_tries=1)
        (found,) = engine.generate(chats("Hi"), SAMPLING, keys(1))
        engine.close()
    assert [one.text for one in found] == ["yes"]
    assert engine.usage.calls == 1


@pytest.mark.parametrize("status", [403, 404, 405])
def test_a_passing_refusal_is_not_taken_for_a_lack(status):
    """A proxy that has lost its server for a moment."""
    away = iter([True, False] * 2)

    def script(asked):
        wants_a_feature = "seed" in asked.body or "n" in asked.body
        if asked.text == "Say yes." and wants_a_feature and next(away, False):
            return refusal(status, "no healthy upstream")
        return answers(asked)

    with ScriptedServer(script) as server:
        found, engine = written(server, SAMPLED, "Hi")
    (row,) = [asked.body for asked in server.asked if asked.text == "Hi"]
    assert len(found[0]) == 3
    assert (row["n"], "seed" in row) == (3, True)
    assert engine.notes == []


@pytest.mark.parametrize("feature", ["seed", "n", "logprobs"])
@pytest.mark.parametrize("status", [501, 403])
def test_a_feature_is_missing_when_a_plain_request_is_answered_each_time(feature, status):
    def script(asked):
        return refusal(status, f"no {feature}") if feature in asked.body else answers(asked)

    with ScriptedServer(script) as server:
        engine = opened(server)
        if feature == "logprobs":
            found = engine.choose(chats("Hi"), ["yes", "no"])[0].tolist()
        else:
            found = [one.text for one in engine.generate(chats("Hi"), SAMPLED, keys(1))[0]]
        engine.close()
    assert found == ([1.0, 0.0] if feature == "logprobs" else ["yes"] * 3)
    assert len(engine.notes) == 1


def test_a_feature_at_which_a_server_fails_is_missing():
    def script(asked):
        return refusal(500, "seed is not implemented") if "seed" in asked.body else answers(asked)

    with ScriptedServer(script) as server:
        found, engine = written(server, SAMPLED, "Hi", max_tries=1)
    assert len(found[0]) == 3
    assert engine.notes == ["m: the server takes no seed: sampled answers cannot be repeated"]


def test_a_server_that_goes_away_while_a_feature_is_tried_stops_the_run():
    def script(asked):
        away = any("seed" in one.body for one in server.asked)
        return refusal(404, "no healthy upstream") if away else answers(asked)

    with ScriptedServer(script) as server, pytest.raises(EngineError, match="no healthy upstream"):
        written(server, SAMPLED, "Hi")


@pytest.mark.parametrize(
    ("status", "advice"),
    [
        (401, "It asks for a key"),
        (403, "It asks for a key"),
        (407, "the proxy which HTTPS_PROXY or HTTP_PROXY names"),
        (404, "It lists the model 'm' all the same"),
    ],
)
def test_what_to_do_about_a_server_that_answers_nothing(status, advice):
    def script(asked):
        if asked.path == "/models":
            return Reply({"data": [{"id": "m"}]})
        return refusal(status, "no")

    with ScriptedServer(script) as server:
        engine = opened(server)
        with pytest.raises(ModelUnavailable, match=advice):
            engine.probe()
        engine.close()


def test_half_a_character_is_told_as_what_it_is():
    half = b'{"choices": [{"index": 0, "message": {"content": "half \\ud83d"}}]}'

    def script(asked):
        return Reply(half) if asked.text == "Hi" else answers(asked)

    with ScriptedServer(script) as server:
        found, _ = written(server, SAMPLING, "Hi", max_tries=1)
    assert "it holds half a character (a lone surrogate), which no text has" in found[0].reason
