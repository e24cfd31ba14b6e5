"""What does the pipeline cost beside vLLM itself, and how much does the prefix cache save?

    .venv-vllm/bin/python -m benchmarks.vllm_throughput [--estimator likelihood|bsdetector]
        [--rows 200] [--repeats 2] [--dtype bfloat16] [--model smollm2-135m-instruct] [--data DIR]

Runs `clear.filter` over rows of dolly_3k.jsonl through the pipeline with `kind: vllm`, notes every
request, and sends the same requests with a bare script to `vllm.LLM`: as token ids, phase by phase,
all rows of a phase at once, nothing done with the answers. Both are open at the same time and take
turns, each with an empty prefix cache; rows per second and their ratio are printed for each turn.
For bsdetector, contradiction is by a stand-in that costs nothing, so that vLLM is what is timed.

Needs the environment of `make vllm-cpu`, or a GPU and `uv sync --extra vllm`.
"""

import argparse
import asyncio
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import Any

import orjson

from benchmarks.clear_dolly import DATA, planted
from benchmarks.yardstick import print_yardstick
from pipelines.engines.bundled import BUNDLED, bundled_folder
from pipelines.engines.fake import FakeEngine
from pipelines.engines.opening import open_engine
from pipelines.engines.vllm.config import VllmModel
from pipelines.recipe import parse_recipe
from pipelines.runner.curation import Curation
from pipelines.store.workspace import Workspace
from stages.engines import Chat, Engine, Sampling, Usage

STAGES = {
    "likelihood": {"kind": "clear.filter", "estimator": "likelihood", "model": "judge"},
    "bsdetector": {
        "kind": "clear.filter",
        "estimator": "bsdetector",
        "model": "judge",
        "contradiction": "embedding",
        "embedder": "embedder",
        "reflection": "expected",
        "max_answer_tokens": 64,
    },
}
Phase = tuple[str, int, int]  # method, samples, turns of the chat


@dataclass
class Noting:
    """The vLLM engine, and what it was asked in each phase."""

    engine: Any
    asked: dict[Phase, list[tuple[Any, ...]]] = field(default_factory=lambda: defaultdict(list))
    lock: Lock = field(default_factory=Lock)

    @property
    def usage(self) -> Usage:
        return self.engine.usage

    @property
    def notes(self) -> list[str]:
        return self.engine.notes

    def generate(self, chats: Sequence[Chat], sampling: Sampling, keys: Sequence[bytes]) -> Any:
        self._note("generate", sampling.samples, chats, [(sampling, key) for key in keys])
        return self.engine.generate(chats, sampling, keys)

    def choose(self, chats: Sequence[Chat], options: Sequence[str]) -> Any:
        self._note("choose", 1, chats, [(tuple(options),)] * len(chats))
        return self.engine.choose(chats, options)

    def log_probs(self, chats: Sequence[Chat], max_tokens: int) -> Any:
        self._note("log_probs", 1, chats, [(max_tokens,)] * len(chats))
        return self.engine.log_probs(chats, max_tokens)

    def _note(self, method: str, samples: int, chats: Sequence[Chat], rest: list[Any]) -> None:
        with self.lock:
            for chat, more in zip(chats, rest, strict=True):
                self.asked[method, samples, len(chat)].append((chat, *more))

    def probe(self) -> None:
        self.engine.probe()

    def close(self) -> None:
        """The engine stays open for the next turn."""


class Bare:
    """vllm.LLM, given token ids."""

    def __init__(self, config: VllmModel, chat_tokens: Any) -> None:
        from pipelines.engines.vllm.start import prepare_vllm, vllm_arguments

        prepare_vllm()
        from vllm import LLM

        bundled = BUNDLED.get(config.model)
        folder = config.model if bundled is None else str(bundled_folder(bundled))
        self.llm = LLM(**vllm_arguments(config, folder, config.revision))
        self.chat_tokens = chat_tokens

    def requests(self, asked: dict[Phase, list[tuple[Any, ...]]]) -> list[Any]:
        """Prompts and parameters of each phase, made before the clock runs."""
        return [
            [self._request(phase[0], *one) for one in requests] for phase, requests in asked.items()
        ]

    def _request(self, method: str, chat: Chat, *more: Any) -> tuple[Any, Any]:
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        from pipelines.engines.first_tokens import first_tokens

        final = {"output_kind": RequestOutputKind.FINAL_ONLY}
        if method == "log_probs":
            (answer,) = self.chat_tokens.answers([chat], more[0])
            ids = [*answer.prompt.tolist(), *answer.answer.tolist()]
            params = SamplingParams(
                max_tokens=1, prompt_logprobs=0, detokenize=False, flat_logprobs=True, **final
            )
            return {"prompt_token_ids": ids}, params
        (prompt,) = self.chat_tokens.prompts([chat], 1)
        if method == "choose":
            firsts = [token for one in first_tokens(self.chat_tokens, more[0]) for token in one]
            params = SamplingParams(max_tokens=1, temperature=0, logprob_token_ids=firsts, **final)
        else:
            sampling, key = more
            params = SamplingParams(
                n=sampling.samples,
                max_tokens=sampling.max_tokens,
                temperature=sampling.temperature,
                seed=int.from_bytes(key[:4], "big"),
                **final,
            )
        return {"prompt_token_ids": prompt.tolist()}, params

    def seconds(self, phases: list[Any]) -> float:
        self.llm.reset_prefix_cache()
        start = time.perf_counter()
        for phase in phases:
            prompts, params = zip(*phase, strict=True)
            self.llm.generate(list(prompts), list(params), use_tqdm=False)
        return time.perf_counter() - start


def pipeline(
    records: list[dict[str, Any]], stage: dict[str, Any], config: VllmModel, noting: Noting
) -> tuple[float, Usage, int]:
    """Seconds of the scoring step, what it took, and how many rows failed."""
    engines = {config.model: noting, "stand-in": FakeEngine(embed=lambda text: [len(text), 1.0])}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "rows.jsonl").write_bytes(b"\n".join(orjson.dumps(one) for one in records))
        recipe = parse_recipe(
            {
                "name": "throughput",
                "source": {"path": str(folder / "rows.jsonl")},
                "models": {
                    "judge": config.model_dump(),
                    "embedder": {"kind": "sentence-transformers", "model": "stand-in"},
                },
                "stages": [stage],
                "max_failed": 1.0,
            }
        )
        curation = Curation(
            recipe,
            Workspace(folder / "workspace"),
            open_engine=lambda model: _engine(engines[model.model]),
            identify=lambda model: {"model": model.model},
        )
        curation.begin()
        before = noting.usage.copy()
        start = time.perf_counter()
        outcome = curation.run_stage(curation.plan.stages[0])
        seconds = time.perf_counter() - start
    return seconds, noting.usage.minus(before), outcome.counts.failed


def with_empty_cache(engine: Any) -> None:
    loop = engine.loop
    asyncio.run_coroutine_threadsafe(loop.llm.reset_prefix_cache(), loop._loop).result()


def _engine(engine: Any) -> Engine:
    return engine  # type: ignore[no-any-return]  # Noting is one in all but name


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--estimator", choices=STAGES, default="likelihood")
    parser.add_argument("--rows", type=int, default=200)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--max-model-len", type=int, default=4096)
    parser.add_argument("--answer-tokens", type=int, default=64)
    parser.add_argument("--data", type=Path, default=DATA)
    arguments = parser.parse_args()
    source = arguments.data / "instruct" / "dolly_3k.jsonl"
    if not source.exists():
        sys.exit(f"{source} is not there: give the folder of the data sets with --data")
    print_yardstick()
    config = VllmModel(
        model=arguments.model,
        dtype=arguments.dtype,
        max_model_len=arguments.max_model_len,
        gpu_memory_utilization=0.4,
    )
    records = planted(source, arguments.rows, seed=0)
    stage = dict(STAGES[arguments.estimator])
    if arguments.estimator == "bsdetector":
        stage["max_answer_tokens"] = arguments.answer_tokens
    engine: Any = open_engine(config)
    bare = Bare(config, engine.chat_tokens)
    pipeline(records[:8], stage, config, Noting(engine))  # warm-up
    for turn in range(arguments.repeats):
        noting = Noting(engine)
        with_empty_cache(engine)
        seconds, usage, failed = pipeline(records, stage, config, noting)
        rows = len(records)
        print(
            f"turn {turn + 1}: {failed} of {rows} rows failed\n"
            f"  prompt tokens {usage.prompt_tokens:,}, of which computed "
            f"{1 - usage.cached_tokens / usage.prompt_tokens:.1%}\n"
            f"  pipeline {rows / seconds:7.2f} rows/s ({seconds:.1f} s)",
            flush=True,
        )
        phases = bare.requests(noting.asked)
        bare_seconds = bare.seconds(phases)
        print(
            f"  bare     {rows / bare_seconds:7.2f} rows/s ({bare_seconds:.1f} s), "
            f"{sum(map(len, phases))} requests in {len(phases)} phases\n"
            f"  ratio    {bare_seconds / seconds:.2f}",
            flush=True,
        )
    engine.close()


if __name__ == "__main__":
    main()
