"""Tiny models: the shapes of the real ones, the same numbers everywhere."""

import pytest
import torch

from extractors.models.tiny import tensors_digest, tiny_clip, tiny_hubert, tiny_text

#: The same on every machine: features made by one can be joined with those of another.
DIGESTS = {
    tiny_hubert: "sha256:0a13e7e1a1dbaf52d2863526e6969b5a2927bd731a8190ed4e33728b4b83f5fa",
    tiny_clip: "sha256:564c85eebf043026f287ad1fd5c6f8e9fae07df1093bb246966382f4842ce096",
    tiny_text: "sha256:9beec34b8f1dfe3f73c8edb86bf9beeb133bfc33badd9bebdd9246f16a5ad593",
}


@pytest.mark.parametrize("build", DIGESTS)
def test_weights_are_the_same_each_time_and_torchs_seed_is_left_alone(build):
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    tiny = build()
    assert torch.equal(torch.rand(3), expected)
    assert tiny.weights == DIGESTS[build] == tensors_digest(build().model)
    assert not tiny.model.training
    assert not any(parameter.requires_grad for parameter in tiny.model.parameters())


def test_digest_sees_every_tensor():
    model = tiny_text().model
    model.norm.weight[0] += 1
    assert tensors_digest(model) != DIGESTS[tiny_text]


@torch.inference_mode()
def test_shapes_are_those_of_the_real_topologies():
    heard = tiny_hubert().model(torch.zeros(1, 16_000), output_hidden_states=True)
    assert [tuple(state.shape) for state in heard.hidden_states] == [(1, 49, 32)] * 25
    seen = tiny_clip().model(torch.zeros(1, 3, 224, 224), output_hidden_states=True)
    assert len(seen.hidden_states) == 25
    assert seen.image_embeds.shape == (1, 64)
    ids = torch.tensor([list("你好".encode())])
    read = tiny_text().model(input_ids=ids, output_hidden_states=True)
    assert [tuple(state.shape) for state in read.hidden_states] == [(1, 6, 64)] * 9


@torch.inference_mode()
def test_states_keep_a_size_that_half_precision_holds():
    sound = torch.randn(1, 16_000, generator=torch.Generator().manual_seed(0))
    states = tiny_hubert().model(sound, output_hidden_states=True).hidden_states
    assert all(0.05 < state.std() < 20 for state in states)
