"""Stand-ins for compiled parts that a test machine may lack. Import before anything imports torchvision.

- Beside a CPU build of torch PyPI's torchvision lacks two operators, and is not importable without them.
- torchcodec, which py-feat imports to read videos, needs FFmpeg's shared libraries. We decode ourselves.

For tests only: in use, a CUDA install has the first and `apt-get install ffmpeg` the second.
"""

import sys
from types import ModuleType

import numpy as np
import torch

LIBRARY = None
if torch.version.cuda is None:
    LIBRARY = torch.library.Library("torchvision", "DEF")
    for operator in ("nms", "qnms"):
        LIBRARY.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")


def batched_nms(boxes, scores, groups, max_overlap):
    """Suppress within each group, best scores first, as torchvision's compiled function does."""
    from extractors.visual.faces.boxes import suppress

    kept = []
    for group in groups.unique():
        here = (groups == group).nonzero()[:, 0].numpy()
        kept.append(here[suppress(boxes[here].numpy(), scores[here].numpy(), max_overlap)])
    chosen = torch.from_numpy(np.concatenate(kept))
    return chosen[scores[chosen].argsort(descending=True, stable=True)]


try:
    import torchcodec.decoders  # noqa: F401
except RuntimeError:
    for name in [name for name in sys.modules if name.startswith("torchcodec")]:
        del sys.modules[name]
    decoders = ModuleType("torchcodec.decoders")
    decoders.VideoDecoder = None
    sys.modules["torchcodec"] = ModuleType("torchcodec")
    sys.modules["torchcodec.decoders"] = decoders
