"""Finding a model's folder, naming its weights, reading its tensors: never running what it carries."""

import hashlib
import json
import os
from pathlib import Path

import pytest
import torch
import transformers
from checkpoint_factory import save_hubert
from safetensors.torch import save_file

from extractors.models import checkpoints
from extractors.models.checkpoints import iter_tensors, load_pretrained, locate, weights_digest
from extractors.models.file_digests import file_digest
from extractors.models.hub import weight_patterns
from mer_store.errors import UsageError


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MER_STORE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def folder(tmp_path):
    return save_hubert(tmp_path / "my-hubert", num_hidden_layers=1)


def change_config(folder, **changes):
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def in_shards(folder, suffix):
    """Replace a folder's one file of weights by two shards and their index."""
    state = dict(iter_tensors(locate(folder)))
    names = sorted(state)
    halves = {1: names[: len(names) // 2], 2: names[len(names) // 2 :]}
    stem = "model" if suffix == "safetensors" else "pytorch_model"
    (folder / "model.safetensors").unlink()
    weight_map = {}
    for number, half in halves.items():
        file = f"{stem}-0000{number}-of-00002.{suffix}"
        part = {name: state[name] for name in half}
        if suffix == "safetensors":
            save_file(part, folder / file, metadata={"format": "pt"})
        else:
            torch.save(part, folder / file)
        weight_map |= dict.fromkeys(half, file)
    (folder / f"{stem}.{suffix}.index.json").write_text(
        json.dumps({"metadata": {}, "weight_map": weight_map})
    )
    return state


# Finding.


def test_a_folder_is_known_by_its_name(folder):
    found = locate(folder)
    assert (found.name, found.folder, found.config["model_type"]) == ("my-hubert", folder, "hubert")
    assert [path.name for path in found.weight_files] == ["model.safetensors"]
    assert locate(str(folder)) == found


def test_a_folder_of_the_hubs_cache_is_known_by_its_repository(folder, tmp_path):
    snapshot = tmp_path / "models--TencentGameMate--chinese-hubert-large" / "snapshots" / "a1b2c3"
    snapshot.parent.mkdir(parents=True)
    folder.rename(snapshot)
    assert locate(snapshot).name == "chinese-hubert-large"


def test_names_become_fit_for_a_spec(folder, tmp_path):
    odd = folder.rename(tmp_path / "my model (2)")
    assert locate(odd).name == "my_model__2_"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("/no/such/folder", "no such folder, and no hub name"),
        ("../elsewhere", "no such folder, and no hub name"),
        ("a/b/c", "no such folder, and no hub name"),
    ],
)
def test_what_is_neither_folder_nor_hub_name(name, message):
    with pytest.raises(UsageError, match=message):
        locate(name)


def test_a_folder_without_config_or_weights(tmp_path):
    with pytest.raises(UsageError, match=r"no config\.json in this folder"):
        locate(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(UsageError, match="not JSON"):
        locate(tmp_path)
    (tmp_path / "config.json").write_text("[]")
    with pytest.raises(UsageError, match="expected a JSON object, got list"):
        locate(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(UsageError, match=r"no weights: expected one of model\.safetensors"):
        _ = locate(tmp_path).weight_files


def test_a_shard_that_is_missing_is_named(folder):
    in_shards(folder, "safetensors")
    (folder / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(UsageError, match=r"names model-00002-of-00002\.safetensors: no such file"):
        _ = locate(folder).weight_files


def test_an_index_cannot_lead_out_of_the_folder(folder):
    (folder / "model.safetensors").unlink()
    index = {"weight_map": {"a": "../../secret.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(UsageError, match="outside the model's folder"):
        _ = locate(folder).weight_files


# The hub, which no test asks: its client is stood in for.


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """A hub that holds one repository, and counts what is asked of it."""
    import huggingface_hub
    from huggingface_hub.errors import LocalEntryNotFoundError

    class Hub:
        remote = save_hubert(tmp_path / "remote", num_hidden_layers=1)
        cached = None

        def __init__(self):
            self.downloads = []

    def snapshot_download(
        name, *, local_files_only=False, allow_patterns=None, ignore_patterns=None
    ):
        if local_files_only:
            if hub.cached is None:
                raise LocalEntryNotFoundError("nothing here")
            return str(hub.cached)
        hub.downloads.append((allow_patterns, ignore_patterns))
        return str(hub.remote)

    class Api:
        def model_info(self, name, timeout):
            if hub.remote is None:
                raise ConnectionError("cannot resolve host")
            files = [type("File", (), {"rfilename": path.name}) for path in hub.remote.iterdir()]
            return type("Info", (), {"siblings": files})

    hub = Hub()
    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    monkeypatch.setattr(huggingface_hub, "HfApi", Api)
    return hub


def test_a_hub_name_is_fetched_in_one_format_without_code(hub):
    found = locate("Owner/some-hubert")
    assert (found.name, found.folder) == ("some-hubert", hub.remote)
    ((allowed, ignored),) = hub.downloads
    assert "model.safetensors" in allowed
    assert not [pattern for pattern in allowed if ".bin" in pattern or pattern.endswith(".py")]
    assert ignored == ["*.py"]


def test_a_whole_copy_in_the_cache_is_used_without_asking(hub, folder):
    hub.cached, hub.remote = folder, None
    assert locate("Owner/some-hubert").folder == folder
    assert locate("Owner/some-hubert").name == "some-hubert"


@pytest.mark.parametrize("lacking", ["model.safetensors", "preprocessor_config.json"])
def test_half_a_copy_in_the_cache_is_completed(hub, folder, lacking):
    (folder / lacking).unlink()
    hub.cached = folder
    assert locate("Owner/some-hubert").folder == hub.remote


def test_a_hub_out_of_reach_says_what_to_do(hub):
    hub.remote = None
    with pytest.raises(UsageError) as raised:
        locate("Owner/some-hubert")
    for word in (
        "Owner/some-hubert",
        "cannot resolve host",
        "local folder",
        "HF_ENDPOINT",
        "HF_HUB_OFFLINE",
    ):
        assert word in str(raised.value)


def test_one_format_of_weights_is_wanted_of_a_repository():
    both = ["config.json", "model.safetensors", "pytorch_model.bin", "fairseq.pt"]
    assert weight_patterns(both) == ("model.safetensors", "model-*.safetensors")
    pickled = ["config.json", "pytorch_model-00001-of-00002.bin", "onnx/model.safetensors"]
    assert weight_patterns(pickled) == ("pytorch_model.bin", "pytorch_model-*.bin")
    with pytest.raises(UsageError, match=r"found \['fairseq\.pt'\]"):
        weight_patterns(["fairseq.pt"])


# The digest.


def test_the_digest_is_the_same_for_the_same_weights_anywhere(folder, tmp_path):
    digest = weights_digest(locate(folder))
    assert digest.startswith("sha256:")
    assert weights_digest(locate(folder.rename(tmp_path / "moved"))) == digest


def test_cosmetic_settings_do_not_change_the_digest_and_others_do(folder):
    digest = weights_digest(locate(folder))
    change_config(
        folder, transformers_version="4.0", _name_or_path="x", dtype="float16", architectures=["Y"]
    )
    assert weights_digest(locate(folder)) == digest
    change_config(folder, layer_norm_eps=1e-6)
    assert weights_digest(locate(folder)) != digest


@pytest.mark.parametrize("suffix", [None, "safetensors", "bin"])
def test_one_changed_byte_changes_the_digest(folder, suffix):
    if suffix:
        in_shards(folder, suffix)
    digest = weights_digest(locate(folder))
    path = locate(folder).weight_files[-1]
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(1, 1))
    assert weights_digest(locate(folder)) != digest


def test_safetensors_are_preferred_to_pickles_beside_them(folder):
    digest = weights_digest(locate(folder))
    (folder / "pytorch_model.bin").write_bytes(b"another")
    assert weights_digest(locate(folder)) == digest
    assert locate(folder).has_safetensors


def test_a_files_digest_is_of_its_bytes_and_remembered(tmp_path, cache, monkeypatch):
    path = tmp_path / "weights.bin"
    path.write_bytes(b"x" * 1000)
    expected = f"sha256:{hashlib.sha256(b'x' * 1000).hexdigest()}"
    assert file_digest(path) == expected
    link = tmp_path / "link.bin"
    link.symlink_to(path)
    monkeypatch.setattr(hashlib, "file_digest", lambda *args: pytest.fail("read again"))
    assert file_digest(path) == expected
    assert file_digest(link) == expected
    assert not [note for note in cache.rglob("*") if note.suffix == ".tmp"]


def test_a_changed_file_is_read_again(tmp_path):
    path = tmp_path / "weights.bin"
    path.write_bytes(b"one")
    first = file_digest(path)
    path.write_bytes(b"two")
    os.utime(path, ns=(5, 5))
    assert file_digest(path) != first


@pytest.mark.parametrize("junk", [b"", b"\xff\xfe", b"[]", b'{"digest": 3}'])
def test_a_damaged_note_is_replaced(tmp_path, cache, junk):
    path = tmp_path / "weights.bin"
    path.write_bytes(b"one")
    expected = file_digest(path)
    (note,) = (cache / "digests").iterdir()
    note.write_bytes(junk)
    assert file_digest(path) == expected
    assert json.loads(note.read_text())["digest"] == expected


def test_a_cache_that_cannot_be_written_is_no_error(tmp_path, monkeypatch):
    blocked = tmp_path / "a-file"
    blocked.write_text("")
    monkeypatch.setenv("MER_STORE_CACHE", str(blocked / "below"))
    path = tmp_path / "weights.bin"
    path.write_bytes(b"one")
    assert file_digest(path) == f"sha256:{hashlib.sha256(b'one').hexdigest()}"


# Tensors.


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
def test_damaged_weights_are_named(folder, name):
    (folder / "model.safetensors").unlink()
    (folder / name).write_bytes(b"PK\x03\x04 and then nothing")
    with pytest.raises(UsageError, match="my-hubert: its weights cannot be read"):
        list(iter_tensors(locate(folder)))
    with pytest.raises(UsageError, match="my-hubert: its weights cannot be read"):
        load_pretrained(transformers.HubertModel, locate(folder), torch.float32)


@pytest.mark.parametrize("suffix", ["safetensors", "bin"])
def test_tensors_come_shard_by_shard(folder, suffix):
    state = in_shards(folder, suffix)
    found = locate(folder)
    assert len(found.weight_files) == 2
    assert found.has_safetensors == (suffix == "safetensors")
    read = dict(iter_tensors(found))
    assert read.keys() == state.keys()
    assert all(torch.equal(read[name], state[name]) for name in state)


def test_weights_in_the_old_pickle_format_are_read(folder):
    state = dict(iter_tensors(locate(folder)))
    (folder / "model.safetensors").unlink()
    torch.save(state, folder / "pytorch_model.bin", _use_new_zipfile_serialization=False)
    read = dict(iter_tensors(locate(folder)))
    assert all(torch.equal(read[name], state[name]) for name in state)


class Payload:
    """A pickle that would leave a trace if it ran."""

    def __init__(self, trace):
        self.trace = trace

    def __reduce__(self):
        return Path.touch, (self.trace,)


def test_pickled_code_is_never_run(folder, tmp_path):
    (folder / "model.safetensors").unlink()
    trace = tmp_path / "ran"
    torch.save({"weight": Payload(trace)}, folder / "pytorch_model.bin")
    found = locate(folder)
    with pytest.raises(UsageError, match="holds more than tensors"):
        list(iter_tensors(found))
    with pytest.raises(UsageError, match="holds more than tensors"):
        load_pretrained(transformers.HubertModel, found, torch.float32)
    assert not trace.exists()


@pytest.mark.parametrize("suffix", [None, "safetensors", "bin"])
def test_transformers_models_load_from_every_layout(folder, suffix):
    state = in_shards(folder, suffix) if suffix else dict(iter_tensors(locate(folder)))
    model = load_pretrained(transformers.HubertModel, locate(folder), torch.float32)
    assert not model.training
    mine = model.state_dict()
    assert all(torch.equal(mine[name], state[name]) for name in mine)


def test_code_beside_the_weights_is_never_run(folder, tmp_path):
    trace = tmp_path / "ran"
    (folder / "modeling.py").write_text(f"open({str(trace)!r}, 'w')\nclass M: pass\n")
    change_config(folder, auto_map={"AutoModel": "modeling.M", "AutoConfig": "modeling.M"})
    load_pretrained(transformers.AutoModel, locate(folder), torch.float32)
    assert not trace.exists()


def test_missing_tensors_are_refused_unless_they_may_be(folder):
    change_config(folder, num_hidden_layers=2)
    with pytest.raises(UsageError, match=r"lack encoder\.layers\.1.*HubertModel needs"):
        load_pretrained(transformers.HubertModel, locate(folder), torch.float32)
    load_pretrained(
        transformers.HubertModel, locate(folder), torch.float32, [r"encoder\.layers\.1\..*"]
    )


def test_what_others_import_from_here_is_here():
    assert all(hasattr(checkpoints, name) for name in checkpoints.__all__)
