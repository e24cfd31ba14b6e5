"""What a recipe's `model:` means: a bundled model, a folder on this machine, or a hub id.

Nothing here loads a model or imports a model library.
"""

import hashlib
import json
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from pipelines.engines.bundled import BUNDLED, Bundled, template_sha256, verified_weights
from pipelines.engines.errors import ModelUnavailable
from pipelines.engines.file_hashes import sha256_of

JSON: TypeAlias = "str | int | float | bool | list[JSON] | dict[str, JSON] | None"

_HUB_ID = re.compile(r"[\w][\w.-]*(/[\w][\w.-]*)?")
_COMMIT = re.compile(r"[0-9a-f]{40}")
# What decides a model's answers beside its weights: configs, tokenizers, templates.
_TEXTS = (".json", ".txt", ".jinja", ".model")


@dataclass(frozen=True)
class Local:
    """A model folder on this machine."""

    folder: Path


@dataclass(frozen=True)
class Hub:
    """A model of a hub at one commit."""

    name: str
    commit: str


ModelSource: TypeAlias = Bundled | Local | Hub


def source_of(model: str, revision: str | None) -> ModelSource:
    """Where `model` comes from. Only a hub id that is not in the local hub cache asks the network.

    Raises ModelUnavailable.
    """
    if model in BUNDLED:
        _no_revision(model, revision)
        return BUNDLED[model]
    folder = Path(model).expanduser()
    if folder.is_dir():
        _no_revision(model, revision)
        return Local(folder.resolve())
    if not _HUB_ID.fullmatch(model):
        raise ModelUnavailable(f"there is no model folder '{model}'")
    return Hub(model, _commit(model, revision or "main"))


def _no_revision(model: str, revision: str | None) -> None:
    if revision is not None:
        raise ModelUnavailable(f"'{model}' is no hub id and has no revision '{revision}'")


def _commit(model: str, revision: str) -> str:
    if _COMMIT.fullmatch(revision):
        return revision
    reference = hub_cache() / f"models--{model.replace('/', '--')}" / "refs" / revision
    if reference.is_file():
        return reference.read_text(encoding="utf-8").strip()
    return _commit_from_hub(model, revision)


def hub_cache() -> Path:
    """Where huggingface_hub keeps models: HF_HUB_CACHE, HF_HOME/hub or ~/.cache/huggingface/hub."""
    if cache := os.environ.get("HF_HUB_CACHE"):
        return Path(cache).expanduser()
    if home := os.environ.get("HF_HOME"):
        return Path(home).expanduser() / "hub"
    shared = os.environ.get("XDG_CACHE_HOME")
    return (Path(shared) if shared else Path.home() / ".cache") / "huggingface" / "hub"


def _commit_from_hub(model: str, revision: str) -> str:
    import httpx
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    try:
        commit = HfApi().model_info(model, revision=revision, timeout=20).sha
    except (HfHubHTTPError, HFValidationError, httpx.HTTPError, OSError) as error:
        raise ModelUnavailable(
            f"'{model}' is neither a bundled model ({', '.join(BUNDLED)}) nor a folder nor in the "
            f"local hub cache, and the hub does not give revision '{revision}' of it: {error}"
        ) from error
    if commit is None:
        raise ModelUnavailable(f"the hub names no commit for revision '{revision}' of '{model}'")
    return commit


def weights_identity(source: ModelSource) -> dict[str, JSON]:
    """What decides a model's answers, told without loading it. Raises ModelUnavailable."""
    if isinstance(source, Hub):
        # The commit fixes weights, tokenizer, chat template and quantisation together.
        return {"hub": source.name, "commit": source.commit}
    if isinstance(source, Bundled) and source.converts:
        verified_weights(source)
        return {
            "weights": source.sha256,
            "chat_template": source.chat_template,
            "quantisation": source.quantisation,
        }
    folder = source.folder if isinstance(source, Local) else verified_weights(source).parent
    weights = _weights(folder)
    if not weights:
        raise ModelUnavailable(f"{folder} holds no weights (*.safetensors or *.bin)")
    return {
        "weights": _joint_sha256(folder, weights),
        "texts": _joint_sha256(folder, _files(folder, _TEXTS)),
        "chat_template": template_sha256(folder),
        "quantisation": _quantisation(folder),
    }


def tokenizer_identity(source: ModelSource) -> dict[str, JSON]:
    """What decides how chats are cut into tokens; weights need not be there.

    Raises ModelUnavailable.
    """
    if isinstance(source, Hub):
        return {"hub": source.name, "commit": source.commit}
    if isinstance(source, Bundled):
        return {"bundled": source.name, "chat_template": source.chat_template}
    texts = _files(source.folder, _TEXTS)
    if not texts:
        raise ModelUnavailable(f"{source.folder} holds no tokenizer")
    return {
        "texts": _joint_sha256(source.folder, texts),
        "chat_template": template_sha256(source.folder),
    }


def _weights(folder: Path) -> list[Path]:
    """Of each folder within what is loaded: its .safetensors, else what other weights it has.

    The parts of an embedder have folders of their own, and not all of one format.
    """
    files = _files(folder, (".safetensors", ".bin", ".gguf"))
    safe = {file.parent for file in files if file.suffix == ".safetensors"}
    return [file for file in files if file.suffix == ".safetensors" or file.parent not in safe]


def _files(folder: Path, endings: tuple[str, ...]) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.suffix in endings and path.is_file())


def _joint_sha256(folder: Path, files: Iterable[Path]) -> str:
    lines = [f"{path.relative_to(folder).as_posix()} {sha256_of(path)}\n" for path in files]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _quantisation(folder: Path) -> JSON:
    config = folder / "config.json"
    if not config.is_file():
        return None
    method: JSON = json.loads(config.read_bytes()).get("quantization_config")
    return method
