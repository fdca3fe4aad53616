"""Labels and transcripts never leave, and names only where the licence lets them."""

import csv

import numpy as np
import pytest
from click.testing import CliRunner
from media_factory import make_wav
from part_factory import make_set, ok_clip, write_part

from mer_store.cli.main import cli
from mer_store.clips.clip_list import ClipList
from mer_store.clips.hashed_ids import IdKey
from mer_store.errors import UsageError
from mer_store.remote.address import Address
from mer_store.remote.selection import Selection
from mer_store.remote.transfer import Transfer
from mer_store.store.store import Store
from mer_store.store.verify import verify
from mer_store.store.writer import ClipRows

TEXTS = ["我没想到你会来", "别担心会好起来的", "这件事我不同意"]
LABELS = ["worry", "happiness", "surprise"]


def run(*words, code=0):
    result = CliRunner().invoke(cli, [str(word) for word in words], standalone_mode=False)
    assert result.exception is None, result.output
    assert (result.return_value or 0) == code
    return result


def everything_in(folder):
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert files
    return b"\n".join(
        path.relative_to(folder).as_posix().encode() + b"\n" + path.read_bytes() for path in files
    )


def test_no_byte_of_a_label_or_transcript_is_in_a_pushed_store(tmp_path):
    with (tmp_path / "clips.csv").open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["clip_id", "path", "text", "label", "split", "fold"])
        for number, (text, label) in enumerate(zip(TEXTS, LABELS, strict=True)):
            make_wav(tmp_path / f"c{number}.wav", 0.4, seed=number)
            rows.writerow([f"c{number}", f"c{number}.wav", text, label, "labelled", number])
        rows.writerow(["none", "gone.wav", "", "neutral", "test", ""])
    common = ["--store", tmp_path / "store", "--clips", tmp_path / "clips.csv", "--model", "tiny"]
    run("extract", "--modality", "text", *common)
    run("extract", "--modality", "audio", "--layers", "18", *common, code=1)
    run("push", tmp_path / "remote", "--store", tmp_path / "store")
    pushed = everything_in(tmp_path / "remote")
    assert b"c1" in pushed  # names are there, and would be found
    for text in TEXTS:
        for encoding in ("utf-8", "utf-16-le", "gb18030", "unicode_escape"):
            assert text.encode(encoding) not in pushed
    for word in (*LABELS, "neutral", "labelled"):
        assert word.encode() not in pushed


@pytest.fixture
def named(tmp_path):
    made = make_set(tmp_path / "named", "utterance")
    clips = [ok_clip(f"sample_{number}", (17, 18), 1) for number in range(5)]
    odd = ClipRows(
        "sample_bad", "failed", "truncated: /data/sample_bad.mp4", digest="sha256:feed", mtime_ns=7
    )
    path = ClipRows("sample_path", "empty", "/data/sample_path.mp4 is silent")
    write_part(made, [*clips, odd, path], (17, 18))
    return Store.open(tmp_path / "named")


@pytest.mark.parametrize("where", ["folder", "bucket"])
@pytest.mark.parametrize("layers", [None, "18"])
def test_hashed_names_serve_the_same_numbers(tmp_path, named, where, layers):
    key = IdKey(b"0123456789abcdef")
    url = str(tmp_path / "remote") if where == "folder" else f"memory://{tmp_path.name}"
    for n_parts in (1, 0):  # a second push finds all of it there
        with Transfer() as transfer:
            _, moved = transfer.push(named, Address.parse(url), Selection(layers=layers), key)
        assert (moved.n_parts, moved.problems) == (n_parts, ())
    pulled = Store.create(tmp_path / "pulled")
    with Transfer() as transfer:
        transfer.pull(pulled, Address.parse(url), Selection())
    assert verify(pulled, deep=True) == []
    data = everything_in(tmp_path / "pulled")
    for told in (b"sample_", b"/data", b".mp4", b"sha256:feed"):
        assert told not in data
    theirs, ours = pulled.features("audio"), named.features("audio")
    names = [f"sample_{number}" for number in range(5)]
    hashed = [key.hash_id(name) for name in names]
    np.testing.assert_array_equal(theirs.read([18], hashed), ours.read([18], names))
    ledger = theirs.ledger([key.hash_id("sample_bad"), key.hash_id("sample_path")])
    assert ledger.reasons == ["truncated", "empty (not told)"]
    assert theirs.layers == ((17, 18) if layers is None else (18,))


def test_a_clip_list_is_hashed_with_the_same_key(tmp_path, named):
    clips = tmp_path / "clips.csv"
    clips.write_text(
        "clip_id,path,text,label,split,fold\nsample_1,sample_1.mp4,你好,worry,labelled,2\n",
        encoding="utf-8",
    )
    run("push", tmp_path / "remote", "--no-ids", "--store", named.path)
    key = named.path / "id-key"
    assert key.stat().st_mode & 0o777 == 0o600
    assert not (tmp_path / "remote" / "id-key").exists()
    run("clips", "hash", clips, "--id-key", key, "-o", tmp_path / "hashed.csv")
    [clip] = ClipList.read(tmp_path / "hashed.csv").clips
    assert (clip.path, clip.text, clip.label, clip.fold) == (None, None, "worry", 2)
    pushed = Store.open(tmp_path / "remote").features("audio")
    assert clip.clip_id in pushed.clip_ids
    assert b"sample_1" not in (tmp_path / "hashed.csv").read_bytes()


def test_keys(tmp_path):
    with pytest.raises(UsageError, match="16 bytes"):
        IdKey(b"short")
    with pytest.raises(UsageError, match="no such key"):
        IdKey.read(tmp_path / "none")
    made = IdKey.make(tmp_path / "key")
    again, other = IdKey.make(tmp_path / "key"), IdKey.make(tmp_path / "other")
    assert made.hash_id("a") == again.hash_id("a") != other.hash_id("a")
    assert made.hash_id("a") != made.hash_id("b")
    assert made.hash_digest("a") != made.hash_id("a")
    assert len(made.hash_id("片段")) == 32
    assert made.name in repr(made)
    assert made.name != other.name
