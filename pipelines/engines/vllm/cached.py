"""How much of their prompts vLLM had in its cache, where its answers do not tell."""

from collections import Counter
from typing import Any


class CachedTokens:
    """Counts the cached prompt tokens of all samples of a request.

    vLLM runs the samples of one request as requests of their own, and its answer carries the figure
    of the one that ended last. This is one of vLLM's "stat loggers", who are told of each. (It has
    their methods; their base class would import vllm.)
    """

    def __init__(self) -> None:
        self._tokens: Counter[str] = Counter()
        self._ended: Counter[str] = Counter()
        self._expected: set[str] = set()

    def expect(self, request: str) -> None:
        self._expected.add(request)

    def known(self, request: str, samples: int) -> bool:
        """Whether all samples of the request have been told of."""
        return self._ended[request] >= samples

    def taken(self, request: str) -> int:
        """The tokens of all its samples; the request is forgotten."""
        self._expected.discard(request)
        self._ended.pop(request, None)
        return self._tokens.pop(request, 0)

    def record(
        self,
        scheduler_stats: Any,
        iteration_stats: Any,
        mm_cache_stats: Any = None,
        engine_idx: int = 0,
    ) -> None:
        for ended in iteration_stats.finished_requests if iteration_stats else ():
            if ended.request_id in self._expected:
                self._tokens[ended.request_id] += ended.num_cached_tokens
                self._ended[ended.request_id] += 1

    def log_engine_initialized(self) -> None: ...

    def log(self) -> None: ...

    def record_sleep_state(self, is_awake: int, level: int) -> None: ...

    def record_admission_rejection(self, reason: str) -> None: ...
