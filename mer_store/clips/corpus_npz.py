"""``label-6way.npz``: dictionaries in pickled object arrays, read without letting a pickle run code."""

import io
import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy_format

from mer_store.errors import UsageError

_MAX_BYTES = 2**29
_ALLOWED = {
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    # NumPy 1 and NumPy 2 name the same function differently.
    ("numpy.core.multiarray", "_reconstruct"): np._core.multiarray._reconstruct,  # type: ignore[attr-defined]
    ("numpy._core.multiarray", "_reconstruct"): np._core.multiarray._reconstruct,  # type: ignore[attr-defined]
}


def read_corpora(path: Path) -> dict[str, dict[str, Mapping[str, Any]]]:
    """Read every member of the file: corpus name -> clip name -> its values, in the order stored.

    Raises
    ------
    UsageError
        It is no such file, or its pickles ask for anything but arrays, dictionaries and plain values.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            return {
                info.filename.removesuffix(".npy"): _read_corpus(archive, info, path)
                for info in archive.infolist()
                if info.filename.endswith(".npy")
            }
    except (OSError, zipfile.BadZipFile) as error:
        raise UsageError(f"{path}: cannot be read as .npz: {error}") from error


class _PlainUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        try:
            return _ALLOWED[module, name]
        except KeyError:
            raise pickle.UnpicklingError(
                f"asks for {module}.{name}, which no label needs"
            ) from None


def _read_corpus(
    archive: zipfile.ZipFile, info: zipfile.ZipInfo, path: Path
) -> dict[str, Mapping[str, Any]]:
    where = f"{path}: {info.filename}"
    if info.file_size > _MAX_BYTES:
        raise UsageError(f"{where}: {info.file_size} bytes: more than labels can be")
    try:
        corpus = _unpickle(archive.read(info))
    except (
        pickle.UnpicklingError,
        ValueError,
        TypeError,
        EOFError,
        AttributeError,
        IndexError,
    ) as error:
        raise UsageError(f"{where}: not read: {error}") from error
    if not isinstance(corpus, dict) or not all(
        isinstance(name, str) and isinstance(values, dict) for name, values in corpus.items()
    ):
        raise UsageError(
            f"{where}: expected a dictionary of clips, each with a dictionary of values"
        )
    return corpus


def _unpickle(member: bytes) -> Any:
    file = io.BytesIO(member)
    version = npy_format.read_magic(file)
    read_header = (
        npy_format.read_array_header_1_0 if version == (1, 0) else npy_format.read_array_header_2_0
    )
    shape, _, dtype = read_header(file)
    if shape != () or not dtype.hasobject:
        raise ValueError(f"expected one object, got an array of {dtype} {shape}")
    return _PlainUnpickler(file).load().item()
