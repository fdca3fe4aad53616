"""Remotes of two kinds, kept on disk so that they outlive a process that is killed.

`install` makes the URLs ``memory://`` (objects that appear whole, as in a bucket) and ``ssh://`` (files that
are written in place, as on a host) lead to folders.
"""

import io
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

    protocol = ("memory",)

    def _open(self, path, mode="rb", **options):
        place = Path(self._strip_protocol(path))
        return place.open(mode) if mode == "rb" else Upload(place, exclusive="x" in mode)


class Upload(io.BytesIO):
    """An object on its way."""

    def __init__(self, place, *, exclusive):
        super().__init__()
        if exclusive and place.exists():
            raise FileExistsError(str(place))
        self._place, self._exclusive, self._is_dropped = place, exclusive, False

    def discard(self):
        """Forget what was sent."""
        self._is_dropped = True
        super().close()

    def __exit__(self, kind, error, traceback):
        if kind is not None:
            self.discard()
        self.close()

    def close(self):
        """Let the object appear."""
        if super().closed or self._is_dropped:
            return
        data = self.getvalue()
        super().close()
        beside = Path(tempfile.gettempdir()) / secrets.token_hex(8)
        beside.write_bytes(data)
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
