"""Every way to the faces keeps the extractor's contract."""

import numpy as np
from extractor_contract import ExtractorContract
from visual.face_scenes import scene, video

from extractors.contract import ExtractorRequest, Source


class TestFacesFromVideo(ExtractorContract):
    """CenterFace, tiny CLIP: clips of 3, 5 and 2 images with a face, some images without."""

    request_ = ExtractorRequest("visual", model="tiny", device="cpu", compute_dtype="float32")

    @classmethod
    def write_sources(cls, folder):
        clips = {
            "a": [[(80, 40, 160)]] * 3,
            "b": [[(20 + 8 * i, 40, 150)] for i in range(3)] + [[]] + [[(60, 40, 150)]] * 2,
            "c": [[(0, 10, 150), (190, 100, 120, True)]] * 2,
        }
        return [
            Source(
                f"clip_{name}", video(folder / f"{name}.mp4", [scene(faces) for faces in images])
            )
            for name, images in clips.items()
        ]

    @classmethod
    def write_empty(cls, folder):
        return Source("clip_nobody", video(folder / "nobody.mp4", [scene([])] * 3))

    @classmethod
    def write_very_short(cls, folder):
        return Source("clip_short", video(folder / "short.mp4", [scene([(80, 40, 160)])]))

    @classmethod
    def write_broken(cls, folder):
        (folder / "broken.mp4").write_bytes(b"no video at all" * 50)
        return Source("clip_broken", folder / "broken.mp4")

    @classmethod
    def write_missing(cls, folder):
        return Source("clip_missing", folder / "nowhere.mp4")


class TestFacesFromOpenFace(ExtractorContract):
    """MERTools' layout: stored crops beside the videos' folder."""

    request_ = ExtractorRequest(
        "visual", model="tiny", recipe="mertools2024", device="cpu", compute_dtype="float32"
    )

    @staticmethod
    def write(folder, name, array):
        path = folder / "openface_face" / name / f"{name}.npy"
        path.parent.mkdir(parents=True)
        np.save(path, array)
        return Source(name, folder / "video" / f"{name}.mp4")

    @classmethod
    def write_sources(cls, folder):
        rng = np.random.default_rng(0)
        crops = {f"clip_{n}": rng.integers(0, 255, (n, 112, 112, 3), np.uint8) for n in (4, 2, 40)}
        return [cls.write(folder, name, array) for name, array in crops.items()]

    @classmethod
    def write_empty(cls, folder):
        return cls.write(folder, "clip_nobody", np.zeros(0))

    @classmethod
    def write_very_short(cls, folder):
        return cls.write(folder, "clip_short", np.zeros((1, 112, 112, 3), np.uint8))

    @classmethod
    def write_broken(cls, folder):
        return cls.write(folder, "clip_broken", np.zeros((3, 5)))

    @classmethod
    def write_missing(cls, folder):
        return Source("clip_missing", folder / "video" / "clip_missing.mp4")
