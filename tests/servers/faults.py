"""What goes wrong with a request, drawn from a seed.

The fault of a request depends on the seed, on what was asked and on how often it was asked before:
not on the order of requests nor on the clock. So the same seed gives the same faults to clients
that send in any order, and every request is answered in the end.
"""

import hashlib
from dataclasses import dataclass
from enum import StrEnum


class Fault(StrEnum):
    """What a client meets.

    RATE_LIMITED  429, with a Retry-After in seconds, with one as a date, or without
    BUSY          408, 409 or 425
    BROKEN        500, 502 or 503, some of them with a page of HTML
    RESET         the connection is reset, before the answer or in the middle of it
    SILENT        nothing is ever said
    TRUNCATED     the body ends before its Content-Length; or the connection ends before the status
    GARBLED       status 200 and no JSON: HTML, half an object, nothing at all; or not an object
    MISCOUNTED    one choice (one vector) too few, one too many, or none
    DUPLICATED    as many as asked for, but two under the same index
    SHUFFLED      no fault: the answer, its choices (its vectors) in another order
    DRIP          byte after byte, each soon after the last, all of them far too late
    """

    RATE_LIMITED = "rate_limited"
    BUSY = "busy"
    BROKEN = "broken"
    RESET = "reset"
    SILENT = "silent"
    TRUNCATED = "truncated"
    GARBLED = "garbled"
    MISCOUNTED = "miscounted"
    DUPLICATED = "duplicated"
    SHUFFLED = "shuffled"
    DRIP = "drip"


@dataclass(frozen=True)
class Draw:
    """variant: which of the fault's forms."""

    fault: Fault
    variant: int


@dataclass(frozen=True)
class Faults:
    """rate: the share of requests that meet a fault; longest: how many of them in a row at most."""

    seed: int = 0
    rate: float = 0.2
    kinds: tuple[Fault, ...] = tuple(Fault)
    longest: int = 4
    variant: int | None = None

    def draw(self, digest: str, before: int) -> Draw | None:
        """The fault of a request that was asked `before` times already."""
        if before >= self.longest or not self.kinds:
            return None
        noise = hashlib.sha256(f"{self.seed} {digest} {before}".encode()).digest()
        if int.from_bytes(noise[:6], "big") / 2**48 >= self.rate:
            return None
        variant = noise[7] if self.variant is None else self.variant
        return Draw(self.kinds[int.from_bytes(noise[8:12], "big") % len(self.kinds)], variant)


NO_FAULTS = Faults(rate=0.0, kinds=())
