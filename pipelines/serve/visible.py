"""What of a store may be seen: what commit records name, under the names of a remote."""

import hashlib
import json
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from mer_store.errors import MerStoreError, StoreDamagedError
from mer_store.spec import Spec
from mer_store.store.commit import GROUP_FILE
from mer_store.store.layout import FORMAT, PART_ID, SPEC_FILE, STORE_FILE
from mer_store.store.plain_file import is_safe_name, open_inside
from mer_store.store.record import CommitRecord, FileFacts
from mer_store.store.store import Store

INDEX_FILE = "index.json"
DIGITS = 16
"""How many hex digits of the digest of its ``zarr.json`` stand in the name of a part's folder."""


class NotVisibleError(MerStoreError):
    """Nothing is served under this name."""


@dataclass(frozen=True, slots=True)
class Content:
    """Something that can be sent: bytes at hand, or a file that is open."""

    n_bytes: int
    sha256: str
    data: bytes = b""
    descriptor: int | None = None
    """Of the open file; None where `data` is all there is."""
    lasting: bool = False
    """True where this name never means other bytes."""

    @classmethod
    def of(cls, data: bytes) -> "Content":
        """Return the content that is `data`."""
        return cls(len(data), hashlib.sha256(data).hexdigest(), data)

    def read(self, start: int, n_bytes: int) -> bytes:
        """Return up to `n_bytes` from `start`; fewer where the file was cut meanwhile."""
        if self.descriptor is None:
            return self.data[start : start + n_bytes]
        return os.pread(self.descriptor, n_bytes, start)

    def close(self) -> None:
        """Close the file."""
        if self.descriptor is not None:
            os.close(self.descriptor)


class Visible:
    """What of a store may be seen.

    The layout is that of a remote: a part's folder is ``parts/<part id>.<16 hex digits>``, and
    ``index.json`` lists what there is for those who cannot list.

    Parameters
    ----------
    store
        It may grow meanwhile: each question looks at what is committed then.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self._root = store.path.resolve()

    def find(self, path: str) -> Content:
        """Return what lies under a decoded path of a URL, without the slash in front; close it after use.

        Raises
        ------
        NotVisibleError
            Nothing that a commit record names: whether there is such a file is not told.
        StoreDamagedError
            A record cannot be read, or a file is not as long as its record says.
        OSError
            A file cannot be read.
        """
        if not all(map(is_safe_name, path.split("/"))):
            raise NotVisibleError(f"{path!r} is no name in a store")
        match path.split("/"):
            case ["index.json"]:
                return Content.of(self.index())
            case ["store.json"]:
                return Content.of(self._text(STORE_FILE))
            case ["features", modality, name, "spec.json"]:
                return self._spec(modality, name)
            case ["features", _, name, "commits", file]:
                return self._commit(path, name, file)
            case ["features", modality, name, "parts", folder, *inside] if inside:
                return self._part_file(f"features/{modality}/{name}", folder, "/".join(inside))
        raise NotVisibleError(f"{path}: no record names such a file; {INDEX_FILE} lists the parts")

    def index(self) -> bytes:
        """Return the list of all parts that are committed now, as JSON."""
        listed = [
            {"modality": item.spec.modality, "name": item.name, "parts": list(item.part_ids())}
            for item in self.store.feature_sets()
        ]
        return json.dumps({"format": FORMAT, "feature_sets": listed}, ensure_ascii=False).encode()

    def _spec(self, modality: str, name: str) -> Content:
        relative = f"features/{modality}/{name}/{SPEC_FILE}"
        text = self._text(relative)
        spec = Spec.from_json(text.decode(), where=relative)
        if (spec.modality, spec.name) != (modality, name):
            raise StoreDamagedError(f"{relative}: the spec of {spec.modality}/{spec.name}")
        return Content.of(text)

    def _commit(self, relative: str, name: str, file: str) -> Content:
        part_id = file.removesuffix(".json")
        if file == part_id or not PART_ID.fullmatch(part_id):
            raise NotVisibleError(f"{relative}: expected the record of a part, <part id>.json")
        text = self._text(relative)
        _checked(text, relative, name, part_id)
        return Content.of(text)

    def _part_file(self, feature_set: str, folder: str, inside: str) -> Content:
        """Open a file of a part, which must be what the record of that very part names."""
        part_id, _, digits = folder.partition(".")
        where = f"{feature_set}/parts/{folder}/{inside}"
        if not PART_ID.fullmatch(part_id) or len(digits) != DIGITS:
            raise NotVisibleError(f"{where}: expected parts/<part id>.<{DIGITS} hex digits>/…")
        commit = f"{feature_set}/commits/{part_id}.json"
        files = _recorded_files(self._root, commit, self._signature(commit))
        if not files[GROUP_FILE].sha256.startswith(digits):
            raise NotVisibleError(f"{where}: the part is here with other content; fetch {commit}")
        if inside not in files:
            raise NotVisibleError(f"{where}: not in {commit}")
        return self._open_checked(f"{feature_set}/parts/{part_id}/{inside}", files[inside])

    def _open_checked(self, relative: str, facts: FileFacts) -> Content:
        self._signature(relative)
        descriptor = _open(self._root, relative)
        try:
            n_bytes = os.fstat(descriptor).st_size
            if n_bytes != facts.n_bytes:
                raise StoreDamagedError(
                    f"{relative}: expected {facts.n_bytes} bytes, got {n_bytes}"
                )
        except BaseException:
            os.close(descriptor)
            raise
        return Content(n_bytes, facts.sha256, descriptor=descriptor, lasting=True)

    def _text(self, relative: str) -> bytes:
        self._signature(relative)
        return _read(self._root, relative)

    def _signature(self, relative: str) -> tuple[int, int, int]:
        """Return inode, size and time of a plain file: opening a pipe would wait for ever."""
        found = (self._root / relative).lstat()
        if not stat.S_ISREG(found.st_mode):
            raise NotVisibleError(f"{relative}: not a plain file")
        return found.st_ino, found.st_size, found.st_mtime_ns


@lru_cache(maxsize=4096)
def _recorded_files(
    root: Path,
    relative: str,
    signature: tuple[int, int, int],  # noqa: ARG001 - another file is another key
) -> Mapping[str, FileFacts]:
    """Return the files that a commit record names: asked for at every range of every file."""
    _, _, name, _, file = relative.split("/")
    return _checked(_read(root, relative), relative, name, file.removesuffix(".json")).files


def _checked(text: bytes, where: str, name: str, part_id: str) -> CommitRecord:
    """Read a record, which must be of this part of this feature set."""
    record = CommitRecord.from_json(text, where=where)
    if record.part_id != part_id or not name.endswith(f"-{record.fingerprint}"):
        raise StoreDamagedError(f"{where}: the record of {record.fingerprint}/{record.part_id}")
    if GROUP_FILE not in record.files:
        raise StoreDamagedError(f"{where}: names no {GROUP_FILE}")
    return record


def _read(root: Path, relative: str) -> bytes:
    with os.fdopen(_open(root, relative), "rb") as file:
        return file.read()


def _open(root: Path, relative: str) -> int:
    """Open a file of the store; `root` has no link in it, and none is followed below it."""
    *above, _ = pieces = relative.split("/")
    top = root.joinpath(*above[:3])
    if top.resolve() != top:
        raise NotVisibleError(f"{relative}: links are not followed")
    try:
        return open_inside(top, "/".join(pieces[len(above[:3]) :]))
    except StoreDamagedError as error:
        raise NotVisibleError(f"{relative}: links are not followed") from error
