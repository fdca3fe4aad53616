"""A tree of objects behind a URL: listed, read by ranges, written whole. All we use of fsspec is here."""

import secrets
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

from mer_store.errors import UsageError
from mer_store.remote.address import PROTOCOLS, Address
from mer_store.remote.client_options import HOSTS, client_options, write_options
from mer_store.remote.s3 import S3Objects
from mer_store.remote.trying import TransferError, tried

#: Protocols whose writes appear whole or not at all. Elsewhere an object is written beside and renamed.
ATOMIC = ("s3", "gs", "gcs", "hf")
T = TypeVar("T")


@dataclass(frozen=True)
class Bucket:
    """Objects below a URL, named by relative paths."""

    address: Address

    @cached_property
    def fs(self) -> Any:
        """The file system of fsspec."""
        import fsspec

        protocol = self.address.protocol
        try:
            fs, _ = fsspec.core.url_to_fs(self.address.url, **client_options(protocol))
        except ImportError as error:
            extra = PROTOCOLS[protocol]
            raise UsageError(
                f"{self.address}: needs a package that is not here ({error}); "
                f"run `pip install 'mer-store[{extra}]'`"
            ) from error
        if protocol == "s3":
            fs.retries = 1  # `tried` does that, and waits longer each time
        return fs

    @cached_property
    def s3(self) -> S3Objects | None:
        """The same objects by a client that streams; None where they are not S3's."""
        return S3Objects(self.fs) if self.address.protocol == "s3" else None

    @cached_property
    def root(self) -> str:
        """The URL as the file system spells it."""
        return str(self.fs._strip_protocol(self.address.url)).rstrip("/")

    def _path(self, path: str) -> str:
        return f"{self.root}/{path}" if path else self.root

    # ---- reading -----------------------------------------------------------------------------------

    def get(self, path: str, limit: int) -> bytes:
        """Return a whole small object.

        Raises
        ------
        FileNotFoundError
            There is none.
        TransferError
            It cannot be fetched, or has more than `limit` bytes.
        """
        data = self.tried(lambda: self.read(path, 0, limit + 1), path)
        if len(data) > limit:
            raise TransferError(f"{self.where(path)}: expected at most {limit} bytes; it has more")
        return data

    def get_range(self, path: str, start: int, stop: int) -> bytes:
        """Return the bytes from `start` to before `stop`.

        Raises
        ------
        TransferError
            They cannot be fetched, or the server sent another number of bytes.
        """

        def fetch() -> bytes:
            data = self.read(path, start, stop)
            if len(data) > stop - start:  # a server that ignores ranges sends all there is
                data = data[start:stop]
            if len(data) != stop - start:
                raise OSError(f"expected {stop - start} bytes from {start}, got {len(data)}")
            return data

        return self.tried(fetch, path) if stop > start else b""

    def read(self, path: str, start: int, stop: int) -> bytes:
        """Return what there is between two places; more of it where the remote knows no ranges."""
        if self.address.protocol not in HOSTS:
            return bytes(self.fs.cat_file(self._path(path), start=start, end=stop))
        with self.fs.open(self._path(path), "rb") as file:  # its cat_file takes all
            file.seek(start)
            return bytes(file.read(stop - start))

    def stream(self, path: str, start: int, stop: int) -> Iterator[bytes] | None:
        """Yield the bytes from `start` to before `stop`, by one request; None where there are only ranges."""
        if self.s3 is None:
            return None
        return self.s3.stream(self._path(path), start, stop, self.where(path))

    def names(self, folder: str) -> dict[str, int | None]:
        """Return name -> size of what lies directly in `folder`; folders have no size. Empty where none is.

        Raises
        ------
        TransferError
            The remote cannot be listed.
        """

        def listed() -> list[dict[str, Any]]:
            self.fs.invalidate_cache()
            try:
                entries: list[dict[str, Any]] = self.fs.ls(self._path(folder), detail=True)
            except FileNotFoundError:
                return []
            return entries

        found: dict[str, int | None] = {}
        for entry in self.tried(listed, folder):
            name = str(entry["name"]).rstrip("/").rpartition("/")[2]
            if name and str(entry["name"]).rstrip("/") != self._path(folder):
                found[name] = None if entry["type"] == "directory" else entry["size"]
        return found

    def sizes(self, folder: str) -> dict[str, int]:
        """Return relative path -> size of every object below `folder`."""

        def found() -> dict[str, Any]:
            self.fs.invalidate_cache()
            try:
                entries: dict[str, Any] = self.fs.find(self._path(folder), detail=True)
            except FileNotFoundError:
                return {}
            return entries

        head = f"{self._path(folder)}/"
        return {
            name.removeprefix(head): entry["size"]
            for name, entry in self.tried(found, folder).items()
            if name.startswith(head)
        }

    # ---- writing -----------------------------------------------------------------------------------

    def put(self, path: str, pieces: Iterable[bytes]) -> None:
        """Write an object from its pieces; where they raise, nothing appears under its name."""
        atomic = self.address.protocol in ATOMIC
        place = self._path(path) if atomic else f"{self._path(path)}.{secrets.token_hex(6)}.partial"
        if not atomic:
            self.fs.makedirs(place.rpartition("/")[0], exist_ok=True)
        file = self.fs.open(place, "wb", **write_options(self.address.protocol))
        try:
            for piece in pieces:
                file.write(piece)
            file.close()
        except (
            FileNotFoundError
        ) as error:  # no bucket; or an upload done at a try whose answer was lost
            self._drop(file, place)
            raise OSError(f"cannot be written: {error}") from error
        except BaseException:
            self._drop(file, place)
            raise
        if not atomic:
            self.fs.mv(place, self._path(path))

    def put_whole(self, path: str, data: bytes, sha256: str) -> None:
        """Write an object whose digest is known, by one request where that can be."""
        if self.s3 is None:
            self.put(path, [data])
        else:
            self.s3.put(self._path(path), data, sha256)

    def _drop(self, file: Any, place: str) -> None:
        """Give up what is being written."""
        try:
            file.closed = True  # closing would make it appear
            file.discard()
        except Exception:  # noqa: BLE001 - each client has errors of its own; an upload left open never appears
            if self.address.protocol not in ATOMIC:
                with suppress(OSError):
                    file.close()
                self.fs.rm_file(place)

    def put_new(self, path: str, data: bytes) -> bool:
        """Write a small object unless there is one; return whether this call wrote it.

        Where the remote has no conditional writes, two writers at the same moment may both write: harmless
        for us, since both of their records are true (see `mer_store.remote.layout`).
        """
        return not self.exists(path) and self.create(path, data)

    def create(self, path: str, data: bytes) -> bool:
        """Write a small object on condition that there is none, as far as the remote keeps conditions.

        Should the answer to a write be lost, the next try finds the object and returns False.

        Raises
        ------
        TransferError
            It could not be written.
        """

        def write() -> bool:
            if self.address.protocol not in ATOMIC:
                self.put(path, [data])
                return True
            try:
                self.fs.pipe_file(self._path(path), data, mode="create")
            except FileExistsError:
                return False
            except (NotImplementedError, TypeError, ValueError):
                self.put(path, [data])
            except FileNotFoundError as error:
                raise TransferError(
                    f"{self.where(path)}: cannot be written: {error}; make the bucket first"
                ) from error
            except Exception as error:
                # a client's own error for "was there first"; its text may hold the same digits by chance
                if _is_conflict(error) and self.exists(path):
                    return False
                raise
            return True

        return self.tried(write, path)

    def overwrite(self, path: str, data: bytes) -> None:
        """Write a small derived object, whatever is there."""
        self.tried(lambda: self.put(path, [data]), path)

    def remove(self, path: str) -> None:
        """Remove an object, if it is there."""
        try:
            self.tried(lambda: self.fs.rm_file(self._path(path)), path)
        except FileNotFoundError:
            return

    def exists(self, path: str) -> bool:
        """Tell whether there is an object of this name."""

        def look() -> bool:
            self.fs.invalidate_cache()
            return bool(self.fs.exists(self._path(path)))

        return self.tried(look, path)

    def where(self, path: str) -> str:
        """Return an object's full name to show."""
        return f"{self.address}/{path}"

    def tried(self, action: Callable[[], T], path: str) -> T:
        """Do something that a network may break, and again where it did."""
        return tried(lambda: self._once(action), self.where(path))

    def _once(self, action: Callable[[], T]) -> T:
        try:
            return action()
        except (FileNotFoundError, FileExistsError, PermissionError):
            raise
        except Exception:
            if self.address.protocol in HOSTS:
                self.__dict__.pop("fs", None)  # the next try connects anew
            raise


def _is_conflict(error: Exception) -> bool:
    text = f"{type(error).__name__} {error}"
    return "PreconditionFailed" in text or "412" in text or "ConditionalRequestConflict" in text
