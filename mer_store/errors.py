"""Errors a person reads: where, what was expected, what came, what next. Printed without a traceback."""


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
