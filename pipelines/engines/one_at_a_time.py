"""Engines that answer call after call, in the hands of several threads.

A stage may have several chunks of rows in hand when one of its models batches the requests of all
callers. Its other models then hear from several threads, and answer them one after the other.
"""

import threading
from collections.abc import Callable
from functools import wraps
from typing import Concatenate, ParamSpec, Protocol, TypeVar


class Locked(Protocol):
    """What has a lock of its own: reentrant, for a method that calls another one."""

    lock: threading.RLock


P = ParamSpec("P")
R = TypeVar("R")
S = TypeVar("S", bound=Locked)


def one_at_a_time(method: Callable[Concatenate[S, P], R]) -> Callable[Concatenate[S, P], R]:
    """A method that holds `self.lock`: of all such methods of an object, one runs at a time."""

    @wraps(method)
    def holding(self: S, /, *args: P.args, **kwargs: P.kwargs) -> R:
        with self.lock:
            return method(self, *args, **kwargs)

    return holding
