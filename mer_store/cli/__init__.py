"""The command line. Heavy imports happen inside commands, so that ``--help`` is quick."""

from mer_store.cli.main import main

__all__ = ["main"]
