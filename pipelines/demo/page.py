"""The demo's page: one self-contained HTML file that shows a store."""

import io
from html import escape
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from extractors.contract import Blob
from extractors.media.audio import decode_audio
from extractors.media.blob import read_blob
from extractors.models.speech import RATE_HZ
from extractors.visual.contact_sheet import draw_faces
from mer_store.clips.clip_list import Clip, ClipList
from mer_store.errors import UsageError
from mer_store.layers import Layer, describe_layers
from mer_store.store.feature_set import FeatureSet
from mer_store.store.ledger import Status
from mer_store.store.store import Store
from mer_store.store.summary import summarise
from pipelines.demo.figures import draw_coverage, draw_layer_over_time, draw_similarity
from pipelines.pictures import embed
from pipelines.report.html import STYLE

STATUSES = ("ok", "empty", "failed")
N_SHEETS = 3
FRAME_SHIFT_S = 0.02


def write_page(store: Store, clip_list: ClipList, layer: Layer, target: Path) -> None:
    """Draw the page for `store` into `target`; `layer` is the audio layer shown over time."""
    feature_sets = store.feature_sets()
    sections = [
        _summary(clip_list, feature_sets),
        _faces(store, clip_list),
        _layer(store, clip_list, layer),
        _similarity(store, layer),
        _ledger(feature_sets),
    ]
    body = "\n".join(sections)
    target.write_text(
        f'<!doctype html>\n<html lang="en"><meta charset="utf-8"><title>mer-store demo</title>'
        f'<meta name="viewport" content="width=device-width"><style>{STYLE}</style>\n<body>{body}</body></html>\n',
        encoding="utf-8",
    )


def _summary(clip_list: ClipList, feature_sets: list[FeatureSet]) -> str:
    summaries = [summarise(item) for item in feature_sets]
    counts = np.array([[item.n_ok, item.n_empty, item.n_failed] for item in summaries])
    names = [f"{item.spec.modality} {item.spec.level}" for item in feature_sets]
    rows = "".join(_feature_set_row(item) for item in feature_sets)
    head = "".join(
        f"<th>{name}</th>"
        for name in ("modality", "model", "level", "layers", "clips", "MiB", "parts")
    )
    return (
        f"<h1>mer-store demo</h1><p class=note>{len(clip_list.clips)} clips. {_about(clip_list)} Faces are found "
        f"by a trained detector (CenterFace); the models behind the features are tiny and <span class=tag>untrained"
        f"</span>: the numbers mean nothing, the machinery is the real one.</p>"
        f"<h2>What the store holds</h2>{embed(draw_coverage(names, counts, STATUSES), 'outcomes by feature set')}"
        f"<table><tr>{head}</tr>{rows}</table>"
    )


def _about(clip_list: ClipList) -> str:
    """Return what the corpus says of itself, without its title."""
    if clip_list.path is None:
        return ""
    about = clip_list.path.with_name("ABOUT.txt").read_text(encoding="utf-8")
    return escape(about.partition("\n\n")[2])


def _feature_set_row(item: FeatureSet) -> str:
    summary = summarise(item)
    tag = "" if item.spec.trained else " <span class=tag>untrained</span>"
    cells = [
        item.spec.modality,
        f"{escape(item.spec.model)}{tag}",
        item.spec.level,
        describe_layers(item.layers),
        str(summary.n_ok),
        f"{summary.n_bytes / 2**20:.2f}",
        str(summary.n_parts),
    ]
    return "<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"


def _faces(store: Store, clip_list: ClipList) -> str:
    features = store.features("visual", level="frame")
    with_faces = set(features.clip_ids)
    if not with_faces:
        return "<h2>Faces</h2><p class=note>No clip shows a face.</p>"
    clips = [clip for clip in clip_list.clips if clip.clip_id in with_faces]
    tables = features.table("images", [clip.clip_id for clip in clips])
    chosen = _most_telling([float((table["row"] >= 0).mean()) for table in tables])
    clips, tables = [clips[row] for row in chosen], [tables[row] for row in chosen]
    sheets = []
    for clip, table in zip(clips, tables, strict=True):
        found = int((table["row"] >= 0).sum())
        caption = f"{escape(clip.clip_id)}: a face in {found} of {len(table['row'])} images"
        sheet = draw_faces(_blob(clip), table, _images_per_second(features))
        sheets.append(f"<p>{caption}<br>{embed(_encode(sheet), caption)}</p>")
    note = "The face that is followed is boxed. Images without one are dimmed: they have no row."
    return f"<h2>Faces</h2><p class=note>{note}</p>{''.join(sheets)}"


def _images_per_second(features: FeatureSet) -> float | None:
    sampled: float | None = features.spec.preprocessing["faces"]["images_per_second"]
    return sampled


def _layer(store: Store, clip_list: ClipList, layer: Layer) -> str:
    features = store.features("audio", level="frame")
    available = set(features.clip_ids)
    clip = max((clip for clip in clip_list.clips if clip.clip_id in available), key=_loudness)
    [rows] = features.ragged(layers=[layer], clip_ids=[clip.clip_id])
    waveform = decode_audio(_blob(clip), RATE_HZ)
    picture = draw_layer_over_time(waveform, rows[:, 0], layer, RATE_HZ, FRAME_SHIFT_S)
    code = (
        "store = mer_store.open('store')\n"
        f"[frames] = store.features('audio', level='frame').ragged(layers=[{layer!r}], clip_ids=['{clip.clip_id}'])\n"
        f"frames.shape   # {rows.shape}: [T, layers, D]"
    )
    return f"<h2>One layer of one clip</h2><pre>{escape(code)}</pre>{embed(picture, f'layer {layer} over time')}"


def _loudness(clip: Clip) -> float:
    return float(np.square(decode_audio(_blob(clip), RATE_HZ)).mean())


def _similarity(store: Store, layer: Layer) -> str:
    wanted: dict[str, Layer] = {
        "audio": layer,
        "visual": "embed",
        "text": store.features("text", level="utterance").layers[-1],
    }
    sets = {modality: store.features(modality, level="utterance") for modality in wanted}
    shared = set.intersection(*(set(item.clip_ids) for item in sets.values()))
    clip_ids = [clip_id for clip_id in sets["audio"].clip_ids if clip_id in shared]
    if not clip_ids:
        return "<h2>Similarity</h2><p class=note>No clip has all three modalities.</p>"
    pictures = {
        f"{modality}, layer {wanted[modality]}": item.read([wanted[modality]], clip_ids)[:, 0]
        for modality, item in sets.items()
    }
    return (
        f"<h2>{len(clip_ids)} clips that have all three modalities</h2>"
        f"{embed(draw_similarity(pictures), 'similarity of clips by modality')}"
    )


def _ledger(feature_sets: list[FeatureSet]) -> str:
    rows = [
        f"<tr><td>{item.spec.modality}</td><td>{escape(clip_id)}</td><td>{status.name.lower()}</td>"
        f"<td>{escape(reason or '')}</td></tr>"
        for item in feature_sets
        if item.spec.level == "utterance"
        for clip_id, status, reason in item.outcomes()
        if status != Status.OK
    ]
    return (
        "<h2>Ledger: clips without features</h2><table><tr><th>modality</th><th>clip</th><th>status</th>"
        f"<th>reason</th></tr>{''.join(rows)}</table>"
    )


def _most_telling(seen: list[float]) -> list[int]:
    """Return the clip in which the face is away the longest, then others spread over the list."""
    rarest = int(np.argmin(seen))
    others = [row for row in range(len(seen)) if row != rarest]
    return [rarest, *others[:: max(1, len(others) // (N_SHEETS - 1))][: N_SHEETS - 1]]


def _blob(clip: Clip) -> Blob:
    if clip.path is None:
        raise UsageError(f"clip {clip.clip_id!r}: no path in the clip list, nothing to draw")
    return read_blob(clip.clip_id, clip.path)


def _encode(pixels: NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="JPEG", quality=88)
    return buffer.getvalue()
