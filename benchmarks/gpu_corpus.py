"""Clips made on the spot, in number and length as MER2024's: wavs, face crops, videos, transcripts."""

import shutil
import wave
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import skimage.data
from gpu_models import SENTENCES

from mer_store.clips.clip import Clip
from mer_store.clips.clip_list import ClipList

RATE_HZ = 16_000
MEAN_S = 3.13
#: The baseline cuts longer clips in pieces, which changes their numbers: clips here are shorter.
LONGEST_S = 10.0
IMAGES_PER_S = 25
CROP_PX = 112
#: Tokens of a transcript: the mean of MER2024's.
MEAN_TOKENS = 20
N_VIDEOS = 8


def lengths_s(n_clips: int, mean_s: float = MEAN_S) -> np.ndarray:
    """Return lengths that are log-normal about a mean."""
    drawn = np.random.default_rng(0).lognormal(np.log(mean_s) - 0.17, 0.6, n_clips)
    return np.clip(drawn, min(0.5, mean_s), LONGEST_S)


def write_wavs(folder: Path, n_clips: int, mean_s: float = MEAN_S) -> ClipList:
    """Write 16 kHz mono wavs of noise."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    paths = []
    for number, length_s in enumerate(lengths_s(n_clips, mean_s)):
        samples = rng.normal(0, 3000, int(length_s * RATE_HZ)).astype("<i2")
        paths.append(folder / f"clip{number:06}.wav")
        with wave.open(str(paths[-1]), "wb") as file:
            file.setparams((1, 2, RATE_HZ, len(samples), "NONE", ""))
            file.writeframes(samples.tobytes())
    return _clip_list(folder, [Clip(path.stem, path) for path in paths])


def read_wav(path: Path) -> np.ndarray:
    """Return float32 samples in [-1, 1), as the usual readers do."""
    with wave.open(str(path)) as file:
        return np.frombuffer(file.readframes(file.getnframes()), "<i2").astype(np.float32) / 2**15


def write_crops(folder: Path, n_clips: int, mean_s: float = MEAN_S) -> ClipList:
    """Write OpenFace-like arrays, uint8 [T, 112, 112, 3], an image every 40 ms."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    paths = []
    for number, length_s in enumerate(lengths_s(n_clips, mean_s)):
        n_images = max(1, int(length_s * IMAGES_PER_S))
        paths.append(folder / f"clip{number:06}.npy")
        np.save(paths[-1], rng.integers(0, 256, (n_images, CROP_PX, CROP_PX, 3), np.uint8))
    return _clip_list(folder, [Clip(path.stem, path) for path in paths])


def write_videos(folder: Path, n_clips: int, mean_s: float, height: int) -> ClipList:
    """Write H.264 videos of a face that sways: a few are encoded, the others are copies of them."""
    folder.mkdir(parents=True, exist_ok=True)
    lengths = lengths_s(min(n_clips, N_VIDEOS), mean_s)
    paths = [folder / f"clip{number:06}.mp4" for number in range(n_clips)]
    for number, path in enumerate(paths):
        if number < len(lengths):
            _encode(path, float(lengths[number]), height)
        else:
            shutil.copyfile(paths[number % len(lengths)], path)
    return _clip_list(folder, [Clip(path.stem, path) for path in paths])


def _encode(path: Path, length_s: float, height: int) -> None:
    portrait = skimage.data.astronaut()  # NASA's Eileen Collins, public domain: inside the package
    width = height * 16 // 9 // 2 * 2
    with av.open(str(path), "w") as file:
        stream = file.add_stream("libx264", rate=IMAGES_PER_S, options={"preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.time_base = Fraction(1, IMAGES_PER_S)
        for index in range(max(2, int(length_s * IMAGES_PER_S))):
            left, top = (int(8 + 8 * np.sin(index * step)) for step in (0.11, 0.07))
            image = np.full((height, width, 3), 110, np.uint8)
            face = portrait[top : top + min(height, 480), 60 + left : 60 + left + min(width, 380)]
            image[: face.shape[0], : face.shape[1]] = face
            file.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        file.mux(stream.encode())


def write_texts(folder: Path, n_clips: int) -> ClipList:
    """Make transcripts of about `MEAN_TOKENS` tokens."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    texts = ["".join(rng.choice(SENTENCES, rng.integers(1, 5))) for _ in range(n_clips)]
    clips = [Clip(f"clip{number:06}", None, text) for number, text in enumerate(texts)]
    return _clip_list(folder, clips)


def _clip_list(folder: Path, clips: list[Clip]) -> ClipList:
    clip_list = ClipList(tuple(clips), path=folder / "clips.csv")
    clip_list.write(folder / "clips.csv")
    return clip_list
