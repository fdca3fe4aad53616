"""Fusion models of several draws and lanes in one stack learn what each of them would alone."""

import numpy as np
import pytest
import torch

from mer_store.clips.clip_list import ClipList
from mer_store.store.store import Store
from pipelines.planted.settings import PlantedSettings
from pipelines.planted.write import make_planted
from pipelines.train import fusion
from pipelines.train.features import open_features
from pipelines.train.folds import assign_folds
from pipelines.train.fusion_data import Inputs
from pipelines.train.fusion_stack import FusionStack, Variant
from pipelines.train.lanes import count_batches, epoch_batches, make_lanes
from pipelines.train.roster import read_roster
from pipelines.train.settings import read_settings

N_EPOCHS = 5
DRAWS = [
    Variant(8, 0.2, 1e-3), Variant(8, 0.5, 1e-3), Variant(16, 0.3, 1e-2), Variant(8, 0.5, 1e-3),
]  # fmt: skip


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Return settings, roster, inputs and lanes of a small store."""
    planted = make_planted(
        tmp_path_factory.mktemp("planted"),
        PlantedSettings(
            n_labelled=200, n_unlabelled=4, n_test=0, audio_layers=(18,), text_layers=(40,),
            frames=False, summed=False, no_face=0.3,
        ),
    )  # fmt: skip
    settings = read_settings(
        fusion.Settings,
        None,
        ["audio.layers=18", "text.layers=40", "selection=inner", "modality_dropout=0.2"],
    )
    roster = read_roster(ClipList.read(planted.clips), settings)
    store = Store.open(planted.store)
    features = [
        open_features(store, name, settings.choice(name), roster, settings.combine)
        for name in settings.modalities
    ]
    inputs = Inputs.load(features, torch.device("cpu"))
    lanes = make_lanes(roster, assign_folds(roster, settings), settings, inputs.usable)
    return settings, roster, inputs, lanes


def fit(corpus, variants, lanes, n_batches):
    """Train some variants in some lanes; return the stacks."""
    settings, roster, inputs, _ = corpus
    stacks = FusionStack.build(variants, settings, inputs, lanes)
    for epoch in range(N_EPOCHS):
        for stack in stacks:
            stack.begin(epoch)
        for rows, real in epoch_batches(lanes, n_batches, epoch):
            x, present = inputs.batch(rows)
            label, weight = torch.from_numpy(roster.label[rows]), torch.from_numpy(real).float()
            for stack in stacks:
                stack.step(x, present, label, weight)
        for stack in stacks:
            stack.choose(epoch, inputs, roster)
    for stack in stacks:
        stack.take_chosen()
    return stacks


def test_draws_and_lanes_together_equal_each_alone(corpus):
    lanes = corpus[3]
    n_batches = count_batches(lanes, corpus[0].batch)
    stacks = fit(corpus, DRAWS, lanes, n_batches)
    assert [len(stack.variants) for stack in stacks] == [3, 1]
    for stack in stacks:
        for place, lane in enumerate(lanes):
            for number, variant in enumerate(stack.variants):
                model = place * len(stack.variants) + number
                [alone] = fit(corpus, [variant], [lane], n_batches)
                assert alone.epochs_chosen(0) == [stack.epochs_chosen(0)[model]]
                assert alone.chosen_scores.item() == stack.chosen_scores[place, number]
                own = alone.model.state_dict()
                for name, tensor in stack.model.named_parameters():
                    assert torch.allclose(tensor[model], own[name][0], atol=1e-5), name


def test_a_stack_predicts_what_each_of_its_models_does(corpus):
    _, _, inputs, lanes = corpus
    rows = np.flatnonzero(inputs.usable)
    [stack] = fit(corpus, DRAWS[:2], lanes[:2], 5)
    logits, attention = stack.predict(inputs, rows)
    assert logits.shape == (4, len(rows), 6)
    assert ((attention > 0) == inputs.present[rows]).all()
    for place, lane in enumerate(lanes[:2]):
        for number, variant in enumerate(DRAWS[:2]):
            [alone] = fit(corpus, [variant], [lane], 5)
            own, _ = alone.predict(inputs, rows)
            assert logits[place * 2 + number] == pytest.approx(own[0], abs=1e-4)
