"""How fast a clip is decoded: PyAV in this process, the ffmpeg program, and both bare, without our rules.

All numbers are medians of interleaved rounds over the same clip, as a ratio to bare PyAV (1.0; 0.5 takes
twice as long). "read + sha256" is what the blob costs before anything is decoded.

    python benchmarks/decoding.py
    python benchmarks/decoding.py --seconds 5 --size 1280x720 --rounds 9
"""

import argparse
import io
import statistics
import subprocess
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import av
import ffmpeg
import numpy as np

from extractors.contract import Blob
from extractors.media.audio import decode_audio
from extractors.media.blob import read_blob
from extractors.media.ffmpeg import find_ffmpeg
from extractors.media.images import decode_images

RATE_HZ = 16000
Job = Callable[[], object]


def make_clip(path: Path, seconds: float, size: str) -> None:
    """Write an H.264 and AAC clip of a moving pattern and a warbling tone."""
    pattern = ffmpeg.input(f"testsrc2=size={size}:rate=25:duration={seconds}", f="lavfi")
    tone = ffmpeg.input(f"aevalsrc='0.3*sin(900*t+9*sin(5*t))':duration={seconds}", f="lavfi")
    target = ffmpeg.output(pattern, tone, str(path), pix_fmt="yuv420p", loglevel="error")
    subprocess.run(ffmpeg.compile(target, cmd=find_ffmpeg()), check=True)


def bare_audio(data: bytes) -> np.ndarray:
    """Decode and resample with PyAV as its manual shows, whatever the length."""
    resampler = av.AudioResampler(format="fltp", layout="mono", rate=RATE_HZ)
    with av.open(io.BytesIO(data)) as container:
        frames = [
            piece for frame in container.decode(audio=0) for piece in resampler.resample(frame)
        ]
    return np.concatenate([frame.to_ndarray()[0] for frame in frames])


def bare_images(data: bytes) -> int:
    """Decode to RGB with PyAV as its manual shows."""
    with av.open(io.BytesIO(data)) as container:
        return sum(frame.to_ndarray(format="rgb24").nbytes for frame in container.decode(video=0))


def piped(path: Path, **output: str) -> int:
    """Decode with ffmpeg-python into one pipe, as its manual shows."""
    graph = ffmpeg.input(str(path)).output("pipe:", loglevel="error", **output)
    return len(graph.run(cmd=find_ffmpeg(), capture_stdout=True)[0])


def images(blob: Blob, rate: float | None, *, program: bool) -> int:
    """Decode with ours, holding one image at a time."""
    return sum(image.rgb.nbytes for image in decode_images(blob, rate, program=program))


def jobs(path: Path) -> dict[str, dict[str, Job]]:
    """Return what is measured, the baseline of each group first."""
    blob = read_blob("clip", path)
    data = blob.data or b""
    return {
        "audio to 16 kHz mono": {
            "PyAV, bare": lambda: bare_audio(data),
            "ours, in process": lambda: decode_audio(blob, RATE_HZ, program=False),
            "ours, ffmpeg program": lambda: decode_audio(blob, RATE_HZ, program=True),
            "ffmpeg-python, bare": lambda: piped(path, format="f32le", ac="1", ar=str(RATE_HZ)),
            "read + sha256": lambda: read_blob("clip", path),
        },
        "every image to RGB": {
            "PyAV, bare": lambda: bare_images(data),
            "ours, in process": lambda: images(blob, None, program=False),
            "ours, 5 a second": lambda: images(blob, 5, program=False),
            "ours, ffmpeg program": lambda: images(blob, None, program=True),
            "ffmpeg-python, bare": lambda: piped(path, format="rawvideo", pix_fmt="rgb24"),
        },
    }


def measure(group: dict[str, Job], n_rounds: int) -> dict[str, float]:
    """Return the median seconds of each job, in interleaved rounds."""
    times: defaultdict[str, list[float]] = defaultdict(list)
    for _ in range(n_rounds):
        for name, job in group.items():
            started_s = time.perf_counter()
            job()
            times[name].append(time.perf_counter() - started_s)
    return {name: statistics.median(found) for name, found in times.items()}


def main() -> None:
    """Measure and print one table a group."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--size", default="640x360")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clip.mp4"
        make_clip(path, options.seconds, options.size)
        for title, group in jobs(path).items():
            medians = measure(group, options.rounds)
            baseline_s = medians[next(iter(group))]
            print(f"\n{title}, {options.seconds:g} s at {options.size}")
            for name, median_s in medians.items():
                print(f"  {name:22} {baseline_s / median_s:6.2f}   {1e3 * median_s:8.1f} ms")


if __name__ == "__main__":
    main()
