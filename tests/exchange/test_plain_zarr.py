"""Any Zarr reader opens a part without this package, and reads the same numbers."""

import json
import site
import subprocess
import sys
import sysconfig
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
from part_factory import make_set, ok_clip, part_folder, write_part

from mer_store.store.writer import ClipRows

OURS = ("mer_store", "extractors", "pipelines")
READER = """
import importlib, json, sys
from hashlib import sha256

sys.path.insert(0, sys.argv[1])
for name in sys.argv[3:]:
    try:
        importlib.import_module(name)
    except ModuleNotFoundError:
        continue
    sys.exit(f"{name} can be imported here: this environment proves nothing")

import numpy, zarr

found = {}
for name, member in zarr.open_group(sys.argv[2], mode="r", zarr_format=3).members(max_depth=None):
    if isinstance(member, zarr.Array):
        values = numpy.ascontiguousarray(member[...])
        found[name] = [values.dtype.name, values.shape, sha256(values.tobytes()).hexdigest()]
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def packages(tmp_path_factory):
    """Return a folder with all that is installed but this package, to be read without ``.pth`` files."""
    folder = tmp_path_factory.mktemp("packages")
    for place in {
        sysconfig.get_path("purelib"),
        sysconfig.get_path("platlib"),
        *site.getsitepackages(),
    }:
        for entry in Path(place).iterdir() if Path(place).is_dir() else ():
            link = folder / entry.name
            if not entry.name.startswith(OURS) and entry.suffix != ".pth" and not link.is_symlink():
                link.symlink_to(entry)
    return folder


def read_plain(packages, part):
    """Read a part's arrays by zarr alone: name -> [type, shape, SHA-256 of the values]."""
    command = [sys.executable, "-I", "-S", "-c", READER, str(packages), str(part), *OURS]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=part.parent)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def facts(values):
    return [values.dtype.name, list(values.shape), sha256(values.tobytes()).hexdigest()]


def test_the_plain_environment_would_notice_this_package(packages, tmp_path):
    (tmp_path / "mer_store.py").write_text("")
    (tmp_path / "zarr").symlink_to(packages / "zarr")
    command = [sys.executable, "-I", "-S", "-c", READER, str(tmp_path), str(tmp_path), *OURS]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "mer_store can be imported here" in done.stderr


@pytest.mark.parametrize("stored_dtype", ["float16", "float32"])
def test_utterances(packages, tmp_path, stored_dtype):
    feature_set = make_set(tmp_path / "store", "utterance", stored_dtype=stored_dtype)
    ids = [f"clip{number}" for number in range(300)]  # more than one chunk
    record = write_part(feature_set, dict.fromkeys(ids, 1), layers=(17, 18, "embed"))
    found = read_plain(packages, part_folder(feature_set, record))
    for layer in (17, 18, "embed"):
        assert found[str(layer)] == facts(feature_set.read([layer], ids)[:, 0])
        assert found[str(layer)][0] == stored_dtype
    assert found["offsets"] == facts(np.arange(301))
    assert found.keys() >= set(record.arrays)


def test_frames_and_side_tables(packages, tmp_path):
    feature_set = make_set(tmp_path / "store", "frame", modality="visual")
    lengths = {"a": 3, "b": 300, "没脸": 1}
    clips = [
        ok_clip(
            clip_id,
            (15, 16),
            n_rows,
            tables={
                "images": {
                    "time_s": np.arange(n_rows) / 25.0,
                    "box": np.full((n_rows, 4), n_rows, np.float32),
                    "found": np.arange(n_rows) % 2 == 0,
                }
            },
        )
        for clip_id, n_rows in lengths.items()
    ]
    record = write_part(feature_set, clips, layers=(15, 16))
    found = read_plain(packages, part_folder(feature_set, record))
    offsets = np.cumsum([0, *lengths.values()])
    assert found["offsets"] == found["images/offsets"] == facts(offsets)
    for layer in (15, 16):
        rows = np.concatenate(feature_set.ragged([layer], list(lengths)))[:, 0]
        assert found[str(layer)] == facts(rows)
    tables = feature_set.table("images", list(lengths))
    for column in ("time_s", "box", "found"):
        values = np.concatenate([table[column] for table in tables])
        assert found[f"images/{column}"] == facts(values)
    assert set(found) == set(record.arrays)


def test_a_widened_part_and_one_without_clips(packages, tmp_path):
    feature_set = make_set(tmp_path / "store", "utterance")
    wide = ok_clip("wide", n_rows=1)
    wide.layers[18][0, 0] = 1e6
    record = write_part(feature_set, [wide])
    found = read_plain(packages, part_folder(feature_set, record))
    assert found["18"] == facts(feature_set.read([18], ["wide"])[:, 0])
    assert found["18"][0] == "float32"
    nothing = write_part(feature_set, [ClipRows("silent", "empty", "no speech")])
    found = read_plain(packages, part_folder(feature_set, nothing))
    assert found == {"offsets": facts(np.zeros(1, np.int64))}
