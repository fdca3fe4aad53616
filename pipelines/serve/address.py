"""Addresses: which are this machine's own, and how a page names the server it came from."""

import ipaddress
import re
import socket

from mer_store.errors import UsageError

_HOST = re.compile(r"([A-Za-z0-9][A-Za-z0-9.-]*|\[[0-9A-Fa-f:]+\])(:\d{1,5})?", re.ASCII)


def url_of(host: str, port: int) -> str:
    """Return the address of a server."""
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def is_loopback(host: str) -> bool:
    """Tell whether only this machine can reach `host`.

    Raises
    ------
    UsageError
        There is no such host.
    """
    try:
        found = socket.getaddrinfo(host or None, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise UsageError(f"--host {host}: {error}; expected an address of this machine") from error
    return bool(host) and all(
        ipaddress.ip_address(str(item[4][0]).split("%")[0]).is_loopback for item in found
    )


def asked_url(host_header: str, fallback: str) -> str:
    """Return the address a client used, for commands that it can copy; `fallback` where it names none.

    Nothing but a host and a port gets through: what is copied into a shell must be no command.
    """
    return f"http://{host_header}" if _HOST.fullmatch(host_header) else fallback


def is_own_name(host_header: str) -> bool:
    """Tell whether a client at this machine used a name that only this machine can have.

    A web page elsewhere can have its own name resolved to 127.0.0.1, and its script would then read what is
    served here: such a request carries the page's name.
    """
    if not _HOST.fullmatch(host_header):
        return False
    name = re.sub(r":\d+$", "", host_header).strip("[]").lower().rstrip(".")
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
