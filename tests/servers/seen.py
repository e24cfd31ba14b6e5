"""What a server saw: every request from its first byte to the last byte of its response."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from tests.servers.faults import Fault


@dataclass
class Request:
    """One request. Times are of a monotonic clock in seconds.

    digest     of path and body: equal for the same question
    content    the body's text
    ended      None while it is in flight
    status     of the response; 0 where none was sent
    abandoned  the client left before the response was whole
    not_before when the Retry-After of its response allows the next try; None where it named none
    read, written  the tokens that an answer was counted with
    """

    path: str = ""
    digest: str = ""
    content: str = ""
    began: float = 0.0
    ended: float | None = None
    fault: Fault | None = None
    status: int = 0
    abandoned: bool = False
    not_before: float | None = None
    read: int = 0
    written: int = 0

    @property
    def final(self) -> bool:
        """Whether a whole response was sent that nobody needs to ask for again."""
        if self.ended is None or self.abandoned or not self.status:
            return False
        return self.fault in (None, Fault.SHUFFLED) and self.status < 500


@dataclass
class Seen:
    """Requests in the order of their first bytes. `under` takes those below one path."""

    requests: list[Request] = field(default_factory=list)

    def under(self, prefix: str) -> "Seen":
        return Seen([request for request in self.requests if request.path.startswith(prefix)])

    def faults(self) -> Counter[Fault]:
        return Counter(request.fault for request in self.requests if request.fault is not None)

    def asked_again(self) -> list[str]:
        """What was asked for although it had been answered already, or was answered twice."""
        answered: dict[str, float] = {}
        again = []
        for request in self.requests:
            done = answered.get(request.digest)
            if done is not None and (request.final or request.began > done):
                again.append(request.content)
            if request.final and request.ended is not None:
                answered.setdefault(request.digest, request.ended)
        return again

    def too_early(self, tolerance_s: float = 0.02) -> list[float]:
        """By how many seconds each came before the Retry-After that it had been given."""
        allowed: dict[str, float] = {}
        early = []
        for request in self.requests:
            missing = allowed.get(request.digest, 0.0) - request.began
            if missing > tolerance_s:
                early.append(missing)
            if request.not_before is not None:
                allowed[request.digest] = request.not_before
        return early

    def most_in_flight(self, grace_s: float = 0.1) -> int:
        """The most requests that were in flight at one moment.

        A client that gives a request up may send the next before the server hears of it: such a
        request counts until `grace_s` before the server heard.
        """
        return most_at_once(
            (one.began, (one.ended or float("inf")) - (grace_s if one.abandoned else 0.0))
            for one in self.requests
        )

    def tokens(self) -> tuple[int, int]:
        """Read and written, of all answers that were sent."""
        return sum(one.read for one in self.requests), sum(one.written for one in self.requests)


def most_at_once(spans: Iterable[tuple[float, float]]) -> int:
    """Ends come before beginnings of the same moment."""
    moments = [moment for start, end in spans for moment in ((start, 1), (max(start, end), -1))]
    most = now = 0
    for _, change in sorted(moments):
        now += change
        most = max(most, now)
    return most
