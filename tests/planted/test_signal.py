"""The generative model: samples are as it says, and the oracle is the posterior of it."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.metrics import f1_score
from sklearn.neighbors import NearestCentroid

from mer_store.errors import UsageError
from pipelines.planted.corpus import draw_corpus
from pipelines.planted.features import BLOCK, features_of, frames_of, projection
from pipelines.planted.settings import PlantedSettings
from pipelines.planted.signal import K_LATENT, SHARED

N = 20_000
A17, A18, FACE, TEXT = ("audio", 17), ("audio", 18), ("visual", "embed"), ("text", 40)
FOUR = PlantedSettings(
    n_labelled=2 * N, n_unlabelled=10, n_test=5, audio_layers=(17, 18), text_layers=(40,)
)
WHOLE = replace(FOUR, no_face=0.0, no_speech=0.0, no_text=0.0)


@pytest.fixture(scope="module")
def corpus():
    return draw_corpus(FOUR)


@pytest.fixture(scope="module")
def whole():
    """A corpus whose clips lack nothing, but the two that fail."""
    return draw_corpus(WHOLE)


def complete(corpus):
    there = [np.isfinite(t).all(axis=1) for t in corpus.shown.values()]
    return np.all(there, axis=0) & corpus.scored


def noise_covariance(signal, names):
    """[V, V] of the noise of t in one dimension, written out from the model's words."""
    noise = np.zeros((len(names), len(names)))
    for i, one in enumerate(names):
        for j, other in enumerate(names):
            share = 1.0 if i == j else SHARED * (one[0] == other[0])
            noise[i, j] = share * signal.views[one].sigma * signal.views[other].sigma
    return noise


def full_covariance(signal, names):
    """[V, V] of t given the class, in one dimension."""
    strength = np.array([signal.views[name].strength for name in names])
    return signal.tau**2 * np.outer(strength, strength) + noise_covariance(signal, names)


def test_class_means_and_covariances_are_the_models(whole):
    rows, names = complete(whole), list(whole.shown)
    label, signal = whole.label[rows], whole.signal
    t = np.stack([whole.shown[name][rows] for name in names], axis=-1)  # [n, k, V]
    strength = np.array([signal.views[name].strength for name in names])
    expected = full_covariance(signal, names)
    for y, mean in enumerate(signal.means):
        of_class = t[label == y]
        standard_error = np.sqrt(np.diag(expected) / len(of_class))
        off = of_class.mean(axis=0) - mean[:, None] * strength
        assert (np.abs(off) < 5 * standard_error).all()
    inside = t - signal.means[label][:, :, None] * strength
    measured = np.cov(inside.reshape(len(inside), -1).T)
    assert measured == pytest.approx(np.kron(np.eye(K_LATENT), expected), abs=0.05)


def test_classes_are_as_frequent_as_their_priors(whole):
    share = np.bincount(whole.label[whole.scored]) / (2 * N)
    assert share == pytest.approx(whole.signal.priors, abs=1e-3)
    assert whole.signal.priors.sum() == pytest.approx(1)
    apart = np.linalg.norm(whole.signal.means[:, None] - whole.signal.means, axis=-1)
    assert apart[~np.eye(6, dtype=bool)] == pytest.approx(FOUR.separation * np.sqrt(2))


@pytest.mark.parametrize(
    "names", [[A18], [FACE], [A17, A18], [A18, FACE], [A17, TEXT, A18, FACE]], ids=str
)
def test_the_oracle_is_the_gaussian_posterior_of_the_whole_joint_vector(whole, names):
    rows, signal = np.flatnonzero(complete(whole))[:200], whole.signal
    got = signal.log_posterior({name: whole.shown[name][rows] for name in names}, len(rows))
    joint = np.concatenate([whole.shown[name][rows] for name in names], axis=1)  # [n, V k]
    covariance = np.kron(full_covariance(signal, names), np.eye(K_LATENT))
    expected = np.empty_like(got)
    for y, mean in enumerate(signal.means):
        off = joint - np.concatenate([signal.views[name].strength * mean for name in names])
        distance = np.einsum("ni,ij,nj->n", off, np.linalg.inv(covariance), off)
        expected[:, y] = np.log(signal.priors[y]) - distance / 2
    assert normalised(got) == pytest.approx(normalised(expected), abs=1e-9)


def normalised(log_posterior):
    shifted = log_posterior - log_posterior.max(axis=1, keepdims=True)
    return np.exp(shifted) / np.exp(shifted).sum(axis=1, keepdims=True)


def test_the_oracle_uses_what_a_clip_has(corpus):
    names = list(corpus.shown)
    for modality in ("audio", "visual", "text"):
        absent = np.flatnonzero(corpus.status[modality] == "empty")[:50]
        shown = {name: corpus.shown[name][absent] for name in names}
        others = {name: t for name, t in shown.items() if name[0] != modality}
        assert all(np.isnan(t).all() for name, t in shown.items() if name[0] == modality)
        got = corpus.signal.log_posterior(shown, len(absent))
        assert got == pytest.approx(corpus.signal.log_posterior(others, len(absent)))
    nothing = corpus.signal.log_posterior({FACE: np.full((1, K_LATENT), np.nan)}, 1)
    assert normalised(nothing)[0] == pytest.approx(corpus.signal.priors)


def test_a_score_is_over_the_clips_that_have_a_view(corpus):
    faces = np.isfinite(corpus.shown[FACE]).all(axis=1) & corpus.scored
    best = corpus.signal.log_posterior({FACE: corpus.shown[FACE][faces]}, faces.sum()).argmax(1)
    expected = f1_score(corpus.label[faces], best, average="weighted")
    assert corpus.oracle_f1([FACE]) == pytest.approx(expected)
    half = faces & (np.arange(len(faces)) % 2 == 0)
    assert corpus.oracle_f1([FACE], of=half) == pytest.approx(expected, abs=0.02)
    assert corpus.oracle_f1([FACE], of=half) != expected


@pytest.mark.parametrize("names", [[A18], [A17, A18, FACE, TEXT]], ids=["one", "all"])
def test_no_classifier_fitted_on_many_clips_beats_the_oracle(whole, names):
    rows = np.flatnonzero(complete(whole))
    train, test = rows[:N], rows[N:]
    joint = np.concatenate([whole.shown[name] for name in names], axis=1)

    def reached(model):
        guessed = model.fit(joint[train], whole.label[train]).predict(joint[test])
        return f1_score(whole.label[test], guessed, average="weighted")

    oracle = whole.signal.oracle_f1(
        whole.label[test], {name: whole.shown[name][test] for name in names}, names
    )
    assert oracle - 0.01 < reached(LinearDiscriminantAnalysis()) < oracle + 0.004
    assert reached(NearestCentroid()) < oracle - 0.004


def test_the_defaults_are_as_hard_as_intended():
    corpus = draw_corpus(PlantedSettings(n_labelled=N))
    scores = corpus.oracle()
    assert 0.60 < scores["visual"] < 0.70
    assert 0.70 < scores["audio 18"] < 0.78
    assert 0.65 < scores["text"] < 0.72
    assert 0.88 < scores["all"] < 0.93
    assert 0.85 < scores["audio 18 + visual + text"] < scores["all"]
    layers = {layer: scores[f"audio {layer}"] for layer in corpus.settings.audio_layers}
    assert max(layers, key=layers.get) == 18
    assert layers[18] > max(layers[16], layers[20]) + 0.08
    assert layers[18] > max(layers[17], layers[19]) + 0.04


def test_another_layer_can_be_the_best():
    corpus = draw_corpus(PlantedSettings(n_labelled=3000, best_layer=21))
    scores = corpus.oracle()
    assert max(range(15, 25), key=lambda layer: scores[f"audio {layer}"]) == 21
    assert "audio 21 + visual" in scores


@pytest.mark.parametrize("modality", ["audio", "visual"])
def test_features_hold_the_signal_and_else_only_nuisance(whole, modality):
    names = [name for name in whole.shown if name[0] == modality]
    views = {layer: [(modality, layer)] for _, layer in names}
    clips, through = range(2 * BLOCK + 100), projection(WHOLE, modality)
    rows = list(features_of(whole, modality, views, clips))
    basis, nuisance = through.basis, through.nuisance
    scale = WHOLE.visual_nuisance if modality == "visual" else WHOLE.nuisance
    assert basis @ basis.T == pytest.approx(np.eye(K_LATENT), abs=1e-9)
    assert nuisance @ nuisance.T == pytest.approx(scale**2 * np.eye(2 * K_LATENT), abs=1e-9)
    assert basis @ nuisance.T == pytest.approx(0, abs=1e-9)
    for name in names:
        x = np.concatenate([row[name[1]] for row in rows])
        assert x.shape == (len(clips), WHOLE.width(modality))
        t = np.nan_to_num(whole.shown[name][: len(clips)])
        assert through.shown(x) == pytest.approx(t, abs=1e-4)
        beside = x - t @ basis
        assert (beside @ nuisance.T / scale).std() == pytest.approx(
            np.hypot(scale, WHOLE.grain), rel=0.02
        )
        outside = np.linalg.svd(np.concatenate([basis, nuisance]))[2][3 * K_LATENT :]
        assert (beside @ outside.T).std() == pytest.approx(WHOLE.grain, rel=0.02)
        correlation = np.corrcoef(np.concatenate([t, beside @ nuisance.T], axis=1).T)
        assert np.abs(correlation[:K_LATENT, K_LATENT:]).max() < 0.15


def test_any_range_of_clips_has_the_same_features(whole):
    views = {18: [A18], "sum": [A17, A18]}
    clips = range(BLOCK + 20)
    rows = list(features_of(whole, "audio", views, clips))
    some = list(features_of(whole, "audio", views, range(BLOCK - 5, BLOCK + 3)))
    for row, again in zip(rows[BLOCK - 5 : BLOCK + 3], some, strict=True):
        assert all(np.array_equal(row[layer], again[layer]) for layer in views)
    both = list(features_of(whole, "audio", {17: [A17], 18: [A18]}, clips))
    assert np.array_equal(rows[3]["sum"], both[3][17] + both[3][18])


def test_frames_have_the_row_as_their_mean():
    settings = replace(WHOLE, n_frames=(3, 9))
    row = {15: np.arange(32, dtype=np.float32)[None]}
    lengths = set()
    for clip in range(40):
        frames = frames_of(row, settings, clip)[15]
        lengths.add(len(frames))
        assert frames.mean(axis=0) == pytest.approx(row[15][0], abs=1e-5)
        assert (frames.std(axis=0) > 0).all()
    assert lengths == set(range(3, 10))


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"n_unlabelled": 9, "n_test": 10}, "n_test: expected at most the 9 unlabelled"),
        ({"best_layer": 14}, "best_layer: expected one of"),
        ({"text_width": 7}, "text_width: expected at least 8"),
    ],
)
def test_what_cannot_be_planted_is_refused(changes, what):
    with pytest.raises(UsageError, match=what):
        PlantedSettings(**changes)
