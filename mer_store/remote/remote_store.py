"""A store read where it is: records are mirrored here, features come by ranges and are kept for next time."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path

from mer_store.errors import UsageError
from mer_store.remote.address import Address
from mer_store.remote.bucket import Bucket
from mer_store.remote.cache import Cache
from mer_store.remote.fetch import Fetcher
from mer_store.remote.layout import Listing, SetKey
from mer_store.remote.meter import Meter
from mer_store.remote.part import RemotePart
from mer_store.remote.side import RemoteSide
from mer_store.remote.span_reader import Batch, SpanReader
from mer_store.spec import Spec
from mer_store.store.commit import put_file, read_record
from mer_store.store.feature_set import FeatureSet
from mer_store.store.index import PartInfo
from mer_store.store.layout import Folders
from mer_store.store.record import CommitRecord
from mer_store.store.store import Store

N_REQUESTS = 16


class RemoteStore(Store):
    """A store behind a URL, for reading.

    Parameters
    ----------
    side
        The remote.
    cache
        Where pieces of it are kept.
    """

    def __init__(self, side: RemoteSide, cache: Cache) -> None:
        Store.create(cache.mirror)
        super().__init__(cache.mirror)
        self.side, self.cache, self.meter = side, cache, Meter()
        self._requests = ThreadPoolExecutor(N_REQUESTS, thread_name_prefix="range")
        self._batch = Batch(self._requests)
        self._spans = cache.spans()
        self._parts: dict[str, RemotePart] = {}
        self.refresh()

    def __repr__(self) -> str:
        return f"RemoteStore({self.side.label!r})"

    @property
    def where(self) -> str:
        """The URL."""
        return self.side.label

    @classmethod
    def open_url(cls, url: str) -> "RemoteStore":
        """Open a store behind a URL.

        Raises
        ------
        UsageError
            There is none.
        TransferError
            It cannot be reached.
        """
        address = Address.parse(url)
        side = RemoteSide(Bucket(address))
        if not side.is_there():
            raise UsageError(f"{address}: no store there; `mer-store push {address}` makes one")
        return cls(side, Cache.of(address))

    def refresh(self) -> None:
        """Look again at what is committed there."""
        self.cache.shrink()
        listing = self.side.listing()
        for key, part_ids in listing.items():
            self._mirror(key, part_ids)
        for feature_set in super().feature_sets():
            key = (feature_set.spec.modality, feature_set.name)
            self._forget(Folders(feature_set.path), listing, key)

    def _mirror(self, key: SetKey, part_ids: frozenset[str]) -> None:
        """Fetch the spec and the records that are not here."""
        feature_set = super().ensure(self.side.spec(key))
        folders = Folders(feature_set.path)
        lacking = sorted(part_ids - set(feature_set.part_ids()))
        fetching = [self._requests.submit(self.side.record, key, part_id) for part_id in lacking]
        for part_id, future in zip(lacking, fetching, strict=True):
            put_file(folders.commit(part_id), future.result().to_json())

    def _forget(self, folders: Folders, listing: Listing, key: SetKey) -> None:
        """Drop records of parts that are no longer there."""
        for path in folders.commits.glob("*.json"):
            if path.stem not in listing.get(key, frozenset()):
                with suppress(OSError):
                    path.unlink(missing_ok=True)

    def ensure(self, spec: Spec) -> FeatureSet:
        """Refuse: nothing is written to a remote but by a push."""
        raise UsageError(
            f"{self.side.label}: a remote store is read only; give a folder as --store, write "
            f"{spec.modality}/{spec.name} there, and `mer-store push {self.side.label}`"
        )

    def _feature_set(self, path: Path) -> FeatureSet | None:
        found = super()._feature_set(path)
        if found is None:
            return None
        key = (found.spec.modality, found.name)
        return FeatureSet(path, found.spec, partial(self._open_array, key, Folders(path)))

    def _open_array(self, key: SetKey, folders: Folders, info: PartInfo, name: str) -> SpanReader:
        part = self._parts.get(info.part_id)
        if part is None:
            record = read_record(folders, info.part_id)
            if record is None:
                raise UsageError(
                    f"{self.side.label}: part {info.part_id} is no longer there; open the store again"
                )
            part = self._parts[info.part_id] = self._part(key, record)
        return part.array(name)

    def _part(self, key: SetKey, record: CommitRecord) -> RemotePart:
        fetcher = Fetcher(self.side, key, self._requests, self.meter)
        return RemotePart(
            fetcher,
            record,
            self._batch,
            self.cache.part(record.part_id),
            self._spans,
            fetched=self.cache.shrink,
        )
