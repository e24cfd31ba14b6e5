"""Reading the next part while the last one is being worked on."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


def read_ahead(items: Iterator[T]) -> Iterator[T]:
    """The same items in the same order; one is fetched ahead, in a thread.

    Decoding parquet lets go of Python's lock, so on 2 cores a stage that hashes in Python waits for
    none of it. An error of the source is raised where its item would have come.
    """
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="read-ahead") as thread:
        ahead = thread.submit(_next, items)
        while True:
            item = ahead.result()
            if item is _END:
                return
            ahead = thread.submit(_next, items)
            yield item  # type: ignore[misc]  # anything but _END is a T


_END = object()


def _next(items: Iterator[T]) -> T | object:
    return next(items, _END)
