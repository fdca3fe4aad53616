"""Settings of a trainer: defaults of a dataclass, then TOML, then ``key=value``; unknown keys are errors."""

import difflib
import json
import tomllib
import types
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from mer_store.errors import UsageError

Settings = TypeVar("Settings")
CONFIGS = "configs"


def read_settings(
    kind: type[Settings], config: str | Path | None = None, assignments: Sequence[str] = ()
) -> Settings:
    """Read the settings of a trainer.

    Parameters
    ----------
    kind
        A dataclass; fields that are dataclasses are tables in TOML and ``table.key`` in an assignment.
    config
        A TOML file, or the name of one that comes with mer-store (``hl18``).
    assignments
        ``key=value``, the later ones winning. The value is TOML where it can be read as such, else a text.

    Raises
    ------
    UsageError
        The file cannot be read, a key is unknown, or a value is of the wrong type.
    """
    values = _read_toml(config) if config else {}
    for assignment in assignments:
        _assign(values, assignment)
    return _build(kind, values, "")


def to_toml(settings: Any) -> str:
    """Write settings as TOML that `read_settings` reads back; None is left out."""
    return "".join(f"{line}\n" for line in _lines(settings, ""))


def to_values(settings: Any) -> dict[str, Any]:
    """Return settings as nested plain values, for digests and JSON."""
    return {
        field.name: to_values(value) if is_dataclass(value) else value
        for field in fields(settings)
        for value in [getattr(settings, field.name)]
    }


def find_config(name: str | Path) -> Path:
    """Return the TOML file of that path, or of that name among those that come with mer-store."""
    path = Path(name)
    if path.is_file():
        return path
    bundled = Path(str(resources.files("pipelines") / CONFIGS))
    if (bundled / f"{name}.toml").is_file():
        return bundled / f"{name}.toml"
    names = ", ".join(sorted(found.stem for found in bundled.glob("*.toml")))
    raise UsageError(f"--config {name}: no such file, and none of those that come along: {names}")


def _read_toml(config: str | Path) -> dict[str, Any]:
    path = find_config(config)
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"{path}: not TOML: {error}") from error


def _assign(values: dict[str, Any], assignment: str) -> None:
    key, equals, text = assignment.partition("=")
    if not equals or not key.strip():
        raise UsageError(f"--set {assignment}: expected key=value, for example lr=1e-4")
    *tables, name = key.strip().split(".")
    for table in tables:
        inner = values.setdefault(table, {})
        if not isinstance(inner, dict):
            raise UsageError(f"--set {assignment}: {table} is no table of settings")
        values = inner
    values[name] = _value(text.strip())


def _value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _build(kind: type[Settings], values: Mapping[str, Any], prefix: str) -> Settings:
    hints = get_type_hints(kind)
    names = [field.name for field in fields(kind)]  # type: ignore[arg-type]
    if unknown := [key for key in values if key not in names]:
        near = difflib.get_close_matches(unknown[0], names, n=1)
        hint = f"; did you mean {prefix}{near[0]}?" if near else ""
        raise UsageError(
            f"setting {prefix}{unknown[0]}: there is none of that name; there are "
            f"{', '.join(prefix + name for name in names)}{hint}"
        )
    chosen = {
        key: _build(hints[key], value, f"{prefix}{key}.")
        if is_dataclass(hints[key]) and isinstance(value, dict)
        else _convert(hints[key], value, prefix + key)
        for key, value in values.items()
    }
    return kind(**chosen)


def _convert(hint: Any, value: Any, name: str) -> Any:
    """Return `value` as the type that `hint` names, or raise."""
    origin = get_origin(hint)
    if origin in (Union, types.UnionType):
        inner = [kind for kind in get_args(hint) if kind is not type(None)]
        return None if value in (None, "") else _convert(inner[0], value, name)
    if origin is Literal:
        if value in get_args(hint):
            return value
        raise UsageError(
            f"setting {name}: expected {' or '.join(map(str, get_args(hint)))}; got {value!r}"
        )
    if origin is tuple:
        items = value.split(",") if isinstance(value, str) else value
        if isinstance(items, list | tuple):
            kind = get_args(hint)[0]
            return tuple(
                _convert(kind, i.strip() if isinstance(i, str) else i, name) for i in items
            )
    elif hint is float and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    elif hint is str and isinstance(value, str | int | float) and not isinstance(value, bool):
        return str(value)
    elif isinstance(value, hint) and (hint is bool or not isinstance(value, bool)):
        return value
    words = getattr(hint, "__name__", str(hint))
    raise UsageError(f"setting {name}: expected {words}; got {value!r}")


def _lines(settings: Any, table: str) -> Iterator[str]:
    inner = []
    for field in fields(settings):
        value = getattr(settings, field.name)
        if is_dataclass(value):
            inner.append((f"{table}{field.name}", value))
        elif value is not None:
            yield f"{field.name} = {_written(value)}"
    for name, value in inner:
        yield ""
        yield f"[{name}]"
        yield from _lines(value, f"{name}.")


def _written(value: Any) -> str:
    if isinstance(value, tuple):
        return f"[{', '.join(map(_written, value))}]"
    if isinstance(value, bool):
        return str(value).lower()
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else repr(value)
