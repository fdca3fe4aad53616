"""Errors a person reads: where, what was expected, what came, what next. Printed without a traceback."""


def shown(text: str) -> str:
    """Return text in which nothing makes a terminal do more than show it: the rest is escaped, lines stay."""
    return "".join(c if c.isprintable() or c == "\n" else ascii(c)[1:-1] for c in text)


class MerStoreError(Exception):
    """Base of every error mer-store raises on purpose.

    The command line prints its text alone and exits with ``exit_code``.
    """

    exit_code = 1


class UsageError(MerStoreError):
    """What was asked for cannot be done as it was asked: a wrong option, layer, path or file."""

    exit_code = 2


class StoreDamagedError(MerStoreError):
    """Bytes of a store are missing or wrong. Names the part and, where known, the clips and layers."""


class StoreFullError(MerStoreError):
    """The disk, quota or file-size limit is reached. Nothing committed is touched."""
