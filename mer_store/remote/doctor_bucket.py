"""What an object store, a host or a web server promises."""

import os
import secrets
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import replace
from threading import Barrier

from mer_store.remote.address import Address
from mer_store.remote.bucket import Bucket
from mer_store.remote.doctor import BrokenPromiseError, Diagnosis, Trial, attempt, expect
from mer_store.remote.layout import INDEX_FILE, MAX_INDEX_BYTES, STORE_FILE
from mer_store.store.layout import MAX_SMALL_BYTES

#: Bytes of the object that ranges are tried on, and pieces of the one that is written in parts.
N_BYTES, PIECE_BYTES, N_PIECES = 100_000, 8 << 20, 5
N_AT_ONCE = 8
N_CLEANINGS, CLEANING_WAIT_S = 4, 0.5
SETTINGS = {
    "s3": "keys come from AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY; a server that is not "
    "Amazon's is named by AWS_ENDPOINT_URL (or endpoint_url in ~/.aws/config, or FSSPEC_S3_ENDPOINT_URL)",
    "gs": "keys come from `gcloud auth application-default login` or GOOGLE_APPLICATION_CREDENTIALS",
    "ssh": "keys come from your ssh agent or ~/.ssh; `ssh HOST` must work without a question",
    "hf": "the token comes from `hf auth login` or HF_TOKEN",
}


def examine_bucket(bucket: Bucket) -> Diagnosis:
    """Try what a remote promises that is no folder of this machine's."""
    if bucket.address.is_read_only or bucket.address.protocol == "hf":
        return _examine_reading(bucket)
    return _examine_writing(bucket)


def _settings(protocol: str) -> tuple[str, ...]:
    """Return how a client is told its keys, for advice."""
    words = SETTINGS.get(protocol) or SETTINGS.get({"gcs": "gs", "sftp": "ssh"}.get(protocol, ""))
    return (words,) if words else ()


# ---- remotes that are only read --------------------------------------------------------------------


def _examine_reading(bucket: Bucket) -> Diagnosis:
    protocol = bucket.address.protocol

    def index() -> str:
        return f"{len(bucket.get(INDEX_FILE, MAX_INDEX_BYTES))} bytes"

    def store() -> str:
        return bucket.get(STORE_FILE, MAX_SMALL_BYTES).decode("utf-8", "replace").strip()[:80]

    trials = [
        attempt(f"it is a store ({STORE_FILE})", store),
        attempt(f"it lists its parts ({INDEX_FILE})", index, needed=bucket.address.is_read_only),
    ]
    if trials[0].kept:
        data = bucket.get(STORE_FILE, MAX_SMALL_BYTES)
        trials += _ranges(bucket, STORE_FILE, data)
    kind = "" if bucket.address.is_read_only else ", and `mer-store push` writes one commit a file"
    verdict = f"safe: clone, pull and reading in place{kind}"
    advice: tuple[str, ...] = ()
    if not trials[0].kept or not trials[1].kept:
        verdict = "not usable: there is no store to read"
        advice = (
            "push to the bucket or folder that this address shows, or run `mer-store serve` there",
            *_settings(protocol),
        )
    elif not trials[-1].kept:
        verdict = "works, at a price: whole files come where a piece is asked for"
        advice = ("serve it by something that answers ranges: nginx, caddy or `mer-store serve`",)
    elif not all(trial.kept for trial in trials if trial.needed):
        verdict = "not safe: pieces of files come wrong"
    return Diagnosis(str(bucket.address), tuple(trials), verdict, advice)


def _ranges(bucket: Bucket, path: str, data: bytes) -> list[Trial]:
    """Try ranges of an object."""
    n_bytes = len(data)
    spans = {(0, 1), (n_bytes // 3, n_bytes // 2), (n_bytes - 1, n_bytes)}

    def exact() -> str:
        for start, stop in sorted(spans):
            expect(bucket.get_range(path, start, stop), data[start:stop], f"bytes {start}-{stop}")
        return "front, middle and end are exact"

    def beyond() -> str:
        try:
            got = bucket.read(path, n_bytes + 5, n_bytes + 9)
        except Exception as error:  # noqa: BLE001 - each client has a refusal of its own
            return f"refused ({type(error).__name__})"
        expect(len(got), 0, "bytes")
        return "an empty answer"

    def only() -> str:
        stop = n_bytes // 2
        got = bucket.read(path, stop // 2, stop)
        expect(len(got), stop - stop // 2, "bytes that came for a piece")
        return "no byte more than asked for"

    return [
        attempt("pieces of objects can be read", exact),
        attempt("nothing comes from beyond the end", beyond, needed=False),
        attempt("a piece comes alone", only, needed=False),
    ]


# ---- remotes that are written, too -----------------------------------------------------------------


@contextmanager
def _scratch(bucket: Bucket) -> Iterator[Bucket]:
    """Give a place below the remote that nothing else uses; empty it afterwards."""
    address = bucket.address
    own = Bucket(Address(f"{address.url}/doctor-{secrets.token_hex(8)}", address.protocol))
    try:
        yield own
    finally:
        with suppress(Exception):  # where even that fails, what was found matters more
            _empty(own)


def _empty(own: Bucket) -> None:
    """Remove all objects, and the folders that some remotes keep."""
    for number in range(N_CLEANINGS):
        names = own.sizes("")
        if not names:
            break
        time.sleep(CLEANING_WAIT_S * number)  # what was broken off may go by itself meanwhile
        for name in names:
            with suppress(Exception):
                own.remove(name)
    with suppress(Exception):
        own.fs.rm(own.root, recursive=True)


def _examine_writing(bucket: Bucket) -> Diagnosis:
    data = os.urandom(N_BYTES)
    with _scratch(bucket) as own:

        def write() -> str:
            own.overwrite("x", data)
            return f"{len(data)} bytes"

        first = attempt("objects can be written", write)
        trials = [first, *_trials(own, data)] if first.kept else []
    return _judge(bucket, trials) if trials else _examine_what_cannot_be_written(bucket, first)


def _examine_what_cannot_be_written(bucket: Bucket, refused: Trial) -> Diagnosis:
    settings = _settings(bucket.address.protocol)
    if not attempt("", lambda: bucket.get(STORE_FILE, MAX_SMALL_BYTES).decode("latin1")).kept:
        verdict = "not usable: nothing can be written here, and there is no store to read"
        return Diagnosis(str(bucket.address), (refused,), verdict, settings)
    found = _examine_reading(bucket)
    trials = (replace(refused, needed=False), *found.trials)
    return replace(found, trials=trials, advice=("this user cannot push here", *settings))


def _trials(own: Bucket, data: bytes) -> list[Trial]:
    def read() -> str:
        expect(own.get("x", N_BYTES) == data, True, "the bytes that were written")
        return "read back at once, the same"

    def listed() -> str:
        for number in range(5):
            own.overwrite(f"list/{number}", b"x")
            expect(sorted(own.names("list")), [str(n) for n in range(number + 1)], "names")
        expect(own.names("")["x"], N_BYTES, "size")
        return "a new object is listed at once, with its size"

    def overwritten() -> str:
        for number in range(5):
            own.overwrite("again", b"%d" % number)
            expect(own.get("again", 10), b"%d" % number, "content")
        return "the new content is seen at once"

    def removed() -> str:
        own.overwrite("gone", b"x")
        own.remove("gone")
        expect((own.exists("gone"), "gone" in own.names("")), (False, False), "there, listed")
        return "gone at once"

    return [
        attempt("what was written can be read", read),
        attempt("objects are listed", listed),
        *_ranges(own, "x", data),
        attempt("an object appears whole or not at all", lambda: _whole(own)),
        attempt("a large object is written in parts", lambda: _large(own)),
        attempt("two writers never mix", lambda: _two(own)),
        attempt("an object can be written over", overwritten),
        attempt("an object can be removed", removed, needed=False),
        attempt("conditional writes have one winner", lambda: _conditional(own), needed=False),
    ]


def _whole(own: Bucket) -> str:
    """Break a write off when its first part was sent."""

    def pieces() -> Iterator[bytes]:
        for number in range(N_PIECES):
            expect(own.exists("broken"), False, f"visible after {number} pieces")
            yield bytes(PIECE_BYTES)
        raise KeyError

    try:
        own.put("broken", pieces())
    except KeyError:
        expect(own.exists("broken"), False, "visible after it was broken off")
        return "a write that breaks off leaves nothing"
    raise BrokenPromiseError("a write that broke off was not noticed")


def _large(own: Bucket) -> str:
    piece = os.urandom(PIECE_BYTES)
    own.tried(lambda: own.put("large", [piece] * N_PIECES), "large")
    size = N_PIECES * PIECE_BYTES
    expect(own.sizes("")["large"], size, "size")
    seam = own.get_range("large", 4 * PIECE_BYTES - 5, 4 * PIECE_BYTES + 5)
    expect(seam, piece[-5:] + piece[:5], "bytes at a seam")
    return f"{size / 1e6:.0f} MB, whole"


def _two(own: Bucket) -> str:
    contents = [bytes([letter]) * N_BYTES for letter in b"ab"]
    gate = Barrier(2)

    def write(content: bytes) -> None:
        gate.wait(60)
        own.overwrite("two", content)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(write, contents))
    expect(own.get("two", N_BYTES) in contents, True, "one of both whole")
    return "one of both stays, whole"


def _conditional(own: Bucket) -> str:
    own.overwrite("taken", b"first")
    again = own.create("taken", b"second")
    gate = Barrier(N_AT_ONCE)

    def write(number: int) -> bool:
        gate.wait(60)
        return own.create("new", b"%d" % number)

    with ThreadPoolExecutor(N_AT_ONCE) as pool:
        n_won = sum(pool.map(write, range(N_AT_ONCE)))
    if again or n_won > 1:
        raise BrokenPromiseError(
            f"ignored here: {n_won} of {N_AT_ONCE} writers of one name at once succeeded"
        )
    return f"1 of {N_AT_ONCE} at once"


def _judge(bucket: Bucket, trials: list[Trial]) -> Diagnosis:
    """Say what follows."""
    name, advice = str(bucket.address), []
    failed = [trial.promise for trial in trials if trial.needed and not trial.kept]
    kept = {trial.promise: trial.kept for trial in trials}
    if failed:
        verdict = f"not safe: it is not kept that {'; '.join(failed)}"
        advice.append("share by a bucket, host or folder that keeps it, or by `mer-store serve`")
        return Diagnosis(name, tuple(trials), verdict, tuple(advice))
    verdict = "safe: push and pull by any number of members at once"
    if not kept["conditional writes have one winner"]:
        advice.append(
            "conditional writes are ignored here: two members who push the same part at the same moment both "
            "succeed. The store stays right, because a part's files are named by their content and either "
            "record is true; nothing needs to be set up"
        )
    if not kept["an object can be removed"]:
        advice.append(
            f"nothing can be removed here by this user, which protects what is shared; the trial's own "
            f"objects stay under {name}/doctor-…"
        )
    if not kept["a piece comes alone"]:
        advice.append(
            "whole objects come where a piece is asked for: pull whole parts, do not read in place"
        )
    return Diagnosis(name, tuple(trials), verdict, tuple(advice))
