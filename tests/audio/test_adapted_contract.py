"""The adapted extractor keeps the contract from raw audio, where it rounds nothing between the layers."""

import json

import numpy as np
import pytest
import torch
from audio_clips import write_clip, write_wav
from checkpoint_factory import save_hubert
from extractor_contract import ExtractorContract, assert_same_states

from extractors.contract import ExtractorRequest, Source
from extractors.models.adapter import AdaptedBlocks, OutputAdapters
from extractors.models.saved_adapter import WEIGHT, AdapterFacts, SavedAdapter, save_adapter
from extractors.table import build_extractor
from pipelines.extract import spec_of

FIRST, LAYERS, WIDTH, BOTTLENECK = 3, (4, 5, 6), 32, 8


class TestAdaptersInBlocks(ExtractorContract):
    @pytest.fixture(scope="class", autouse=True)
    @classmethod
    def checkpoint(cls, tmp_path_factory):
        folder = tmp_path_factory.mktemp("adapted")
        model = str(save_hubert(folder / "hubert"))
        base = build_extractor(ExtractorRequest("audio", model=model, device="cpu"))
        spec = spec_of(base.identity, "frame", "float32")
        facts = AdapterFacts(
            model, spec.weights, "blocks", "output", FIRST, LAYERS, BOTTLENECK, WIDTH,
            json.loads(spec.to_json()),
        )  # fmt: skip
        torch.manual_seed(0)
        tensors = OutputAdapters(WIDTH, LAYERS, BOTTLENECK).state_dict()
        tensors = {name: 0.3 * torch.randn(tensor.shape) for name, tensor in tensors.items()}
        tensors[WEIGHT] = torch.tensor([0.2, 0.9, -0.4])
        save_adapter(folder, SavedAdapter(facts, tensors))
        cls.request_ = ExtractorRequest(
            "audio", recipe="adapter", device="cpu", adapter=str(folder)
        )

    def test_a_batch_too_large_for_the_device_is_halved(
        self, extractor, loaded, want, alone, monkeypatch
    ):
        tried, run = [], AdaptedBlocks.forward

        def small_gpu(blocks, states, real=None):
            tried.append(states.shape[:2])
            if states.shape[:2].numel() > 100:  # the clips have 62, 24, 62 and 1 frames
                raise torch.OutOfMemoryError("CUDA out of memory")
            return run(blocks, states, real)

        monkeypatch.setattr(AdaptedBlocks, "forward", small_gpu)
        for states, expected in zip(extractor(loaded, want), alone, strict=True):
            assert_same_states(states, expected)
        assert [tuple(shape) for shape in tried] == [
            (4, 62),
            (2, 62),
            (1, 62),
            (1, 24),
            (1, 62),
            (1, 1),
        ]

    @classmethod
    def write_sources(cls, folder):
        return [write_clip(folder, n, seed) for seed, n in enumerate((20_000, 8_000, 20_000, 401))]

    @classmethod
    def write_empty(cls, folder):
        return Source("nothing-said", write_wav(folder / "empty.wav", np.zeros(0, np.float32)))

    @classmethod
    def write_very_short(cls, folder):
        return write_clip(folder, 1)

    @classmethod
    def write_broken(cls, folder):
        path = folder / "broken.wav"
        path.write_bytes(bytes(range(256)) * 40)
        return Source("broken-clip", path)

    @classmethod
    def write_missing(cls, folder):
        return Source("missing-clip", folder / "nowhere.wav")
