"""Our ALiBi decoder (Baichuan-13B's) against transformers' Llama of equal size on the same tokens.

Llama is what the 7B runs on and has kernels that many people have tuned; the only difference in work is
that it rotates q and k where ours adds a bias. Random weights, wide enough to be bound by the matrix
products. Run in pairs, A B A B, since these machines are noisy:

    python benchmarks/text_model.py --rounds 5 --device cpu --dtype float32
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from transformers import LlamaConfig, LlamaModel

from extractors.text.alibi_decoder import AlibiDecoder, DecoderShape
from extractors.text.hidden_states import TransformersModel


def build(
    shape: DecoderShape, device: str, dtype: torch.dtype
) -> tuple[AlibiDecoder, TransformersModel]:
    """Return both models with random weights."""
    config = LlamaConfig(
        vocab_size=shape.n_vocabulary,
        hidden_size=shape.width,
        intermediate_size=shape.mlp_width,
        num_hidden_layers=shape.n_layers,
        num_attention_heads=shape.n_heads,
    )
    with torch.device(device):
        decoder = AlibiDecoder(shape).to(dtype).eval()
        llama = LlamaModel(config).to(dtype)
    return decoder, TransformersModel(llama, shape.n_layers)


def seconds(run: Callable[[], object], device: str) -> float:
    """Time one run, and wait for the GPU."""
    started_s = time.perf_counter()
    run()
    if device != "cpu":
        torch.cuda.synchronize()
    return time.perf_counter() - started_s


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--clips", type=int, default=25)
    parser.add_argument("--tokens", type=int, default=20)
    parser.add_argument("--width", type=int, default=1280)
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32")
    options = parser.parse_args()
    shape = DecoderShape(
        n_vocabulary=1000,
        width=options.width,
        mlp_width=options.width * 13696 // 5120,
        n_layers=options.layers,
        n_heads=40,
        norm_epsilon=1e-6,
    )
    decoder, llama = build(shape, options.device, getattr(torch, options.dtype))
    ids = torch.randint(0, 1000, (options.clips, options.tokens), device=options.device)
    n_tokens = torch.full((options.clips,), options.tokens, device=options.device)
    layers = range(shape.n_layers - 3, shape.n_layers + 1)
    runs = {"ours": lambda: decoder(ids, layers), "llama": lambda: llama(ids, n_tokens, layers)}
    with torch.inference_mode():
        for run in runs.values():
            seconds(run, options.device)  # the first is slower: kernels are chosen, memory is taken
        taken_s = [
            {name: seconds(run, options.device) for name, run in runs.items()}
            for _ in range(options.rounds)
        ]
    for name in runs:
        n_tokens_s = ids.numel() / statistics.median(pair[name] for pair in taken_s)
        print(f"{name:6} {n_tokens_s:10.0f} tokens/s")
    ratios = sorted(pair["llama"] / pair["ours"] for pair in taken_s)
    print(f"ours is {statistics.median(ratios):.2f}x as fast ({ratios[0]:.2f} to {ratios[-1]:.2f})")


if __name__ == "__main__":
    main()
