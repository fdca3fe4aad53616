"""Objects of S3 in one request each, by botocore's own client.

s3fs runs all requests in one thread, the hashing for their signatures included, and has no streams: an object
comes in ranges, and a server may read it whole for every one of them. Here each thread has its own
connection: through moto's server 2 GB are pulled and pushed in about two thirds of the time.
"""

import base64
import threading
from collections.abc import Iterator
from typing import Any

from mer_store.remote.trying import tried

#: Bytes that are taken off the network at once.
PIECE_BYTES = 1 << 20
#: Connections that are kept.
_N_CONNECTIONS = 32


class S3Objects:
    """Reads and writes objects with the settings of a file system of s3fs.

    Parameters
    ----------
    fs
        An ``s3fs.S3FileSystem``: its credentials, endpoint and timeouts are used.
    """

    def __init__(self, fs: Any) -> None:
        self._fs = fs
        self._lock = threading.Lock()
        self._client: Any = None

    def stream(self, path: str, start: int, stop: int, where: str) -> Iterator[bytes]:
        """Yield the bytes from `start` to before `stop`; a request that breaks is made again from there.

        Parameters
        ----------
        path
            ``bucket/key``.
        start, stop
            Places in the object. With `start` 0, an object that does not end at `stop` is refused.
        where
            Names the object in errors.

        Raises
        ------
        FileNotFoundError
            There is none.
        TransferError
            It cannot be read, or ends elsewhere.
        """
        stream = _Stream(self, path, start, stop)
        try:
            while stream.at < stop:
                yield tried(stream.piece, where)
        finally:
            stream.close()

    def put(self, path: str, data: bytes, sha256: str) -> None:
        """Write an object; a server that checks checksums refuses bytes that changed on their way.

        Parameters
        ----------
        path
            ``bucket/key``.
        data, sha256
            The bytes and their digest in hex.

        Raises
        ------
        OSError
            It could not be written.
        """
        checksum = base64.b64encode(bytes.fromhex(sha256)).decode()
        self.call("put_object", path, Body=data, ChecksumSHA256=checksum)

    def call(self, method: str, path: str, **settings: Any) -> dict[str, Any]:
        """Make a request about an object; its errors become those of files. Raises OSError."""
        from botocore.exceptions import ClientError
        from s3fs.errors import translate_boto_error

        bucket, _, key = path.partition("/")
        settings |= self._fs.req_kw
        try:
            answer: dict[str, Any] = getattr(self._connected(), method)(
                Bucket=bucket, Key=key, **settings
            )
        except ClientError as error:
            raise translate_boto_error(error) from error
        return answer

    def _connected(self) -> Any:
        """Return the client. It may be used by many threads; making it takes a tenth of a second."""
        with self._lock:
            if self._client is None:
                self._client = _connect(self._fs)
        return self._client


class _Stream:
    """One object on its way."""

    def __init__(self, objects: S3Objects, path: str, start: int, stop: int) -> None:
        self.at = start
        self._objects, self._path, self._stop = objects, path, stop
        self._body: Any = None

    def piece(self) -> bytes:
        """Return the next bytes; after an error, another call asks for them again."""
        try:
            if self._body is None:
                self._body = self._open()
            data: bytes = self._body.read(min(PIECE_BYTES, self._stop - self.at))
            if not data:
                raise OSError(f"ended at byte {self.at}; expected {self._stop} bytes")
        except BaseException:
            self.close()
            raise
        self.at += len(data)
        return data

    def _open(self) -> Any:
        """Ask for what is left."""
        part = {"Range": f"bytes={self.at}-{self._stop - 1}"} if self.at else {}
        answer = self._objects.call("get_object", self._path, **part)
        n_bytes = answer["ContentLength"]
        if n_bytes != self._stop - self.at:
            answer["Body"].close()
            raise OSError(f"expected {self._stop - self.at} bytes from {self.at}, got {n_bytes}")
        return answer["Body"]

    def close(self) -> None:
        """Give the connection back, or up where something is left on it."""
        if self._body is not None:
            self._body.close()
            self._body = None


def _connect(fs: Any) -> Any:
    """Make a client as s3fs makes its own."""
    from botocore import UNSIGNED
    from botocore.config import Config
    from botocore.session import Session

    config = {name: value for name, value in fs.config_kwargs.items() if name != "connector_args"}
    config["max_pool_connections"] = _N_CONNECTIONS
    own = {
        "aws_access_key_id": fs.key,
        "aws_secret_access_key": fs.secret,
        "aws_session_token": fs.token,
        "endpoint_url": fs.endpoint_url,
        "use_ssl": fs.use_ssl,
    }
    settings = {name: value for name, value in own.items() if value is not None} | fs.client_kwargs
    if fs.anon:
        config["signature_version"] = UNSIGNED
        settings = {k: v for k, v in settings.items() if not k.startswith("aws_")}
    return Session(**fs.kwargs).create_client("s3", config=Config(**config), **settings)
