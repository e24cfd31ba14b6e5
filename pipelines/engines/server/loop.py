"""An event loop in a thread of its own, for callers in any thread.

When one of several requests that were given together fails, the others of them come to nothing.
Those that are on their way are waited for all the same: their answers are paid for, and are kept
for the next run. So nothing is cancelled; who is about to send or to wait asks whether it still
should (`go_on`, `pause`).
"""

import asyncio
import concurrent.futures
import contextlib
import threading
from collections.abc import Awaitable, Callable, Sequence
from contextvars import ContextVar
from typing import TypeVar

from stages.engines import EngineError

T = TypeVar("T")

_CLOSING_S = 10.0
_LOOK_S = 0.5
# Set when one of those that were given together has failed.
_FAILED: ContextVar[asyncio.Event] = ContextVar("failed")


class Abandoned(EngineError):
    """Another request that was given together with this one has failed."""


def go_on() -> None:
    """Raises Abandoned when what is done here is of no use any more."""
    failed = _FAILED.get(None)
    if failed is not None and failed.is_set():
        raise Abandoned("another request has failed")


async def pause(seconds: float) -> None:
    """Sleeps so long. Raises Abandoned as soon as another one has failed."""
    failed = _FAILED.get(None)
    if failed is None:
        await asyncio.sleep(seconds)
        return
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(failed.wait(), seconds)
    go_on()


async def all_of(asks: Sequence[Callable[[], Awaitable[T]]]) -> list[T]:
    """The results, in order. Raises what the first of them raises, once all have ended."""
    tasks = [asyncio.ensure_future(_telling(ask)) for ask in asks]
    try:
        await asyncio.wait(tasks)
    finally:  # Ctrl-C and the end of the engine wait for nobody
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    errors = [error for task in tasks if (error := _error_of(task))]
    if errors:
        raise next((error for error in errors if not isinstance(error, Abandoned)), errors[0])
    return [task.result() for task in tasks]


async def _telling(ask: Callable[[], Awaitable[T]]) -> T:
    """Tells the others of a failure before any of them goes on."""
    try:
        return await ask()
    except Exception:
        _FAILED.get().set()
        raise


def _error_of(task: "asyncio.Task[T]") -> BaseException | None:
    return None if task.cancelled() else task.exception()


class LoopThread:
    """Runs what it is given together; one failure stops what was given with it, and only that."""

    def __init__(self, name: str) -> None:
        self.loop = asyncio.new_event_loop()
        self._closed = False
        self._lock = threading.Lock()
        # A daemon: a run that is killed does not wait for a server.
        self._thread = threading.Thread(target=self.loop.run_forever, name=name, daemon=True)
        self._thread.start()

    def together(self, asks: Sequence[Callable[[], Awaitable[T]]]) -> list[T]:
        """The results, in order. Raises what the first of them raises, EngineError once closed."""
        if not asks:
            return []
        with self._lock:
            if self._closed:
                raise EngineError("the engine is closed")
            future = asyncio.run_coroutine_threadsafe(_all(asks), self.loop)
        try:
            # Where polars handles SIGINT, a wait without an end is not interrupted by Ctrl-C.
            while not concurrent.futures.wait([future], _LOOK_S).done:
                pass
            return future.result()
        except concurrent.futures.CancelledError:
            pass  # raised below, where it holds nothing of what was going on
        finally:
            future.cancel()  # Ctrl-C: nothing goes on that nobody waits for
        raise EngineError("the engine was closed while it was answering")

    def close(self, last: Callable[[], Awaitable[None]]) -> None:
        """Cancels all that is going on, then awaits `last`, then ends the thread."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
        asyncio.run_coroutine_threadsafe(_end(last), self.loop).result(_CLOSING_S)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(_CLOSING_S)
        self.loop.close()


async def _all(asks: Sequence[Callable[[], Awaitable[T]]]) -> list[T]:
    _FAILED.set(asyncio.Event())
    return await all_of(asks)


async def _end(last: Callable[[], Awaitable[None]]) -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
    await last()
