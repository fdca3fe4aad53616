"""Stand-ins for the demo's real media where no registry can be reached: test patterns and buzzes."""

from pathlib import Path

import ffmpeg

from pipelines.demo.cutting import H264, run_ffmpeg

#: name -> (seconds, images a second, size, pitch of the voice in Hz or None for silence)
_STAND_INS: dict[str, tuple[float, int, str, float | None]] = {
    "speech.mp4": (9.0, 12, "320x240", 120.0),
    "passenger.mp4": (4.0, 30, "176x144", None),
    "woman.mp4": (20.0, 24, "320x180", None),
    "smile.mp4": (2.5, 30, "320x180", None),
    "leaving.mov": (6.4, 30, "320x180", None),
    "coming.mov": (6.4, 30, "320x180", None),
    "nobody.mp4": (4.0, 24, "320x180", None),
    "dialogue.wav": (30.0, 0, "", 190.0),
}
# A pulse train with vibrato, its loudness in syllables and phrases.
_VOICE = (
    "0.3*abs(sin(2*PI*1.7*t))*(0.6+0.4*sin(2*PI*0.23*t))*("
    "sin(2*PI*{hz}*t+2*sin(2*PI*5*t))+0.5*sin(4*PI*{hz}*t)+0.33*sin(6*PI*{hz}*t)+0.2*sin(10*PI*{hz}*t))"
)


def generate_media(folder: Path) -> dict[str, Path]:
    """Write a stand-in for each of the demo's media files. Returns name -> path, as `fetch_media` does."""
    folder.mkdir(parents=True, exist_ok=True)
    return {name: _generate(folder / name, *facts) for name, facts in _STAND_INS.items()}


def _generate(path: Path, seconds: float, rate: int, size: str, pitch_hz: float | None) -> Path:
    inputs = []
    if rate:
        inputs.append(
            ffmpeg.input(f"testsrc2=size={size}:rate={rate}:duration={seconds}", f="lavfi")
        )
    if pitch_hz:
        sound = f"aevalsrc='{_VOICE.format(hz=pitch_hz)}':sample_rate=16000:duration={seconds}"
        inputs.append(ffmpeg.input(sound, f="lavfi"))
    run_ffmpeg(ffmpeg.output(*inputs, str(path), **(H264 if rate else {})), path)
    return path
