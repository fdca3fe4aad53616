"""How fsspec's clients of each protocol are set up."""

from typing import Any

#: No byte for so long: the connection is given up and the request made again.
STALL_S = 30.0
#: Protocols of files on a host. Their client knows one connection, and no other once that is lost.
HOSTS = ("ssh", "sftp")


def client_options(protocol: str) -> dict[str, Any]:
    """Return what a client is made with: nothing cached, stalls noticed."""
    options: dict[str, Any] = {"skip_instance_cache": True}
    if protocol in HOSTS:  # what fsspec does not know goes to the client
        # As `ssh` does: the host's key must be known.
        return options | {
            "known_hosts": (),
            "connect_timeout": STALL_S,
            "keepalive_interval": STALL_S / 3,
        }
    options["use_listings_cache"] = False
    if protocol == "s3":
        options["config_kwargs"] = {
            "read_timeout": STALL_S,
            "connect_timeout": STALL_S,
            "retries": {"total_max_attempts": 2, "mode": "standard"},
            "max_pool_connections": 32,
            # Some servers answer a range with the checksum of the whole object. All is checked here anyway.
            "response_checksum_validation": "when_required",
        }
    if protocol in ("http", "https"):
        import aiohttp

        options["client_kwargs"] = {
            "timeout": aiohttp.ClientTimeout(total=None, sock_read=STALL_S, sock_connect=STALL_S)
        }
    return options


def write_options(protocol: str) -> dict[str, Any]:
    """Return what an object is opened with to be written: the size of the pieces that are sent."""
    return {"block_size": 8 * 2**20} if protocol in ("s3", "gs", "gcs") else {}
