"""The audio extractor keeps the contract, with every kind of model."""

import wave

import pytest
from audio_clips import write_clip
from checkpoint_factory import save_hubert_base, save_wavlm
from extractor_contract import ExtractorContract

from extractors.contract import ExtractorRequest, Source


class AudioContract(ExtractorContract):
    @classmethod
    def write_sources(cls, folder):
        return [
            write_clip(folder, n, seed)
            for seed, n in enumerate((20_000, 8_000, 33_333, 20_000, 401))
        ]

    @classmethod
    def write_empty(cls, folder):
        path = folder / "empty.wav"
        with wave.open(str(path), "wb") as file:
            file.setparams((1, 2, 16000, 0, "NONE", None))
        return Source("nothing-said", path)

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


class TestTinyAudio(AudioContract):
    request_ = ExtractorRequest("audio", model="tiny", device="cpu")


class TestTinyMertools2024(AudioContract):
    request_ = ExtractorRequest("audio", model="tiny", recipe="mertools2024", device="cpu")

    @classmethod
    def write_sources(cls, folder):
        return [write_clip(folder, n) for n in (20_000, 8_000, 161_600)]


class TestTinyMertools2023(TestTinyMertools2024):
    request_ = ExtractorRequest("audio", model="tiny", recipe="mertools2023", device="cpu")


class TestGroupNorm(AudioContract):
    @pytest.fixture(scope="class", autouse=True)
    @classmethod
    def checkpoint(cls, tmp_path_factory):
        folder = save_hubert_base(tmp_path_factory.mktemp("models") / "hubert-base")
        cls.request_ = ExtractorRequest("audio", model=str(folder), device="cpu")


class TestWavlm(AudioContract):
    @pytest.fixture(scope="class", autouse=True)
    @classmethod
    def checkpoint(cls, tmp_path_factory):
        folder = save_wavlm(tmp_path_factory.mktemp("models") / "wavlm-large")
        cls.request_ = ExtractorRequest("audio", model=str(folder), device="cpu")
