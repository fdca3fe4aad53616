"""What was served."""

from dataclasses import dataclass, field


@dataclass
class Tally:
    """Counts of one server's life."""

    n_requests: int = 0
    n_refused: int = 0
    """Answered with 400 to 499."""
    n_failed: int = 0
    """Answered with 500 or more: the store is damaged or cannot be read."""
    n_bytes: int = 0
    """Of bodies."""
    clients: set[str] = field(default_factory=set)
    """Addresses."""

    def ask(self, client: str | None) -> None:
        """Count a request."""
        self.n_requests += 1
        self.clients.add(client or "")

    def answer(self, status: int) -> None:
        """Count how it went."""
        self.n_refused += 400 <= status < 500
        self.n_failed += status >= 500

    def __str__(self) -> str:
        """Say it in a line."""
        requests = "1 request" if self.n_requests == 1 else f"{self.n_requests:,} requests"
        clients = "1 address" if len(self.clients) == 1 else f"{len(self.clients):,} addresses"
        failed = f", {self.n_failed:,} failed: run mer-store verify" if self.n_failed else ""
        return (
            f"served {requests} from {clients}: {self.n_bytes / 2**20:,.1f} MiB, "
            f"{self.n_refused:,} refused{failed}"
        )
