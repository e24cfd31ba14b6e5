"""Several pieces of work in hand at a time, for engines that batch the requests of all callers."""

from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import TypeVar

T = TypeVar("T")
U = TypeVar("U")

# Polars' handler of Ctrl-C lets a wait without an end go on: it would be heard of when a piece of
# work is done, which with a model takes minutes.
_LOOK_S = 0.5


def in_flight(
    work: Callable[[T], U],
    items: Iterator[T],
    at_once: int,
    waiting: Callable[[], None] = lambda: None,
) -> Iterator[tuple[T, U]]:
    """Each item with what `work` made of it, as soon as that is there.

    Up to `at_once` items are in hand, each in a thread of its own; with 1 there is no thread and
    the order is kept. Items are fetched by the caller's thread, one when there is room for it.
    `waiting` is called every half a second in which nothing was done.

    When work on an item raises, no other is begun; those in hand are brought to their end, what
    they gave is handed out, and the first error is raised. An interrupt waits for nothing.
    """
    if at_once == 1:
        for item in items:
            yield item, work(item)
        return
    pool = ThreadPoolExecutor(max_workers=at_once, thread_name_prefix="chunk")
    try:
        yield from _through(pool, work, items, at_once, waiting)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _through(
    pool: ThreadPoolExecutor,
    work: Callable[[T], U],
    items: Iterator[T],
    at_once: int,
    waiting: Callable[[], None],
) -> Iterator[tuple[T, U]]:
    in_hand: dict[Future[U], T] = {}
    problem: BaseException | None = None
    more = True
    while more or in_hand:
        while more and len(in_hand) < at_once:
            item = next(items, None)
            more = item is not None
            if item is not None:
                in_hand[pool.submit(work, item)] = item
        done = wait(in_hand, _LOOK_S, FIRST_COMPLETED).done
        if not done:
            waiting()
        for future in done:
            item = in_hand.pop(future)
            error = future.exception()
            if error is None:
                yield item, future.result()
            else:
                problem = problem or error
                more = False
    if problem is not None:
        raise problem
