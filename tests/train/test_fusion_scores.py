"""What fusion is good for: better than each modality, as good as a plain loop of the same model."""

import numpy as np
import pytest
import torch
from sklearn.metrics import f1_score
from torch import nn

from mer_store.clips.clip_list import ClipList
from mer_store.store.store import Store
from pipelines.planted.settings import PlantedSettings
from pipelines.planted.write import make_planted
from pipelines.train import fusion
from pipelines.train.settings import read_settings
from pipelines.train.trainers import Job

CORPUS = PlantedSettings(
    n_labelled=800, n_unlabelled=40, n_test=20, audio_layers=(18,), frames=False
)
ALL = ("audio", "visual", "text")
N_EPOCHS, LR, HIDDEN, BATCH = 15, 2e-3, 64, 32
SETTINGS = ("audio.layers=18", f"hidden={HIDDEN}", f"epochs={N_EPOCHS}", f"lr={LR}", "dropout=0.3")


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    return make_planted(tmp_path_factory.mktemp("planted"), CORPUS)


@pytest.fixture(scope="module")
def summaries(planted, tmp_path_factory):
    runs = tmp_path_factory.mktemp("runs")

    def train(*modalities):
        settings = read_settings(
            fusion.Settings, None, [*SETTINGS, f"modalities={','.join(modalities)}"]
        )
        job = Job(Store.open(planted.store), ClipList.read(planted.clips), settings, runs, "cpu")
        return fusion.train(job)

    return {name: train(name) for name in ALL} | {"all": train(*ALL)}


def test_fusion_beats_every_modality_by_a_clear_margin(summaries, planted):
    scores = {name: run.summary["weighted_f1_mean"] for name, run in summaries.items()}
    assert scores["all"] > max(scores[name] for name in ALL) + 0.04
    views = [name for name in planted.corpus.signal.views if name[0] in ALL]
    assert (
        scores["all"] < planted.corpus.oracle_f1(views) + 0.02
    )  # nobody is better than the oracle


class Plain(nn.Module):
    """The same model, for one fold, as anybody would write it."""

    def __init__(self, widths):
        super().__init__()
        self.encoders = nn.ModuleList(
            nn.Sequential(
                nn.Linear(width, HIDDEN), nn.ReLU(), nn.Dropout(0.3),
                nn.Linear(HIDDEN, HIDDEN), nn.ReLU(), nn.Dropout(0.3),
            )
            for width in widths
        )  # fmt: skip
        self.score = nn.Linear(HIDDEN, 1, bias=False)
        self.bias = nn.Parameter(torch.zeros(len(widths)))
        self.classes = nn.Linear(HIDDEN, 6)

    def forward(self, inputs, present):
        h = torch.stack([encode(x) for encode, x in zip(self.encoders, inputs, strict=True)], dim=1)
        score = (self.score(h)[..., 0] + self.bias).masked_fill(~present, -torch.inf)
        return self.classes((torch.softmax(score, dim=1)[..., None] * h).sum(dim=1))


def plain_score(run, planted):
    """Train fold after fold in a plain loop on the run's own folds; return the mean weighted F1."""
    store, corpus, known = Store.open(planted.store), planted.corpus, run.folds()
    rows = [row for row, clip_id in enumerate(corpus.clip_ids) if clip_id in known]
    ids = [corpus.clip_ids[row] for row in rows]
    inputs, present = [], []
    for name in ALL:
        features = store.features(name, level="utterance", recipe="default")
        there = features.ledger(ids).has(features.layers).all(axis=1)
        x = np.zeros((len(ids), corpus.settings.width(name)), np.float32)
        x[there] = features.read(
            features.layers, [i for i, ok in zip(ids, there, strict=True) if ok], np.float32
        ).mean(axis=1)
        inputs.append(torch.from_numpy(x))
        present.append(torch.from_numpy(there))
    present = torch.stack(present, dim=1)
    usable = present.any(dim=1)
    label, fold = torch.from_numpy(corpus.label[rows]), torch.tensor([known[i] for i in ids])
    scores = []
    for number in range(5):
        torch.manual_seed(number)
        train = torch.nonzero((fold != number) & usable).flatten()
        test = torch.nonzero((fold == number) & usable).flatten()
        scaled = []
        for x, there in zip(inputs, present.T, strict=True):
            own = x[train][there[train]]
            scaled.append((x - own.mean(dim=0)) / own.std(dim=0))
        model = Plain([x.shape[1] for x in inputs])
        adam = torch.optim.Adam(model.parameters(), LR, weight_decay=1e-5)
        for _ in range(N_EPOCHS):
            for batch in train[torch.randperm(len(train))].split(BATCH):
                loss = nn.functional.cross_entropy(
                    model([x[batch] for x in scaled], present[batch]), label[batch]
                )
                adam.zero_grad()
                loss.backward()
                adam.step()
        model.eval()
        with torch.no_grad():
            predicted = model([x[test] for x in scaled], present[test]).argmax(dim=1)
        scores.append(f1_score(label[test], predicted, average="weighted"))
    return float(np.mean(scores))


def test_fusion_is_no_worse_than_a_plain_loop_of_the_same_model(summaries, planted):
    ours = summaries["all"].summary["weighted_f1_mean"]
    assert ours > plain_score(summaries["all"], planted) - 0.03
