"""The folder where pieces of remote stores are kept on this machine, bounded in size."""

import hashlib
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from mer_store.remote.address import Address
from mer_store.remote.span_cache import SpanCache
from mer_store.store.files_below import files_below
from mer_store.store.layout import make_folder

#: Bytes kept unless `MER_STORE_CACHE_BYTES` says otherwise. A quarter of it is for pieces of files.
DEFAULT_BYTES = 20 * 10**9
FOLDER_VARIABLE = "MER_STORE_CACHE"
BYTES_VARIABLE = "MER_STORE_CACHE_BYTES"


@dataclass(frozen=True)
class Cache:
    """The cache of one remote."""

    folder: Path
    limit: int
    """Bytes."""

    @classmethod
    def of(cls, address: Address) -> "Cache":
        """Return the cache of a remote, made where it is not there, for this user alone."""
        home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        base = Path(os.environ.get(FOLDER_VARIABLE) or home / "mer-store")
        base.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder = base / hashlib.sha256(address.url.encode()).hexdigest()[:16]
        make_folder(folder)
        return cls(folder, int(float(os.environ.get(BYTES_VARIABLE) or DEFAULT_BYTES)))

    @property
    def mirror(self) -> Path:
        """A store with the specs and commit records of the remote, and no data."""
        return self.folder / "mirror"

    def part(self, part_id: str) -> Path:
        """Return where whole files of a part are kept."""
        return self.folder / "files" / part_id

    def spans(self) -> SpanCache:
        """Return the table of pieces of files."""
        return SpanCache(self.folder / "spans.sqlite", self.limit // 4)

    def shrink(self) -> None:
        """Drop whole files that were not used for longest, down to three quarters of the limit.

        A file that is being read stays readable for who has it open. The one used last stays.
        """
        found = []
        for _, entry in files_below(self.folder / "files"):
            with suppress(OSError):
                if entry.is_file(follow_symlinks=False):
                    status, path = entry.stat(), Path(entry.path)
                    found.append((max(status.st_atime, status.st_mtime), status.st_size, path))
        n_bytes = sum(size for _, size, _ in found)
        for _, size, path in sorted(found)[:-1]:
            if n_bytes <= self.limit - self.limit // 4:
                return
            with suppress(OSError):
                path.unlink()
                n_bytes -= size
