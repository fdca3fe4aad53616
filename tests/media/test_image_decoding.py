"""Images: the right ones, upright, at their times, the same by both ways."""

import av
import numpy as np
import pytest
from media_factory import make_audio, make_video, picture

from extractors.contract import ClipEmpty
from extractors.media.blob import read_blob
from extractors.media.images import decode_images


def decode_both(path, images_per_second=None):
    """Decode by PyAV and by the ffmpeg program; they must agree in every bit."""
    blob = read_blob("clip", path)
    here, there = (
        list(decode_images(blob, images_per_second, program=program)) for program in (False, True)
    )
    assert len(here) == len(there)
    for one, other in zip(here, there, strict=True):
        np.testing.assert_array_equal(one.rgb, other.rgb)
        assert one.time_s == pytest.approx(other.time_s, abs=1e-6)
        assert one.rgb.dtype == np.uint8
    return here


def times_of(images):
    return [image.time_s for image in images]


def test_every_image_in_order_at_its_time(tmp_path):
    images = decode_both(make_video(tmp_path / "a.mp4", seconds=1.0, fps=25, size=(64, 48)))
    assert times_of(images) == pytest.approx([k / 25 for k in range(25)])
    for index, image in enumerate(images):
        assert image.rgb.shape == (48, 64, 3)
        error = np.abs(image.rgb.astype(int) - picture(index, 64, 48)).mean()
        assert error < 12  # lossy; a wrong neighbour has its bar elsewhere
    assert np.abs(images[0].rgb.astype(int) - picture(6, 64, 48)).mean() > 12


@pytest.mark.parametrize("name", ["a.mkv", "a.webm", "a.avi", "a.mov", "a.ts"])
def test_containers(tmp_path, name):
    codecs = {"a.webm": ("libvpx", "libopus"), "a.avi": ("mpeg4", "mp3")}
    video, audio = codecs.get(name, ("libx264", "aac"))
    path = make_video(
        tmp_path / name, seconds=0.6, fps=20, video_codec=video, audio_codec=audio, rate_hz=48000
    )
    images = decode_both(path)
    assert len(images) == 12
    assert times_of(images) == pytest.approx([k / 20 for k in range(12)], abs=1.1e-3)


def test_variable_frame_rate_keeps_the_timestamps(tmp_path):
    times = [0.0, 0.1, 0.15, 0.5, 0.9, 0.93]
    images = decode_both(make_video(tmp_path / "a.mp4", vfr=times))
    assert times_of(images) == pytest.approx(times, abs=1e-4)


@pytest.mark.parametrize(
    ("times", "rate", "taken"),
    [
        ([k / 25 for k in range(25)], 5, [0.0, 0.2, 0.4, 0.6, 0.8]),
        ([k / 25 for k in range(25)], 100, [k / 25 for k in range(25)]),  # each once, none made up
        ([k / 25 for k in range(25)], 0.5, [0.0]),
        (
            [0.0, 0.1, 0.15, 0.5, 0.9, 0.93],
            5,
            [0.0, 0.5, 0.9],
        ),  # nothing in [0.2, 0.4) and [0.6, 0.8)
        ([0.0, 0.19, 0.21, 0.39, 0.41], 5, [0.0, 0.21, 0.41]),
    ],
)
def test_sampling_takes_the_first_of_each_interval(tmp_path, times, rate, taken):
    images = decode_both(make_video(tmp_path / "a.mp4", vfr=times), rate)
    assert times_of(images) == pytest.approx(taken, abs=1e-4)


def test_rounded_timestamps_lose_no_image(tmp_path):
    """Matroska rounds times to 1 ms: 30 a second of a video with 30 a second are all of them."""
    path = make_video(tmp_path / "a.mkv", seconds=1.0, fps=30, audio=False)
    assert len(decode_both(path, 30)) == 30


def test_time_is_counted_from_the_first_image(tmp_path):
    images = decode_both(make_video(tmp_path / "a.mp4", vfr=[0.4, 0.5, 0.7]))
    assert times_of(images) == pytest.approx([0.0, 0.1, 0.3], abs=1e-4)


@pytest.mark.parametrize("rotation", [90, 180, 270])
def test_rotation_is_applied(tmp_path, rotation):
    path = make_video(tmp_path / "a.mp4", seconds=0.2, rotation=rotation, size=(64, 48))
    image = decode_both(path)[0].rgb
    wanted = np.rot90(picture(0, 64, 48), rotation // 90)  # anticlockwise
    assert image.shape == wanted.shape
    assert np.abs(image.astype(int) - wanted).mean() < 12


@pytest.mark.parametrize("pix_fmt", ["yuv420p", "yuv422p", "yuv444p", "yuvj420p"])
def test_pixel_formats(tmp_path, pix_fmt):
    decode_both(make_video(tmp_path / "a.mp4", seconds=0.2, pix_fmt=pix_fmt, size=(62, 46)))


def test_ten_bits_differ_in_chroma_only(tmp_path):
    blob = read_blob("a", make_video(tmp_path / "a.mp4", seconds=0.2, pix_fmt="yuv420p10le"))
    here, there = (list(decode_images(blob, program=program)) for program in (False, True))
    assert len(here) == len(there) == 5
    for one, other in zip(here, there, strict=True):
        assert np.abs(one.rgb.astype(int) - other.rgb).mean() < 3


def test_still_image_is_one_image(tmp_path):
    from PIL import Image

    Image.fromarray(picture(3, 50, 40)).save(tmp_path / "a.png")
    (image,) = decode_both(tmp_path / "a.png", 5)
    np.testing.assert_array_equal(image.rgb, picture(3, 50, 40))
    assert image.time_s == 0
    Image.fromarray(picture(3, 50, 40)).save(tmp_path / "a.jpg")
    assert len(decode_both(tmp_path / "a.jpg")) == 1


@pytest.mark.parametrize("program", [False, True])
def test_sound_alone_has_no_video(tmp_path, program):
    blob = read_blob("a", make_audio(tmp_path / "a.m4a"))
    with pytest.raises(ClipEmpty, match="no video track"):
        list(decode_images(blob, program=program))


def test_cover_art_is_no_video(tmp_path):
    with av.open(str(tmp_path / "a.m4a"), "w", format="mp4") as container:
        sound = container.add_stream("aac", rate=16000, layout="mono")
        cover = container.add_stream("mjpeg", rate=1)
        cover.width, cover.height, cover.pix_fmt = 64, 48, "yuvj420p"
        cover.disposition = av.stream.Disposition.attached_pic
        frame = av.AudioFrame.from_ndarray(
            np.zeros((1, 1024), np.float32), format="fltp", layout="mono"
        )
        frame.sample_rate = 16000
        art = av.VideoFrame.from_ndarray(picture(0, 64, 48), format="rgb24")
        container.mux([*cover.encode(art.reformat(format="yuvj420p")), *cover.encode(None)])
        container.mux([*sound.encode(frame), *sound.encode(None)])
    blob = read_blob("a", tmp_path / "a.m4a")
    with pytest.raises(ClipEmpty, match="no video track"):
        list(decode_images(blob))


def test_images_come_one_by_one_and_a_reader_may_leave(tmp_path):
    blob = read_blob("a", make_video(tmp_path / "a.mp4", seconds=4.0))
    for program in (False, True):
        images = decode_images(blob, program=program)
        assert next(images).time_s == 0
        images.close()


def test_no_images_per_second_below_zero(tmp_path):
    blob = read_blob("a", make_video(tmp_path / "a.mp4", seconds=0.2))
    with pytest.raises(ValueError, match="images_per_second: expected more than 0"):
        next(decode_images(blob, 0))


def test_real_media_agree(any_media):
    for name in ("speech.mp4", "smile.mp4", "passenger.mp4"):
        assert len(decode_both(any_media[name], 5)) > 10


@pytest.mark.parametrize("pix_fmt", ["yuv420p", "yuv422p", "yuv420p10le"])
def test_odd_sizes(tmp_path, pix_fmt):
    path = tmp_path / "a.mkv"
    decode_both(make_video(path, seconds=0.1, pix_fmt=pix_fmt, size=(63, 47), video_codec="ffv1"))
