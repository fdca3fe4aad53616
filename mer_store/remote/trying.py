"""Doing again what a network broke."""

import time
from collections.abc import Callable
from typing import TypeVar

from mer_store.errors import MerStoreError

#: A request that failed is made again so many times, after 0.2, 0.4, … seconds.
N_TRIES = 6
FIRST_WAIT_S = 0.2
#: Clients' own errors that trying again does not mend, by name: we import no client.
_NO_CREDENTIALS = ("NoCredentialsError", "PartialCredentialsError", "ProfileNotFound")
#: What trying again does not mend.
_FINAL = (FileNotFoundError, FileExistsError, NotImplementedError, MerStoreError)
T = TypeVar("T")


class TransferError(MerStoreError):
    """A remote could not be reached, or what it sent is not what was asked for. Nothing wrong was kept."""


def tried(action: Callable[[], T], where: str) -> T:
    """Do something that a network may break, and again where it did.

    Parameters
    ----------
    action
        May be done any number of times.
    where
        Names the object in errors.

    Raises
    ------
    TransferError
        It failed too often, or is not permitted.
    """
    for number in range(N_TRIES):
        try:
            return action()
        except _FINAL:
            raise
        except PermissionError as error:
            raise TransferError(
                f"{where}: permission denied: {error}; check your credentials"
            ) from error
        except Exception as error:  # every client has errors of its own
            if type(error).__name__ in _NO_CREDENTIALS:
                raise TransferError(
                    f"{where}: {error}; set the credentials of this remote's client, for s3:// "
                    f"AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY or a profile"
                ) from error
            if number == N_TRIES - 1:
                raise TransferError(
                    f"{where}: failed {N_TRIES} times, last with {type(error).__name__}: {error}; "
                    f"run the same command again to go on"
                ) from error
            time.sleep(FIRST_WAIT_S * 2**number)
    raise AssertionError("not reached")
