"""``--modality audio,visual,text``, and what options say of each: ``--layers audio=16-21,text=last4``."""

from collections.abc import Sequence
from typing import Any

import click

from mer_store.errors import UsageError
from mer_store.spec import MODALITIES


class ModalityList(click.ParamType[tuple[str, ...]]):
    """One modality, or several with commas between, each once."""

    name = "list"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, ...]:
        """Return the modalities in the order given."""
        if isinstance(value, tuple):
            return value
        names = tuple(name.strip() for name in str(value).split(","))
        for name in names:
            if name not in MODALITIES:
                self.fail(f"{name!r} is not one of {', '.join(MODALITIES)}", param, ctx)
        if len(set(names)) != len(names):
            self.fail(f"{value!r} names a modality twice", param, ctx)
        return names


def by_modality(
    option: str, value: str | None, modalities: Sequence[str], *, shared: bool = False
) -> dict[str, str]:
    """Return what an option says of each modality; those that it does not name are missing.

    Parameters
    ----------
    option
        Its name, for errors.
    value
        ``audio=16-21,text=last4``; or a plain value, where there is one modality or all may share it.
    modalities
        Those that are extracted.
    shared
        Whether a plain value goes for all.

    Raises
    ------
    UsageError
        It does not say whose the value is, or speaks of a modality that is not extracted.
    """
    if value is None:
        return {}
    found: dict[str, str] = {}
    name = ""
    for piece in value.split(","):
        head, sign, rest = piece.partition("=")
        if sign and head in MODALITIES:
            if head in found:
                raise UsageError(f"--{option} {value}: speaks of {head} twice")
            name, found[head] = head, rest
        elif name:
            found[name] += f",{piece}"
        elif shared or len(modalities) == 1:
            return dict.fromkeys(modalities, value)
        else:
            example = ",".join(f"{modality}=…" for modality in modalities)
            raise UsageError(f"--{option} {value}: say of which modality: --{option} {example}")
    if strange := found.keys() - set(modalities):
        raise UsageError(
            f"--{option} {value}: speaks of {', '.join(sorted(strange))}, which --modality does not name"
        )
    return found
