"""Datasets of the Hugging Face hub, through `datasets.load_dataset` and its cache."""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import pyarrow as pa

from pipelines.readers.arrow_tables import records_of
from pipelines.readers.byte_chunks import Position
from pipelines.readers.inputs import Reading
from pipelines.readers.source import HubSource, SourceError

_BATCH: Final = 1_000


@dataclass(frozen=True)
class HubInput:
    """One split. `dataset` is a `datasets.Dataset`."""

    name: str
    dataset: Any

    @property
    def size(self) -> int:
        return int(self.dataset.data.nbytes)

    def fingerprint(self) -> str:
        """Of the values in Arrow's own format, read once through (about 1 GB/s)."""
        hashed = hashlib.blake2b(digest_size=16)
        hashed.update(self._schema().to_string(show_schema_metadata=False).encode())
        for batch in self._batches(Position()):
            with pa.ipc.new_stream(sink := pa.BufferOutputStream(), batch.schema) as stream:
                stream.write_batch(batch)
            hashed.update(sink.getvalue())
        return hashed.hexdigest()

    def open(self, position: Position) -> Reading:
        return Reading(records_of(self._batches(position)), self._schema)

    def _schema(self) -> pa.Schema:
        return self.dataset.features.arrow_schema

    def _batches(self, position: Position) -> Iterator[pa.RecordBatch]:
        for table in self.dataset.with_format("arrow").iter(_BATCH):
            for batch in table.combine_chunks().to_batches():
                position.bytes += batch.nbytes
                yield batch


def load(source: HubSource) -> Any:
    """The split, from the cache or the hub. Raises SourceError where there is none to be had."""
    from datasets import exceptions, load_dataset

    try:
        return load_dataset(source.hub, source.config, split=source.split, revision=source.revision)
    except (exceptions.DatasetsError, OSError, ValueError) as error:
        raise SourceError(
            f"the dataset '{source.hub}' (split {source.split}) cannot be loaded: {error}"
        ) from error


def open_hub(source: HubSource, load: Callable[[HubSource], Any] = load) -> HubInput:
    config = f"/{source.config}" if source.config else ""
    return HubInput(f"{source.hub}{config}/{source.split}", load(source))
