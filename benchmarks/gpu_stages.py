"""The stages of `gpu.py`: which model, from which files, against which loop."""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from gpu_corpus import RATE_HZ, write_crops, write_texts, write_videos, write_wavs
from gpu_loops import AudioLoop, ClipLoop, TextLoop
from gpu_models import N_BLOCKS, write_baichuan, write_clip, write_hubert

from extractors.contract import ExtractorRequest, Want
from mer_store.clips.clip import Clip
from mer_store.clips.clip_list import ClipList

#: Clips per stage at full size: half a minute of work or so on an H100.
N_CLIPS = {"audio": 8192, "crops": 1024, "video": 64, "text": 32_768}
N_TINY = 6
AUDIO_LAYERS = tuple(range(16, 22))

Loop = Callable[[Sequence[Clip], Path], None]
"""Writes a .npy for each clip."""


@dataclass(frozen=True)
class Stage:
    """One model, one kind of file."""

    name: str
    request: ExtractorRequest
    clips: ClipList
    options: Sequence[str]
    """Of `mer-store extract`."""
    want: Want
    unit: str
    n_sizes: float
    """Samples, images or tokens to a unit."""
    loop: Callable[[], Loop] | None
    """Loads the usual way; None where there is nothing fair to compare with."""
    least_ratio: float
    scale: float = 1.0
    """Blocks of the real model to one of this."""


def audio(folder: Path, options: argparse.Namespace) -> Stage:
    """HuBERT-large from wav files, layers 16-21 pooled."""
    model = write_hubert(folder / "hubert-large", options.size, options.device)
    return Stage(
        name="HuBERT-large from wav files",
        request=ExtractorRequest("audio", str(model), device=options.device),
        clips=write_wavs(folder / "wavs", n_clips("audio", options), options.seconds),
        options=["--modality", "audio", "--layers", "16-21"],
        want=Want(utterance=AUDIO_LAYERS),
        unit="audio s", n_sizes=RATE_HZ,
        loop=partial(AudioLoop, model, options.device, AUDIO_LAYERS), least_ratio=20,
    )  # fmt: skip


def crops(folder: Path, options: argparse.Namespace) -> Stage:
    """CLIP-L from crops that OpenFace made."""
    model = write_clip(folder / "clip-large", options.size, options.device)
    return Stage(
        name="CLIP-L from face crops",
        request=ExtractorRequest("visual", str(model), device=options.device, faces="openface"),
        clips=write_crops(folder / "crops", n_clips("crops", options), options.seconds),
        options=["--modality", "visual", "--faces", "openface"],
        want=Want(utterance=("embed",)),
        unit="images", n_sizes=1,
        loop=partial(ClipLoop, model, options.device), least_ratio=4,
    )  # fmt: skip


def video(folder: Path, options: argparse.Namespace) -> Stage:
    """CLIP-L from videos: decoding and faces too."""
    model = write_clip(folder / "clip-large", options.size, options.device)
    return Stage(
        name=f"CLIP-L from videos of {options.height} lines",
        request=ExtractorRequest("visual", str(model), device=options.device),
        clips=write_videos(
            folder / "videos", n_clips("video", options), options.seconds, options.height
        ),
        options=["--modality", "visual"],
        want=Want(utterance=("embed",)),
        unit="images", n_sizes=1, loop=None, least_ratio=0,
    )  # fmt: skip


def text(folder: Path, options: argparse.Namespace) -> Stage:
    """Baichuan2 from transcripts, the last four states pooled."""
    kind = options.text_model
    name = f"baichuan2-{kind}-{options.blocks or 'whole'}"
    model = write_baichuan(folder / name, kind, options.size, options.blocks, options.device)
    request = ExtractorRequest("text", str(model), device=options.device)
    n_blocks = options.blocks or (N_BLOCKS[kind] if options.size == "full" else 4)
    half = torch.float32 if options.device == "cpu" else torch.float16
    return Stage(
        name=f"Baichuan2-{kind.upper()}, {n_blocks} blocks, from transcripts",
        request=request,
        clips=write_texts(folder / "texts", n_clips("text", options)),
        options=["--modality", "text", "--layers", "last4"],
        want=Want(utterance=tuple(range(n_blocks - 3, n_blocks + 1))),
        unit="tokens", n_sizes=1,
        loop=partial(TextLoop, model, options.device, half), least_ratio=10,
        scale=N_BLOCKS[kind] / n_blocks,
    )  # fmt: skip


STAGES = {"audio": [audio], "visual": [crops, video], "text": [text]}


def n_clips(kind: str, options: argparse.Namespace) -> int:
    """Return how many clips a stage gets."""
    return int(options.clips or (N_CLIPS[kind] if options.size == "full" else N_TINY))
