"""Chats as a model reads them: rendered by its chat template and cut into tokens."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import jinja2
import numpy as np

from pipelines.engines.batching import Tokens
from pipelines.engines.chat_messages import plain_message
from pipelines.engines.errors import ModelUnavailable
from stages.engines import Chat, Refused

# Some templates write today's date into the system turn, and scores would change overnight. This
# is the date that Llama 3's template itself falls back to.
_DATE = datetime(2024, 7, 26)
# What a template written by others may raise over a chat it does not expect.
_TEMPLATE_ERRORS = (
    jinja2.TemplateError,
    TypeError,
    ValueError,
    LookupError,
    AttributeError,
)
Tools = Sequence[Mapping[str, Any]]  # as templates take them: JSON schemas of functions
_AT_ONCE = 1_000  # texts given to the tokenizer in one go: bounds its objects to some 50 MB


@dataclass(frozen=True)
class Answer:
    """A chat cut before its last assistant turn: int32 tokens of both sides.

    `answer` ends with the end-of-turn token unless `cut`; it does not depend on the prompt.
    """

    prompt: Tokens
    answer: Tokens
    cut: bool


class ChatTokens:
    """A tokenizer with a chat template, and the model's context limit."""

    def __init__(self, tokenizer: Any, context: int) -> None:
        if not tokenizer.chat_template:
            raise ModelUnavailable(
                f"'{tokenizer.name_or_path}' has no chat template, so it cannot be asked in chats; "
                "name the model's instruction-tuned form, or put a chat_template.jinja beside it"
            )
        self.tokenizer = tokenizer
        self.context = context
        template = tokenizer.chat_template
        text = template if isinstance(template, str) else json.dumps(template)
        self._knows_tool_calls = "tool_calls" in text
        self._knows_tools = "tools" in text
        self._special = frozenset(tokenizer.all_special_ids) | {
            token for token, added in tokenizer.added_tokens_decoder.items() if added.special
        }
        self._adds_a_space = self._puts_a_space_before_a_text()
        before, answer = self._plain_answer()
        self._before_answers = before
        self.end_of_turn = self._end_of_turn(answer)

    def prompts(self, chats: Sequence[Chat], room: int) -> list[Tokens | Refused]:
        """Each chat followed by the beginning of an assistant turn.

        Refused when it leaves less than `room` tokens of the context, or cannot be rendered.
        """
        return self._fitted([self._rendered(chat, begin_answer=True) for chat in chats], room)

    def choice_prompts(self, chats: Sequence[Chat], option: str) -> list[Tokens | Refused]:
        """Each chat up to the place where an answer `option` would begin, as `answers` has it.

        Refused as in `prompts`, with room for one token, and for a chat that cannot be rendered
        with that answer.
        """
        return self._fitted([self._before_choice(chat, option) for chat in chats], room=1)

    def _before_choice(self, chat: Chat, option: str) -> str | Refused:
        begun = self._rendered(chat, begin_answer=True)
        parts = self._parts([*chat, {"role": "assistant", "content": option}])
        if isinstance(begun, Refused):
            return begun
        if isinstance(parts, Refused):
            return parts
        # A space before the answer stays out: an option is looked for with one and without.
        return begun if parts[0].rstrip(" ") == begun.rstrip(" ") else parts[0]

    def _fitted(self, texts: Sequence[str | Refused], room: int) -> list[Tokens | Refused]:
        tokens = iter(self.tokens([text for text in texts if isinstance(text, str)]))
        return [
            text if isinstance(text, Refused) else self._fitting(next(tokens), room)
            for text in texts
        ]

    def _fitting(self, prompt: Tokens, room: int) -> Tokens | Refused:
        if len(prompt) == 0:
            return Refused("the chat template renders this chat to nothing")
        if len(prompt) + room > self.context:
            return Refused(
                f"the prompt has {len(prompt):,} tokens and leaves no room for {room:,} more: "
                f"the model's context is {self.context:,}"
            )
        return prompt

    def answers(self, chats: Sequence[Chat], max_tokens: int) -> list[Answer | Refused]:
        """Each chat cut before its last assistant turn, which keeps `max_tokens` tokens.

        Refused when the last turn is no assistant's, when prompt and answer are longer than the
        context, or when the template cannot render the chat.
        """
        return [
            chat if isinstance(chat, Refused) else self._answer(chat, max_tokens)
            for chat in self._split(chats, [()] * len(chats))
        ]

    def beginnings(
        self, chats: Sequence[Chat], max_tokens: int, tools: Sequence[Tools] | None = None
    ) -> list[Answer | Refused]:
        """As `answers`, but prompt and answer together keep `max_tokens` tokens.

        tools: those that each chat declares, which are part of its prompt.
        Refused also when nothing of the answer is among them, and for tools that the template has
        no place for.
        """
        return [
            chat if isinstance(chat, Refused) else self._beginning(chat, max_tokens)
            for chat in self._split(chats, tools or [()] * len(chats))
        ]

    def _beginning(self, chat: Answer, max_tokens: int) -> Answer | Refused:
        if len(chat.answer) == 0:
            return Refused("the chat template renders the answer to nothing")
        room = max_tokens - len(chat.prompt)
        if room < 1:
            return Refused(
                f"the prompt has {len(chat.prompt):,} tokens, so nothing of the answer "
                f"({len(chat.answer):,}) is among the chat's first {max_tokens:,}"
            )
        return self._answer(chat, room)

    def _answer(self, chat: Answer, max_tokens: int) -> Answer | Refused:
        answer = chat.answer[:max_tokens]
        if len(chat.prompt) + len(answer) > self.context:
            return Refused(
                f"the prompt has {len(chat.prompt):,} tokens and the answer {len(answer):,}: the "
                f"model's context is {self.context:,}"
            )
        return Answer(chat.prompt, answer, len(answer) < len(chat.answer))

    def _split(self, chats: Sequence[Chat], tools: Sequence[Tools]) -> list[Answer | Refused]:
        """Each chat whole, in two parts."""
        parts = [self._parts(chat, its) for chat, its in zip(chats, tools, strict=True)]
        split = [part for part in parts if not isinstance(part, Refused)]
        prompts = iter(self.tokens([prompt for prompt, _ in split]))
        answers = iter(self.answer_tokens([answer for _, answer in split]))
        return [
            part if isinstance(part, Refused) else self._whole(next(prompts), next(answers))
            for part in parts
        ]

    def _whole(self, prompt: Tokens, answer: Tokens) -> Answer | Refused:
        if self.end_of_turn is not None:  # what the template writes behind it is no answer
            ends = np.flatnonzero(answer == self.end_of_turn)
            answer = answer[: ends[-1] + 1] if len(ends) else answer
        if len(prompt) == 0:
            return Refused("the chat template puts nothing before the answer")
        return Answer(prompt, answer, cut=False)

    def _parts(self, chat: Chat, tools: Tools = ()) -> tuple[str, str] | Refused:
        """The rendered text before the last turn's content, and from there to the end.

        A template may write more into a past assistant turn than into one that is to be answered
        (an empty <think> block), or strip what it is given. So the border is not where the prompt
        alone would end, but the first character at which the chat differs from itself with another
        content in the last turn.
        """
        if not chat or chat[-1].get("role") != "assistant":
            return Refused("the last turn is not the assistant's")
        if tools and not self._knows_tools:
            return Refused("the model's chat template has no place for the tools of this chat")
        whole = self._rendered(chat, tools)
        if isinstance(whole, Refused):
            return whole
        first = (chat[-1].get("content") or "").lstrip()[:1]
        other = "\ue000" if first != "\ue000" else "\ue001"  # never the same first character
        twin = self._rendered([*chat[:-1], {"role": "assistant", "content": other}], tools)
        if isinstance(twin, Refused):
            return twin
        border = _shared_prefix(whole, twin)
        if self._adds_a_space:  # there a word and the space before it are one token
            border = len(whole[:border].rstrip(" "))
        return whole[:border], whole[border:]

    def _rendered(
        self, chat: Chat, tools: Tools = (), *, begin_answer: bool = False
    ) -> str | Refused:
        try:
            messages = [plain_message(message, self._knows_tool_calls) for message in chat]
            return str(
                self.tokenizer.apply_chat_template(
                    messages,
                    tools=list(tools) or None,
                    tokenize=False,
                    add_generation_prompt=begin_answer,
                    date_string=_DATE.strftime("%d %b %Y"),
                    strftime_now=_DATE.strftime,
                )
            )
        except _TEMPLATE_ERRORS as error:
            return Refused(f"the model's chat template cannot render this chat: {error}")

    def tokens(self, texts: Sequence[str]) -> list[Tokens]:
        """Each text apart, without tokens that a tokenizer adds on its own."""
        out: list[Tokens] = []
        for start in range(0, len(texts), _AT_ONCE):
            encoded = self.tokenizer(
                list(texts[start : start + _AT_ONCE]),
                add_special_tokens=False,
                return_attention_mask=False,
                verbose=False,
            )
            out.extend(np.asarray(ids, dtype=np.int32) for ids in encoded["input_ids"])
        return out

    def answer_tokens(self, texts: Sequence[str]) -> list[Tokens]:
        """Each text as the model reads it at the beginning of its answer.

        A text apart is "▁A" to SentencePiece, where a turn goes on with "A". So there it is cut
        together with what the template writes before an answer, unless the two share a token.
        """
        apart = self.tokens(texts)
        if not self._adds_a_space:
            return apart
        (before,) = self.tokens([self._before_answers])
        joint = self.tokens([self._before_answers + text for text in texts])
        return [
            both[len(before) :] if np.array_equal(both[: len(before)], before) else alone
            for both, alone in zip(joint, apart, strict=True)
        ]

    def _puts_a_space_before_a_text(self) -> bool:
        """As tokenizers of SentencePiece's kind do (Llama 2, Mistral)."""
        (tokens,) = self.tokens(["A"])
        pieces = self.tokenizer.convert_ids_to_tokens(tokens[:1].tolist())
        return any(str(piece).startswith("▁") for piece in pieces)

    def text(self, tokens: Sequence[int]) -> str:
        """Generated tokens as text, special ones left out."""
        return str(
            self.tokenizer.decode(
                list(tokens), skip_special_tokens=True, clean_up_tokenization_spaces=False
            )
        )

    def _plain_answer(self) -> tuple[str, str]:
        """A plain chat before its answer, and from there to the end."""
        chat = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
        parts = self._parts(chat)
        if isinstance(parts, Refused):
            raise ModelUnavailable(f"'{self.tokenizer.name_or_path}': {parts.reason}")
        return parts

    def _end_of_turn(self, answer: str) -> int | None:
        """The token that closes an assistant turn; None where the template writes none."""
        (tail,) = self.tokens([answer])
        special = [int(token) for token in tail if token in self._special]
        return special[-1] if special else None


def _shared_prefix(left: str, right: str) -> int:
    """How many characters two texts have in common at their beginning."""
    end = min(len(left), len(right))
    low, high = 0, end
    while low < high:
        middle = (low + high + 1) // 2
        if left[:middle] == right[:middle]:
            low = middle
        else:
            high = middle - 1
    return low
