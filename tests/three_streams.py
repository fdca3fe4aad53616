"""Videos that talk, models of three modalities, and what a store holds of them."""

from pathlib import Path

import av
import numpy as np
from checkpoint_factory import save_hubert
from media_factory import make_video
from text.written_checkpoints import write_transformers
from transformers import BertConfig, BertModel
from visual.clip_folders import save_clip
from visual.face_scenes import scene

from extractors.contract import ExtractorRequest
from mer_store.clips.clip_list import Clip, ClipList
from mer_store.store.store import Store
from pipelines.extract import Extraction, ExtractSettings, Stream, prepare
from pipelines.run import RunReport

MODALITIES = ("audio", "visual", "text")
TEXTS = ("今天我真的很开心", "你好吗 我很好", "他为什么生气了", "不要担心 明天会好的")
SIZE = (160, 120)


def talking_video(path, *, n_images=3, audio=True, seed=0) -> Path:
    """Write a face that moves and a voice."""
    images = np.stack([scene([(10 + 4 * (i + seed), 10, 100)], *SIZE) for i in range(n_images)])
    return make_video(path, n_images / 25, size=SIZE, images=images, audio=audio, seed=seed)


def break_audio(path: Path) -> None:
    """Overwrite every packet of the audio; container and pictures stay whole."""
    with av.open(str(path)) as container:
        packets = list(container.demux(container.streams.audio[0]))
    data = bytearray(path.read_bytes())
    for packet in packets:
        if packet.size:
            data[packet.pos : packet.pos + packet.size] = bytes(packet.size)
    path.write_bytes(data)


def talking_clips(folder, number=4) -> ClipList:
    paths = [
        talking_video(folder / f"c{row}.mp4", n_images=3 + row, seed=row) for row in range(number)
    ]
    return as_list(dict(zip((path.stem for path in paths), paths, strict=True)))


def as_list(paths: dict[str, Path]) -> ClipList:
    clips = [
        Clip(clip_id, path, TEXTS[row % len(TEXTS)], None, None, None)
        for row, (clip_id, path) in enumerate(paths.items())
    ]
    return ClipList(tuple(clips))


def save_models(folder) -> dict[str, Path]:
    """Write a small random model of each modality as published ones lie in their folders."""
    narrow = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 5}
    bert = BertConfig(**narrow, num_attention_heads=4, max_position_embeddings=40, vocab_size=120)
    return {
        "audio": save_hubert(folder / "speech"),
        "visual": save_clip(folder / "images"),
        "text": write_transformers(folder / "language", BertModel, bert, special=True),
    }


def planned(store: Path, clips: ClipList, models, *modalities: str, **settings) -> Extraction:
    """Plan one pass over `modalities`."""
    first, *others = (
        Stream(
            ExtractorRequest(modality, str(models[modality]), device="cpu"),
            layers="2-4" if modality == "audio" else None,
        )
        for modality in modalities
    )
    settings = {"stored_dtype": "float32", "level": "both", "n_decoders": 2, **settings}
    return prepare(
        Store.create(store), clips,
        ExtractSettings(first.request, first.layers, others=tuple(others), progress="none", **settings),
    )  # fmt: skip


def one_pass(store: Path, clips: ClipList, models, **settings) -> RunReport:
    return planned(store, clips, models, *MODALITIES, **settings).run()


def contents(store: Path) -> dict[str, tuple]:
    """By feature set: its spec, layers, clips, and every row."""
    found = {}
    for features in Store.open(store).feature_sets():
        ids = sorted(features.clip_ids)
        layers = features.layers
        rows = np.concatenate(features.ragged(layers, ids, np.float32))
        found[features.spec.name] = (features.spec.to_json(), layers, ids, rows)
    return found


def assert_same(got: dict[str, tuple], expected: dict[str, tuple], tolerance: float = 0.0) -> None:
    """Same feature sets, clips and rows: to the last bit, or to float32's rounding in other batches."""
    assert got.keys() == expected.keys()
    for name, (*facts, rows) in expected.items():
        assert got[name][:-1] == tuple(facts), name
        bound = tolerance * np.abs(rows).max()
        np.testing.assert_allclose(got[name][-1], rows, rtol=0, atol=bound, err_msg=name)


def recorded(store: Path) -> dict[str, list[tuple[str, str]]]:
    """By feature set: clip and status of every ledger row there is, in the order of clips."""
    return {
        features.spec.name: sorted(
            (row.clip_id, row.status) for record in features.records() for row in record.ledger
        )
        for features in Store.open(store).feature_sets()
    }
