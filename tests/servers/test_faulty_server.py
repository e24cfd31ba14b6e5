import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.servers.faults import Fault, Faults
from tests.servers.faulty_server import FaultyServer
from tests.servers.seen import Request, Seen, most_at_once
from tests.servers.traits import Traits


def chat(question: str = "What is question 3 about?", **options: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": question}]
    return {"model": "judge", "messages": messages, **options}


def post(server: FaultyServer, body: Any, path: str = "/chat/completions", **options: Any) -> Any:
    return httpx.post(server.base_url("judge") + path, json=body, **{"timeout": 5.0, **options})


@pytest.fixture
def healthy() -> Iterator[FaultyServer]:
    with FaultyServer() as server:
        yield server


def faulty(kind: Fault, variant: int, **options: Any) -> FaultyServer:
    faults = Faults(rate=1.0, kinds=(kind,), longest=1, variant=variant)
    return FaultyServer(faults=faults, **options)


def test_equal_requests_get_equal_answers_from_any_server(healthy: FaultyServer) -> None:
    with FaultyServer(faults=Faults(seed=5), latency_s=0.01) as other:
        answers = [post(server, chat(n=3, seed=1)).json() for server in (healthy, other)]

    assert answers[0] == answers[1]
    assert [choice["index"] for choice in answers[0]["choices"]] == [0, 1, 2]
    assert len({choice["message"]["content"] for choice in answers[0]["choices"]}) == 3


def test_at_temperature_0_all_samples_are_equal(healthy: FaultyServer) -> None:
    choices = post(healthy, chat(n=3, temperature=0)).json()["choices"]

    assert len({choice["message"]["content"] for choice in choices}) == 1


def test_letters_come_with_the_log_probabilities_of_the_first_token(healthy: FaultyServer) -> None:
    body = chat("Reply with the letter alone: A, B or C.", logprobs=True, top_logprobs=4)

    (choice,) = post(healthy, body).json()["choices"]

    (token,) = choice["logprobs"]["content"]
    assert {top["token"].strip() for top in token["top_logprobs"]} == {"A", "B", "C"}
    assert choice["message"]["content"] in ("A", "B", "C")


def test_a_schema_is_followed(healthy: FaultyServer) -> None:
    letters = {"enum": ["A", "B"]}
    schema = {"type": "object", "properties": {"choice": letters, "sure": {"type": "boolean"}}}
    wanted = {"type": "json_schema", "json_schema": {"name": "choice", "schema": schema}}

    answer = post(healthy, chat(response_format=wanted)).json()

    said = json.loads(answer["choices"][0]["message"]["content"])
    assert said.keys() == {"choice", "sure"}
    assert said["choice"] in ("A", "B")


def test_texts_with_common_words_have_near_vectors(healthy: FaultyServer) -> None:
    texts = ["the red cat sits", "the red cat runs", "nobody ever writes letters"]

    data = post(healthy, {"model": "e", "input": texts}, "/embeddings").json()["data"]

    one, near, far = (item["embedding"] for item in data)
    assert sum(a * b for a, b in zip(one, near, strict=True)) > 2 * sum(
        a * b for a, b in zip(one, far, strict=True)
    )


def test_token_prompts_get_their_log_probabilities(healthy: FaultyServer) -> None:
    body = {"model": "judge", "prompt": [5, 8, 13], "max_tokens": 1, "prompt_logprobs": 0}

    (choice,) = post(healthy, body, "/completions").json()["choices"]

    assert choice["prompt_logprobs"][0] is None
    assert [list(entry) for entry in choice["prompt_logprobs"][1:]] == [["8"], ["13"]]


def test_an_answer_is_cut_at_its_limit(healthy: FaultyServer) -> None:
    answer = post(healthy, chat(max_tokens=2)).json()

    assert answer["choices"][0]["finish_reason"] == "length"
    assert answer["usage"]["completion_tokens"] == 2


@pytest.mark.parametrize(
    ("traits", "options", "param"),
    [
        (Traits(n="refused"), {"n": 2}, "n"),
        (Traits(logprobs="refused"), {"logprobs": True}, "logprobs"),
        (
            Traits(response_format="refused"),
            {"response_format": {"type": "json_object"}},
            "response_format",
        ),
        (Traits(seed="refused"), {"seed": 1}, "seed"),
        (Traits(limit_name="max_completion_tokens"), {"max_tokens": 4}, "max_tokens"),
        (Traits(context=20), {"max_tokens": 40}, "messages"),
        (Traits(poison="question 3"), {}, None),
    ],
    ids=["n", "logprobs", "response_format", "seed", "max_tokens", "context", "poison"],
)
def test_what_a_server_lacks_it_refuses(
    traits: Traits, options: dict[str, Any], param: str | None
) -> None:
    with FaultyServer(traits=traits) as server:
        answer = post(server, chat(**options))

    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == param


def test_what_a_server_ignores_it_leaves_out() -> None:
    with FaultyServer(traits=Traits(n="ignored", logprobs="ignored", usage=False)) as server:
        answer = post(server, chat(n=4, logprobs=True, top_logprobs=5)).json()

    assert len(answer["choices"]) == 1
    assert "logprobs" not in answer["choices"][0]
    assert "usage" not in answer


def test_a_wrong_key_is_refused_and_repeated() -> None:
    with FaultyServer(traits=Traits(key="right")) as server:
        wrong, right = (
            post(server, chat(), headers={"authorization": f"Bearer {key}"})
            for key in ("wrong", "right")
        )

    assert (wrong.status_code, right.status_code) == (401, 200)
    assert "Bearer wrong" in wrong.text


@pytest.mark.parametrize("variant", range(12))
@pytest.mark.parametrize(
    ("kind", "statuses"),
    [
        (Fault.RATE_LIMITED, {429}),
        (Fault.BUSY, {408, 409, 425}),
        (Fault.BROKEN, {500, 502, 503}),
    ],
)
def test_a_status_says_that_it_went_wrong(kind: Fault, statuses: set[int], variant: int) -> None:
    with faulty(kind, variant) as server:
        first, second = (post(server, chat()) for _ in range(2))

    assert first.status_code in statuses
    assert second.status_code == 200


def test_retry_after_comes_in_seconds_as_a_date_and_not_at_all() -> None:
    given = []
    for variant in range(4):
        with faulty(Fault.RATE_LIMITED, variant) as server:
            given.append(post(server, chat()).headers.get("retry-after"))

    assert given[:3] == [None, "0", "1"]
    assert 0 < parsedate_to_datetime(given[3]).timestamp() - time.time() < 2


@pytest.mark.parametrize("variant", range(6))
@pytest.mark.parametrize("kind", [Fault.RESET, Fault.TRUNCATED])
def test_a_connection_ends_in_the_middle(kind: Fault, variant: int) -> None:
    with faulty(kind, variant) as server:
        with pytest.raises((httpx.ReadError, httpx.RemoteProtocolError)):
            post(server, chat())

        assert post(server, chat()).status_code == 200


def test_a_reset_is_a_reset() -> None:
    with faulty(Fault.RESET, 0) as server, pytest.raises(httpx.ReadError, match=r"Errno 104|reset"):
        post(server, chat())


@pytest.mark.parametrize("variant", range(2))
def test_a_silent_server_says_nothing(variant: int) -> None:
    with faulty(Fault.SILENT, variant) as server, pytest.raises(httpx.ReadTimeout):
        post(server, chat(), timeout=0.2)


@pytest.mark.parametrize("variant", range(2))
def test_a_dripping_response_outlasts_every_time_out_between_two_bytes(variant: int) -> None:
    with faulty(Fault.DRIP, variant, drip_s=0.002) as server:
        began = time.monotonic()
        answer = post(server, chat(), timeout=0.2)

    assert answer.status_code == 200
    assert time.monotonic() - began > 0.6
    assert server.seen.requests[0].fault is Fault.DRIP


@pytest.mark.parametrize("variant", range(6))
def test_a_garbled_answer_is_no_answer(variant: int) -> None:
    with faulty(Fault.GARBLED, variant) as server:
        answer = post(server, chat())

    assert answer.status_code == 200
    with pytest.raises((json.JSONDecodeError, KeyError, TypeError)):
        answer.json()["choices"]


@pytest.mark.parametrize(
    ("kind", "indices"),
    [
        (Fault.MISCOUNTED, [[0, 1], [0, 1, 2, 3], []]),
        (Fault.DUPLICATED, [[0, 1, 0]] * 3),
        (Fault.SHUFFLED, [[2, 1, 0]] * 3),
    ],
)
def test_choices_are_too_few_too_many_double_or_disordered(
    kind: Fault, indices: list[list[int]]
) -> None:
    found = []
    for variant in range(3):
        with faulty(kind, variant) as server:
            choices = post(server, chat(n=3)).json()["choices"]
        found.append([choice["index"] for choice in choices])

    assert found == indices


def test_the_same_seed_gives_the_same_faults_in_any_order() -> None:
    bodies = [chat(f"What is question {number} about?") for number in range(60)]
    kinds = (Fault.RATE_LIMITED, Fault.BUSY, Fault.BROKEN, Fault.GARBLED)
    met = []
    for ordered in (bodies * 3, bodies[::-1] * 3):
        with FaultyServer(faults=Faults(seed=3, rate=0.4, kinds=kinds)) as server:
            with httpx.Client() as client, ThreadPoolExecutor(1) as pool:
                url = server.base_url() + "/chat/completions"
                list(pool.map(lambda body, url=url, one=client: one.post(url, json=body), ordered))
            by_body: dict[str, list[Fault | None]] = {}
            for request in server.seen.requests:
                by_body.setdefault(request.content, []).append(request.fault)
        met.append(by_body)

    assert met[0] == met[1]
    drawn = [fault for faults in met[0].values() for fault in faults]
    assert 0.3 < sum(fault is not None for fault in drawn) / len(drawn) < 0.5


def test_every_request_is_answered_in_the_end() -> None:
    faults = Faults(rate=1.0, longest=3)

    assert [faults.draw("any", before) is None for before in range(5)] == [
        False,
        False,
        False,
        True,
        True,
    ]


def test_requests_in_flight_are_counted_at_the_server() -> None:
    with FaultyServer(latency_s=0.2) as server, ThreadPoolExecutor(5) as pool:
        list(pool.map(lambda number: post(server, chat(str(number))), range(10)))

        assert server.seen.most_in_flight() == 5


def test_what_was_answered_and_asked_again_is_told(healthy: FaultyServer) -> None:
    for question in ("first?", "second?", "first?"):
        post(healthy, chat(question))

    assert ["first?" in body for body in healthy.seen.asked_again()] == [True]


def test_what_failed_may_be_asked_again() -> None:
    with faulty(Fault.BROKEN, 0) as server:
        for _ in range(2):
            post(server, chat())

    assert server.seen.asked_again() == []


def test_a_try_before_the_retry_after_is_told() -> None:
    with faulty(Fault.RATE_LIMITED, 2) as server:
        for _ in range(2):
            post(server, chat())

    (early,) = server.seen.too_early()
    assert 0.5 < early <= 1


def test_a_dead_server_refuses_connections_and_comes_back_under_its_address() -> None:
    with FaultyServer(dies_after=1) as server:
        post(server, chat())
        with pytest.raises(httpx.TransportError):
            post(server, chat())
        with pytest.raises(httpx.ConnectError):
            post(server, chat())
        server.revive()

        assert post(server, chat()).status_code == 200


def test_the_most_at_once_ends_before_it_begins() -> None:
    assert most_at_once([(0, 1), (1, 2), (1.5, 3)]) == 2


def test_an_abandoned_request_counts_until_shortly_before_the_server_heard() -> None:
    seen = Seen([Request(began=0.0, ended=1.0, abandoned=True), Request(began=0.95, ended=2.0)])

    assert (seen.most_in_flight(), seen.most_in_flight(grace_s=0.0)) == (1, 2)


def test_it_runs_as_a_script_and_tells_what_it_saw() -> None:
    command = [sys.executable, "-u", "-m", "tests.servers.faulty_server", "--rate", "0"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]
    ) as process:
        assert process.stdout is not None
        killer = threading.Timer(30, process.kill)
        killer.start()
        base_url, *_, seen = process.stdout.readline().rstrip(")\n").split()
        httpx.post(f"{base_url}/chat/completions", json=chat())
        told = httpx.get(seen).json()
        killer.cancel()
        process.terminate()

    assert (told["requests"], told["faults"], told["most_in_flight"]) == (1, {}, 1)
