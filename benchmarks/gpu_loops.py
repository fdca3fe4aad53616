"""The loops of the usual baseline, stated anew: one clip after the other, whole models, one .npy a clip.

Every hidden state is kept and stacked; models are in float32, but language models in half precision on a GPU;
reading, computing and writing take turns.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gpu_corpus import read_wav
from transformers import (
    CLIPImageProcessorPil,
    CLIPVisionModelWithProjection,
    HubertModel,
    Wav2Vec2FeatureExtractor,
)

from extractors.text.model import open_model
from mer_store.clips.clip import Clip

#: Images that go through CLIP at once.
N_IMAGES = 32


class AudioLoop:
    """HuBERT over one clip at a time; the layers wanted, averaged over time, [L, D]."""

    def __init__(self, model: Path, device: str, layers: Sequence[int]) -> None:
        self._prepare = Wav2Vec2FeatureExtractor.from_pretrained(model)
        self._model = HubertModel.from_pretrained(model).to(device).eval()
        self._device, self._layers = device, list(layers)

    @torch.no_grad()
    def __call__(self, clips: Sequence[Clip], out: Path) -> None:
        """Write ``<clip>.npy`` for each."""
        for clip in clips:
            samples = read_wav(Path(str(clip.path)))
            inputs = self._prepare(samples, sampling_rate=16_000, return_tensors="pt").input_values
            states = self._model(inputs.to(self._device), output_hidden_states=True).hidden_states
            stacked = torch.stack(states)[self._layers].cpu().numpy()  # [L, 1, T, D]
            np.save(out / f"{clip.clip_id}.npy", stacked[:, 0].mean(axis=1))


class ClipLoop:
    """CLIP over the crops of one clip at a time, prepared by its own processor; their mean, [D]."""

    def __init__(self, model: Path, device: str) -> None:
        self._processor = CLIPImageProcessorPil.from_pretrained(model)
        self._model = CLIPVisionModelWithProjection.from_pretrained(model).to(device).eval()
        self._device = device

    @torch.no_grad()
    def __call__(self, clips: Sequence[Clip], out: Path) -> None:
        """Write ``<clip>.npy`` for each."""
        for clip in clips:
            images = list(np.load(str(clip.path))[..., ::-1])
            pixels = self._processor(images=images, return_tensors="pt")["pixel_values"]
            rows = [
                self._model(part.to(self._device)).image_embeds.cpu().numpy()
                for part in torch.split(pixels, N_IMAGES)
            ]
            np.save(out / f"{clip.clip_id}.npy", np.concatenate(rows).mean(axis=0))


class TextLoop:
    """A language model over one sentence at a time; the sum of its last four states, averaged, [D]."""

    def __init__(self, model: Path, device: str, dtype: torch.dtype) -> None:
        facts = open_model(str(model))
        self._tokenizer = facts.tokenizer
        self._model: Any = facts.load(torch.device(device), dtype)
        self._every = range(facts.n_layers + 1)
        self._device = device

    @torch.no_grad()
    def __call__(self, clips: Sequence[Clip], out: Path) -> None:
        """Write ``<clip>.npy`` for each."""
        for clip in clips:
            ids = torch.from_numpy(self._tokenizer(clip.text or "").ids)[None].to(self._device)
            n_tokens = torch.tensor([ids.shape[1]], device=self._device)
            states = self._model(ids, n_tokens, self._every)
            stacked = torch.stack([states[layer] for layer in self._every])[-4:]  # [4, 1, T, D]
            summed = stacked.float().sum(dim=0)[0].cpu().numpy()
            np.save(out / f"{clip.clip_id}.npy", summed.mean(axis=0))
