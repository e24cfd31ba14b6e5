"""`clear.filter` with `estimator: bsdetector`: see BsdetectorFilter.

What contradicts what is said by an NLI model or, as a stand-in, by an embedder.
"""

from collections.abc import Sequence
from typing import ClassVar, Literal

import pyarrow as pa
from pydantic import Field

from stages.clear.bsdetector import (
    Contradicts,
    Reflection,
    Samples,
    consistencies,
    dissimilarity,
    expected_reflections,
    sampled_answers,
    sampled_reflections,
)
from stages.clear.confidence import combined
from stages.clear.filter.base import ModelFilter
from stages.clear.outcomes import Scored, for_sound
from stages.clear.target import Target
from stages.context import Context
from stages.engines import Need, Sampling


class BsdetectorFilter(ModelFilter, frozen=True):
    """Keep the rows whose answer the model would give itself, and calls correct. For able models.

    `confidence` = 0.7 `consistency` + 0.3 `reflection`, all 0-1.

    consistency  of `samples` answers at `temperature`, asked for with an explanation first: the
                 mean of 0.8 s + 0.2 r, where s is how little answer and target contradict each
                 other (both directions) and r whether they are equal
    reflection   the mean of two choices, A (correct) = 1, B = 0, C (not sure) = 0.5, the second
                 after a doubting question. `sampled`: explained, greedy. `expected`: under the
                 model's probabilities of the letters, no text generated (ours, cheaper)

    A reply that cannot be read is asked for once more. `samples_lost` counts the samples that stay
    without an answer and are left out; `parse_failures` all replies that could not be read. A row
    without any sample or without a reflection fails. The model is not told of tools that a row
    declares.

    Reason `low_confidence`; evidence `value` and `threshold`. Cost per row: `samples` + 2
    generations and 2 * `samples` contradictions. A model of 135 million parameters is too small: it
    hardly ever writes `answer:` at temperature 1.

    Source: Chen & Mueller 2024, https://arxiv.org/abs/2308.16175, and 2403.12776; all defaults but
    the two token limits are theirs.
    """

    estimator: Literal["bsdetector"]
    samples: int = Field(default=5, ge=1)
    temperature: float = Field(default=1.0, gt=0)
    reflection: Literal["sampled", "expected"] = "sampled"
    similarity_weight: float = Field(default=0.8, ge=0, le=1)
    consistency_weight: float = Field(default=0.7, ge=0, le=1)
    max_answer_tokens: int = Field(default=512, ge=1)
    max_reflection_tokens: int = Field(default=128, ge=1)

    version: ClassVar[int] = 2

    def needs(self) -> tuple[Need, ...]:
        reflects = {"generate"} if self.reflection == "sampled" else {"choose"}
        return (Need(self.model, frozenset({"generate"} | reflects), calls=self.samples + 2),)

    def scores(self) -> pa.Schema:
        return pa.schema(
            [
                pa.field("confidence", pa.float64()),
                pa.field("consistency", pa.float64()),
                pa.field("reflection", pa.float64()),
                pa.field("samples_lost", pa.int32()),
                pa.field("parse_failures", pa.int32()),
            ]
        )

    def contradicts(self, ctx: Context) -> Contradicts:
        """The function that says how far two texts contradict each other."""
        raise NotImplementedError

    def estimate(self, targets: Sequence[Target], ctx: Context) -> Scored:
        # Reflections first: on a row without one, which is failed, no samples are spent.
        reflected = self._reflect(targets, ctx)
        pairs = [
            found if isinstance(found, str) else (target, found)
            for target, found in zip(targets, reflected, strict=True)
        ]
        return for_sound(pairs, lambda sound: self._observed(sound, ctx))

    def _observed(self, reflected: list[tuple[Target, Reflection]], ctx: Context) -> Scored:
        sampling = Sampling(
            max_tokens=self.max_answer_tokens,
            samples=self.samples,
            temperature=self.temperature,
            seed=ctx.seed,
        )
        targets = [target for target, _ in reflected]
        sampled = sampled_answers(ctx.generator(self.model), targets, sampling)
        whole = [
            found if isinstance(found, str) else (target, found, reflection)
            for found, (target, reflection) in zip(sampled, reflected, strict=True)
        ]
        return for_sound(whole, lambda sound: self._records(sound, ctx))

    def _records(self, sound: list[tuple[Target, Samples, Reflection]], ctx: Context) -> Scored:
        observed = consistencies(
            self.contradicts(ctx),
            [(target.answer, samples) for target, samples, _ in sound],
            self.similarity_weight,
        )
        return [
            {
                "confidence": combined(consistency, reflection.value, self.consistency_weight),
                "consistency": consistency,
                "reflection": reflection.value,
                "samples_lost": samples.lost,
                "parse_failures": samples.failures + reflection.failures,
            }
            for consistency, (_, samples, reflection) in zip(observed, sound, strict=True)
        ]

    def _reflect(self, targets: Sequence[Target], ctx: Context) -> list[Reflection | str]:
        if self.reflection == "expected":
            return expected_reflections(ctx.chooser(self.model), targets)
        sampling = Sampling(max_tokens=self.max_reflection_tokens, seed=ctx.seed)
        return sampled_reflections(ctx.generator(self.model), targets, sampling)


class BsdetectorNliFilter(BsdetectorFilter, frozen=True):
    __doc__ = BsdetectorFilter.__doc__

    contradiction: Literal["nli"] = "nli"
    nli: str = Field(description="The natural-language-inference model of the recipe.")

    def needs(self) -> tuple[Need, ...]:
        nli = Need(self.nli, frozenset({"contradiction"}), calls=2 * self.samples)
        return (*super().needs(), nli)

    def contradicts(self, ctx: Context) -> Contradicts:
        return ctx.contradiction(self.nli).probability


class BsdetectorEmbeddingFilter(BsdetectorFilter, frozen=True):
    """`bsdetector` without an NLI model: 1 - cosine of an embedder stands in for contradiction.

    A rough stand-in: texts that say the opposite in the same words look alike to it. Everything
    else is as with an NLI model.
    """

    contradiction: Literal["embedding"]
    embedder: str = Field(description="The embedder of the recipe.")

    def needs(self) -> tuple[Need, ...]:
        embedder = Need(self.embedder, frozenset({"embed"}), calls=self.samples + 1)
        return (*super().needs(), embedder)

    def contradicts(self, ctx: Context) -> Contradicts:
        return lambda pairs: dissimilarity(ctx.embedder(self.embedder), pairs)
