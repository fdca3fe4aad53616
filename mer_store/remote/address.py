"""The address of a remote: a folder, or a URL that fsspec understands."""

import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from mer_store.errors import UsageError

#: What a URL may begin with -> the extra that brings its client.
PROTOCOLS = {
    "s3": "s3", "gs": "gs", "gcs": "gs", "ssh": "ssh", "sftp": "ssh", "hf": "", "http": "", "https": "",
    "memory": "",
}  # fmt: skip
READ_ONLY = ("http", "https")
_URL = re.compile(r"([a-z][a-z0-9+.-]*)://.+", re.DOTALL)


@dataclass(frozen=True)
class Address:
    """Where a remote is."""

    url: str
    """A URL without a slash at its end, or a folder's path."""
    protocol: str
    """``s3``, ``https``, …; ``file`` for a folder."""

    @classmethod
    def parse(cls, text: str | Path) -> "Address":
        """Read an address.

        Raises
        ------
        UsageError
            The text is empty or its protocol is not known.
        """
        text = str(text)
        if not text.strip():
            raise UsageError("a remote: expected a folder or a URL, got an empty text")
        if text.startswith("file://"):
            text = text.removeprefix("file://")
        found = _URL.fullmatch(text)
        if found is None:
            return cls(text, "file")
        protocol = found[1]
        if protocol not in PROTOCOLS:
            raise UsageError(
                f"{hide_secrets(text)}: no remote begins with {protocol}://; expected a folder or one of "
                + ", ".join(f"{name}://" for name in sorted(PROTOCOLS))
            )
        return cls(text.rstrip("/"), protocol)

    @property
    def is_folder(self) -> bool:
        """Whether it is a folder that this machine sees."""
        return self.protocol == "file"

    @property
    def is_read_only(self) -> bool:
        """Whether nothing can be pushed there, by its kind."""
        return self.protocol in READ_ONLY

    @property
    def folder(self) -> Path:
        """The folder's path."""
        return Path(self.url)

    def __str__(self) -> str:
        return hide_secrets(self.url)


def is_url(text: object) -> bool:
    """Tell whether a store's path is a URL of a remote, not a folder."""
    return not Address.parse(str(text)).is_folder if "://" in str(text) else False


def hide_secrets(url: str) -> str:
    """Return a URL to show: without what stands before the host, without a query."""
    if "://" not in url:
        return url
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit((parts.scheme, host, parts.path, "", ""))
