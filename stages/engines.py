"""The models that a stage may ask for, as small Protocols.

Every engine keeps order: the i-th result answers the i-th request. A request that the model
cannot take (a prompt longer than its context) is answered by a `Refused` in its place, which makes
that row fail with the given reason; an engine that cannot answer at all raises `EngineError`, which
stops the run and fails nothing. Results do not depend on how requests are batched, up to numerical
noise.

    Exception
      EngineError        the engine is gone or out of memory: stop, keep everything, run again
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, Protocol, TypeAlias, runtime_checkable

import numpy as np
import numpy.typing as npt

# The fields of schemas.rows.MESSAGE; absent ones may be left out.
Message = Mapping[str, str | None]
Chat = Sequence[Message]
Vectors = npt.NDArray[np.float32]


class EngineError(Exception):
    """The engine cannot answer anything now. Nothing about a single row is known from this."""


@dataclass(frozen=True)
class Refused:
    """One request that this model can never answer, and why (with the figures: both lengths)."""

    reason: str


@dataclass
class Usage:
    """What an engine has done so far.

    calls              requests answered: one chat, text or pair each, however many tries it took
    prompt_tokens      tokens read. A prompt of several samples counts once for each of them where
                       the engine reads it for each (vLLM), once where a server counts it once
    cached_tokens      those of them that the engine had in its cache and did not compute again
    completion_tokens  tokens written
    retries            requests to a server that were sent once more
    cost               money, in the currency of the recipe's prices
    """

    calls: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    retries: int = 0
    cost: float = 0.0

    def plus(self, other: "Usage") -> "Usage":
        return Usage(*(mine + theirs for mine, theirs in self._with(other)))

    def minus(self, before: "Usage") -> "Usage":
        return Usage(*(mine - theirs for mine, theirs in self._with(before)))

    def copy(self) -> "Usage":
        return replace(self)

    def _with(self, other: "Usage") -> Iterator[tuple[Any, Any]]:
        names = [field.name for field in fields(self)]
        return ((getattr(self, name), getattr(other, name)) for name in names)


@runtime_checkable
class Engine(Protocol):
    """What the runner needs of every engine.

    notes  what a user should know of how it answers (a feature that a server lacks and that is
           emulated); the runner prints each line once
    """

    usage: Usage
    notes: list[str]

    def probe(self) -> None:
        """Answer a request that is known to be good; raise EngineError when that fails."""

    def close(self) -> None:
        """Free the model. The engine is not used afterwards."""


@dataclass(frozen=True)
class Sampling:
    """How to sample. `temperature` 0 is greedy.

    Noise is drawn for each (seed, key of the chat, sample number, position), never from a global
    generator, so that an answer does not depend on its neighbours.

    json_schema: the text of a JSON schema that the answer shall follow. An engine that can guide
    its decoding holds the answer to it, another one takes no notice: whoever asks also says in the
    chat what it wants and checks what comes (stages/structured.py does both). An answer that was
    cut at `max_tokens` may be half an object either way.
    """

    max_tokens: int
    samples: int = 1
    temperature: float = 0.0
    top_p: float = 1.0
    stop: tuple[str, ...] = ()
    seed: int = 0
    json_schema: str | None = None


@dataclass(frozen=True)
class Completion:
    text: str
    tokens: int
    finished: bool  # False: cut, at max_tokens or by the server


@dataclass(frozen=True)
class AnswerLogProbs:
    """Natural-log probabilities of the tokens of a chat's last assistant turn, end token included.

    values: float32 (tokens,). `cut` says that the answer was longer than the tokens that were asked
    for, so its end is not included.
    """

    values: npt.NDArray[np.float32]
    cut: bool = False


@dataclass(frozen=True)
class ChatStates:
    """The final hidden states of a chat: what the model's output head is applied to.

    values: float32 (tokens, width), behind the last norm, one row for each token of the chat as
    its template renders it. The answer (the last assistant turn with its end) is
    `values[answer_from:]`. `cut` says that the chat was longer than the tokens that were asked
    for, so its end is missing.
    """

    values: Vectors
    answer_from: int
    cut: bool = False


# Which positions of a chat count: all of its own tokens, or its answer's (the last assistant turn
# with its end).
Positions: TypeAlias = Literal["real", "answer"]


@dataclass(frozen=True)
class Sketching:
    """How logits are made into sketches: stages.uds.sketch.LogitSketch.draw, given a vocabulary.

    A chat is cut at `max_length` tokens; a sketch has r_time * r_vocab numbers.
    """

    seed: int
    max_length: int
    r_time: int = 8
    r_vocab: int = 128


@dataclass(frozen=True)
class Geometry:
    """What the logits of a chat look like, over the positions that count.

    utility  nuclear norm: the sum of their singular values
    sketch   float32 (r_time * r_vocab,): a random projection of them
    tokens   how many positions counted
    cut      the chat was longer than `max_length`, so its end is missing
    """

    utility: float
    sketch: Vectors
    tokens: int
    cut: bool = False


@runtime_checkable
class Generator(Protocol):
    def generate(
        self, chats: Sequence[Chat], sampling: Sampling, keys: Sequence[bytes]
    ) -> list[list[Completion] | Refused]:
        """`sampling.samples` completions for each chat. `keys`: one per chat, for the noise."""


@runtime_checkable
class Chooser(Protocol):
    def choose(
        self, chats: Sequence[Chat], options: Sequence[str]
    ) -> list[npt.NDArray[np.float32] | Refused]:
        """Probabilities (options,) that the answer begins with each option, summing to 1."""


@runtime_checkable
class Likelihood(Protocol):
    def log_probs(self, chats: Sequence[Chat], max_tokens: int) -> list[AnswerLogProbs | Refused]:
        """How likely each chat's last assistant turn is, cut at its first `max_tokens` tokens."""


@runtime_checkable
class HiddenStates(Protocol):
    def hidden_states(self, chats: Sequence[Chat], max_tokens: int) -> list[ChatStates | Refused]:
        """The final hidden states of chats that end with an assistant turn.

        Each is cut at its first `max_tokens` tokens. Refused where nothing of the answer is left,
        and where what is left is longer than the model's context.
        """


@runtime_checkable
class LogitGeometry(Protocol):
    def logit_geometry(
        self, chats: Sequence[Chat], sketching: Sketching, positions: Positions
    ) -> list[Geometry | Refused]:
        """Nuclear norm and sketch of the logits of chats that end with an assistant turn.

        Cut and refused as for `hidden_states`, with `sketching.max_length` tokens. Raises
        ValueError where hidden states or logits are NaN or inf.
        """


@runtime_checkable
class Embedder(Protocol):
    def embed(self, texts: Sequence[str]) -> Vectors:
        """Unit vectors, float32 (texts, dimension). Longer texts are cut at the model's length."""


@runtime_checkable
class Contradiction(Protocol):
    def probability(self, pairs: Sequence[tuple[str, str]]) -> npt.NDArray[np.float32]:
        """Probability, 0-1, that (premise, hypothesis) contradict each other: float32 (pairs,)."""


@dataclass(frozen=True)
class FirstKept:
    """Which rows repeat an earlier one, each by its row number.

    duplicate_of: int64 (rows,), the kept row that row i repeats, -1 where row i itself is kept.
    cosine: float32 (rows,), the cosine of row i and that row, NaN where row i is kept.
    """

    duplicate_of: npt.NDArray[np.int64]
    cosine: npt.NDArray[np.float32]


class Neighbours(Protocol):
    """An index over vectors. Exact unless an implementation says otherwise."""

    def first_kept(
        self,
        vectors: npt.NDArray[np.floating],
        cosine: float,
        progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> FirstKept:
        """Keep each row of `vectors` (rows, dim) unless an earlier kept row is that similar.

        Row i repeats the first (lowest) kept row whose cosine with it is at least `cosine` (in
        (0, 1]). Cosines are computed in float64 from the vectors as given and compared before they
        are rounded, so that nothing depends on threads or on the index. A zero vector has no
        neighbours. Memory is bounded by the vectors and one block, however many rows are alike.
        `progress` is told (rows done, rows in all). Raises ValueError for vectors that are not
        finite and for a threshold out of range.
        """


CAPABILITIES: Mapping[str, type] = {
    "generate": Generator,
    "choose": Chooser,
    "log_probs": Likelihood,
    "hidden_states": HiddenStates,
    "logit_geometry": LogitGeometry,
    "embed": Embedder,
    "contradiction": Contradiction,
}


@dataclass(frozen=True)
class Need:
    """One model that a stage asks for.

    model         its name in the recipe
    capabilities  what it must be able to do, of CAPABILITIES
    calls         requests that scoring one row costs: what `--dry-run` multiplies
    """

    model: str
    capabilities: frozenset[str]
    calls: int
