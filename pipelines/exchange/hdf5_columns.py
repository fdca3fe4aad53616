"""What an HDF5 file says of a feature set beside its numbers, checked: spec, layers, offsets, reasons."""

import numpy as np
from numpy.typing import NDArray

from mer_store.layers import Layer
from mer_store.spec import Spec
from mer_store.store.part_files import RESERVED
from mer_store.store.record_rules import layer_of, line_of
from mer_store.strict_json import parse
from pipelines.exchange.hdf5_check import CheckedFile


def read_spec(file: CheckedFile, group: str) -> Spec:
    """Read the spec of a feature set.

    Raises
    ------
    StoreDamagedError
        It is of another feature set than the group's path says.
    UsageError
        It is no spec.
    """
    text = file.attribute(group, "spec")
    spec = Spec.from_json(text if isinstance(text, bytes) else b"", where=f"{file.path}: {group}")
    if f"{spec.modality}/{spec.name}" != group:
        raise file.damage(group, f"its spec is of {spec.modality}/{spec.name}")
    return spec


def read_layers(file: CheckedFile, group: str) -> tuple[Layer, ...]:
    """Return the layers, in the order of the columns of ``layer_status``."""
    text = file.attribute(group, "layers")
    with file.naming(f"{group}@layers"):
        names = parse(text) if isinstance(text, bytes) else None
        if not isinstance(names, list) or not names or len(set(map(str, names))) != len(names):
            raise file.damage(group, "layers: expected a list of names, each once")
        layers = tuple(layer_of(name) for name in names)
    if sorted(names) != file.members(f"{group}/layers") or set(names) & set(RESERVED):
        raise file.damage(f"{group}/layers", f"expected the datasets {sorted(names)}")
    return layers


def read_offsets(file: CheckedFile, name: str, n_clips: int) -> NDArray[np.int64]:
    """Return [clips + 1] ascending offsets."""
    offsets = file.column(name, "iu", n_clips + 1)
    if offsets[0] != 0 or (offsets[1:] < offsets[:-1]).any():
        raise file.damage(name, "expected ascending offsets from 0")
    return offsets.astype(np.int64)


def read_numbers(file: CheckedFile, name: str, n_clips: int) -> NDArray[np.int64]:
    """Return [clips] whole numbers."""
    return file.column(name, "iu", n_clips).astype(np.int64)


def read_reasons(file: CheckedFile, group: str, n_clips: int) -> list[str | None]:
    """Return why each clip has no rows."""
    raw = file.column(f"{group}/reasons", "S").tolist()
    with file.naming(f"{group}/reasons"):
        texts = [line_of(decoded(file, f"{group}/reasons", text)) for text in raw]
    numbers = file.column(f"{group}/reason", "i", n_clips)
    if ((numbers < -1) | (numbers >= len(texts))).any():
        raise file.damage(f"{group}/reason", f"expected places in reasons, -1 to {len(texts) - 1}")
    return [texts[number] if number >= 0 else None for number in numbers.tolist()]


def decoded(file: CheckedFile, name: str, text: bytes) -> str:
    """Return a text of UTF-8."""
    try:
        return text.decode()
    except UnicodeDecodeError as error:
        raise file.damage(name, f"{text[:20]!r} is not UTF-8") from error
