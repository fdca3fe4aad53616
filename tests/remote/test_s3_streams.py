"""Objects in one stream: whole, from any place on, and never another length than was asked for."""

import hashlib

import numpy as np
import pytest
from remote.stores import bucket_at

from mer_store.remote.s3 import PIECE_BYTES
from mer_store.remote.trying import TransferError


@pytest.fixture
def stored(s3):
    """Return a bucket with an object of two and a half pieces, and its bytes."""
    data = np.random.default_rng(0).bytes(PIECE_BYTES * 5 // 2)
    bucket = bucket_at(s3.url)
    bucket.put_whole("folder/it", data, hashlib.sha256(data).hexdigest())
    return bucket, data


def _read(bucket, start, stop, name="folder/it"):
    return b"".join(bucket.stream(name, start, stop))


@pytest.mark.parametrize("start", [0, 1, PIECE_BYTES, PIECE_BYTES * 5 // 2 - 1])
def test_the_bytes_from_any_place_to_the_end(stored, start):
    bucket, data = stored
    assert _read(bucket, start, len(data)) == data[start:]


@pytest.mark.parametrize("wrong", [-1, 1])
def test_an_object_that_ends_elsewhere_is_refused(stored, wrong):
    bucket, data = stored
    with pytest.raises(TransferError, match="expected"):
        _read(bucket, 0, len(data) + wrong)


def test_a_missing_object_is_missing(stored):
    with pytest.raises(FileNotFoundError):
        _read(stored[0], 0, 10, "folder/other")


def test_a_stream_that_breaks_goes_on_where_it_was(stored, monkeypatch):
    bucket, data = stored
    calls, asked = bucket.s3.call, []

    def call(method, path, **settings):
        asked.append(settings.get("Range"))
        answer = calls(method, path, **settings)
        if len(asked) < 3:
            answer["Body"] = _Breaks(answer["Body"])
        return answer

    monkeypatch.setattr(bucket.s3, "call", call)
    assert _read(bucket, 0, len(data)) == data
    last = len(data) - 1
    assert asked == [None, f"bytes={PIECE_BYTES}-{last}", f"bytes={2 * PIECE_BYTES}-{last}"]


def test_where_there_are_only_ranges_there_is_no_stream(tmp_path):
    assert bucket_at(f"memory://{tmp_path.name}").stream("it", 0, 1) is None


class _Breaks:
    """A body whose connection breaks after a piece."""

    def __init__(self, body):
        self._body, self._n_left = body, 1

    def read(self, n_bytes):
        if not self._n_left:
            raise ConnectionResetError("by the test")
        self._n_left -= 1
        return self._body.read(n_bytes)

    def close(self):
        self._body.close()
