"""Small media files made for tests: any length, rate, layout and kind of damage, in well under a second.

``make_video`` and ``make_wav`` make good files, ``bad_clips`` one of each kind that a run must survive.
"""

import os
import wave
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

#: A voice-like tone: a buzz at 140 Hz with slow changes of loudness, so that no two frames are the same.
VOICE_HZ = 140.0


def voice(seconds, rate_hz, channels=1, seed=0):
    """Return float32 [N, channels] in [-0.5, 0.5]; the channels differ in phase."""
    times = np.arange(round(seconds * rate_hz)) / rate_hz
    noise = np.random.default_rng(seed).normal(0, 0.02, len(times))
    tones = [
        sum(np.sin(2 * np.pi * VOICE_HZ * k * times + channel) / k for k in range(1, 6))
        for channel in range(channels)
    ]
    loudness = 0.15 * (1 + 0.5 * np.sin(2 * np.pi * 3 * times))
    return np.stack([loudness * tone + noise for tone in tones], axis=1).astype(np.float32)


def picture(index, width, height, seed=0):
    """Return uint8 [H, W, 3]: a gradient with a bright square in the top left and a moving bar."""
    rows, columns = np.mgrid[0:height, 0:width]
    red = (columns * 255 // width + 40 * seed) % 256
    rgb = np.stack([red, rows * 255 // height, np.full_like(rows, 60)], axis=-1).astype(np.uint8)
    bar = (index * 7) % width
    rgb[:, bar : bar + max(2, width // 20)] = (20, 20, 220)
    rgb[: height // 4, : width // 4] = 250
    return rgb


def make_wav(path, seconds=1.0, rate_hz=16000, channels=1, bits=16, samples=None, seed=0):
    """Write PCM; `samples` (float [N] or [N, channels]) replaces the voice-like tone. Returns the path."""
    signal = (
        voice(seconds, rate_hz, channels, seed) if samples is None else np.asarray(samples, float)
    )
    signal = signal[:, None] if signal.ndim == 1 else signal  # [N, channels]
    whole = np.clip(np.round(signal * 2.0 ** (bits - 1)), -(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    raw = whole.astype("<i4")[..., None].view(np.uint8)[..., : bits // 8].tobytes()
    with wave.open(str(path), "wb") as file:
        file.setnchannels(signal.shape[1])
        file.setsampwidth(bits // 8)
        file.setframerate(rate_hz)
        file.writeframes(raw)
    return Path(path)


def make_video(
    path,
    seconds=1.0,
    *,
    fps=25,
    size=(64, 48),
    audio=True,
    rotation=0,
    vfr=None,
    rate_hz=44100,
    channels=1,
    faststart=False,
    audio_codec="aac",
    video_codec="libx264",
    pix_fmt="yuv420p",
    seed=0,
    images=None,
    n_audio_streams=1,
    title=None,
):
    """Write a video with a voice-like tone; the container follows the suffix. Returns the path.

    Parameters
    ----------
    size
        (width, height).
    audio
        True for the tone, False for no track, or float samples [N, channels].
    rotation
        Display rotation in degrees, anticlockwise, stated in the container; the pictures lie as they are.
    vfr
        Times of the images in seconds, for a variable rate; `fps` and `seconds` do not matter to images then.
    faststart
        Index before the content, so that a truncated file can still be opened.
    images
        uint8 [T, H, W, 3] in place of the test pattern; give its size, too.
    n_audio_streams
        Further streams hold the tone with other seeds.
    """
    times = list(vfr) if vfr is not None else [k / fps for k in range(round(seconds * fps))]
    pictures = (picture(k, *size, seed) for k in range(len(times))) if images is None else images
    with av.open(
        str(path), "w", options={"movflags": "faststart"} if faststart else {}
    ) as container:
        container.metadata.update({"title": title} if title else {})
        video = container.add_stream(video_codec, rate=fps)
        video.width, video.height, video.pix_fmt = *size, pix_fmt
        ticks = fps if vfr is None else 60000
        video.codec_context.time_base = video.time_base = Fraction(1, ticks)
        if rotation:
            video.set_display_rotation(rotation)
        layout = {1: "mono", 2: "stereo"}[channels]
        n_tracks = 0 if audio is False else n_audio_streams
        tracks = [
            container.add_stream(audio_codec, rate=rate_hz, layout=layout) for _ in range(n_tracks)
        ]
        _write_images(container, video, times, pictures, ticks)
        for number, track in enumerate(tracks):
            signal = voice(seconds, rate_hz, channels, seed + number) if audio is True else audio
            _write_audio(container, track, np.asarray(signal, np.float32), rate_hz)
    return Path(path)


def make_audio(path, seconds=1.0, rate_hz=44100, channels=1, codec="aac", seed=0):
    """Write the voice-like tone alone, in any codec and container that FFmpeg writes. Returns the path."""
    with av.open(str(path), "w") as container:
        track = container.add_stream(codec, rate=rate_hz, layout={1: "mono", 2: "stereo"}[channels])
        _write_audio(container, track, voice(seconds, rate_hz, channels, seed), rate_hz)
    return Path(path)


def bad_clips(folder):
    """Write one clip of each kind that is no plain good clip. Returns {kind: path}.

    Kinds: truncated, cut_index, no_audio, audio_only, silence, ten_ms, zero_bytes, wrong_extension (fine
    but for its name), text, playlist, garbage, unreadable, directory, missing.
    """
    folder = Path(folder)
    clips = {
        kind: folder / f"{kind}.mp4" for kind in ("truncated", "cut_index", "text", "playlist")
    }
    whole = make_video(folder / "whole.mp4", seconds=2.0, faststart=True).read_bytes()
    clips["truncated"].write_bytes(whole[: len(whole) * 6 // 10])
    whole = make_video(folder / "whole.mp4", seconds=2.0).read_bytes()
    clips["cut_index"].write_bytes(whole[: len(whole) * 6 // 10])
    (folder / "whole.mp4").unlink()
    clips["text"].write_text("this is no video\n" * 40, encoding="utf-8")
    clips["playlist"].write_text(
        "#EXTM3U\n#EXTINF:5,\nfile:///etc/hostname\n#EXT-X-ENDLIST\n", "utf-8"
    )
    clips["no_audio"] = make_video(folder / "no_audio.mp4", audio=False)
    clips["audio_only"] = make_audio(folder / "audio_only.m4a")
    clips["silence"] = make_wav(folder / "silence.wav", samples=np.zeros(16000))
    clips["ten_ms"] = make_wav(folder / "ten_ms.wav", seconds=0.01)
    clips["zero_bytes"] = folder / "zero_bytes.mp4"
    clips["zero_bytes"].touch()
    clips["wrong_extension"] = make_video(folder / "video.mp4").rename(
        folder / "wrong_extension.txt"
    )
    clips["garbage"] = folder / "garbage.mp4"
    clips["garbage"].write_bytes(np.random.default_rng(0).bytes(20000))
    clips["unreadable"] = _unreadable(folder / "unreadable.mp4")
    clips["directory"] = folder / "directory.mp4"
    clips["directory"].mkdir()
    clips["missing"] = folder / "missing.mp4"
    return clips


def _unreadable(path):
    if (
        os.geteuid() == 0
    ):  # to whom permissions mean nothing: a link to itself cannot be opened either
        path.symlink_to(path.name)
    else:
        path.write_bytes(b"secret")
        path.chmod(0)
    return path


def _write_images(container, video, times, pictures, ticks):
    for time_s, rgb in zip(times, pictures, strict=True):
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(rgb), format="rgb24")
        frame.pts, frame.time_base = round(time_s * ticks), Fraction(1, ticks)
        container.mux(video.encode(frame))
    container.mux(video.encode(None))


def _write_audio(container, track, signal, rate_hz):
    layout = {1: "mono", 2: "stereo"}[signal.shape[1]]
    size = track.codec_context.frame_size or 1024
    resampler = av.AudioResampler(track.format.name, layout, rate_hz, frame_size=size)
    frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(signal.T), format="fltp", layout=layout)
    frame.sample_rate, frame.pts = rate_hz, 0
    for piece in (*resampler.resample(frame), *resampler.resample(None)):
        container.mux(track.encode(piece))
    container.mux(track.encode(None))
