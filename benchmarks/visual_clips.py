"""Clips of about three seconds with a face, cut as the demo's are, and their images in memory."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from extractors.contract import Blob
from extractors.media.blob import read_blob
from extractors.media.images import Image, decode_images
from mer_store.clips.clip import Clip
from mer_store.clips.clip_list import ClipList
from pipelines.demo.cutting import Window, cut
from pipelines.demo.generated_media import generate_media
from pipelines.demo.real_media import fetch_media

#: Media with one face, or two, and how long they are.
SOURCES = {"speech.mp4": 9.0, "passenger.mp4": 4.0, "woman.mp4": 20.0}


@dataclass(frozen=True)
class Video:
    """A clip, its file's bytes and its decoded images."""

    blob: Blob
    images: list[Image]


def cut_clips(folder: Path, n_clips: int, seconds: float, *, real: bool) -> list[Path]:
    """Cut clips of 320 pixels' width out of the demo's media, which are fetched or generated."""
    media = fetch_media() if real else generate_media(folder / "media")
    paths = []
    for number in range(n_clips):
        name = list(SOURCES)[number % len(SOURCES)]
        room_s = max(SOURCES[name] - seconds, 0.0)
        start_s = (number // len(SOURCES)) * seconds % (room_s or 1.0) if room_s else 0.0
        paths.append(folder / f"clip{number:03}.mp4")
        cut(media, paths[-1], Window(name, start_s, seconds), None)
    return paths


def clip_list(folder: Path, paths: Sequence[Path]) -> Path:
    """Write the clip list of videos and return its path."""
    path = folder / "clips.csv"
    clips = tuple(Clip(f"{number:03}-{video.stem}", video) for number, video in enumerate(paths))
    ClipList(clips, path=path).write(path)
    return path


def read_videos(paths: Sequence[Path]) -> list[Video]:
    """Read and decode files: all images are held."""
    blobs = [read_blob(path.stem, path) for path in paths]
    return [Video(blob, list(decode_images(blob))) for blob in blobs]
