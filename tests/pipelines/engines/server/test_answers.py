"""What is taken for an answer and what is not."""

import pytest

from pipelines.engines.server.answers import (
    Miscounted,
    chat_choices,
    choices_of,
    log_prob,
    top_tokens,
)
from pipelines.engines.server.config import OpenAiModel
from pipelines.engines.server.engine import ServerEngine
from pipelines.engines.server.faults import WrongShape
from stages.engines import Refused
from tests.servers.scripted_server import ScriptedServer, chat_reply


@pytest.mark.parametrize("value", [0, 0.0, 0.0005, -0.1, -9999.0])
def test_a_log_probability_is_at_most_0_but_for_rounding(value):
    assert log_prob(value) == value


@pytest.mark.parametrize("value", [3.0, 1, True, False, None, "-0.1", 1e308, -1e308, 2**70])
def test_what_is_no_log_probability_is_no_answer(value):
    with pytest.raises(WrongShape, match="a log-probability is"):
        log_prob(value)


def listing(*tops):
    listed = [{"token": token, "logprob": value} for token, value in tops]
    return {"logprobs": {"content": [{"top_logprobs": listed}]}}


def test_the_most_probable_first_tokens_are_read_with_their_log_probabilities():
    assert top_tokens(listing(("A", -0.2), ("B", -1.8))) == [("A", -0.2), ("B", -1.8)]


@pytest.mark.parametrize("tops", [[("A", 3.0), ("B", -1.0)], [("A", True)], [(None, -0.1)]])
def test_one_that_is_none_spoils_them_all(tops):
    with pytest.raises(WrongShape, match="a log-probability is"):
        top_tokens(listing(*tops))


def test_positive_log_probabilities_become_no_scores():
    def script(asked):
        reply = chat_reply("A")
        if asked.body.get("logprobs"):
            told = 3.0 if asked.text == "Hi" else -0.1
            reply.body["choices"][0] |= listing(("A", told), ("B", -1.0))
        return reply

    with ScriptedServer(script) as server:
        engine = ServerEngine(OpenAiModel(model="m", base_url=server.base_url, max_tries=1))
        (found,) = engine.choose([[{"role": "user", "content": "Hi"}]], ["A", "B"])
        engine.close()
    assert isinstance(found, Refused)
    assert "a log-probability is 3.0" in found.reason


def written(**choice):
    """The one choice with these fields, as it is read."""
    whole = {"index": 0, "message": {"content": "half of"}, **choice}
    (found,) = chat_choices({"choices": [whole]}, 1)
    return found


@pytest.mark.parametrize(
    "choice",
    [
        {"finish_reason": "error"},
        {"finish_reason": "network_error"},
        {"finish_reason": "insufficient_system_resource"},
        {"finish_reason": "abort"},
        {"finish_reason": "stop", "error": {"code": 502, "message": "provider gone"}},
        {"finish_reason": None, "error": "gone"},
    ],
)
def test_what_the_servers_trouble_ended_is_no_answer(choice):
    with pytest.raises(WrongShape, match="trouble of the server's ended it: "):
        written(**choice)


@pytest.mark.parametrize(
    "reason",
    ["length", "max_tokens", "model_length", "model_context_window_exceeded", "content_filter"],
)
def test_an_answer_that_was_cut_is_not_finished_whatever_the_limit_is_called(reason):
    assert (written(finish_reason=reason).text, written(finish_reason=reason).finished) == (
        "half of",
        False,
    )


@pytest.mark.parametrize("reason", ["stop", "eos", "tool_calls", None])
def test_an_answer_that_came_to_its_end_is_finished(reason):
    assert written(finish_reason=reason, error=None).finished


@pytest.mark.parametrize("indices", [[0, 0], [0, 2], [0], [None, 0]])
def test_choices_that_are_not_those_asked_for_are_told_from_other_faults(indices):
    choices = [{"index": index} for index in indices]
    with pytest.raises(Miscounted):
        choices_of({"choices": choices}, 2)
