"""A budget is never overspent, and stops what goes beyond it."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from pipelines.engines.errors import ModelUnavailable
from pipelines.engines.server.budget import BudgetSpent, Tokens, told_tokens
from pipelines.engines.server.config import Budget, OpenAiModel, Price
from pipelines.engines.server.engine import ServerEngine
from stages.engines import Sampling
from tests.servers.scripted_server import Reply, ScriptedServer, chat_reply

CHATS = [[{"role": "user", "content": f"question {n:02d}"}] for n in range(40)]
KEYS = [bytes([n]) for n in range(40)]
SAMPLING = Sampling(max_tokens=10)
PRICE = Price(prompt_per_million=1_000_000, completion_per_million=2_000_000)


def opened(server, budget, price=None, **options):
    return ServerEngine(
        OpenAiModel(model="m", base_url=server.base_url, budget=budget, price=price, **options)
    )


def spend_all(budget, price=None, script=lambda asked: chat_reply("yes"), threads=1):
    """What was sent until the budget was spent, and the messages of those that were stopped."""
    stopped = []

    def ask(engine):
        try:
            engine.generate(CHATS, SAMPLING, KEYS)
        except BudgetSpent as error:
            stopped.append(str(error))

    with ScriptedServer(script) as server:
        engine = opened(server, budget, price, concurrency=8)
        with ThreadPoolExecutor(threads) as pool:
            for _ in range(threads):
                pool.submit(ask, engine)
        engine.close()
    return server.asked, stopped


def test_requests_are_sent_up_to_the_last_that_is_allowed():
    sent, stopped = spend_all(Budget(max_requests=20))
    assert len(sent) == 20
    assert stopped == [
        "the budget of this model is used up: spent 20 of 20 requests, 140 of any tokens; the next "
        "request may take 30 tokens. The same command goes on from here, with this budget anew"
    ]


def test_a_spent_budget_stops_all_threads():
    sent, stopped = spend_all(Budget(max_requests=20), threads=4)
    assert len(sent) == 20
    assert len(stopped) == 4


def test_tries_that_come_to_nothing_count_as_requests():
    tries = iter(range(10**6))

    def script(asked):
        return Reply({}, 503) if next(tries) % 2 else chat_reply("yes")

    sent, stopped = spend_all(Budget(max_requests=21), script=script)
    assert len(sent) == 21
    assert len(stopped) == 1


def test_tokens_are_never_overspent_and_nearly_used_up():
    """A request may take 30 tokens and takes 7."""
    sent, stopped = spend_all(Budget(max_tokens=280))
    assert len(stopped) == 1
    assert 280 - 30 < 7 * len(sent) <= 280


def test_money_is_never_overspent_and_nearly_used_up():
    """A request may cost 40; 5 tokens read and 2 written cost 9."""
    sent, stopped = spend_all(Budget(max_cost=300), PRICE)
    assert len(stopped) == 1
    assert 300 - 40 < 9 * len(sent) <= 300
    assert "of 300 money" in stopped[0]


def test_requests_wait_for_what_others_give_back():
    """The last of 41 has just room when all others are told to have taken 7 and not 30."""
    busy = []
    most = []

    def script(asked):
        busy.append(1)
        most.append(len(busy))
        threading.Event().wait(0.02)
        busy.pop()
        return chat_reply("yes")

    with ScriptedServer(script) as server:
        engine = opened(server, Budget(max_tokens=40 * 7 + 30), concurrency=32)
        found = engine.generate(CHATS, SAMPLING, KEYS)
        engine.close()
    assert len(found) == 40
    assert 1 < max(most) <= 10


@pytest.mark.parametrize("limit", ["max_tokens", "max_cost"])
def test_what_the_server_does_not_count_cannot_be_limited(limit):
    def script(asked):
        return Reply({"choices": chat_reply("yes").body["choices"]})

    with ScriptedServer(script) as server:
        engine = opened(server, Budget(**{limit: 10**7}), PRICE)
        with pytest.raises(ModelUnavailable, match=f"budget.{limit} cannot be kept"):
            engine.generate(CHATS[:1], SAMPLING, KEYS[:1])
        engine.close()


@pytest.mark.parametrize("limit", [Budget(max_tokens=280), Budget(max_cost=300)])
def test_an_answer_that_is_not_counted_after_others_that_were_counts_as_the_most_it_can_be(limit):
    """A request may take 30 tokens and cost 40, and takes 7 and costs 9."""

    def script(asked):
        reply = chat_reply("yes")
        if asked.text == CHATS[2][0]["content"]:
            del reply.body["usage"]
        return reply

    with ScriptedServer(script) as server:
        engine = opened(server, limit, PRICE, concurrency=1)
        found = engine.generate(CHATS[:5], SAMPLING, KEYS[:5])
        engine.close()
    assert [len(answers) for answers in found] == [1] * 5
    assert (engine.spent.requests, engine.spent.tokens) == (6, 5 * 7 + 30)
    assert engine.spent.cost == pytest.approx(5 * 9 + 40)
    assert engine.usage.prompt_tokens == 4 * 5


def test_cached_tokens_cost_what_they_cost():
    price = Price(prompt_per_million=4, cached_per_million=1, completion_per_million=10)
    assert Tokens(prompt=100, completion=10, cached=60).cost(price) == pytest.approx(
        (40 * 4 + 60 * 1 + 10 * 10) / 1e6
    )


HUGE = 2**63
CHOICES = [{"index": 0}]


@pytest.mark.parametrize(
    ("told", "tokens"),
    [
        ({"prompt_tokens": 3, "completion_tokens": 4}, Tokens(3, 4)),
        ({"prompt_tokens": 3, "total_tokens": 7}, Tokens(3, 4)),
        ({"prompt_tokens": 3, "completion_tokens": None, "total_tokens": 7}, Tokens(3, 4)),
        ({"prompt_tokens": 3, "total_tokens": 2}, None),
        ({"prompt_tokens": 3}, None),
        ({"prompt_tokens": 3, "completion_tokens": None}, None),
        ({"prompt_tokens": 3, "completion_tokens": True}, None),
        ({"prompt_tokens": -3, "completion_tokens": 4}, None),
        ({"prompt_tokens": 3, "completion_tokens": HUGE}, None),
        ({"prompt_tokens": HUGE, "completion_tokens": 4}, None),
        ({"completion_tokens": 4}, None),
        (None, None),
    ],
)
def test_tokens_of_an_answer_are_read_from_usage(told, tokens):
    assert told_tokens({"choices": CHOICES, "usage": told}) == tokens


@pytest.mark.parametrize(
    ("body", "tokens"),
    [
        ({"usage": {"prompt_tokens": 3, "total_tokens": 3}}, Tokens(3)),
        (
            {"usage": {"prompt_tokens": 3, "prompt_tokens_details": {"cached_tokens": 2}}},
            Tokens(3, 0, 2),
        ),
        (
            {"usage": {"prompt_tokens": 3, "prompt_tokens_details": {"cached_tokens": HUGE}}},
            Tokens(3),
        ),
        ({"usage": {"prompt_tokens": 3, "prompt_tokens_details": None}}, Tokens(3)),
        ({"usage": None}, None),
        ({}, None),
        ([], None),
    ],
)
def test_tokens_of_vectors_are_read_from_usage(body, tokens):
    assert told_tokens(body) == tokens


def test_a_server_that_tells_the_sum_only_is_kept_to_the_budget():
    """A request may take 30 tokens and takes 7; 0 would be told of the 2 that are written."""

    def script(asked):
        choices = chat_reply("yes").body["choices"]
        return Reply({"choices": choices, "usage": {"prompt_tokens": 5, "total_tokens": 7}})

    sent, stopped = spend_all(Budget(max_tokens=280), script=script)
    assert len(stopped) == 1
    assert 280 - 30 < 7 * len(sent) <= 280


@pytest.mark.parametrize(
    ("budget", "words"),
    [
        (
            Budget(max_tokens=271),
            r"may take 272 tokens, more than the whole budget\.max_tokens of 271: raise it to at "
            "least 272",
        ),
        (
            Budget(max_cost=287),
            r"may cost 288 money, more than the whole budget\.max_cost of 287: raise it to at "
            "least 288",
        ),
        (Budget(max_requests=1), "No row was answered for it: .* Raise the budget"),
    ],
)
def test_a_budget_with_which_the_same_command_would_never_get_on_is_told(budget, words):
    with ScriptedServer(lambda asked: chat_reply("yes")) as server:
        engine = opened(server, budget, PRICE)
        with pytest.raises(ModelUnavailable, match=words):
            engine.generate(CHATS, SAMPLING, KEYS)
        engine.close()


def test_an_engine_that_is_opened_again_goes_on_with_the_same_budget():
    budget = Budget(max_requests=20)
    with ScriptedServer(lambda asked: chat_reply("yes")) as server:
        first = opened(server, budget)
        first.generate(CHATS[:10], SAMPLING, KEYS[:10])
        first.close()
        second = opened(server, budget)
        second.go_on_from(first.spent)
        with pytest.raises(BudgetSpent, match="spent 20 of 20 requests, 140 of any tokens"):
            second.generate(CHATS[10:], SAMPLING, KEYS[10:])
        second.close()
    assert len(server.asked) == 20
