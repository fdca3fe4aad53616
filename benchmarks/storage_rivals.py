"""The same features as other libraries store them: zarr-python, h5py, a .npy per clip, lhotse, Lance.

Lhotse and Lance are measured where they are installed: pip install -c constraints.txt '.[bench]'. None of
them is asked to check anything more than it always does.
"""

import os
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from importlib.util import find_spec
from typing import Any, Protocol

import h5py
import numpy as np
import zarr
from storage_data import Array, Data, sync_files

Read = Callable[[], object]
NAMES = ("zarr-python", "h5py", ".npy per clip", "lhotse", "Lance")


class Rival(Protocol):
    """One library's way. Every reader opens its files anew; what it returns is timed, the opening not."""

    checks: str

    def write(self) -> None:
        """Write every layer, durably."""
        ...

    def layer(self, layer: int) -> Read:
        """Return what reads one layer of all clips."""
        ...

    def rows(self, layer: int, numbers: Array) -> Read:
        """Return what reads one layer of some clips of one row."""
        ...

    def frames(self, numbers: Array) -> Read:
        """Return what reads all layers of some clips, [T, L, D] each."""
        ...


class ByLayer:
    """An array a layer."""

    checks = "nothing"

    def __init__(self, data: Data) -> None:
        self.data = data

    def open(self) -> Any:
        raise NotImplementedError

    def layer(self, layer: int) -> Read:
        return partial(self.open()[str(layer)].__getitem__, slice(None))

    def rows(self, layer: int, numbers: Array) -> Read:
        return partial(self.open()[str(layer)].__getitem__, np.sort(numbers))

    def frames(self, numbers: Array) -> Read:
        file = self.open()
        layers = [file[str(layer)] for layer in self.data.layers]
        spans = [self.data.span(n) for n in numbers.tolist()]
        return lambda: [np.stack([rows[span] for rows in layers], axis=1) for span in spans]


class Zarr(ByLayer):
    """Shards of raw chunks, as the store's, by zarr-python."""

    checks = "the index of the shard"

    def write(self) -> None:
        path = self.data.root / "rival.zarr"
        shutil.rmtree(path, ignore_errors=True)
        group = zarr.create_group(path, zarr_format=3)
        for layer, rows in self.data.layers.items():
            shards = (-(-len(rows) // 256) * 256, self.data.width)
            chunks = (256, self.data.width)
            group.create_array(
                str(layer), data=rows, chunks=chunks, shards=shards, compressors=None
            )
        sync_files(list(path.rglob("c/0/0")))

    def open(self) -> Any:
        return zarr.open_group(self.data.root / "rival.zarr", mode="r", zarr_format=3)

    def rows(self, layer: int, numbers: Array) -> Read:
        return partial(self.open()[str(layer)].oindex.__getitem__, np.sort(numbers))


class Hdf5(ByLayer):
    """Contiguous data sets by h5py."""

    def write(self) -> None:
        with h5py.File(self.data.root / "rival.h5", "w") as file:
            for layer, rows in self.data.layers.items():
                file.create_dataset(str(layer), data=rows)
            file.flush()
            os.fsync(file.id.get_vfd_handle())

    def open(self) -> Any:
        return h5py.File(self.data.root / "rival.h5")


class ByClip:
    """An array [T, L, D] a clip."""

    checks = "nothing"

    def __init__(self, data: Data) -> None:
        self.data = data

    def open(self) -> Callable[[str], Array]:
        raise NotImplementedError

    def arrays(self) -> Iterator[tuple[str, Array]]:
        """Yield every clip's id and array."""
        for number, clip_id in enumerate(self.data.ids):
            span = self.data.span(number)
            yield clip_id, np.stack([rows[span] for rows in self.data.layers.values()], axis=1)

    def layer(self, layer: int) -> Read:
        return self.rows(layer, np.arange(len(self.data.ids)))

    def rows(self, layer: int, numbers: Array) -> Read:
        read, place = self.open(), list(self.data.layers).index(layer)
        ids = [self.data.ids[n] for n in numbers.tolist()]
        return lambda: np.concatenate([read(clip_id)[:, place] for clip_id in ids])

    def frames(self, numbers: Array) -> Read:
        read, ids = self.open(), [self.data.ids[n] for n in numbers.tolist()]
        return lambda: [read(clip_id) for clip_id in ids]


class Npy(ByClip):
    """A .npy a clip, all its layers."""

    def write(self) -> None:
        folder = self.data.root / "npy"
        folder.mkdir(exist_ok=True)
        for clip_id, array in self.arrays():
            np.save(folder / f"{clip_id}.npy", array)
        os.sync()  # one by one they would take minutes

    def open(self) -> Callable[[str], Array]:
        folder = self.data.root / "npy"
        return lambda clip_id: np.load(folder / f"{clip_id}.npy")


class Lhotse(ByClip):
    """Lhotse's lossless store: one HDF5 file, a data set a clip."""

    def write(self) -> None:
        from lhotse.features.io import NumpyHdf5Writer

        with NumpyHdf5Writer(self.data.root / "lhotse.h5") as writer:
            for clip_id, array in self.arrays():
                writer.write(clip_id, array)
        sync_files([self.data.root / "lhotse.h5"])

    def open(self) -> Callable[[str], Array]:
        from lhotse.features.io import NumpyHdf5Reader, close_cached_file_handles

        close_cached_file_handles()
        read: Callable[[str], Array] = NumpyHdf5Reader(self.data.root / "lhotse.h5").read
        return read


class Lance:
    """Lance: a row a frame, a column of fixed-size lists a layer; read by row numbers."""

    checks = "nothing"

    def __init__(self, data: Data) -> None:
        self.data = data

    def write(self) -> None:
        import lance
        import pyarrow as pa

        columns = {
            str(layer): pa.FixedSizeListArray.from_arrays(pa.array(rows.reshape(-1)), rows.shape[1])
            for layer, rows in self.data.layers.items()
        }
        path = self.data.root / "rival.lance"
        shutil.rmtree(path, ignore_errors=True)
        lance.write_dataset(pa.table(columns), path)
        sync_files([file for file in path.rglob("*") if file.is_file()])

    def open(self) -> Any:
        import lance

        return lance.dataset(self.data.root / "rival.lance")

    def layer(self, layer: int) -> Read:
        dataset, name = self.open(), str(layer)
        return lambda: self._array(dataset.to_table(columns=[name]), name)

    def rows(self, layer: int, numbers: Array) -> Read:
        dataset, name = self.open(), str(layer)
        return lambda: self._array(dataset.take(numbers, columns=[name]), name)

    def frames(self, numbers: Array) -> Read:
        dataset, names = self.open(), [str(layer) for layer in self.data.layers]
        spans = [self.data.span(n) for n in numbers.tolist()]
        rows = np.concatenate([np.arange(span.start, span.stop) for span in spans])
        bounds = np.cumsum([span.stop - span.start for span in spans])[:-1]

        def read() -> list[Array]:
            table = dataset.take(rows, columns=names)
            return np.split(np.stack([self._array(table, name) for name in names], axis=1), bounds)

        return read

    def _array(self, table: Any, name: str) -> Array:
        """Return a column [rows, D]."""
        pieces = [piece.flatten().to_numpy() for piece in table[name].chunks]
        array: Array = np.concatenate(pieces).reshape(-1, self.data.width)
        return array


def rivals(data: Data) -> dict[str, Rival]:
    """Return those that are installed, by name."""
    found: dict[str, Rival] = {
        "zarr-python": Zarr(data),
        "h5py": Hdf5(data),
        ".npy per clip": Npy(data),
    }
    if find_spec("lhotse"):
        found["lhotse"] = Lhotse(data)
    if find_spec("lance"):
        found["Lance"] = Lance(data)
    return found
