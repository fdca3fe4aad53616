"""The web server: read only, one address, any number of clients at once."""

import asyncio
import logging
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from os import PathLike

from aiohttp import web
from aiohttp.typedefs import Handler

from mer_store.errors import MerStoreError, UsageError
from mer_store.store.store import Store
from pipelines.serve.address import asked_url, is_loopback, is_own_name, url_of
from pipelines.serve.page import Page
from pipelines.serve.ranges import OutsideError, asked_range, is_known
from pipelines.serve.tally import Tally
from pipelines.serve.visible import Content, NotVisibleError, Visible

BLOCK_BYTES = 1 << 20
"""Read and sent at once: a few of them bound the memory that a client costs."""
SHUTDOWN_S = 1.0
"""How long transfers may go on after Ctrl-C; then they are broken off within as long again."""
LASTING = "private, max-age=31536000, immutable"
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; img-src data:",
}
_log = logging.getLogger(__name__)


class Server:
    """Answers for one store.

    Parameters
    ----------
    store
        What is served; it may grow meanwhile.
    host, port
        Where to listen; port 0 takes a free one.
    """

    def __init__(self, store: Store, host: str, port: int) -> None:
        self.tally = Tally()
        self.url = ""
        """Once it runs."""
        self._visible = Visible(store)
        self._page = Page(store)
        self._host, self._port = host, port
        self._is_private = is_loopback(host)

    async def run(self, stop: asyncio.Event, started: Callable[[str], None]) -> None:
        """Serve until `stop` is set; `started` is called with the address.

        Raises
        ------
        UsageError
            The address is taken or not this machine's.
        """
        app = web.Application(middlewares=[self._answer])
        app.router.add_route("*", "/{path:.*}", self._get)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=SHUTDOWN_S)
        await runner.setup()
        try:
            try:
                await web.TCPSite(runner, self._host, self._port).start()
            except OSError as error:
                raise UsageError(
                    f"{url_of(self._host, self._port)}: {error.strerror}; choose another --port "
                    f"(0 takes a free one) or --host"
                ) from error
            self.url = url_of(*runner.addresses[0][:2])
            started(self.url)
            await stop.wait()
        finally:
            await runner.cleanup()

    @web.middleware
    async def _answer(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Turn errors into text that says what to do, and count."""
        self.tally.ask(request.remote)
        try:
            self._check(request)
            response = await handler(request)
        except web.HTTPException as refusal:
            response = _said(
                refusal.status, refusal.text or refusal.reason, refusal.headers.get("Allow")
            )
        except (NotVisibleError, FileNotFoundError, NotADirectoryError) as error:
            words = (
                str(error) if isinstance(error, NotVisibleError) else f"{request.path}: not here"
            )
            response = _said(404, words)
        except (MerStoreError, OSError) as error:
            _log.warning("%s: %s", request.path, error)
            response = _said(
                500,
                f"{request.path}: cannot be served, the store is damaged or unreadable here. Its owner sees "
                f"why on the terminal of `mer-store serve`, and by `mer-store verify`",
            )
        self.tally.answer(response.status)
        return response

    def _check(self, request: web.Request) -> None:
        if request.method not in {"GET", "HEAD"}:
            raise web.HTTPMethodNotAllowed(
                request.method,
                ["GET", "HEAD"],
                text="this store is read only here; to add to it use `mer-store push` to a folder or bucket",
            )
        if self._is_private and not is_own_name(request.host):
            raise web.HTTPMisdirectedRequest(
                text="this server answers to localhost and to IP addresses only. Ask for it as "
                "http://127.0.0.1:PORT; a proxy must send that as the Host"
            )

    async def _get(self, request: web.Request) -> web.StreamResponse:
        path = request.path.removeprefix("/")
        if not path:
            url = asked_url(request.host, self.url)
            text = await asyncio.to_thread(self._page.html, url)
            return await self._send(request, Content.of(text.encode()), "text/html; charset=utf-8")
        content = await asyncio.to_thread(self._visible.find, path)
        try:
            kind = "application/json" if path.endswith(".json") else "application/octet-stream"
            return await self._send(request, content, kind)
        finally:
            content.close()

    async def _send(self, request: web.Request, content: Content, kind: str) -> web.StreamResponse:
        """Send what is asked for of `content`."""
        etag, n_bytes = f'"{content.sha256}"', content.n_bytes
        lasting = LASTING if content.lasting else "no-cache"
        response = web.StreamResponse(
            headers=HEADERS
            | {
                "Content-Type": kind,
                "ETag": etag,
                "Accept-Ranges": "bytes",
                "Cache-Control": lasting,
            }
        )
        if is_known(request.headers, etag):
            response.set_status(304)
            start = end = 0
        else:
            headers = request.headers if request.method == "GET" else {}
            try:
                span = asked_range(headers, etag, n_bytes)
            except OutsideError:
                refused = _said(416, f"{request.path}: has {n_bytes} bytes")
                refused.headers["Content-Range"] = f"bytes */{n_bytes}"
                return refused
            start, end = span or (0, n_bytes)
            if span:
                response.set_status(206)
                response.headers["Content-Range"] = f"bytes {start}-{end - 1}/{n_bytes}"
            response.content_length = end - start
        with suppress(ConnectionError):  # the client went away
            await response.prepare(request)
            if request.method == "GET":
                await self._stream(request, response, content, start, end)
            await response.write_eof()
        return response

    async def _stream(
        self,
        request: web.Request,
        response: web.StreamResponse,
        content: Content,
        start: int,
        end: int,
    ) -> None:
        while start < end:
            block = await asyncio.to_thread(content.read, start, min(BLOCK_BYTES, end - start))
            if (
                not block
            ):  # cut meanwhile: too late for a status, so the client must see a broken answer
                _log.warning("%s: ends at byte %d, expected %d", request.path, start, end)
                if request.transport is not None:
                    request.transport.abort()
                raise ConnectionAbortedError
            await response.write(block)
            start += len(block)
            self.tally.n_bytes += len(block)


def _said(status: int, words: str, allow: str | None = None) -> web.Response:
    headers = HEADERS | ({"Allow": allow} if allow else {})
    return web.Response(status=status, text=f"{words}\n", headers=headers)


def serve(store: Store, host: str, port: int, started: Callable[[str], None]) -> Tally:
    """Serve until SIGINT or SIGTERM; `started` is called with the address."""
    server = Server(store, host, port)

    async def run() -> None:
        stop = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        await server.run(stop, started)

    asyncio.run(run())
    return server.tally


@contextmanager
def serving(
    store_path: str | PathLike[str], host: str = "127.0.0.1", port: int = 0
) -> Iterator[str]:
    """Serve a store from a thread while the block runs; yield the address, without a slash at its end."""
    server = Server(Store.open(store_path), host, port)
    started: Future[tuple[str, Callable[[], None]]] = Future()

    async def run() -> None:
        stop, loop = asyncio.Event(), asyncio.get_running_loop()

        def end() -> None:
            loop.call_soon_threadsafe(stop.set)

        await server.run(stop, lambda url: started.set_result((url, end)))

    def work() -> None:
        try:
            asyncio.run(run())
        except BaseException as error:
            if started.done():
                raise
            started.set_exception(error)

    thread = threading.Thread(target=work, name="serve", daemon=True)
    thread.start()
    url, end = started.result()
    try:
        yield url
    finally:
        end()
        thread.join()
