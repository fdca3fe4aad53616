"""Names of clips as keyed hashes, for teams whose licence forbids that names leave.

Who has the key turns the names of a clip list into the same hashes; nobody can turn hashes back into names.
"""

import hashlib
import hmac
import os
import secrets
from pathlib import Path

from mer_store.errors import UsageError

KEY_FILE = "id-key"
#: Hex digits of a hashed id: 128 bits.
N_DIGITS = 32
_MIN_KEY_BYTES = 16


class IdKey:
    """The key of hashed names.

    Parameters
    ----------
    key
        At least 16 bytes that nobody can guess.
    """

    def __init__(self, key: bytes) -> None:
        if len(key) < _MIN_KEY_BYTES:
            raise UsageError(f"the key of hashed names: expected 16 bytes or more, got {len(key)}")
        self._key = key

    def __repr__(self) -> str:
        return f"IdKey({self.name})"

    @property
    def name(self) -> str:
        """Tells keys apart without telling the key."""
        return self._mac("name", "")[:8]

    def hash_id(self, clip_id: str) -> str:
        """Return the hash of a clip's name."""
        return self._mac("clip", clip_id)[:N_DIGITS]

    def hash_digest(self, digest: str) -> str:
        """Return the hash of a digest of media: a short transcript could be guessed from its own."""
        return f"hmac:{self._mac('digest', digest)}"

    def _mac(self, kind: str, text: str) -> str:
        return hmac.new(self._key, f"{kind}:{text}".encode(), hashlib.sha256).hexdigest()

    @classmethod
    def read(cls, path: Path) -> "IdKey":
        """Read a key file.

        Raises
        ------
        UsageError
            There is none, or it holds too little.
        """
        try:
            return cls(path.read_bytes().strip())
        except FileNotFoundError as error:
            raise UsageError(
                f"{path}: no such key; `mer-store push --no-ids` makes one in the store, or ask who pushed"
            ) from error

    @classmethod
    def make(cls, path: Path) -> "IdKey":
        """Read a key file, made first where there is none: readable by this user alone."""
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            return cls.read(path)
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_hex(32) + "\n")
            file.flush()
            os.fsync(file.fileno())
        return cls.read(path)
