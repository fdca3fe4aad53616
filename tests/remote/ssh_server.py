"""A host to share through: an SSH server of this machine that serves files below a folder."""

import asyncio
import sys
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import asyncssh

USER = "member"


@dataclass
class Host:
    """An SSH server that is running."""

    home: Path
    """Holds the ``.ssh`` folder of a user whom the server knows, and who knows the server."""
    port: int = 0
    connections: list = field(default_factory=list)
    loop: asyncio.AbstractEventLoop | None = None

    @property
    def url(self):
        """Its root."""
        return f"ssh://{USER}@127.0.0.1:{self.port}"

    def drop(self):
        """Break every connection off, as a network does."""
        for connection in list(self.connections):
            self.loop.call_soon_threadsafe(connection.abort)


@contextmanager
def ssh_server(folder):
    """Run the server until the block ends."""
    host, root = Host(folder / "home"), folder / "files"
    root.mkdir(parents=True)
    keys = host.home / ".ssh"
    keys.mkdir(parents=True)
    own, user = (asyncssh.generate_private_key("ssh-ed25519") for _ in range(2))
    user.write_private_key(str(keys / "id_ed25519"))
    known = asyncssh.import_authorized_keys(user.export_public_key().decode())

    class Server(asyncssh.SSHServer):
        def connection_made(self, connection):
            host.connections.append(connection)

    async def start():
        server = await asyncssh.listen(
            "127.0.0.1", 0, server_host_keys=[own], authorized_client_keys=known,
            server_factory=Server, sftp_factory=lambda channel: _files(channel, root),
        )  # fmt: skip
        host.port = server.get_port()
        return server

    host.loop = asyncio.new_event_loop()
    thread = threading.Thread(target=host.loop.run_forever, daemon=True)
    thread.start()
    server = asyncio.run_coroutine_threadsafe(start(), host.loop).result(30)
    public = own.export_public_key().decode()
    (keys / "known_hosts").write_text(f"[127.0.0.1]:{host.port} {public}")
    try:
        yield host
    finally:
        asyncio.run_coroutine_threadsafe(_stop(server, host), host.loop).result(30)
        host.loop.call_soon_threadsafe(host.loop.stop)
        thread.join(30)
        host.loop.close()


async def _stop(server, host):
    server.close()
    for connection in host.connections:
        connection.abort()
    await server.wait_closed()
    await asyncio.gather(*(connection.wait_closed() for connection in host.connections))


def _files(channel, root):
    return asyncssh.SFTPServer(channel, chroot=str(root).encode())


if __name__ == "__main__":  # tried by hand
    with ssh_server(Path(sys.argv[1])) as running:
        print(running.url)
        threading.Event().wait()
