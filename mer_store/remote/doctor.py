"""What a remote promises, tried before it is trusted: in a folder of its own there, removed afterwards."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from mer_store.errors import MerStoreError
from mer_store.remote.address import Address
from mer_store.remote.bucket import Bucket


@dataclass(frozen=True)
class Trial:
    """One promise, and whether it was kept."""

    promise: str
    kept: bool
    words: str
    """What was seen."""
    needed: bool = True
    """Whether sharing is not safe without it."""


@dataclass(frozen=True)
class Diagnosis:
    """All trials of a remote, and what follows."""

    remote: str
    trials: tuple[Trial, ...]
    verdict: str
    advice: tuple[str, ...] = ()

    @property
    def is_safe(self) -> bool:
        """Whether what the verdict allows may be relied on."""
        return all(trial.kept for trial in self.trials if trial.needed)

    def to_values(self) -> dict[str, Any]:
        """Return it as plain values."""
        return {"safe": self.is_safe, **asdict(self)}


def examine(address: Address) -> Diagnosis:
    """Try what a remote promises.

    Nothing that is there is touched. About 75 MB are written to an object store and removed again.
    """
    if address.is_folder:
        from mer_store.remote.doctor_folder import examine_folder

        return examine_folder(address)
    from mer_store.remote.doctor_bucket import examine_bucket

    return examine_bucket(Bucket(address))


def attempt(promise: str, action: Callable[[], str], *, needed: bool = True) -> Trial:
    """Try a promise. `action` returns what was seen; what it raises is why the promise is not kept."""
    try:
        return Trial(promise, kept=True, words=action(), needed=needed)
    except Exception as error:  # noqa: BLE001 - whatever a client raises is the answer
        words = (
            str(error) if isinstance(error, MerStoreError) else f"{type(error).__name__}: {error}"
        )
        return Trial(promise, kept=False, words=words, needed=needed)


class BrokenPromiseError(Exception):
    """What was seen is not what was promised."""


def expect(value: object, expected: object, what: str) -> None:
    """Raise `BrokenPromiseError` where two things differ."""
    if value != expected:
        raise BrokenPromiseError(f"{what}: expected {expected!r:.80}, got {value!r:.80}")
