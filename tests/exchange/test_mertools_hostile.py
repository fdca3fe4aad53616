"""Files that are no features, or are made to harm: refused one by one, and the others go on."""

import os
import pickle
import struct

import numpy as np
import pytest
from mertools_factory import new_store, save

from mer_store.store.ledger import Status
from pipelines.exchange import npy
from pipelines.exchange.mertools_import import import_mertools
from pipelines.exchange.options import ImportOptions

GOOD = np.arange(1, 5, dtype=np.float32)


class Runs:
    def __reduce__(self):
        return os.mkdir, ("ran",)


def npy_file(head: bytes, body: bytes = b"", version: bytes = b"\x01\x00") -> bytes:
    length = struct.pack("<H" if version == b"\x01\x00" else "<I", len(head))
    return b"\x93NUMPY" + version + length + head + body


def head(descr="'<f4'", shape="(4,)", order="False") -> bytes:
    return f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}\n".encode()


BODY = GOOD.tobytes()
BAD = {
    "object": (npy_file(head("'|O'", "()"), pickle.dumps(Runs())), "a pickle, which is never read"),
    "pickle": (pickle.dumps(Runs()), "not a .npy file"),
    "nothing": (b"", "not a .npy file"),
    "text": (b"0.1 0.2 0.3", "not a .npy file"),
    "cut": (npy_file(head(), BODY[:-1]), "truncated: expected 16 bytes"),
    "long": (npy_file(head(), BODY + b"x"), "too long"),
    "cut_head": (npy_file(head())[:40], "not a .npy file"),
    "huge_shape": (npy_file(head(shape="(1000000000000, 1000000)"), BODY), "truncated"),
    "huge_head": (npy_file(b"(" * 60_000), "not a .npy file"),
    "huge_head_2": (npy_file(b" " * 2_000_000, version=b"\x02\x00"), "not a .npy file"),
    "claimed_head": (b"\x93NUMPY\x02\x00" + struct.pack("<I", 2**32 - 1), "not a .npy file"),
    "nested_head": (npy_file(b"[" * 9000), "not a .npy file"),
    "code_head": (npy_file(b"__import__('os').mkdir('ran')"), "not a .npy file"),
    "negative": (npy_file(head(shape="(-4,)"), BODY), "expected the shape"),
    "boolean_shape": (npy_file(head(shape="(True, 4)"), BODY), "expected the shape"),
    "four_axes": (npy_file(head(shape="(1, 1, 1, 4)"), BODY), "expected the shape"),
    "three_axes": (npy_file(head(shape="(2, 1, 2)"), BODY), "expected the shape"),
    "no_axes": (npy_file(head(shape="()"), BODY[:4]), "expected the shape"),
    "integers": (npy_file(head("'<i4'"), BODY), "expected floats of 2, 4 or 8 bytes"),
    "complex": (npy_file(head("'<c8'", "(2,)"), BODY), "expected floats"),
    "fields": (npy_file(head("[('a', '<f4')]"), BODY), "expected floats"),
    "objects_in_fields": (npy_file(head("[('a', '|O')]"), BODY), "a pickle"),
    "version_9": (npy_file(head(), BODY, b"\x09\x00"), "not a .npy file"),
    "archive": (b"PK\x03\x04" + bytes(100), "not a .npy file"),
    "nan": (npy_file(head(), np.full(4, np.nan, np.float32).tobytes()), "non-finite values"),
    "narrow": (npy_file(head(shape="(3,)"), BODY[:12]), "D of 3, the others have 4"),
}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path / "in/features/x-UTT"


def bring(folder):
    store = new_store(folder.parents[2])
    options = ImportOptions(modality="audio", name="x-UTT")
    code = import_mertools(folder.parents[1], store, None, options)
    [features] = store.feature_sets()
    return code, features


def test_each_is_refused_with_its_reason_and_the_others_are_stored(folder, tmp_path):
    for clip_id in ("a_good", "m_good", "z_good", "zz_good"):
        save(folder, clip_id, GOOD)
    for clip_id, (data, _) in BAD.items():
        (folder / f"{clip_id}.npy").write_bytes(data)
    code, features = bring(folder)
    ledger = features.ledger(list(BAD))
    reasons = dict(zip(BAD, ledger.reasons, strict=True))
    assert [reasons[name] for name, (_, words) in BAD.items() if words not in reasons[name]] == []
    assert set(ledger.status.tolist()) == {Status.FAILED}
    assert (code, features.clip_ids) == (1, ("a_good", "m_good", "z_good", "zz_good"))
    assert not (tmp_path / "ran").exists()


def test_what_is_no_plain_file_is_not_waited_for(folder):
    save(folder, "good", GOOD)
    os.mkfifo(folder / "pipe.npy")
    (folder / "folder.npy").mkdir()
    (folder / "nowhere.npy").symlink_to("gone")
    (folder / "zero.npy").symlink_to("/dev/zero")
    code, features = bring(folder)
    assert (code, features.clip_ids) == (1, ("good",))
    reasons = features.ledger(["pipe", "folder", "nowhere", "zero"]).reasons
    assert reasons[0] == reasons[3] == "not a plain file"
    assert reasons[1] in ("not a plain file", "cannot be read: Is a directory")
    assert reasons[2] == "cannot be read: No such file or directory"


def test_a_file_above_the_limit_is_not_read(folder, monkeypatch):
    save(folder, "good", GOOD)
    save(folder, "large", np.ones(400, np.float32))
    monkeypatch.setattr(npy, "MAX_BYTES", 1000)
    code, features = bring(folder)
    assert (code, features.clip_ids) == (1, ("good",))
    assert features.ledger(["large"]).reasons[0] == "1728 bytes: expected at most 1000"


def test_names_that_can_be_no_clip_are_left_out(folder, capsys):
    save(folder, "good", GOOD)
    for name in (b"bad\xff.npy", b"bad\n.npy", b"bad:.npy"):
        (folder / os.fsdecode(name)).write_bytes(b"")
    code, features = bring(folder)
    assert (code, features.clip_ids) == (0, ("good",))
    told = capsys.readouterr().err
    assert r"extra: 3 files of clips that are not listed: 'bad\n', bad:, 'bad\udcff'" in told
