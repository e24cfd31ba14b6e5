"""`clear.filter`: Keep the rows whose answer a model trusts enough.

One kind, four configs, told apart by `estimator` and `contradiction`:

    {kind: clear.filter, estimator: likelihood, model: judge}
    {kind: clear.filter, estimator: bsdetector, model: judge, nli: mnli}
    {kind: clear.filter, estimator: bsdetector, model: judge, contradiction: embedding, embedder: e}
    {kind: clear.filter, estimator: agreement, samples_from: meta.samples}
"""

from typing import Annotated, Any, TypeAlias

from pydantic import Discriminator, Tag

from stages.clear.filter.agreement import AgreementFilter
from stages.clear.filter.bsdetector import BsdetectorEmbeddingFilter, BsdetectorNliFilter
from stages.clear.filter.likelihood import LikelihoodFilter


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
