"""The remotes a store knows by name. The list stays with the store: it is never pushed."""

import json
import os
import re
from pathlib import Path

from mer_store.errors import StoreDamagedError, UsageError
from mer_store.remote.address import Address, hide_secrets
from mer_store.store.layout import MAX_SMALL_BYTES, writing
from mer_store.store.plain_file import read_small
from mer_store.strict_json import parse

REMOTES_FILE = "remotes.json"
_NAME = re.compile(r"[A-Za-z0-9][\w.-]*")


def read_remotes(store: Path) -> dict[str, str]:
    """Return name -> URL, empty where none was added.

    Raises
    ------
    StoreDamagedError
        The file is not a table of texts.
    """
    path = store / REMOTES_FILE
    try:
        values = parse(read_small(path, MAX_SMALL_BYTES))
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise StoreDamagedError(f"{path}: not JSON: {error}; remove it and add again") from error
    if not isinstance(values, dict) or not all(isinstance(url, str) for url in values.values()):
        raise StoreDamagedError(f"{path}: expected names and URLs; remove it and add again")
    return values


def add_remote(store: Path, name: str, url: str) -> None:
    """Give a URL a name.

    Raises
    ------
    UsageError
        The name cannot be one, the URL's protocol is not known, or the URL holds a password.
    """
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"remote {name!r}: expected letters, digits, . _ -, beginning with no dot or dash"
        )
    address = Address.parse(url)
    userinfo = url.partition("://")[2].partition("/")[0].rpartition("@")[0]
    if ":" in userinfo:
        raise UsageError(
            f"{hide_secrets(url)}: the URL holds a password, which would be written into "
            f"{store / REMOTES_FILE}; use your client's own configuration (environment, profile, key file)"
        )
    text = str(address.folder.absolute()) if address.is_folder else address.url
    _write(store, read_remotes(store) | {name: text})


def remove_remote(store: Path, name: str) -> None:
    """Forget a name.

    Raises
    ------
    UsageError
        No remote is called so.
    """
    remotes = read_remotes(store)
    if name not in remotes:
        raise UsageError(f"remote {name!r}: not known; there are: {', '.join(remotes) or 'none'}")
    _write(store, {other: url for other, url in remotes.items() if other != name})


def resolve(store: Path | None, text: str) -> Address:
    """Return the address that a name or URL stands for. A name wins over a folder called the same."""
    known = read_remotes(store) if store is not None else {}
    return Address.parse(known.get(text, text))


def _write(store: Path, remotes: dict[str, str]) -> None:
    path = store / REMOTES_FILE
    beside = path.with_name(f".{REMOTES_FILE}.{os.getpid()}")
    with writing(store):
        beside.write_text(json.dumps(remotes, indent=1) + "\n", encoding="utf-8")
        beside.replace(path)
