"""Tries everything that reads a store on each of many, in one process with little memory.

Reads folders from stdin, one a line; prints what became of each, a line of JSON each.
"""

import contextlib
import hashlib
import io
import json
import resource
import signal
import sys
import traceback
from pathlib import Path

CASE_S = 20
MAX_BYTES = 5 << 29  # 2.5 GiB


class HangError(BaseException):
    """It took too long."""


def peak_kib():
    """Return the most memory this program held. `getrusage` would count the process that started it."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0])


def hang(*_):
    raise HangError


def tried(action):
    """Return [what came out] or what it raised: kind and text; a kind that ends in ! is nobody's to see."""
    from mer_store.errors import MerStoreError

    try:
        return {"value": action()}
    except MerStoreError as error:
        return {"refused": str(error)}
    except HangError:
        raise
    except BaseException:  # noqa: BLE001
        return {"raw": traceback.format_exc()}


def reading(feature_set):
    """Return the ways of reading a feature set; each gives something with a digest."""
    import numpy as np

    layers = [18, 19]

    def ids():
        return [c for c in feature_set.clip_ids if c.startswith("clip")]

    def digest(arrays):
        return hashlib.sha256(
            b"".join(np.ascontiguousarray(a).tobytes() for a in arrays)
        ).hexdigest()

    def pieces():
        found = {}
        for clip_ids, offsets, arrays in feature_set.iter_parts(layers):
            for n, clip_id in enumerate(clip_ids):
                rows = slice(offsets[n], offsets[n + 1])
                found[clip_id] = [arrays[layer][rows] for layer in layers]
        return digest(a for clip_id in sorted(found) for a in found[clip_id])

    return {
        "ids": lambda: list(feature_set.clip_ids),
        "ledger": lambda: [[c, int(s), r] for c, s, r in feature_set.outcomes()],
        "ragged": lambda: digest(feature_set.ragged(layers, ids())),
        "backwards": lambda: digest(feature_set.ragged(layers, ids()[::-1])),
        "pieces": pieces,
        "located": lambda: digest([feature_set.locate(layers, ids()).read()]),
        "table": lambda: digest(a for t in feature_set.table("images", ids()) for a in t.values()),
    }


def command(*words):
    from mer_store.cli.main import main

    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(out):
        try:
            main([*words])
        except SystemExit as end:
            return {"code": end.code, "text": out.getvalue()[-2000:]}
    return {"code": 0, "text": out.getvalue()[-2000:]}


def attempt(folder):
    from mer_store.store.store import Store
    from mer_store.store.verify import verify

    opened = tried(lambda: Store.open(folder).feature_sets())
    found = {"read": {}}
    for feature_set in opened.pop("value", []):
        found["read"] |= {name: tried(action) for name, action in reading(feature_set).items()}
    found["open"] = opened
    found["verify"] = tried(lambda: list(map(str, verify(Store.open(folder), deep=True))))
    found["again"] = tried(lambda: Store.open(folder).features("audio").index.layers)
    found["status"] = tried(lambda: command("status", "--store", folder))
    found["verify command"] = tried(lambda: command("verify", "--deep", "--store", folder))
    found["sweep"] = tried(lambda: Store.open(folder).sweep().part_ids)
    found["write"] = tried(lambda: written(Store.open(folder)))
    return found


def written(store):
    from part_factory import make_spec, write_part

    return write_part(store.ensure(make_spec()), {"new": 1}).part_id


def main():
    resource.setrlimit(resource.RLIMIT_AS, (MAX_BYTES, MAX_BYTES))
    signal.signal(signal.SIGALRM, hang)
    for line in sys.stdin:
        signal.alarm(CASE_S)
        try:
            found = attempt(line.strip())
        except HangError:
            found = {"hang": traceback.format_exc()}
        signal.alarm(0)
        found["peak_kib"] = peak_kib()
        print(json.dumps(found), flush=True)


main()
