"""Make an image small enough to look for faces in."""

from extractors.visual.faces.detector import Rgb
from extractors.visual.faces.opencv import opencv


def shrink(image: Rgb, max_side_px: int) -> tuple[Rgb, float]:
    """Return the image with no side above `max_side_px`, and the factor it was shrunk by (1 at most)."""
    height, width = image.shape[:2]
    scale = min(1.0, max_side_px / max(height, width))
    if scale == 1.0:
        return image, scale
    cv2 = opencv()
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    small: Rgb = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    return small, scale
