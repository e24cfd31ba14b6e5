"""`clear.filter`: Keep the rows whose answer a model trusts enough.

One kind, four configs, told apart by `estimator` and `contradiction`:

    {kind: clear.filter, estimator: likelihood, model: judge}
    {kind: clear.filter, estimator: bsdetector, model: judge, nli: mnli}
    {kind: clear.filter, estimator: bsdetector, model: judge, contradiction: embedding, embedder: e}
    {kind: clear.filter, estimator: agreement, samples_from: meta.samples}
"""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated, Any, ClassVar, Literal, TypeAlias

import polars as pl
import pyarrow as pa
from pydantic import Discriminator, Field, Tag, field_validator

from schemas.rows import RowType
from stages.base import Stage
from stages.clear.agreement import ANSWER_MARK, Agreement, MetaField, Pattern, agreements
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
from stages.clear.likelihood import LikelihoodScore, likelihood_scores
from stages.clear.outcomes import Scored, for_sound, score_table
from stages.clear.target import Target, target_of
from stages.context import Context
from stages.engines import Need, Sampling
from stages.keep import MEDIAN, Keep, keep_highest


class ConfidenceFilter(Stage, frozen=True):
    """What all estimators have in common: the score column `confidence`, and `keep`."""

    kind: Literal["clear.filter"] = "clear.filter"
    keep: Keep = Field(default=MEDIAN, description="Above the median is the paper's.")

    version: ClassVar[int] = 1
    accepts: ClassVar[tuple[RowType, ...]] = ("instruction",)
    decide_only: ClassVar[frozenset[str]] = frozenset({"keep"})
    quality: ClassVar[str] = "confidence"

    def decide(self, rows: pl.LazyFrame, ctx: Context) -> pl.LazyFrame:
        return keep_highest(rows, "confidence", self.keep, reason="low_confidence")


class ModelFilter(ConfidenceFilter, frozen=True):
    """What the estimators that ask a model have in common."""

    model: str = Field(description="The model of the recipe that judges: the base model.")
    chunk_rows: int = Field(default=64, ge=1)

    model_roles: ClassVar[frozenset[str]] = frozenset({"model", "nli", "embedder"})

    def reads(self) -> tuple[str, ...]:
        return ("messages",)

    def score(self, rows: pa.Table, ctx: Context) -> pa.Table:
        pairs = zip(rows["key"].to_pylist(), rows["messages"].to_pylist(), strict=True)
        targets = [target_of(key, messages) for key, messages in pairs]
        return score_table(
            self.scores(), for_sound(targets, lambda found: self.estimate(found, ctx))
        )

    def estimate(self, targets: Sequence[Target], ctx: Context) -> Scored:
        """The scores of each target, or why it has none."""
        raise NotImplementedError


class LikelihoodFilter(ModelFilter, frozen=True):
    """Keep the rows whose prompt helps most to predict their answer. For small models.

    `confidence` = 1 - `log_prob` / `log_prob_empty`: the means of the natural-log probabilities of
    the answer's tokens, its end token included, given the prompt and given an empty user message
    (a system turn at the start stays). 0: the prompt does not help; at most 1. `tokens` counts the
    answer's tokens; `cut` says that it was longer than `max_answer_tokens`.

    The answer is the last assistant turn, the prompt all before it; an answer that calls tools is
    judged as the JSON text of its calls. A prompt longer than the model's context fails the row.

    Reason `low_confidence`; evidence `value` and `threshold`. Cost: two forward passes a row.

    Ours. Of 400 rows of Dolly with a fifth of the answers swapped, a model of 135 million
    parameters tells the swapped ones with an AUROC of 0.97. `keep: {above: 0}` catches 86 % of
    them and loses 1 % of the rest; the paper's median catches 98 % and loses 38 %
    (`python -m benchmarks.clear_dolly`).
    """

    estimator: Literal["likelihood"]
    max_answer_tokens: int = Field(default=256, ge=1)

    def needs(self) -> tuple[Need, ...]:
        return (Need(self.model, frozenset({"log_probs"}), calls=2),)

    def scores(self) -> pa.Schema:
        return pa.schema(
            [
                pa.field("confidence", pa.float64()),
                pa.field("log_prob", pa.float64()),
                pa.field("log_prob_empty", pa.float64()),
                pa.field("tokens", pa.int32()),
                pa.field("cut", pa.bool_()),
            ]
        )

    def estimate(self, targets: Sequence[Target], ctx: Context) -> Scored:
        engine = ctx.likelihood(self.model)
        found = likelihood_scores(engine, targets, self.max_answer_tokens)
        return [asdict(one) if isinstance(one, LikelihoodScore) else one for one in found]


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
    without any sample or without a reflection fails.

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


class AgreementFilter(ConfidenceFilter, frozen=True):
    """Keep the rows whose answer other samples come to as well. No model: the samples are given.

    `confidence`: the share, 0-1, of the samples whose answer is that of the last assistant turn.
    An answer is what `answer_pattern` finds: its first group or, without one, what follows its last
    match on that line. Numbers are compared as numbers (1,000 = 1000.0 = $1000), all else as text.
    `samples` counts them, `unread` those without an answer, which do not agree. A row without
    samples or without an answer of its own fails.

    Reason `low_confidence`; evidence `value` and `threshold`. Ours. It tells right from wrong
    solutions to grade-school problems, each with three other models' solutions as its samples, with
    an AUROC of 0.88 (`python -m benchmarks.clear_agreement`).
    """

    estimator: Literal["agreement"]
    samples_from: tuple[MetaField, ...] = Field(
        default=("meta.samples",),
        min_length=1,
        description="A meta field that holds a list of texts, or several that hold a text each.",
    )
    answer_pattern: Pattern = Field(
        default=ANSWER_MARK, description="A regular expression: where an answer stands."
    )

    @field_validator("samples_from", mode="before")
    @classmethod
    def _one_or_several(cls, given: Any) -> Any:
        return (given,) if isinstance(given, str) else given

    def reads(self) -> tuple[str, ...]:
        return ("messages", *self.samples_from)

    def scores(self) -> pa.Schema:
        return pa.schema(
            [
                pa.field("confidence", pa.float64()),
                pa.field("samples", pa.int32()),
                pa.field("unread", pa.int32()),
            ]
        )

    def score(self, rows: pa.Table, ctx: Context) -> pa.Table:
        found = agreements(rows, self.samples_from, self.answer_pattern)
        records = [asdict(one) if isinstance(one, Agreement) else one for one in found]
        return score_table(self.scores(), records)


def _which(given: Any) -> str | None:
    get = given.get if isinstance(given, dict) else lambda name, default=None: getattr(given, name)
    estimator = get("estimator")
    return f"bsdetector-{get('contradiction', 'nli')}" if estimator == "bsdetector" else estimator


ClearFilter: TypeAlias = Annotated[
    Annotated[LikelihoodFilter, Tag("likelihood")]
    | Annotated[BsdetectorNliFilter, Tag("bsdetector-nli")]
    | Annotated[BsdetectorEmbeddingFilter, Tag("bsdetector-embedding")]
    | Annotated[AgreementFilter, Tag("agreement")],
    Discriminator(
        _which,
        custom_error_type="estimator",
        custom_error_message="clear.filter needs 'estimator: likelihood', 'estimator: agreement' "
        "or 'estimator: bsdetector', the latter with "
        "'contradiction: nli' (default) or 'contradiction: embedding'",
    ),
]
