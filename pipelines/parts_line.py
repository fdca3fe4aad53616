"""The progress of work on a store's parts on stderr: bytes, parts, time left."""

from pipelines.transfer_line import TransferLine


class PartsLine(TransferLine):
    """Watches work that goes from part to part. Any thread may call it."""

    noun = "parts"
    n_bytes_done = 0
    n_done = 0

    def add(self, n_bytes: int, n_clips: int) -> None:
        """Count what is done; the parts stand in place of clips."""
        super().add(n_bytes, n_clips)
        with self._lock:
            self.n_bytes_done += n_bytes
            self.n_done += n_clips
