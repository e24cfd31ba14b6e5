"""Estimator `likelihood`: does its prompt help to predict the answer? Two forward passes a row."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from stages.clear.confidence import NoConfidence, prompt_benefit
from stages.clear.prompts import Turn
from stages.clear.target import Target
from stages.engines import AnswerLogProbs, Likelihood, Refused


@dataclass(frozen=True)
class LikelihoodScore:
    """Means of natural-log probabilities over the `tokens` of the answer, its end included."""

    confidence: float
    log_prob: float
    log_prob_empty: float
    tokens: int
    cut: bool


def without_prompt(prompt: Sequence[Turn]) -> list[Turn]:
    """The prompt emptied: system turns at the start stay, one empty user message is the rest.

    System turns stay because data sets share one and templates put in their own where there is
    none: what is to be measured is the question.
    """
    leading = 0
    while leading < len(prompt) and prompt[leading]["role"] == "system":
        leading += 1
    return [*prompt[:leading], {"role": "user", "content": ""}]


def likelihood_scores(
    engine: Likelihood, targets: Sequence[Target], max_answer_tokens: int
) -> list[LikelihoodScore | str]:
    """One score for each target, or why there is none."""
    chats = []
    for target in targets:
        answer: Turn = {"role": "assistant", "content": target.answer}
        chats.append([*target.prompt, answer])
        chats.append([*without_prompt(target.prompt), answer])
    found = engine.log_probs(chats, max_answer_tokens)
    return [_score(given, empty) for given, empty in zip(found[::2], found[1::2], strict=True)]


def _score(
    given: AnswerLogProbs | Refused, empty: AnswerLogProbs | Refused
) -> LikelihoodScore | str:
    if isinstance(given, Refused):
        return given.reason
    if isinstance(empty, Refused):
        return empty.reason
    if not len(given.values) or not len(empty.values):
        return "the answer has no tokens"
    # In float64 over a fixed order: the same on every machine.
    log_prob = float(np.mean(given.values, dtype=np.float64))
    log_prob_empty = float(np.mean(empty.values, dtype=np.float64))
    try:
        confidence = prompt_benefit(log_prob, log_prob_empty)
    except NoConfidence as reason:
        return str(reason)
    return LikelihoodScore(
        confidence=confidence,
        log_prob=log_prob,
        log_prob_empty=log_prob_empty,
        tokens=len(given.values),
        cut=given.cut or empty.cut,
    )
