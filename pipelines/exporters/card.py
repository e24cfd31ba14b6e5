"""The dataset card: a README.md with the hub's fields, and where the rows come from."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import yaml

from pipelines.exporters.provenance import Provenance
from pipelines.exporters.report import ExportReport
from pipelines.exporters.spec import HuggingFace

# The hub's classes of size: the upper bound of each, and its name.
_SIZES: Final = (
    (10**3, "n<1K"),
    (10**4, "1K<n<10K"),
    (10**5, "10K<n<100K"),
    (10**6, "100K<n<1M"),
    (10**7, "1M<n<10M"),
    (10**8, "10M<n<100M"),
    (10**9, "100M<n<1B"),
)
_COUNTS: Final = ("in", "kept", "dropped", "failed", "flagged", "created")


def dataset_card(
    spec: HuggingFace, report: ExportReport, provenance: Provenance, splits: Mapping[str, int]
) -> str:
    """The text of README.md. `splits`: rows in each of the folder's splits."""
    title = spec.card.title or spec.path.name
    header = yaml.safe_dump(
        _header(spec, report, title, splits), sort_keys=False, allow_unicode=True
    )
    sections = [
        f"---\n{header}---",
        f"# {title}",
        spec.card.description or "",
        _rows(report, splits),
        _sources(provenance),
        _licence(spec),
        _stages(provenance),
        _models(provenance),
        _recipe(provenance),
        f"Written by winnow, run `{provenance.run_id}`.",
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def _header(
    spec: HuggingFace, report: ExportReport, title: str, splits: Mapping[str, int]
) -> dict[str, Any]:
    card = spec.card
    header: dict[str, Any] = {"license": card.license or "unknown"}
    if card.language:
        header["language"] = list(card.language)
    header["pretty_name"] = title
    header["size_categories"] = [_size(report.rows)]
    header["tags"] = list(dict.fromkeys([*card.tags, "winnow"]))
    # Names the data, so that load_dataset takes neither state.json nor cache files for data.
    files = [{"split": split, "path": f"{split}/data-*.arrow"} for split in splits]
    header["configs"] = [{"config_name": "default", "data_files": files}]
    return header


def _size(rows: int) -> str:
    return next((name for bound, name in _SIZES if rows < bound), "n>1T")


def _rows(report: ExportReport, splits: Mapping[str, int]) -> str:
    lines = _table(("split", "rows"), splits.items())
    if report.left_out:
        lines += "\n\nRows that this layout cannot hold were left out:\n\n"
        lines += _table(("reason", "rows"), report.left_out.items())
    if report.renamed:
        lines += "\n\nColumns of the source under another name:\n\n"
        lines += _table(("source", "here"), report.renamed.items())
    notes = "".join(f"\n\n{note}" for note in report.notes)
    return f"## Rows\n\n{lines}{notes}"


def _sources(provenance: Provenance) -> str:
    rows = [(i.source, i.format, i.rows, i.failed, f"`{i.key}`") for i in provenance.inputs]
    return "## Sources\n\n" + _table(("source", "format", "rows", "unreadable", "hash"), rows)


def _licence(spec: HuggingFace) -> str:
    if spec.card.license:
        return f"## Licence\n\n{spec.card.license}, as named by whoever made this set."
    return "## Licence\n\nNot named. The licences of the sources apply."


def _stages(provenance: Provenance) -> str:
    counts = [
        (one.stage, *(one.counts.as_json()[name] for name in _COUNTS)) for one in provenance.stages
    ]
    reasons = [
        (one.stage, f"`{reason}`", rows)
        for one in provenance.stages
        for reason, rows in one.reasons.items()
    ]
    text = "## Curation\n\n" + _table(("stage", *_COUNTS), counts)
    if reasons:
        text += "\n\nWhy rows were dropped or failed:\n\n"
        text += _table(("stage", "reason", "rows"), reasons)
    return text


def _models(provenance: Provenance) -> str:
    if not provenance.engines:
        return "## Models\n\nNone."
    identities = yaml.safe_dump(dict(provenance.engines), sort_keys=False, allow_unicode=True)
    return f"## Models\n\n{_block(identities)}"


def _recipe(provenance: Provenance) -> str:
    recipe = yaml.safe_dump(dict(provenance.recipe), sort_keys=False, allow_unicode=True)
    versions = ", ".join(f"{name} {version}" for name, version in provenance.versions.items())
    return f"## Recipe\n\n{_block(recipe)}" + (f"\n\nVersions: {versions}." if versions else "")


def _block(text: str) -> str:
    # Longer than any fence within the text (a prompt template may hold one).
    fence = "```"
    while fence in text:
        fence += "`"
    return f"{fence}yaml\n{text}{fence}"


def _table(names: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = [names, ["---"] * len(names), *rows]
    return "\n".join("| " + " | ".join(_cell(value) for value in line) + " |" for line in lines)


def _cell(value: object) -> str:
    return str(value).replace("|", "\\|").replace("\n", " ")
