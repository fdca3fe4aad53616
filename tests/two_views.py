"""Stores of clips that are heard and seen: both views show one latent, the images mostly something else."""

from dataclasses import dataclass

import numpy as np
from part_factory import digest_of, make_set

from mer_store.clips.clip_list import Clip, ClipList
from mer_store.store.store import Store
from mer_store.store.writer import ClipRows, PartWriter

CLASSES = ("neutral", "anger", "happiness", "sadness")
WIDTHS = {"audio": 32, "visual": 48}
LAYERS = {"audio": 18, "visual": "embed"}
K_LATENT, K_NUISANCE, NUISANCE_STD = 6, 12, 3.0


@dataclass(frozen=True)
class TwoViews:
    store: Store
    clip_list: ClipList
    label: np.ndarray
    """[clips], known for all, listed for some."""

    @property
    def clip_ids(self):
        return [clip.clip_id for clip in self.clip_list.clips]

    @property
    def visual(self):
        return self.store.features("visual", recipe="default")


def make_two_views(path, n_labelled=0, n_unlabelled=40, without=None, seed=0):
    """Make a store and its clip list.

    Parameters
    ----------
    without
        Modality -> ids of clips that are empty by nature.
    """
    rng = np.random.default_rng(seed)
    n = n_labelled + n_unlabelled
    label = rng.integers(0, len(CLASSES), n)
    means = 1.2 * rng.standard_normal((len(CLASSES), K_LATENT))
    latent = means[label] + 0.6 * rng.standard_normal((n, K_LATENT))
    values = {
        name: latent @ rng.standard_normal((K_LATENT, width))
        + 0.5 * rng.standard_normal((n, width))
        for name, width in WIDTHS.items()
    }
    nuisance = rng.standard_normal((n, K_NUISANCE))
    values["visual"] += NUISANCE_STD * (
        nuisance @ rng.standard_normal((K_NUISANCE, WIDTHS["visual"]))
    )
    clips = [
        Clip(f"l{row:04}", label=CLASSES[label[row]], split="labelled")
        if row < n_labelled
        else Clip(f"u{row:04}", split="unlabelled")
        for row in range(n)
    ]
    store = Store.create(path)
    for name, rows in values.items():
        absent = (without or {}).get(name, ())
        named = [(clip.clip_id, row) for clip, row in zip(clips, rows, strict=True)]
        if name == "visual":
            named.reverse()  # the two views lie differently on disk
        write_view(store, name, dict(named), absent)
    return TwoViews(store, ClipList(tuple(clips)), label)


def write_view(store, modality, values, empty=(), attempt=0, media=""):
    """Commit one row a clip; `media` changes the digest of what it was extracted from."""
    feature_set = make_set(store.path, "utterance", modality=modality, model=f"{modality}-model")
    layer = LAYERS[modality]
    with PartWriter(feature_set, (layer,), attempt) as writer:
        for number, (clip_id, row) in enumerate(values.items()):
            facts = {
                "digest": digest_of(clip_id + media),
                "n_bytes": 100 + number,
                "mtime_ns": 7 + number,
            }
            if clip_id in empty:
                writer.add(ClipRows(clip_id, "empty", f"no {modality} in it", **facts))
            else:
                array = np.asarray(row, np.float32)[None]
                writer.add(ClipRows(clip_id, "ok", layers={layer: array}, **facts))
        writer.commit()
    return feature_set
