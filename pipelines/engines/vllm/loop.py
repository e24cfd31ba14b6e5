"""vLLM's engine on an asyncio loop in a thread of its own, for callers in any thread.

All requests of a call are handed over together, and those of several callers meet in the engine,
which batches them. Nobody waits for an engine that is gone: every caller gets an EngineError.
"""

import asyncio
import atexit
import itertools
import os
import signal
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from concurrent.futures import CancelledError, Future, wait
from contextlib import nullcontext
from multiprocessing import resource_tracker
from typing import Any, TypeVar

from pipelines.engines.batching import Tokens
from pipelines.engines.errors import ModelUnavailable
from pipelines.engines.vllm.cached import CachedTokens
from pipelines.engines.vllm.config import VllmEmbedder, VllmHiddenStates, VllmModel
from pipelines.engines.vllm.log import VllmLog
from pipelines.engines.vllm.processes import VllmProcesses
from pipelines.engines.vllm.start import prepare_vllm, shows_its_log, vllm_arguments
from stages.engines import EngineError

T = TypeVar("T")

_LOOK_S = 1.0  # between two looks whether the engine still lives
# For the engine's processes to end by themselves. They have nothing to save, and one that is in the
# middle of a step does not hear: on a CPU a step may take half a minute.
_END_S = 4.0
# A dead engine tells its callers within 2 s; after so many looks they are told here.
_LAST_LOOKS = 10


class VllmLoop:
    """One open vLLM engine. For several threads at once.

    llm           vLLM's AsyncLLM
    model_config  vLLM's view of the model: `max_model_len` is the context that it settled on
    """

    def __init__(
        self,
        config: VllmModel | VllmEmbedder | VllmHiddenStates,
        folder: str,
        revision: str | None,
        **further: Any,
    ) -> None:
        """`further`: more of vLLM's EngineArgs. Raises ModelUnavailable with vLLM's own reason."""
        self.name = config.model
        self.log = None if shows_its_log() else VllmLog()
        self.closed = False
        self._cached = CachedTokens()
        self._numbers = itertools.count()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._turn, name="vllm", daemon=True)
        self._processes = VllmProcesses()
        _start_resource_tracker()
        self._thread.start()
        try:
            with self.log.taking() if self.log else nullcontext():
                prepare_vllm()
                self.llm: Any = self._started(vllm_arguments(config, folder, revision) | further)
        except BaseException as error:
            self._processes.find()
            self._processes.kill()  # after an interrupt, vLLM would go on starting for a minute
            self._stop_loop()
            if self.log and not isinstance(error, ModelUnavailable):
                self.log.remove()
            raise
        self._processes.find()
        self.model_config: Any = self.llm.model_config
        # Before multiprocessing's own, which would wait for the engine's process for ever.
        atexit.register(self.close)

    def _turn(self) -> None:
        # Ctrl-C reaches all processes of a terminal. The engine's inherit this, and stop when they
        # are told to, after whoever asks them has stopped.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()
        self._loop.close()

    def _started(self, arguments: dict[str, Any]) -> Any:
        from vllm.engine.arg_utils import AsyncEngineArgs
        from vllm.exceptions import VLLMError
        from vllm.usage.usage_lib import UsageContext
        from vllm.v1.engine.async_llm import AsyncLLM

        async def start() -> Any:
            return AsyncLLM.from_engine_args(
                AsyncEngineArgs(**arguments),
                # Not reported to anybody: it chooses the sizes of steps that suit throughput.
                usage_context=UsageContext.LLM_CLASS,
                stat_loggers=[lambda *_: self._cached],
            )

        future = asyncio.run_coroutine_threadsafe(start(), self._loop)
        while not wait([future], timeout=_LOOK_S).done:
            pass  # an interrupt is heard of between two waits
        try:
            return future.result()
        except (VLLMError, RuntimeError, ValueError, OSError, AssertionError) as error:
            message = f"vLLM cannot open '{self.name}': {self._why(error)}"
            raise ModelUnavailable(message) from error

    def _why(self, error: BaseException) -> str:
        """What went wrong, in the words of the process that it went wrong in."""
        if self.log is None:
            return f"{error} (vLLM printed more above)"
        return f"{self.log.reason() or error} (more in {self.log.path})"

    def generate(self, prompts: Sequence[Tokens], params: Sequence[Any]) -> list[tuple[Any, int]]:
        """The RequestOutput of vLLM for each prompt with its SamplingParams, all asked together.

        With each comes the number of prompt tokens, over all samples, that the engine had in its
        cache. Raises EngineError when the engine is gone, and ValueError for what vLLM has against
        the parameters of a request.
        """
        return self._wait(self._all(prompts, params, self._generated))

    def encode(self, prompts: Sequence[Tokens], params: Sequence[Any]) -> list[Any]:
        """The PoolingRequestOutput for each prompt with its PoolingParams; errors as above."""
        return self._wait(self._all(prompts, params, self._encoded))

    async def _all(
        self,
        prompts: Sequence[Tokens],
        params: Sequence[Any],
        one: Callable[[Any, Any, str], Coroutine[Any, Any, T]],
    ) -> list[T]:
        from vllm.inputs.engine import tokens_input

        tasks = [
            asyncio.create_task(one(tokens_input(prompt.tolist()), own, str(next(self._numbers))))
            for prompt, own in zip(prompts, params, strict=True)
        ]
        try:
            return await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()  # where one raised, nobody waits for the others any more

    async def _generated(self, prompt: Any, params: Any, name: str) -> tuple[Any, int]:
        if params.n == 1:
            output = await _last(self.llm.generate(prompt, params, name))
            return output, output.num_cached_tokens or 0
        self._cached.expect(name)
        try:
            output = await _last(self.llm.generate(prompt, params, name))
            while not self._cached.known(name, params.n) and not self.llm.errored:
                await asyncio.sleep(0)  # the answer may come a step of the loop earlier
        finally:
            tokens = self._cached.taken(name)
        return output, tokens

    async def _encoded(self, prompt: Any, params: Any, name: str) -> Any:
        return await _last(self.llm.encode(prompt, params, name))

    def _wait(self, answers: Coroutine[Any, Any, T]) -> T:
        llm = self.llm
        if self.closed:
            answers.close()
            raise EngineError(self._gone(""))
        future = asyncio.run_coroutine_threadsafe(answers, self._loop)
        try:
            self._watch(future, llm)
        except BaseException:
            future.cancel()  # an interrupt: nobody will read the answers
            raise
        return self._answer(future, llm)

    def _watch(self, future: Future[Any], llm: Any) -> None:
        """Comes back when the answers are there, or raises EngineError."""
        looks = 0
        while not wait([future], timeout=_LOOK_S).done:
            looks += llm.errored
            if self.closed or looks > _LAST_LOOKS:
                raise EngineError(self._gone("it does not answer any more"))

    def _answer(self, future: Future[T], llm: Any) -> T:
        from vllm.exceptions import VLLMClientError
        from vllm.v1.engine.exceptions import EngineDeadError, EngineGenerateError

        try:
            return future.result()
        except (CancelledError, EngineDeadError) as error:
            # All requests were told with this one exception, and each added to its traceback.
            raise EngineError(self._gone(error)) from error.with_traceback(None)
        except EngineGenerateError as error:
            if self.closed or llm.errored:
                raise EngineError(self._gone(error.__cause__ or error)) from error
            raise error.__cause__ or error from None  # one request's own, the engine lives on
        except VLLMClientError as error:
            raise ValueError(str(error)) from error

    def _gone(self, error: BaseException | str) -> str:
        if self.closed:
            return f"vLLM with '{self.name}' was closed"
        reason = error if isinstance(error, str) else self._why(error)
        return f"vLLM with '{self.name}' is gone: {reason}"

    def close(self) -> None:
        """Ends the engine's processes; whoever waits for an answer gets an EngineError."""
        if self.closed:
            return
        broken = self.llm.errored
        self.closed = True
        atexit.unregister(self.close)
        asyncio.run_coroutine_threadsafe(_cancel_all(), self._loop).result()
        self.llm.shutdown(timeout=_END_S)
        self._processes.kill()
        self.llm = None  # closed for good by its destructor
        asyncio.run_coroutine_threadsafe(_cancel_all(), self._loop).result()
        self._stop_loop()
        if self.log and not broken:
            self.log.remove()

    def _stop_loop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()


def _start_resource_tracker() -> None:
    """Python's own process that frees shared memory which a killed process leaves.

    Started here, because the thread that starts it lets interrupts through again, and silent,
    because it would tell the user of what it does.
    """
    before = os.environ.get("PYTHONWARNINGS")
    os.environ["PYTHONWARNINGS"] = "ignore"
    try:
        resource_tracker.ensure_running()
    finally:
        del os.environ["PYTHONWARNINGS"]
        if before is not None:
            os.environ["PYTHONWARNINGS"] = before


async def _cancel_all() -> None:
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def _last(outputs: AsyncIterator[Any]) -> Any:
    """The final output, which is the only one (RequestOutputKind.FINAL_ONLY)."""
    async for output in outputs:
        last = output
    return last
