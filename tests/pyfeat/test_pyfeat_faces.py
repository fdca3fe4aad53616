"""py-feat's RetinaFace, with random weights, through our own path: equal to py-feat's, batched, contained."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from extractors.contract import ExtractorRequest, Source, Want
from extractors.visual.extractor import VisualExtractor
from extractors.visual.faces.pyfeat import MEAN_RGB, PyFeat
from mer_store.errors import UsageError

TESTS = Path(__file__).resolve().parents[1]


def scenes(n=4, width=160, height=120):
    from visual.face_scenes import scene

    return [scene([(5 + 9 * i, 10, 100)], width, height) for i in range(n)]


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Random weights, balanced so that a few places of an image look like faces."""
    from feat.face_detectors.Retinaface.Retinaface_model import RETINAFACE_R34_CFG, RetinaFace

    torch.manual_seed(0)
    net = RetinaFace(RETINAFACE_R34_CFG).eval()
    heads = net.ClassHead._convs
    pixels = torch.from_numpy(np.stack(scenes())).permute(0, 3, 1, 2)
    with torch.no_grad():
        for head in (*heads, *net.BboxHead._convs, *net.LandmarkHead._convs):
            head.weight.mul_(0.01)
        confidence = net(pixels - torch.tensor(MEAN_RGB).view(1, 3, 1, 1))[1]
        margin = (confidence[..., 1] / confidence[..., 0]).log().flatten().quantile(0.99)
        for head in heads:
            head.bias[1::2] -= margin
    folder = tmp_path_factory.mktemp("retinaface")
    save_file(net.state_dict(), folder / "model.safetensors")
    return folder


@pytest.fixture(scope="module")
def detector(weights):
    return PyFeat(weights=str(weights))


def assert_same(left, right, within=1e-3):
    assert len(left) == len(right)
    for name in ("boxes", "scores", "points"):
        np.testing.assert_allclose(getattr(left, name), getattr(right, name), atol=within)


def test_boxes_and_scores_are_pyfeats_own(detector, weights, monkeypatch):
    from feat.face_detectors.Retinaface import Retinaface_test
    from pyfeat import stand_ins
    from safetensors.torch import load_file

    if stand_ins.LIBRARY is not None:
        monkeypatch.setattr(Retinaface_test, "batched_nms", stand_ins.batched_nms)
    theirs = Retinaface_test.Retinaface(device="cpu", pretrained="none")
    theirs.net.load_state_dict(load_file(weights / "model.safetensors"))
    images = scenes()
    expected = theirs(torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2))
    torch.set_grad_enabled(True)  # which theirs switched off
    found = detector(images)
    assert sum(len(faces) for faces in found) >= 4
    for faces, of_image in zip(found, expected, strict=True):
        rows = np.array(of_image, np.float32).reshape(-1, 5)
        rows[:, :4] = np.clip(rows[:, :4], 0, [160, 120, 160, 120])
        np.testing.assert_allclose(faces.scores, rows[:, 4], atol=1e-5)
        np.testing.assert_allclose(faces.boxes, rows[:, :4], atol=1e-2)
        assert faces.points.shape == (len(rows), 5, 2)


def test_images_in_company_equal_images_alone(detector):
    """Of three sizes, one of them shrunk first, their order kept."""
    images = [*scenes(2), *scenes(1, 110, 130), *scenes(1, 1300, 400), *scenes(3)]
    together = detector(images)
    for image, found in zip(images, together, strict=True):
        assert_same(found, detector([image])[0])
        height, width = image.shape[:2]
        assert (found.boxes >= 0).all()
        assert (found.boxes <= [width, height, width, height]).all()


def test_large_images_are_shrunk_and_boxes_are_in_their_pixels(detector):
    large = np.kron(scenes(1, 640, 480)[0], np.ones((2, 2, 1), np.uint8))
    [in_large], [in_small] = detector([large]), detector([large[::2, ::2].copy()])
    assert len(in_small) > 0
    assert_same(in_large, type(in_small)(in_small.boxes * 2, in_small.scores, in_small.points * 2))


def test_threads_are_served_together(detector):
    images = scenes(6)
    expected = [detector([image])[0] for image in images]
    with ThreadPoolExecutor(6) as pool:
        for found, single in zip(
            pool.map(lambda i: detector([i])[0], images), expected, strict=True
        ):
            assert_same(found, single)


def test_too_little_memory_halves_the_batch(detector, monkeypatch):
    images = scenes(5)
    expected = detector(images)
    network = detector._network

    def small_gpu(batch):
        if len(batch) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return network(batch)

    monkeypatch.setattr(detector, "_network", small_gpu)
    for found, single in zip(detector(images), expected, strict=True):
        assert_same(found, single)


def test_from_video_to_features(weights, tmp_path):
    from visual.face_scenes import video

    request = ExtractorRequest("visual", model="tiny", device="cpu", faces=f"pyfeat:{weights}")
    extractor = VisualExtractor(request)
    images = scenes(5)
    sources = [Source(f"clip_{n}", video(tmp_path / f"{n}.mp4", images[:n])) for n in (5, 3)]
    with ThreadPoolExecutor(2) as pool:
        loaded = list(pool.map(lambda source: extractor.load(extractor.open(source)), sources))
    together = extractor(loaded, Want(("embed",), ("embed",)))
    for states, clip in zip(together, loaded, strict=True):
        assert states.frame["embed"].shape == (clip.size, 64)
        [alone] = extractor([extractor.load(clip_blob(extractor, sources, clip))], Want(("embed",)))
        np.testing.assert_allclose(states.utterance["embed"], alone.utterance["embed"], atol=1e-4)
    detector = extractor.identity.preprocessing["faces"]["detector"]
    assert detector["name"] == "pyfeat-retinaface_r34"
    assert detector["weights"].startswith("sha256:")


def clip_blob(extractor, sources, clip):
    return extractor.open(next(source for source in sources if source.clip_id == clip.clip_id))


PROGRAM = """
import os, sys
sys.path.insert(0, sys.argv[1])
from pyfeat import stand_ins
import numpy as np, torch, warnings
warnings.simplefilter("error")
from extractors.visual.faces.pyfeat import PyFeat
assert "feat" not in sys.modules
threads = torch.get_num_threads()
PyFeat(weights=sys.argv[2])([np.zeros((64, 64, 3), np.uint8)])
assert "feat" in sys.modules
print(os.environ.get("OMP_NUM_THREADS"), torch.is_grad_enabled(), torch.get_num_threads() == threads)
"""


@pytest.mark.parametrize("threads", [None, "2"])
def test_what_pyfeat_does_to_the_program_is_undone(weights, threads):
    """It sets OMP_NUM_THREADS where it is unset, and building its detector turns autograd off."""
    environment = {key: value for key, value in os.environ.items() if key != "OMP_NUM_THREADS"}
    if threads is not None:
        environment["OMP_NUM_THREADS"] = threads
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(TESTS), str(weights)],
        env=environment, cwd=TESTS.parent, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stdout.split() == [str(threads), "True", "True"], done.stderr


def test_folder_without_weights_is_refused(tmp_path):
    with pytest.raises(UsageError, match=r"expected model\.safetensors or retinaface_r34"):
        PyFeat(weights=str(tmp_path))


def test_other_weights_are_refused(tmp_path):
    save_file({"some.weight": torch.zeros(2)}, tmp_path / "model.safetensors")
    detector = PyFeat(weights=str(tmp_path))
    with pytest.raises(UsageError, match="not the weights of py-feat's RetinaFace"):
        detector(scenes(1))


def test_offline_without_weights_says_so_at_once(tmp_path):
    """py-feat itself would try again for the better part of a minute."""
    program = "from extractors.visual.faces.pyfeat import PyFeat; PyFeat()"
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)},
        cwd=TESTS.parent, capture_output=True, text=True, check=False, timeout=40,
    )  # fmt: skip
    assert "neither in the hub's cache nor to be had" in done.stderr
    assert "--faces pyfeat:FOLDER" in done.stderr
