"""Stand-ins for the demo's real media where no registry can be reached: a portrait that sways, and buzzes.

The portrait is NASA's photograph of Eileen Collins (public domain), which comes inside scikit-image's wheel.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ffmpeg
from skimage import data

from pipelines.demo.cutting import H264, run_ffmpeg


@dataclass(frozen=True)
class StandIn:
    """What a generated file shows."""

    seconds: float
    images_per_second: int = 0
    """0: no picture."""
    height: int = 180
    voice_hz: float | None = None
    """None: no sound."""
    face_s: tuple[float, float] | None = None
    """From when to when there is a face; before and after, a test pattern."""


_STAND_INS = {
    "speech.mp4": StandIn(9.0, 12, 240, 120.0, (0.0, 9.0)),
    "passenger.mp4": StandIn(4.0, 30, 180, None, (0.0, 4.0)),
    "woman.mp4": StandIn(20.0, 24, 180, None, (0.0, 20.0)),
    "smile.mp4": StandIn(2.5, 30, 180, None, (0.0, 2.5)),
    "leaving.mov": StandIn(6.4, 30, 180, None, (0.0, 3.2)),
    "coming.mov": StandIn(6.4, 30, 180, None, (3.2, 6.4)),
    "nobody.mp4": StandIn(4.0, 24, 180),
    "dialogue.wav": StandIn(30.0, voice_hz=190.0),
}
_WIDTH = 320
#: The portrait's part with the head, of its 512 x 512 pixels.
_HEAD = {"x": 66, "y": 6, "w": 320, "h": 240}
# A pulse train with vibrato, its loudness in syllables and phrases.
_VOICE = (
    "0.3*abs(sin(2*PI*1.7*t))*(0.6+0.4*sin(2*PI*0.23*t))*("
    "sin(2*PI*{hz}*t+2*sin(2*PI*5*t))+0.5*sin(4*PI*{hz}*t)+0.33*sin(6*PI*{hz}*t)+0.2*sin(10*PI*{hz}*t))"
)


def generate_media(folder: Path) -> dict[str, Path]:
    """Write a stand-in for each of the demo's media files. Returns name -> path, as `fetch_media` does."""
    folder.mkdir(parents=True, exist_ok=True)
    return {name: _generate(folder / name, facts) for name, facts in _STAND_INS.items()}


def _generate(path: Path, facts: StandIn) -> Path:
    inputs = []
    if facts.images_per_second:
        inputs.append(_pictures(facts))
    if facts.voice_hz:
        sound = f"aevalsrc='{_VOICE.format(hz=facts.voice_hz)}':sample_rate=16000:duration={facts.seconds}"
        inputs.append(ffmpeg.input(sound, f="lavfi"))
    options = H264 if facts.images_per_second else {}
    run_ffmpeg(ffmpeg.output(*inputs, str(path), **options), path)
    return path


def _pictures(facts: StandIn) -> Any:
    """Return a stream of test pattern, face and test pattern, as long as `facts` says each."""
    start_s, end_s = facts.face_s or (facts.seconds, facts.seconds)
    spans = [
        (start_s, _pattern),
        (end_s - start_s, _face),
        (facts.seconds - end_s, _pattern),
    ]
    pieces = [draw(facts, seconds) for seconds, draw in spans if seconds > 0]
    return ffmpeg.concat(*pieces, v=1, a=0) if len(pieces) > 1 else pieces[0]


def _pattern(facts: StandIn, seconds: float) -> Any:
    size = f"{_WIDTH}x{facts.height}"
    source = f"testsrc2=size={size}:rate={facts.images_per_second}:duration={seconds}"
    return ffmpeg.input(source, f="lavfi").filter("format", "yuv420p").filter("setsar", 1)


def _face(facts: StandIn, seconds: float) -> Any:
    """Return the portrait's head, swaying by a few pixels."""
    portrait = Path(data.__file__).with_name("astronaut.png")
    return (
        ffmpeg.input(str(portrait), loop=1, framerate=facts.images_per_second, t=seconds)
        .crop(_HEAD["x"], _HEAD["y"], _HEAD["w"] + 16, _HEAD["h"] + 16)
        .filter("crop", _WIDTH, facts.height, "8+8*sin(2*t)", "8+6*sin(3*t)")
        .filter("format", "yuv420p")
        .filter("setsar", 1)
    )
