"""Remotes of two kinds, kept on disk so that they outlive a process that is killed.

`install` makes the URLs ``gs://`` (objects that appear whole, as in a bucket) and ``ssh://`` (files that
are written in place, as on a host) lead to folders.
"""

import os
import secrets
import tempfile
from pathlib import Path

import fsspec
from fsspec.implementations.local import LocalFileSystem


class Host(LocalFileSystem):
    """Files on a host: written in place, renamed."""

    protocol = ("ssh", "sftp")

    def mv(self, path1, path2, **options):
        os.replace(self._strip_protocol(path1), self._strip_protocol(path2))  # noqa: PTH105


class Objects(LocalFileSystem):
    """Objects of a bucket: each appears whole when its upload is closed."""

    protocol = ("gs", "gcs")

    def _open(self, path, mode="rb", **options):
        place = Path(self._strip_protocol(path))
        return place.open(mode) if mode == "rb" else Upload(place, exclusive="x" in mode)


class Upload:
    """An object on its way, as the clients of buckets have it."""

    def __init__(self, place, *, exclusive):
        if exclusive and place.exists():
            raise FileExistsError(str(place))
        self._place, self._exclusive, self._pieces = place, exclusive, []
        self.closed = False

    def write(self, data):
        self._pieces.append(bytes(data))
        return len(data)

    def discard(self):
        """Forget what was sent."""
        self.closed = True

    def __enter__(self):
        return self

    def __exit__(self, kind, error, traceback):
        if kind is not None:
            self.discard()
        self.close()

    def close(self):
        """Let the object appear."""
        if self.closed:
            return
        self.closed = True
        beside = Path(tempfile.gettempdir()) / secrets.token_hex(8)
        beside.write_bytes(b"".join(self._pieces))
        self._place.parent.mkdir(parents=True, exist_ok=True)
        if self._exclusive:
            os.link(beside, self._place)
            beside.unlink()
        else:
            beside.replace(self._place)


PROTOCOLS = {protocol: kind for kind in (Host, Objects) for protocol in kind.protocol}


def install():
    """Have fsspec use these, in a process of one's own."""
    for protocol, kind in PROTOCOLS.items():
        fsspec.register_implementation(protocol, kind, clobber=True)
