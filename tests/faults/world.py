"""A folder with a few tiny stores in it: what they hold, whether it is right, what was left lying about."""

import hashlib
import os
import shutil
from pathlib import Path

import numpy as np
from part_factory import make_spec, ok_clip, values_of

from mer_store.remote.address import Address
from mer_store.remote.bucket import Bucket
from mer_store.remote.layout import INDEX_FILE, data_folder, read_index
from mer_store.remote.side import RemoteSide
from mer_store.store.layout import PART_ID
from mer_store.store.record import part_id
from mer_store.store.store import Store
from mer_store.store.verify import verify
from mer_store.store.writer import ClipRows, PartWriter

LAYERS = (18, 19)
#: Three parts, by letter: clip -> rows; None failed. Of 300 rows, chunks of a layer hold 256.
PARTS = {
    "A": {"a0": 3, "a1": 300, "a2": None},
    "B": {"b0": 2, "b1": 0, "b2": 5},
    "C": {"c0": 1, "c1": 4, "c2": 2},
}
SPEC = make_spec()


def write(store, letter, spec=SPEC, layers=LAYERS, attempt=0, versions=None):
    """Commit one of `PARTS`."""
    feature_set = Store.create(store).ensure(spec)
    with PartWriter(feature_set, layers, attempt, versions) as writer:
        for clip_id, n_rows in PARTS[letter].items():
            if n_rows is None:
                writer.add(ClipRows(clip_id, "failed", "truncated: no frames", f"d-{clip_id}"))
                continue
            tables = {"images": {"time_s": np.arange(n_rows % 7, dtype=np.float64)}}
            writer.add(ok_clip(clip_id, layers, n_rows, tables=tables))
        return writer.commit()


def id_of(letter, layers=LAYERS, spec=SPEC):
    """Return the id of one of `PARTS`."""
    return part_id(spec.fingerprint, PARTS[letter], layers, 0)


def snapshot(path, damaged=None):
    """Return all that a store says: feature set -> (parts, clip -> what became of it, and its numbers).

    None where there is no store. Raises where anything is damaged, or a number is another than was committed;
    but what is told of the part with the letter `damaged` is left out.
    """
    if not (path / "store.json").exists():
        return None
    store = Store.open(path)
    known = {id_of(damaged)} if damaged else set()
    if findings := [one for one in verify(store, deep=True) if one.part_id not in known]:
        raise AssertionError(f"{path}: {[str(finding) for finding in findings]}")
    return told(store, PARTS[damaged] if damaged else ())


def told(store, leave_out=()):
    """Return what a store says, as `snapshot` does; of damage nothing is looked for but by reading."""
    return {one.name: (one.part_ids(), _clips(one, leave_out)) for one in store.feature_sets()}


def _clips(feature_set, leave_out):
    ids = [clip_id for clip_id, _, _ in feature_set.outcomes() if clip_id not in leave_out]
    ledger = feature_set.ledger(ids)
    has = ledger.has(ledger.layers)
    clips = {}
    for n, clip_id in enumerate(ids):
        layers = [layer for layer, there in zip(ledger.layers, has[n], strict=True) if there]
        numbers = {layer: feature_set.ragged([layer], [clip_id])[0][:, 0] for layer in layers}
        for layer, rows in numbers.items():
            if not np.array_equal(rows, values_of(clip_id, layer, len(rows))):
                raise AssertionError(f"{clip_id}, layer {layer}: wrong numbers")
        row = (ledger.status[n], ledger.digest[n], ledger.attempt[n], ledger.reasons[n],
               ledger.n_bytes[n], ledger.mtime_ns[n])  # fmt: skip
        table = None
        if layers and "images/" in feature_set.index.names:
            [columns] = feature_set.table("images", [clip_id])
            table = {name: values.tolist() for name, values in columns.items()}
        clips[clip_id] = (row, {layer: rows.tobytes() for layer, rows in numbers.items()}, table)
    return clips


def lost(before, now):
    """Name clips of a snapshot that a later one lacks or tells otherwise."""
    return [
        f"{name}: {clip_id}"
        for name, (_, clips) in (before or {}).items()
        for clip_id, told in clips.items()
        if now is None or now.get(name, ((), {}))[1].get(clip_id) != told
    ]


def litter(path):
    """Name what lies in a store and belongs to nothing that is committed."""
    found = []
    for folder, folders, names in os.walk(path):
        inside = Path(folder).relative_to(path)
        if (
            inside.parts[:1] == ("features",)
            and len(inside.parts) == 4
            and inside.name != "commits"
        ):
            if inside.name == "tmp":
                found += [str(inside / name) for name in (*folders, *names)]
            if inside.name == "parts":
                committed = {p.stem for p in (path / inside.parent / "commits").iterdir()}
                found += [str(inside / name) for name in folders if name not in committed]
        found += [str(inside / name) for name in names if name.startswith(".")]
        if inside.name == ".cache":
            found += [str(inside / name) for name in names if not name.endswith(".index")]
        if inside.name == "commits":
            found += [
                str(inside / name)
                for name in names
                if not PART_ID.fullmatch(name.removesuffix(".json"))
            ]
    return sorted(set(found))


def objects(url):
    """Return (feature set, part) -> digest of its record, of every part on a remote; check every byte."""
    side = RemoteSide(Bucket(Address.parse(url)))
    if not side.is_there():
        return {}
    found = {}
    for key, part_ids in side.listing().items():
        side.spec(key)
        for named in part_ids:
            record = side.record(key, named)
            for path, facts in record.files.items():
                data = side.bucket.get(f"{data_folder(key, record)}/{path}", facts.n_bytes)
                if hashlib.sha256(data).hexdigest() != facts.sha256:
                    raise AssertionError(f"{url}: part {named}, {path}: visible and wrong")
            found[key[1], named] = hashlib.sha256(record.to_json().encode()).hexdigest()
    return found


def indexed(url):
    """Return the ids of the parts that the index object of a remote lists."""
    index = read_index(Bucket(Address.parse(url)).get(INDEX_FILE, 1 << 20), url)
    return {name for names in index.values() for name in names}


def copy_world(template, to):
    """Copy a folder with all modes and times, and give the copy a folder for temporary files."""
    shutil.copytree(template, to, symlinks=True)
    (to / "scratch").mkdir(exist_ok=True)
    return to
