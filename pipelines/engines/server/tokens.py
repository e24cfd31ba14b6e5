"""Chats as tokens through /completions, for a server that takes them as vLLM does.

The prompt is exactly that of an engine in this process, and log-probabilities are told of the very
tokens that are asked about, so that the results are those of such an engine.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pipelines.engines.batching import Tokens as TokenIds
from pipelines.engines.chat_tokens import Answer, ChatTokens
from pipelines.engines.errors import ModelUnavailable
from pipelines.engines.server.answers import choices_of, is_finished, log_prob
from pipelines.engines.server.budget import Tokens
from pipelines.engines.server.chats import seed_of
from pipelines.engines.server.faults import Denied, WrongShape
from pipelines.engines.server.messages import GOOD_CHAT
from pipelines.engines.server.probing import Once, schema_field
from pipelines.engines.server.request import Request
from pipelines.engines.server.requests import Server
from stages.engines import AnswerLogProbs, Completion, Refused, Sampling

COMPLETIONS = "/completions"
# What a model ships with (generation_config.json) is not used, as in the engines of this process.
_PLAIN: Mapping[str, Any] = {"top_k": 0, "min_p": 0.0, "repetition_penalty": 1.0}
_NO_SAMPLES: Mapping[str, Any] = {"max_tokens": 1, "temperature": 0.0}


@dataclass(frozen=True)
class _Seen:
    """What the probe's answer shows."""

    tokens: bool
    prompt_logprobs: bool


class TokenRoute:
    """One prompt at a time, from the event loop's thread.

    plain   asks for an answer without tokens; raises EngineError when the server gives none
    """

    def __init__(
        self, server: Server, chat_tokens: ChatTokens, plain: Callable[[], Awaitable[None]]
    ) -> None:
        self._server = server
        self._plain = plain
        self.chat_tokens = chat_tokens
        own = chat_tokens.tokenizer.eos_token_id
        self._ends = sorted({end for end in (own, chat_tokens.end_of_turn) if end is not None})
        (good,) = chat_tokens.prompts([GOOD_CHAT], room=1)
        if isinstance(good, Refused):
            raise ModelUnavailable(f"a plain chat cannot be asked: {good.reason}")
        self._good = good.tolist()
        self._seen = Once[bool, bool](self._ask)
        self._format = Once[str, Mapping[str, Any] | None](self._ask_format)

    async def is_open(self) -> bool:
        """Whether the server takes tokens and tells log-probabilities of those asked for."""
        return await self._seen.get(False)

    async def tells_prompts(self) -> bool:
        """Whether it tells log-probabilities of a prompt's tokens as well."""
        return await self.is_open() and await self._seen.get(True)

    async def write(
        self, prompt: TokenIds, sampling: Sampling, key: bytes
    ) -> list[Completion] | Refused:
        """`sampling.samples` answers of one request; of greedy ones one, handed out."""
        greedy = sampling.temperature <= 0
        wanted = 1 if greedy else sampling.samples
        fields: dict[str, Any] = {
            **_PLAIN,
            "max_tokens": sampling.max_tokens,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "n": wanted,
            "stop": list(sampling.stop),
            "stop_token_ids": self._ends,
            "return_token_ids": True,
        }
        if not greedy:
            fields["seed"] = seed_of(sampling.seed, key)
        if sampling.json_schema is not None:
            guide = await self._format.get(sampling.json_schema)
            if guide is not None:
                fields["response_format"] = guide
        most = Tokens(len(prompt), sampling.max_tokens * wanted)  # it is read once for all answers

        def read(body: dict[str, Any]) -> list[Completion]:
            return [self._completion(one, sampling) for one in choices_of(body, wanted)]

        request: Request[list[Completion]] = self._request(prompt.tolist(), fields, read, most)
        answers = await self._server.ask(request)
        if isinstance(answers, Refused):
            return answers
        return answers * (sampling.samples // wanted)

    def _completion(self, choice: Mapping[str, Any], sampling: Sampling) -> Completion:
        """Its tokens include the end token, its text neither that nor a stop string."""
        tokens = choice.get("token_ids")
        if not isinstance(tokens, list) or not all(isinstance(one, int) for one in tokens):
            raise WrongShape("an answer holds no token_ids")
        ended = bool(tokens) and tokens[-1] in self._ends
        text = self.chat_tokens.text(tokens[:-1] if ended else tokens)
        found = [text.index(stop) for stop in sampling.stop if stop in text]
        text = self._server.redactor.answer(text[: min(found, default=len(text))])
        return Completion(text, len(tokens), is_finished(choice))

    async def choose(
        self, prompt: TokenIds, firsts: Sequence[Sequence[int]]
    ) -> npt.NDArray[np.float32] | Refused:
        """Shares (options,) from the first tokens of each option (first_tokens.first_tokens)."""
        asked = [token for tokens in firsts for token in tokens]

        def read(body: dict[str, Any]) -> npt.NDArray[np.float32]:
            told = _told(body, asked)
            sums = np.array([np.exp([told[one] for one in tokens]).sum() for tokens in firsts])
            if not sums.sum() > 0:
                raise WrongShape("all options have no probability at all")
            return np.asarray(sums / sums.sum(), dtype=np.float32)

        most = Tokens(len(prompt), 1)
        return await self._server.ask(
            self._request(prompt.tolist(), _first_tokens(asked), read, most)
        )

    async def log_probs(self, answer: Answer) -> AnswerLogProbs | Refused:
        """The last token is asked for as the first one behind the rest.

        So a chat as long as the context has room, and the one token that a server must write at
        least is of use.
        """
        if not len(answer.answer):
            return AnswerLogProbs(np.zeros(0, dtype=np.float32), answer.cut)
        whole = np.concatenate([answer.prompt, answer.answer]).tolist()
        prompt, last = whole[:-1], whole[-1]
        start = len(answer.prompt)

        def read(body: dict[str, Any]) -> AnswerLogProbs:
            within = _told_of_prompt(body, prompt)[start:]
            values = np.array([*within, _told(body, [last])[last]], dtype=np.float32)
            return AnswerLogProbs(values, answer.cut)

        fields = {**_first_tokens([last]), "prompt_logprobs": 0}
        most = Tokens(len(prompt), 1)
        return await self._server.ask(self._request(prompt, fields, read, most))

    async def _ask(self, of_prompts: bool) -> bool:
        asked = self._good[:2]
        fields = {**_first_tokens(asked), "return_token_ids": True, "stop_token_ids": self._ends}
        if of_prompts:
            fields["prompt_logprobs"] = 0

        def read(body: dict[str, Any]) -> bool:
            (choice,) = choices_of(body, 1)
            try:
                _told(body, asked)
                if of_prompts:
                    _told_of_prompt(body, self._good)
            except WrongShape:
                return False  # it takes no notice of what is not in the protocol
            return isinstance(choice.get("token_ids"), list)

        for _ in range(3):
            found = await self._tried(fields, read)
            if isinstance(found, Denied):
                break
            if found:
                return True
        if not of_prompts:
            self._server.note(
                f"{self._server.config.model}: the server does not take tokens as vLLM does: it "
                "renders the chats itself"
            )
        return False

    async def _ask_format(self, schema: str) -> Mapping[str, Any] | None:
        field = schema_field(schema, strict=True)
        fields = {**_NO_SAMPLES, "response_format": field}
        found = await self._tried(fields, lambda body: choices_of(body, 1))
        if not isinstance(found, Denied):
            return field
        self._server.note(
            f"{self._server.config.model}: the server does not hold answers to a JSON schema: they "
            "are parsed as they come"
        )
        return None

    async def _tried(self, fields: Mapping[str, Any], read: Any) -> Any:
        most = Tokens(len(self._good), 1)
        request = self._request(self._good, fields, read, most, counted=False)
        return await self._server.find_out(request, self._plain)

    def _request(
        self,
        prompt: list[int],
        fields: Mapping[str, Any],
        read: Any,
        most: Tokens,
        counted: bool = True,
    ) -> Request[Any]:
        body = {"model": self._server.config.model, "prompt": prompt, **fields}
        good = {"prompt": self._good, "logprob_token_ids": self._good[:1]}
        writes = "logprob_token_ids" not in fields
        return Request(COMPLETIONS, body, read, most, good, counted, writes=writes)


def _first_tokens(asked: Sequence[int]) -> dict[str, Any]:
    return {
        **_NO_SAMPLES,
        "logprobs": 1,
        "logprob_token_ids": list(asked),
        "return_tokens_as_token_ids": True,
    }


def _told(body: Mapping[str, Any], asked: Sequence[int]) -> dict[int, float]:
    """Natural-log probabilities of tokens at the first position behind the prompt."""
    (choice,) = choices_of(body, 1)
    logprobs = choice.get("logprobs")
    listed = logprobs.get("top_logprobs") if isinstance(logprobs, Mapping) else None
    first = listed[0] if isinstance(listed, list) and listed else None
    told = first if isinstance(first, Mapping) else {}
    found = {token: told.get(f"token_id:{token}") for token in asked}
    if None in found.values():
        raise WrongShape("an answer lacks log-probabilities of tokens that were asked for")
    return {token: log_prob(value) for token, value in found.items()}


def _told_of_prompt(body: Mapping[str, Any], prompt: Sequence[int]) -> list[float]:
    """Natural-log probabilities of the prompt's tokens; 0 for the first, which follows nothing."""
    (choice,) = choices_of(body, 1)
    told = choice.get("prompt_logprobs")
    if not isinstance(told, list) or len(told) != len(prompt):
        raise WrongShape("an answer lacks log-probabilities of the prompt")
    return [0.0, *map(_own, told[1:], prompt[1:])]


def _own(told: Any, token: int) -> float:
    own = told.get(str(token)) if isinstance(told, Mapping) else None
    value = own.get("logprob") if isinstance(own, Mapping) else None
    if value is None:
        raise WrongShape("an answer lacks the log-probability of a token of the prompt")
    return log_prob(value)
