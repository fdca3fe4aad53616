"""A small sound store that a hostile case tampers with, and the register of cases."""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np
from part_factory import make_set, ok_clip, write_part

from mer_store.store.commit import ATTRIBUTE
from mer_store.store.feature_set import FeatureSet
from mer_store.store.metadata import array_metadata, to_text
from mer_store.store.record import ArrayInfo
from mer_store.store.shard import crc_bytes, shard_index, shard_path
from mer_store.store.store import Store
from mer_store.store.writer import ClipRows

LAYERS = (18, 19)
IDS = [f"clip{n}" for n in range(6)]
N_ROWS = 5

#: Who must refuse a case first: opening the store, reading from it, or `verify`.
#: A harmless case must read as the sound store does: what is hostile in it is never looked at.
OPEN, READ, VERIFY, HARMLESS = "open", "read", "verify", "harmless"


@dataclass(frozen=True)
class Case:
    """One way of tampering."""

    tamper: Callable[["Scene"], None]
    refused_by: str
    keeps_values: bool
    """Whether what can still be read must be what the sound store holds."""


CASES: dict[str, Case] = {}


def case(refused_by, *, keeps_values=True):
    """Register a function as a case."""

    def register(tamper):
        assert tamper.__name__ not in CASES
        CASES[tamper.__name__] = Case(tamper, refused_by, keeps_values)
        return tamper

    return register


def add(name, refused_by, tamper, *, keeps_values=True):
    """Register a case of a family."""
    assert name not in CASES
    CASES[name] = Case(tamper, refused_by, keeps_values)


def make_sound_store(path):
    """Two parts; the first in the order of its clips is the one that is tampered with."""
    feature_set = make_set(path)
    tables = {"images": {"time_s": np.arange(3.0), "box": np.ones((3, 4), np.float32)}}
    clips = [ok_clip(c, LAYERS, N_ROWS, tables=tables) for c in IDS]
    write_part(feature_set, [*clips, ClipRows("bad", "failed", "truncated")], LAYERS)
    write_part(feature_set, {"other0": 4, "other1": 2}, LAYERS)


class Scene:
    """A copy of the sound store, with what is needed to tamper with its first part."""

    def __init__(self, sound: Path, path: Path, guard: Path) -> None:
        shutil.copytree(sound, path)
        for each in path.rglob("*"):
            each.chmod(0o755 if each.is_dir() else 0o644)
        self.path = path
        self.guard = guard
        (self.set_path,) = (path / "features" / "audio").iterdir()
        for commit in (self.set_path / "commits").iterdir():
            values = json.loads(commit.read_text())
            if "clip0" in values["clip_ids"]:
                self.values, self.commit = values, commit
        self.part = self.set_path / "parts" / self.values["part_id"]
        self.spec = self.set_path / "spec.json"

    def feature_set(self) -> FeatureSet:
        (found,) = Store.open(self.path).feature_sets()
        return found

    def outside(self, name, source: Path) -> Path:
        """Move something out of the store and return where it is now."""
        place = self.guard / name
        source.rename(place)
        return place

    def say(self, *path, **changes):
        """Write the record with changed values at a path."""
        inner = self.values
        for key in path:
            inner = inner[key]
        inner.update(changes)
        self.commit.write_text(json.dumps(self.values, ensure_ascii=False))

    def say_text(self, text: bytes):
        """Write the record's text."""
        self.commit.write_bytes(text)

    def say_file(self, path):
        """Let the record name one more file."""
        self.say("files", **{path: {"size": 1, "sha256": "0" * 64}})

    def shard(self, name="18") -> Path:
        shape = self.values["arrays"][name]["shape"]
        return self.part.joinpath(name, "c", *["0"] * len(shape))

    def replace_values(self, name, values):
        """Write an array anew, checksums and all, and settle."""
        info = ArrayInfo(values.shape, values.dtype.name, max(len(values), 1))
        data = values.astype(values.dtype.newbyteorder("<")).tobytes()
        (self.part / shard_path(name, info)).write_bytes(data + crc_bytes(data) + shard_index(info))
        (self.part / name / "zarr.json").write_bytes(to_text(array_metadata(info)))
        self.values["arrays"][name] = {
            "shape": list(values.shape), "dtype": values.dtype.name, "chunk_rows": info.chunk_rows,
        }  # fmt: skip
        self.settle()

    def foreign(self, chunks, name="18", shape=None, **metadata):
        """Write an array as another program might: given chunks and changed metadata, and settle."""
        info = self.values["arrays"][name]
        info |= {"chunk_rows": None, "shape": shape or info["shape"]}
        shutil.rmtree(self.part / name)
        (self.part / name).mkdir()
        values = {
            **array_metadata(ArrayInfo(tuple(info["shape"]), info["dtype"], 1)),
            "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": info["shape"]}},
            "codecs": [{"name": "bytes", "configuration": {"endian": "little"}}],
            **metadata,
        }
        (self.part / name / "zarr.json").write_text(json.dumps(values))
        for path, data in chunks.items():
            place = self.part / name / path
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(data)
        self.settle()

    def settle(self):
        """Make record, ``zarr.json`` and files agree: the part is hostile, not broken."""
        part, values = self.part, self.values
        arrays = {path.parent: path for path in sorted(part.glob("*/**/zarr.json"))}
        group = json.loads((part / "zarr.json").read_text())
        members = group["consolidated_metadata"]["metadata"]
        for folder, path in arrays.items():
            try:
                member = json.loads(path.read_text())
            except (ValueError, RecursionError):
                continue
            if member.get("node_type") == "array":
                members[folder.relative_to(part).as_posix()] = member
        plain = [p for p in sorted(part.rglob("*")) if p.is_file() and p != part / "zarr.json"]
        values["files"] = {p.relative_to(part).as_posix(): facts(p.read_bytes()) for p in plain}
        group["attributes"][ATTRIBUTE] = values
        text = json.dumps(group)
        (part / "zarr.json").write_text(text)
        values["files"] = values["files"] | {"zarr.json": facts(text.encode())}
        self.commit.write_text(json.dumps(values))


def facts(data: bytes):
    return {"size": len(data), "sha256": sha256(data).hexdigest()}
