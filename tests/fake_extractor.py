"""An extractor without a model: its features are a known function of the clip's bytes.

Clips are text files. The first word decides: ``fail``, ``empty``, ``raise`` (in the decoder), ``poison``
(the model raises), ``nan``; anything else is a clip of ``len(text)`` frames.
"""

import hashlib
from typing import ClassVar

import numpy as np

from extractors.contract import (
    ClipEmpty,
    ClipFailed,
    ExtractorRequest,
    Identity,
    Loaded,
    States,
)
from extractors.media.blob import read_blob

WIDTH = 6
N_LAYERS = 4


def fake_rows(clip_bytes: bytes, layer: int) -> np.ndarray:
    """[T, D]: what the extractor must give for these bytes, whatever its batch mates."""
    seed = int.from_bytes(hashlib.sha256(clip_bytes + bytes([layer])).digest()[:8], "little")
    return np.random.default_rng(seed).standard_normal((len(clip_bytes), WIDTH), dtype=np.float32)


class FakeExtractor:
    batch_limit = 64
    equal_sizes = False
    calls: ClassVar[list[int]] = []

    def __init__(self, request: ExtractorRequest) -> None:
        self.identity = Identity(
            modality=request.modality,
            model=request.model or "fake",
            weights="sha256:0",
            recipe=request.recipe,
            preprocessing={},
            pooling="mean",
            compute_dtype="float32",
            trained=False,
            layers=tuple(range(N_LAYERS + 1)),
            widths=dict.fromkeys(range(N_LAYERS + 1), WIDTH),
            default_layers=(3, 4),
        )

    def path(self, source):
        return source.path

    def open(self, source):
        return read_blob(source.clip_id, source.path)

    def load(self, blob):
        word = blob.data.split(b" ")[0]
        if word == b"fail":
            raise ClipFailed("made to fail")
        if word == b"empty":
            raise ClipEmpty("made to be empty")
        if word == b"raise":
            raise ZeroDivisionError("a decoder's own error")
        return Loaded(blob.clip_id, blob.data, len(blob.data), len(blob.data) / 10, len(blob.data))

    def __call__(self, batch, want):
        self.calls.append(len(batch))
        if any(loaded.payload.startswith(b"poison") for loaded in batch):
            raise RuntimeError("the model cannot take this")
        return [self._states(loaded.payload, want) for loaded in batch]

    @staticmethod
    def _states(payload, want):
        rows = {layer: fake_rows(payload, layer) for layer in {*want.utterance, *want.frame}}
        if payload.startswith(b"nan"):
            rows = {layer: np.full_like(values, np.nan) for layer, values in rows.items()}
        return States(
            utterance={layer: rows[layer].mean(axis=0) for layer in want.utterance},
            frame={layer: rows[layer] for layer in want.frame},
        )
