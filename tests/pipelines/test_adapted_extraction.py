"""Extraction through trained adapters: from cached states, from media, and from both in one run."""

import json
import os
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from audio_clips import voice, write_wav
from checkpoint_factory import save_hubert
from extractor_contract import relative
from part_factory import digest_of, make_set, write_part

from extractors.audio.boundary import as_stored
from extractors.audio.model import HiddenStates
from extractors.contract import ExtractorRequest, Source, Want
from extractors.models.adapter import OutputAdapters, fuse, load_blocks
from extractors.models.saved_adapter import (
    WEIGHT,
    AdapterFacts,
    SavedAdapter,
    load_adapter,
    save_adapter,
)
from extractors.models.speech import open_model
from extractors.table import build_extractor
from mer_store.clips.clip import Clip
from mer_store.clips.clip_list import ClipList
from mer_store.errors import UsageError
from mer_store.store.store import Store
from mer_store.store.writer import ClipRows
from pipelines import resident
from pipelines.extract import ExtractSettings, prepare
from pipelines.workers import Workers

FIRST, LAYERS, WIDTH, BOTTLENECK = 3, (4, 6), 32, 8
SAMPLES = (9_000, 16_000, 9_000, 5_555)
WITHIN = 1e-5
ONE_STEP = 2e-3
"""Clips in other batches differ in float32's last digit, and so may round the other way to float16."""
SITES = ("blocks", "outputs")


def save_some_adapter(folder, base, model, site, seed=0):
    """Adapters as a training might leave them, with numbers large enough to matter."""
    spec = json.loads(base.spec.to_json())
    facts = AdapterFacts(
        str(model), base.spec.weights, site, "output", FIRST, LAYERS, BOTTLENECK, WIDTH, spec
    )
    generator = torch.Generator().manual_seed(seed)
    tensors = {
        name: 0.3 * torch.randn(tensor.shape, generator=generator)
        for name, tensor in OutputAdapters(WIDTH, LAYERS, BOTTLENECK).state_dict().items()
    }
    tensors[WEIGHT] = torch.tensor([0.4, 0.9])
    folder.mkdir(parents=True)
    save_adapter(folder, SavedAdapter(facts, tensors))
    return folder


class Bench:
    """Wav files, a store with the base model's states of them, and adapters for both sites."""

    def __init__(self, folder, stored_dtype="float16"):
        self.folder = folder
        self.model = save_hubert(folder / "hubert")
        self.request = ExtractorRequest("audio", model=str(self.model), device="cpu")
        self.clips = tuple(
            Clip(f"clip{n}", write_wav(folder / f"clip{n}.wav", voice(size, n)))
            for n, size in enumerate(SAMPLES)
        )
        silent = Clip("silent", write_wav(folder / "silent.wav", np.zeros(9_000, np.float32)))
        broken, gone = Clip("broken", folder / "broken.wav"), Clip("gone", folder / "gone.wav")
        broken.path.write_bytes(b"this is no sound" * 40)
        self.every = (*self.clips, silent, broken, gone)
        self.store = Store.create(folder / "store")
        self.extract(
            self.store, self.every, request=self.request, layers="3-6", frame_layers="3",
            stored_dtype=stored_dtype,
        )  # fmt: skip
        self.adapters = {
            site: save_some_adapter(folder / site, self.base(site), self.model, site)
            for site in SITES
        }

    def base(self, site):
        level = "frame" if site == "blocks" else "utterance"
        return self.store.features("audio", level=level, recipe="default")

    def prepare(self, store, clips, site="blocks", **settings):
        request = settings.pop("request", None)
        request = request or ExtractorRequest(
            "audio", device="cpu", adapter=str(self.adapters[site])
        )
        settings = {"stored_dtype": "float32", "n_decoders": 2, **settings}
        return prepare(store, ClipList(tuple(clips)), ExtractSettings(request, **settings))

    def extract(self, store, clips, site="blocks", **settings):
        return self.prepare(store, clips, site, **settings).run()

    def adapted(self, store, clips=None, level="utterance"):
        features = store.features("audio", level=level, recipe="adapter")
        ids = [clip.clip_id for clip in clips or self.clips]
        read = features.read if level == "utterance" else features.ragged
        return read((*LAYERS, "fused"), ids)


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    return Bench(tmp_path_factory.mktemp("bench"))


@pytest.fixture(scope="module")
def wide(tmp_path_factory):
    """Return the same with base features that are not rounded."""
    return Bench(tmp_path_factory.mktemp("wide"), "float32")


@pytest.fixture(autouse=True)
def watched(monkeypatch):
    """Count the clips that the base model is run on, from samples."""
    resident.let_go()
    run, waveforms = HiddenStates.__call__, []

    def count(self, clips, layers):
        waveforms.extend(clips)
        return run(self, clips, layers)

    monkeypatch.setattr(HiddenStates, "__call__", count)
    return waveforms


@pytest.fixture
def copied(bench, tmp_path):
    """A store of its own with the base features."""
    shutil.copytree(bench.store.path, tmp_path / "copied")
    return Store.open(tmp_path / "copied")


def without_media(clips):
    return tuple(replace(clip, path=None) for clip in clips)


def assert_within(got, expected, within=WITHIN):
    """Each layer of each clip [clips, layers, D] is the same, to rounding."""
    assert got.shape == expected.shape
    for mine, theirs in zip(got.reshape(-1, WIDTH), expected.reshape(-1, WIDTH), strict=True):
        assert relative(mine, theirs) <= within


@torch.no_grad()
def expected_rows(bench, site):
    """What adapters make of the stored states, clip by clip: [layers and fused, D]."""
    saved = load_adapter(bench.adapters[site])
    ids = [clip.clip_id for clip in bench.clips]
    rows = []
    if site == "outputs":
        pooled = torch.from_numpy(bench.base(site).read(LAYERS, ids, np.float32))
        each = saved.on_outputs()(pooled)
        return torch.cat([each, fuse(saved.layer_weights, each)[:, None]], dim=1).numpy()
    blocks = saved.in_blocks(load_blocks(open_model(str(bench.model)), FIRST, max(LAYERS)))
    for clip in bench.base(site).ragged([FIRST], ids, np.float32):
        states = blocks(torch.from_numpy(np.ascontiguousarray(clip[:, 0]))[None])
        each = torch.stack([states[layer][0].mean(dim=0) for layer in LAYERS])
        rows.append(torch.cat([each, saved.layer_weights[None] @ each]).numpy())
    return np.stack(rows)


@pytest.mark.parametrize("site", SITES)
def test_cache_media_and_both_give_the_same_features(bench, copied, tmp_path, watched, site):
    report = bench.extract(copied, bench.clips, site)
    assert report.tally.n_ok == len(SAMPLES)
    assert watched == [], "from the cache no sample is looked at"
    from_cache = bench.adapted(copied)
    assert_within(from_cache, expected_rows(bench, site))

    raw = Store.create(tmp_path / "raw")
    bench.extract(raw, bench.clips, site)
    assert len(watched) == len(SAMPLES)
    assert_within(bench.adapted(raw), from_cache)
    sets = [store.features("audio", recipe="adapter") for store in (copied, raw)]
    assert len({item.spec.fingerprint for item in sets}) == 1


@pytest.mark.parametrize("site", SITES)
@pytest.mark.parametrize(("stored_dtype", "within"), [("float32", WITHIN), ("float16", ONE_STEP)])
def test_some_from_the_cache_and_some_from_media(
    bench, wide, tmp_path, watched, site, stored_dtype, within
):
    bench = {"float16": bench, "float32": wide}[stored_dtype]
    some = Store.create(tmp_path / "some")
    base = {"layers": "3-6", "frame_layers": "3", "stored_dtype": stored_dtype}
    bench.extract(some, bench.clips[1:3], request=bench.request, **base)
    watched.clear()
    bench.extract(some, bench.clips, site, batch_limit=100_000)  # all in one batch
    assert len(watched) == len(SAMPLES) - 2
    assert_within(bench.adapted(some), expected_rows(bench, site), within)


@pytest.mark.parametrize("site", SITES)
def test_a_store_without_media_serves(bench, copied, watched, site):
    report = bench.extract(copied, without_media(bench.every), site)
    assert (report.tally.n_ok, report.tally.n_empty, report.tally.n_failed) == (len(SAMPLES), 1, 2)
    assert watched == []
    assert_within(bench.adapted(copied), expected_rows(bench, site))


def test_files_that_are_listed_and_not_here_need_not_be(bench, copied, watched, tmp_path):
    elsewhere = tuple(replace(clip, path=tmp_path / "no" / clip.path.name) for clip in bench.every)
    report = bench.extract(copied, elsewhere)
    assert report.tally.n_ok == len(SAMPLES)
    assert watched == []


def test_the_ledger_speaks_of_the_media(bench, copied):
    bench.extract(copied, bench.every)
    ids = [clip.clip_id for clip in bench.every]
    adapted = copied.features("audio", level="utterance", recipe="adapter").ledger(ids)
    base = bench.base("blocks").ledger(ids)
    assert adapted.digest.tolist() == base.digest.tolist()
    assert adapted.digest[0].startswith("sha256:")
    assert adapted.n_bytes.tolist() == base.n_bytes.tolist()
    assert adapted.mtime_ns.tolist() == base.mtime_ns.tolist()
    assert adapted.status.tolist() == base.status.tolist()
    assert adapted.reasons[:-1] == base.reasons[:-1]
    assert adapted.reasons[-3:-1] == base.reasons[-3:-1] != [None, None]
    assert adapted.reasons[-1]


def test_reasons_come_with_the_cache(bench, copied):
    bench.extract(copied, without_media(bench.every))
    ids = [clip.clip_id for clip in bench.every]
    adapted = copied.features("audio", level="utterance", recipe="adapter").ledger(ids)
    assert adapted.reasons == bench.base("blocks").ledger(ids).reasons
    assert all(adapted.reasons[-3:])
    missing = Clip("never-seen")
    bench.extract(copied, [missing])
    outcome = copied.features("audio", level="utterance", recipe="adapter").ledger(["never-seen"])
    assert outcome.reasons == ["no media file in the clip list, and no cached states"]


def test_damaged_states_fail_their_clips_alone_and_say_so(bench, copied):
    base = next(copied.path.glob("features/audio/*-frame-*/parts"))
    [shard] = base.glob(f"*/{FIRST}/c/0/0")
    shard.chmod(0o644)
    data = bytearray(shard.read_bytes())
    data[10] ^= 1
    shard.write_bytes(bytes(data))
    bench.extract(copied, without_media(bench.clips))
    ids = [clip.clip_id for clip in bench.clips]
    reasons = copied.features("audio", recipe="adapter").ledger(ids).reasons
    assert any(reason and "cached states are damaged" in reason for reason in reasons)


def test_a_second_time_there_is_nothing_to_do(bench, copied, watched):
    bench.extract(copied, bench.every)
    for clips in (bench.every, without_media(bench.every)):
        plan = bench.prepare(copied, clips).plan
        assert (plan.n_to_do, plan.parts) == (0, ())
        assert plan.n_stored == len(SAMPLES)
    assert watched == []


def test_changed_media_are_read_and_made_again(bench, copied, watched, tmp_path):
    path = write_wav(tmp_path / "clip0.wav", voice(SAMPLES[0], 0))
    clips = (Clip("clip0", path), *bench.clips[1:])
    bench.extract(copied, bench.clips)
    before = bench.adapted(copied)
    write_wav(path, voice(12_345, seed=77))
    cached_ns = bench.clips[0].path.stat().st_mtime_ns
    os.utime(path, ns=(cached_ns, cached_ns))  # the time says nothing, the size does
    plan = bench.prepare(copied, clips).plan
    assert (plan.n_stale, plan.n_to_do) == (1, 1)
    bench.extract(copied, clips)
    assert len(watched) == 1
    after = bench.adapted(copied)
    assert relative(after[0], before[0]) > 0.01
    assert np.array_equal(after[1:], before[1:])
    fresh = Store.create(tmp_path / "fresh")
    bench.extract(fresh, clips[:1])
    assert_within(bench.adapted(fresh, clips[:1]), after[:1])
    assert bench.prepare(copied, clips).plan.n_to_do == 0


def test_media_of_the_same_size_are_compared_by_their_bytes(bench, copied, watched, tmp_path):
    """A copy at another time is served from the cache; another sound of the same length is not."""
    same = write_wav(tmp_path / "same.wav", voice(SAMPLES[0], 0))
    other = write_wav(tmp_path / "other.wav", voice(SAMPLES[2], seed=99))
    for path in (same, other):
        os.utime(path, ns=(1, 1))
    clips = (Clip("clip0", same), bench.clips[1], Clip("clip2", other))
    bench.extract(copied, clips)
    assert len(watched) == 1
    rows = bench.adapted(copied, clips)
    expected = expected_rows(bench, "blocks")
    assert_within(rows[:2], expected[:2])
    assert relative(rows[2], expected[2]) > 0.01
    ledger = copied.features("audio", level="utterance", recipe="adapter").ledger(["clip0"])
    assert ledger.mtime_ns.tolist() == [1]


def test_frames_of_adapted_layers(bench, copied, watched):
    bench.extract(copied, bench.clips, level="both")
    assert watched == []
    pooled, frames = bench.adapted(copied), bench.adapted(copied, level="frame")
    for row, clip in zip(pooled, frames, strict=True):
        assert relative(clip.mean(axis=0, dtype=np.float64), row) <= WITHIN
        fused = 0.4 * clip[:, 0] + 0.9 * clip[:, 1]
        assert relative(clip[:, 2], fused) <= WITHIN
    lengths = [len(clip) for clip in frames]
    ids = [clip.clip_id for clip in bench.clips]
    assert lengths == [len(clip) for clip in bench.base("blocks").ragged([FIRST], ids)]


def test_another_adapter_is_another_feature_set(bench, copied, tmp_path):
    bench.extract(copied, bench.clips)
    other = save_some_adapter(
        tmp_path / "other", bench.base("blocks"), bench.model, "blocks", seed=1
    )
    request = ExtractorRequest("audio", device="cpu", adapter=str(other))
    bench.extract(copied, bench.clips, request=request)
    made = [item for item in copied.feature_sets() if item.spec.recipe == "adapter"]
    assert len(made) == 2
    one, two = (item.read(["fused"], ["clip0"]) for item in made)
    assert relative(one, two) > 0.01
    for item in made:
        said = item.spec.preprocessing["adapter"]
        assert said["base"] == bench.base("blocks").spec.fingerprint
        assert said["digest"].startswith("sha256:")
        assert item.spec.weights == bench.base("blocks").spec.weights


def test_states_are_rounded_as_a_store_does(tmp_path):
    """To float16, but not a clip that holds a value beyond it."""
    feature_set = make_set(tmp_path / "store", "utterance")
    for number, largest in enumerate((1.0, 65_504.0, 65_519.0, 65_520.0, -70_000.0)):
        values = np.array([1.0001, largest], np.float32)
        clip = ClipRows(f"clip{number}", "ok", digest=digest_of("x"), layers={18: values[None]})
        write_part(feature_set, [clip])
        stored = feature_set.read([18], [clip.clip_id], np.float32)[0, 0]
        assert np.array_equal(as_stored(values, "float16"), stored)
        assert (stored[0] == values[0]) == (abs(largest) > 65_519)
        assert np.array_equal(as_stored(values, "float32"), values)


def test_cached_clips_and_others_share_a_batch(wide):
    extractor = build_extractor(
        ExtractorRequest("audio", device="cpu", adapter=str(wide.adapters["blocks"]))
    )
    sources = [Source(clip.clip_id, clip.path) for clip in wide.clips]
    batch = [extractor.load(extractor.open(source)) for source in sources]
    frames = wide.base("blocks").ragged([FIRST], [source.clip_id for source in sources], np.float32)
    for number in (1, 2):
        states = np.ascontiguousarray(frames[number][:, 0])
        batch[number] = extractor.load_states(sources[number].clip_id, states)
    want = Want(utterance=(*LAYERS, "fused"))
    rows = [np.stack(list(one.utterance.values())) for one in extractor(batch, want)]
    assert_within(np.stack(rows), expected_rows(wide, "blocks"))


def test_a_base_stored_in_float32(wide, watched, tmp_path):
    raw, cached = (
        Store.create(tmp_path / "raw"),
        shutil.copytree(wide.store.path, tmp_path / "copy"),
    )
    wide.extract(Store.open(cached), wide.clips)
    assert watched == []
    wide.extract(raw, wide.clips)
    assert len(watched) == len(SAMPLES)
    assert_within(wide.adapted(raw), wide.adapted(Store.open(cached)))


def test_a_worker_process_reads_the_cache(bench, copied):
    report = bench.extract(copied, without_media(bench.clips), workers=Workers(1))
    assert report.tally.n_ok == len(SAMPLES)
    assert_within(bench.adapted(copied), expected_rows(bench, "blocks"))


# What is refused.


def test_another_base_model_is_refused(bench, copied, tmp_path):
    other = save_hubert(tmp_path / "other", seed=1)
    request = ExtractorRequest(
        "audio", str(other), device="cpu", adapter=str(bench.adapters["blocks"])
    )
    with pytest.raises(UsageError, match=r"trained on hubert with weights sha256.*--model"):
        bench.prepare(copied, bench.clips, request=request)


def test_a_base_model_that_moved_is_named(bench, copied, tmp_path):
    gone = tmp_path / "gone"
    moved = save_some_adapter(tmp_path / "moved", bench.base("blocks"), gone, "blocks")
    request = ExtractorRequest("audio", device="cpu", adapter=str(moved))
    with pytest.raises(UsageError, match="gone"):
        bench.prepare(copied, bench.clips, request=request)
    bench.extract(copied, bench.clips, request=replace(request, model=str(bench.model)))
    assert_within(bench.adapted(copied), expected_rows(bench, "blocks"))


def test_pooled_caches_need_no_base_model(bench, copied, tmp_path):
    moved = save_some_adapter(tmp_path / "a", bench.base("outputs"), tmp_path / "gone", "outputs")
    request = ExtractorRequest("audio", device="cpu", adapter=str(moved))
    bench.extract(copied, bench.clips, request=request)
    assert_within(bench.adapted(copied), expected_rows(bench, "outputs"))


def test_without_the_base_model_only_pooled_caches_serve(bench, tmp_path):
    """Sound that would need it is not to blame, and its reason names nobody's folder."""
    moved = save_some_adapter(tmp_path / "a", bench.base("outputs"), tmp_path / "gone", "outputs")
    some = Store.create(tmp_path / "some")
    bench.extract(
        some, bench.clips[:2], request=bench.request, layers="3-6", stored_dtype="float16"
    )
    request = ExtractorRequest("audio", device="cpu", adapter=str(moved))
    report = bench.extract(some, bench.clips, request=request)
    assert (report.tally.n_ok, report.tally.n_failed) == (2, 2)
    ids = [clip.clip_id for clip in bench.clips]
    ledger = some.features("audio", level="utterance", recipe="adapter").ledger(ids)
    [reason] = set(ledger.reasons[2:])
    assert "no cached states, and no base model to make them: pass the hubert" in reason
    assert str(tmp_path) not in reason
    assert_within(bench.adapted(some, bench.clips[:2]), expected_rows(bench, "outputs")[:2])
    here = replace(request, model=str(bench.model))
    bench.extract(some, bench.clips, request=here, retry_failed=True)
    assert_within(bench.adapted(some), expected_rows(bench, "outputs"), ONE_STEP)


@pytest.mark.parametrize(
    ("changes", "settings", "words"),
    [
        ({"adapter": "nowhere"}, {}, "nowhere: expected the folder of a finished adapter"),
        ({"recipe": "mertools2024"}, {}, "--recipe mertools2024: with --adapter"),
        ({"compute_dtype": "bfloat16"}, {}, "--compute-dtype bfloat16: with --adapter"),
        ({}, {"layers": "5"}, "no layer 5; the model has 4, 6, fused"),
        ({"modality": "visual"}, {}, "--adapter: expected modality audio; got visual"),
    ],
)
def test_what_cannot_be_extracted_is_a_clear_error(bench, copied, changes, settings, words):
    request = ExtractorRequest("audio", device="cpu", adapter=str(bench.adapters["blocks"]))
    with pytest.raises(UsageError, match=words):
        bench.prepare(copied, bench.clips, request=replace(request, **changes), **settings)


def test_pooled_outputs_have_no_frames(bench, copied):
    with pytest.raises(UsageError, match="no frame level"):
        bench.extract(copied, bench.clips, "outputs", level="both")
