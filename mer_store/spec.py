"""The spec: all that decides a feature set's numbers, and nothing else."""

import hashlib
import json
import re
import reprlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from mer_store.errors import UsageError
from mer_store.strict_json import parse

MODALITIES = ("audio", "visual", "text")
LEVELS = ("frame", "utterance")
#: Bytes: face crops as files of images. No features, but kept and shared as they are.
BYTES = "uint8"
STORED_DTYPES = ("float16", "float32", BYTES)
FINGERPRINT_CHARS = 12
#: In place of the digest of weights: the features came as they are, from files that do not say how they
#: were made. A clip's digest is that of its file then, not of its media.
IMPORTED = "imported"
MAX_TEXT_CHARS = 1000
#: With level and fingerprint a folder's name, which may have 255 bytes.
MAX_MODEL_BYTES = 200


@dataclass(frozen=True)
class Spec:
    """What decides the numbers of a feature set.

    Device, batch size, number of workers and chunk shapes change no numbers and are not in it; nor are the
    layers, since a feature set is clips x layers.
    """

    modality: str
    """``audio``, ``visual`` or ``text``."""
    level: str
    """``frame`` (T rows a clip) or ``utterance`` (one row a clip)."""
    model: str
    """Short name of the model: the last piece of its hub name or folder."""
    weights: str
    """Digest of the bytes of its weights and of the settings they are used with, or `IMPORTED`."""
    recipe: str
    """Named way of computing: ``default``, ``mertools2024``, ``mertools2023``."""
    preprocessing: Mapping[str, Any]
    """What is done to the media before the model: JSON values only."""
    pooling: str
    """``none`` at frame level, else how rows of time become one, e.g. ``mean``."""
    compute_dtype: str
    """Arithmetic of the model: ``float32``, ``bfloat16`` or ``float16``."""
    stored_dtype: str
    """``float16`` or ``float32``; a clip that overflows float16 keeps its float32 values. Or `BYTES`."""
    trained: bool
    """False for random weights: such features say so everywhere they are shown."""

    def __post_init__(self) -> None:
        """Refuse what cannot be a spec."""
        _require("modality", self.modality, MODALITIES)
        _require("level", self.level, LEVELS)
        _require("stored_dtype", self.stored_dtype, STORED_DTYPES)
        is_long = len(self.model.encode("utf-8", "replace")) > MAX_MODEL_BYTES
        if is_long or not re.fullmatch(r"[\w.+-]+", self.model) or self.model.startswith("."):
            raise UsageError(
                f"spec: model name {self.model!r}: expected letters, digits and . _ + - only, at most "
                f"{MAX_MODEL_BYTES} bytes"
            )

    @property
    def fingerprint(self) -> str:
        """First 12 hex digits of the SHA-256 of the spec's sorted JSON."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()[:FINGERPRINT_CHARS]

    @property
    def name(self) -> str:
        """Name of the feature set's folder: ``<model>-<level>-<fingerprint>``."""
        return f"{self.model}-{self.level}-{self.fingerprint}"

    def to_json(self) -> str:
        """Canonical JSON: keys sorted, no spaces, non-ASCII kept."""
        return json.dumps(asdict(self), sort_keys=True, separators=(",", ":"), ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str | bytes, where: str = "spec.json") -> "Spec":
        """Read what `to_json` wrote; `where` names the file in errors."""
        try:
            values = parse(text)
        except ValueError as error:
            raise UsageError(f"{where}: not JSON: {error}") from error
        expected = {field.name for field in fields(cls)}
        if not isinstance(values, dict) or values.keys() != expected:
            came = sorted(values) if isinstance(values, dict) else type(values).__name__
            raise UsageError(
                f"{where}: expected the keys {sorted(expected)}, got {reprlib.repr(came)}"
            )
        for name, value in values.items():
            kind = {"preprocessing": dict, "trained": bool}.get(name, str)
            if not isinstance(value, kind):
                raise UsageError(
                    f"{where}: {name}: expected {kind.__name__}, got {reprlib.repr(value)}"
                )
            if isinstance(value, str) and (len(value) > MAX_TEXT_CHARS or not value.isprintable()):
                raise UsageError(
                    f"{where}: {name}: expected a line of at most {MAX_TEXT_CHARS} printable characters, "
                    f"got {reprlib.repr(value)}"
                )
        try:
            return cls(**values)
        except UsageError as error:
            raise UsageError(f"{where}: {error}") from error


def _require(field: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise UsageError(f"spec: {field}: expected one of {', '.join(allowed)}; got {value!r}")
