"""Where options get their defaults: mer-store.toml, then MER_STORE_* variables, then the command line."""

import tomllib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click
from click.core import ParameterSource

from mer_store.errors import UsageError
from mer_store.spec import MODALITIES

SETTINGS_FILE = Path("mer-store.toml")
Command = TypeVar("Command", bound=Callable[..., Any])


class Explicit(click.Option):
    """An option that is given on the command line or not at all."""


def read_defaults(
    command: click.Command, commands: Sequence[str], path: Path = SETTINGS_FILE
) -> dict[str, Any]:
    """Read what `path` says of `command`, as click's default map.

    Top-level keys (``store = "…"``) are for every command that has such an option; a table named as a
    command (``[extract]``) is for that command alone, ``[extract.audio]`` for that modality. Keys are
    option names without the dashes in front.

    Raises
    ------
    UsageError
        The file is not TOML, a table is no command, or a key is no option.
    """
    if not path.is_file():
        return {}
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: not TOML: {error}") from error
    tables = {key: value for key, value in values.items() if isinstance(value, dict)}
    if unknown := tables.keys() - set(commands):
        raise UsageError(f"{path}: [{min(unknown)}] is no command; there are {', '.join(commands)}")
    options = {
        long_name(option): option.name
        for option in command.params
        if isinstance(option, click.Option) and not isinstance(option, Explicit)
    }
    own = _named(tables.get(command.name or "", {}), options, f"{path}: [{command.name}]")
    shared = {key: value for key, value in values.items() if key.replace("_", "-") in options}
    return _named(shared, options, str(path)) | own


def _named(
    table: Mapping[str, Any], options: Mapping[str, str | None], where: str
) -> dict[str, Any]:
    """Key `table` by parameter instead of option; tables inside it (``[extract.audio]``) likewise."""
    named = {}
    for key, value in table.items():
        if isinstance(value, dict) and key in MODALITIES:
            named[key] = _named(value, options, f"{where[:-1]}.{key}]")
        elif key.replace("_", "-") in options:
            named[str(options[key.replace("_", "-")])] = value
        else:
            raise UsageError(
                f"{where} {key}: no such option; there are {', '.join(sorted(options))}"
            )
    return named


def modality_defaults(context: click.Context, modality: str) -> dict[str, Any]:
    """Return what ``[extract.<modality>]`` says of options given neither as such nor by a variable."""
    table = (context.default_map or {}).get(modality, {})
    given = (ParameterSource.COMMANDLINE, ParameterSource.ENVIRONMENT)
    return {
        name: value
        for name, value in table.items()
        if context.get_parameter_source(name) not in given
    }


def name_variables(command: click.Command) -> None:
    """Let every option be given by a variable: ``--part-clips`` by ``MER_STORE_PART_CLIPS``."""
    for option in command.params:
        if isinstance(option, Explicit):
            option.envvar = None
        elif isinstance(option, click.Option) and option.envvar is None:
            option.envvar = "MER_STORE_" + long_name(option).upper().replace("-", "_")


def long_name(option: click.Option) -> str:
    """Return the option as written, without dashes in front: ``part-clips``."""
    return max(option.opts, key=len).lstrip("-")


def store_option(command: Command, metavar: str = "DIR") -> Command:
    """Add ``--store``."""
    return click.option(
        "--store", default="store", show_default=True, metavar=metavar, help="The feature store."
    )(command)


def any_store_option(command: Command) -> Command:
    """Add ``--store`` to a command that only reads: a remote does, too."""
    return store_option(command, "DIR_OR_URL")


def clips_option(command: Command) -> Command:
    """Add ``--clips``."""
    return click.option(
        "--clips",
        default="clips.csv",
        show_default=True,
        metavar="CSV",
        type=click.Path(path_type=Path),
        help="The clip list.",
    )(command)


def runs_option(command: Command) -> Command:
    """Add ``--runs``."""
    return click.option(
        "--runs",
        default="runs",
        show_default=True,
        metavar="DIR",
        type=click.Path(path_type=Path),
        help="Where runs have their folders.",
    )(command)


def json_option(command: Command) -> Command:
    """Add ``--json``."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON on stdout.")(command)
