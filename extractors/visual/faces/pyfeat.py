"""py-feat's RetinaFace (ResNet-34): for GPUs, batched over the clips that are loaded at once.

py-feat is an extra (``pip install mer-store[pyfeat]``) and needs a torchvision that fits torch: beside a
CPU build of torch PyPI's does not. It also imports torchcodec, which needs FFmpeg's shared libraries,
though we decode ourselves. Its code is MIT. The weights come from the hub repository
``py-feat/retinaface_r34`` under terms of their own, and several of py-feat's models are for non-commercial
use only: read the repository's page before you use or share what was made with them.
"""

import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from extractors.models.copies import to_device
from extractors.models.file_digests import file_digest
from extractors.visual.faces.boxes import suppress
from extractors.visual.faces.combine import CombinedDetector
from extractors.visual.faces.detector import N_POINTS, Detections, Rgb
from extractors.visual.faces.shrink import shrink
from mer_store.errors import UsageError

REPOSITORY = "py-feat/retinaface_r34"
FILES = ("model.safetensors", "retinaface_r34.safetensors")
"""Names of the weights, the current one first."""
MAX_SIDE_PX = 640
MIN_SCORE = 0.5
MAX_OVERLAP = 0.4
"""Score and overlap as py-feat's own."""
MAX_IMAGES = 64
MEAN_RGB = (123.0, 117.0, 104.0)
"""Subtracted from the grey levels: what the network was trained with."""


class PyFeat:
    """Faces by py-feat's RetinaFace.

    Parameters
    ----------
    device
        ``cpu`` (0.9 core-seconds an image), ``cuda:0``, ...
    weights
        A folder with the weights; None takes them from the hub's cache or the hub.

    Raises
    ------
    UsageError
        py-feat cannot be imported, or its weights cannot be had.
    """

    settings: Mapping[str, Any]

    def __init__(self, device: str = "cpu", weights: str | None = None) -> None:
        if find_spec("feat") is None:
            raise UsageError(
                "faces pyfeat: py-feat is not installed: pip install mer-store[pyfeat] on a CUDA "
                "install, or take --faces centerface"
            )
        self._device = device
        self._file = _in_folder(Path(weights)) if weights else _from_hub()
        self._network: _Network | None = None
        self._combined = CombinedDetector(self._detect, MAX_IMAGES)
        self.settings = {
            "name": "pyfeat-retinaface_r34",
            "weights": file_digest(self._file),
            "max_side_px": MAX_SIDE_PX,
            "min_score": MIN_SCORE,
            "max_overlap": MAX_OVERLAP,
        }

    def __call__(self, images: Sequence[Rgb]) -> list[Detections]:
        """Return the faces of each image, computed together with those of other threads."""
        return self._combined(images)

    def _detect(self, images: list[Rgb]) -> list[Detections]:
        """Run images of one size together. One thread at a time calls this."""
        small = [shrink(image, MAX_SIDE_PX)[0] for image in images]
        order = sorted(range(len(images)), key=lambda index: small[index].shape)
        found = [Detections.none()] * len(images)
        for _, group in groupby(order, key=lambda index: small[index].shape):
            indices = list(group)
            candidates = self._candidates(np.stack([small[index] for index in indices]))
            for index, of_image in zip(indices, candidates, strict=True):
                height, width = images[index].shape[:2]
                found[index] = _to_pixels(of_image, width, height)
        return found

    def _candidates(self, images: Rgb) -> list[NDArray[np.float32]]:
        """Run the network, in halves where the GPU's memory is too small."""
        if self._network is None:
            self._network = _Network(self._file, self._device)
        try:
            return self._network(images)
        except torch.OutOfMemoryError:
            if len(images) == 1:
                raise
        torch.cuda.empty_cache()
        return [row for half in np.array_split(images, 2) for row in self._candidates(half)]


class _Network:
    """RetinaFace with its weights on a device."""

    def __init__(self, file: Path, device: str) -> None:
        from safetensors.torch import load_file

        with _contained():
            from feat.face_detectors.Retinaface import Retinaface_model as retinaface

            net = retinaface.RetinaFace(retinaface.RETINAFACE_R34_CFG)
        try:
            net.load_state_dict(load_file(file), strict=True)
        except RuntimeError as error:
            raise UsageError(
                f"{file}: not the weights of py-feat's RetinaFace: {str(error).splitlines()[0]}"
            ) from error
        self._code = retinaface
        self._net = net.to(device).eval().requires_grad_(requires_grad=False)
        self._mean = torch.tensor(MEAN_RGB, device=device).view(1, 3, 1, 1)
        self._priors: dict[tuple[int, int], torch.Tensor] = {}

    @torch.inference_mode()
    def __call__(self, images: Rgb) -> list[NDArray[np.float32]]:
        """Return per image [F, 15]: score, box and points in parts of the image's sides.

        Parameters
        ----------
        images
            uint8 [N, H, W, 3].
        """
        there = to_device(torch.from_numpy(images), self._mean.device)
        pixels = there.permute(0, 3, 1, 2) - self._mean
        locations, confidences, landmarks = self._net(pixels)
        priors, variance = self._priors_of(images), self._code.RETINAFACE_R34_CFG["variance"]
        rows = torch.cat(
            [
                confidences[..., 1:2],
                self._code.decode_boxes(locations, priors, variance),
                self._code.decode_landmarks(landmarks, priors, variance),
            ],
            dim=2,
        )
        likely = rows[..., 0] >= MIN_SCORE
        counts = likely.sum(dim=1).tolist()
        return [part.numpy() for part in torch.split(rows[likely].float().cpu(), counts)]

    def _priors_of(self, images: Rgb) -> torch.Tensor:
        """Return the anchors of images of this size; py-feat's loop over them takes long, so once."""
        size = (images.shape[1], images.shape[2])
        if size not in self._priors:
            settings = self._code.RETINAFACE_R34_CFG
            self._priors[size] = self._code.generate_priors(
                settings["min_sizes"], settings["steps"], size, device=self._mean.device
            )
        return self._priors[size]


def _to_pixels(rows: NDArray[np.float32], width: int, height: int) -> Detections:
    scale = np.array([width, height], np.float32)
    kept = suppress(rows[:, 1:5] * np.tile(scale, 2), rows[:, 0], MAX_OVERLAP)
    boxes = np.clip(rows[kept, 1:5], 0, 1) * np.tile(scale, 2)
    points = rows[kept, 5:].reshape(-1, N_POINTS, 2) * scale
    return Detections(boxes, rows[kept, 0], points)


def _in_folder(folder: Path) -> Path:
    for name in FILES:
        if (folder / name).is_file():
            return folder / name
    raise UsageError(f"faces pyfeat:{folder}: expected {' or '.join(FILES)} in this folder")


def _from_hub() -> Path:
    """Take the hub's cache without asking the hub, so that a job is not held up where there is none."""
    from huggingface_hub import hf_hub_download

    for local_only in (True, False):
        for name in FILES:
            try:
                return Path(hf_hub_download(REPOSITORY, name, local_files_only=local_only))
            except Exception as error:  # noqa: BLE001 - any of a dozen kinds of not having it
                last = error
    raise UsageError(
        f"faces pyfeat: {REPOSITORY} is neither in the hub's cache nor to be had: "
        f"{type(last).__name__}: {(str(last).splitlines() or [''])[0]}. Give its weights as a folder, "
        "--faces pyfeat:FOLDER"
    )


@contextmanager
def _contained() -> Iterator[None]:
    """Undo what importing and building py-feat does to the whole program: threads, autograd, warnings."""
    threads, grad = os.environ.get("OMP_NUM_THREADS"), torch.is_grad_enabled()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except (ImportError, RuntimeError, OSError) as error:
        raise UsageError(
            f"faces pyfeat: py-feat cannot be imported: {type(error).__name__}: "
            f"{(str(error).splitlines() or [''])[0]}. It needs a torchvision that fits torch, which "
            "beside a CPU build of torch PyPI's does not, and for its torchcodec FFmpeg's shared "
            "libraries (apt-get install ffmpeg); or take --faces centerface"
        ) from error
    finally:
        torch.set_grad_enabled(grad)
        if threads is None:
            os.environ.pop("OMP_NUM_THREADS", None)
        else:
            os.environ["OMP_NUM_THREADS"] = threads
