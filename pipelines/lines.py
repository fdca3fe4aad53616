"""Lines of progress: redrawn on a terminal, one every ten seconds in a log."""

import os
from collections.abc import Mapping
from typing import Any, TextIO

LOG_EVERY_S = 10.0
BAR = "{bar:10}  "
FACTS = "{desc}  {n_fmt}/{total_fmt}{unit}  {rate_noinv_fmt}{postfix}  {remaining} left"


def line_options(stream: TextIO) -> Mapping[str, Any]:
    """Return how tqdm should write to `stream`: redrawn on a terminal, else a line every ten seconds."""
    terminal = _is_terminal(stream)
    return {
        "file": stream if terminal else LineStream(stream),
        "mininterval": 0.2 if terminal else LOG_EVERY_S,
        "maxinterval": LOG_EVERY_S,
        "dynamic_ncols": terminal,
        "bar_format": BAR + FACTS if terminal else FACTS,
    }


def _is_terminal(stream: TextIO) -> bool:
    """Tell whether lines can be redrawn: a terminal that says how wide it is (some containers' do not)."""
    return stream.isatty() and os.get_terminal_size(stream.fileno()).columns > 0


class LineStream:
    """Turns tqdm's redrawn line into lines of a log."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> None:
        """Write `text` as a line of its own, if it says anything."""
        if line := text.strip("\r\n "):
            self._stream.write(line + "\n")

    def flush(self) -> None:
        """Flush the stream."""
        self._stream.flush()
