"""An event loop in a thread of its own, for callers in any thread."""

import asyncio
import concurrent.futures
import threading
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from stages.engines import EngineError

T = TypeVar("T")

_CLOSING_S = 10.0
_LOOK_S = 0.5


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
    tasks = [asyncio.ensure_future(ask()) for ask in asks]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in tasks:
        if not task.cancelled() and (error := task.exception()) is not None:
            raise error
    return [task.result() for task in tasks]


async def _end(last: Callable[[], Awaitable[None]]) -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
    await last()
