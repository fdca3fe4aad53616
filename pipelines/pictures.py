"""What all pictures share: colours, and how a figure becomes bytes or a piece of a page."""

import base64
import io
from html import escape

from matplotlib.figure import Figure

DPI = 110
INK, PALE = "#1d3557", "#d9e2ec"
GOOD, WARM, BAD = "#2a9d8f", "#e9c46a", "#e76f51"


def png(figure: Figure) -> bytes:
    """Render `figure`."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI, bbox_inches="tight")
    return buffer.getvalue()


def embed(data: bytes, caption: str) -> str:
    """Return an HTML image that carries its own bytes, JPEG or PNG."""
    kind = "jpeg" if data[:2] == b"\xff\xd8" else "png"
    encoded = base64.b64encode(data).decode()
    return f'<img alt="{escape(caption)}" src="data:image/{kind};base64,{encoded}">'
