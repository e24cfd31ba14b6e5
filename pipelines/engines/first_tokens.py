"""Which tokens an answer may begin with when it is one of several options."""

from collections.abc import Sequence

from pipelines.engines.chat_tokens import ChatTokens


def first_tokens(chat_tokens: ChatTokens, options: Sequence[str]) -> list[list[int]]:
    """For each option the first token of its tokenisations, with and without a space before it.

    Models differ in whether an answer's first word carries its space: probabilities of both are
    added. So are those of the option as a text apart and as an answer, where a tokenizer cuts the
    two differently (ChatTokens.answer_tokens). A token that is nothing but the space says nothing
    and is left out. Raises ValueError for options that cannot be told apart by their first token
    ("(A)" and "(B)").
    """
    if len(options) < 2:
        raise ValueError(f"a choice needs two options at least, not {list(options)}")
    found = [sorted(_first(chat_tokens, option)) for option in options]
    for later, option in enumerate(options):
        for earlier in range(later):
            if set(found[earlier]) & set(found[later]):
                raise ValueError(
                    f"options '{options[earlier]}' and '{option}' begin with the same token, so "
                    "their first tokens cannot tell them apart"
                )
    for option, tokens in zip(options, found, strict=True):
        if not tokens:
            raise ValueError(f"option '{option}' has no first token")
    return found


def _first(chat_tokens: ChatTokens, option: str) -> set[int]:
    texts = [option.strip(), " " + option.strip()]
    spellings = [*chat_tokens.tokens(texts), *chat_tokens.answer_tokens(texts)]
    firsts = {int(spelling[0]) for spelling in spellings if len(spelling)}
    return {token for token in firsts if chat_tokens.text([token]).strip()}
