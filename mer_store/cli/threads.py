"""How torch's threads wait for each other while features are extracted."""

import os

WAITING = "OMP_WAIT_POLICY"


def wait_without_spinning() -> None:
    """Let threads that have nothing to do sleep. To be called before torch is imported; a setting stays.

    Else they spin, and keep from the core the thread they wait for wherever a neighbour, or our own
    decoding, wants that core too: on two busy cores HuBERT-large took three times as long.
    """
    os.environ.setdefault(WAITING, "passive")
