"""Running blocks from stored states gives the full model's layers: a trainer on frozen layers needs it."""

import pytest
import torch
import transformers
from checkpoint_factory import save_hubert, save_wav2vec2, save_wavlm
from extractor_contract import relative

from extractors.models.blocks import (
    final_layer,
    first_states,
    frame_mask,
    run_blocks,
    wavlm_position_bias,
)

FAMILIES = [(save_hubert, "Hubert"), (save_wav2vec2, "Wav2Vec2"), (save_wavlm, "WavLM")]


def test_frame_mask():
    mask = frame_mask(torch.tensor([1, 3]), 3)
    assert mask.tolist() == [[True, False, False], [True, True, True]]


@pytest.mark.filterwarnings("ignore:Support for mismatched key_padding_mask:UserWarning")
@pytest.mark.parametrize(("save", "family"), FAMILIES)
@torch.inference_mode()
def test_blocks_go_on_from_any_layer_bit_for_bit(save, family, tmp_path):
    folder = save(tmp_path / "model")
    encoder = getattr(transformers, f"{family}Model").from_pretrained(folder).eval().encoder
    torch.manual_seed(3)
    projected, real = torch.randn(3, 40, 32), frame_mask(torch.tensor([40, 7, 23]), 40)
    full = [first_states(encoder, projected, real)]
    full += run_blocks(encoder.layers, encoder.config, full[0], real)
    bias = wavlm_position_bias(encoder, 3, 40) if family == "WavLM" else None
    for start in (0, 3, 5):
        rest = run_blocks(encoder.layers[start:], encoder.config, full[start], real, bias)
        for layer, states in enumerate(rest, start=start + 1):
            assert torch.equal(states[real], full[layer][real])
    whole = encoder(projected.clone(), attention_mask=real).last_hidden_state
    assert relative(final_layer(encoder, full[-1])[real], whole[real]) <= 1e-6


@pytest.mark.parametrize(("save", "family"), FAMILIES)
def test_stored_states_padded_again_give_each_clip_its_own_rows(save, family, tmp_path):
    folder = save(tmp_path / "model")
    encoder = getattr(transformers, f"{family}Model").from_pretrained(folder).eval().encoder
    clips = [torch.randn(n, 32, generator=torch.Generator().manual_seed(n)) for n in (30, 11, 1)]
    n_frames = torch.tensor([len(clip) for clip in clips])
    padded = torch.nn.utils.rnn.pad_sequence(clips, batch_first=True)

    def above(states, real):
        bias = wavlm_position_bias(encoder, *states.shape[:2]) if family == "WavLM" else None
        *_, last = run_blocks(encoder.layers[3:], encoder.config, states, real, bias)
        return last

    with torch.inference_mode():
        together = above(padded, frame_mask(n_frames, 30))
        for row, clip in zip(together, clips, strict=True):
            assert relative(row[: len(clip)], above(clip[None], None)[0]) <= 1e-5


def test_gradients_pass_through_frozen_blocks(tmp_path):
    folder = save_hubert(tmp_path / "model")
    encoder = transformers.HubertModel.from_pretrained(folder).eval().encoder
    states = torch.randn(2, 9, 32, requires_grad=True)
    *_, last = run_blocks(
        encoder.layers[3:], encoder.config, states, frame_mask(torch.tensor([9, 4]), 9)
    )
    last[1, :4].sum().backward()
    assert states.grad[1, :4].abs().sum() > 0
    assert not states.grad[0].any()
    assert not states.grad[1, 4:].any()
