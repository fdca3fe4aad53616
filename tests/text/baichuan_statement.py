"""Baichuan-13B stated in plain NumPy, float64, one clip, one head and one query at a time."""

import math

import numpy as np

SHAPE_13B = {
    "model_type": "baichuan",
    "vocab_size": 352,
    "hidden_size": 80,
    "intermediate_size": 112,
    "num_hidden_layers": 3,
    "num_attention_heads": 40,
    "rms_norm_eps": 1e-6,
    "model_max_length": 64,
}
SHAPE_7B = {
    "model_type": "baichuan",
    "vocab_size": 352,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "rms_norm_eps": 1e-6,
    "max_position_embeddings": 64,
    "model_max_length": 64,
}


def published_tensors(config, seed=0):
    """Random weights under the names of the published checkpoints, with what they carry besides."""
    rng = np.random.default_rng(seed)
    width, mlp = config["hidden_size"], config["intermediate_size"]

    def matrix(rows, columns):
        return (rng.standard_normal((rows, columns)) / math.sqrt(columns)).astype(np.float32)

    def scale():
        return (1 + 0.1 * rng.standard_normal(width)).astype(np.float32)

    embedding = rng.standard_normal((config["vocab_size"], width)).astype(np.float32)
    tensors = {"model.embed_tokens.weight": embedding}
    for layer in range(config["num_hidden_layers"]):
        block = f"model.layers.{layer}"
        tensors[f"{block}.self_attn.W_pack.weight"] = matrix(3 * width, width)
        tensors[f"{block}.self_attn.o_proj.weight"] = matrix(width, width)
        tensors[f"{block}.mlp.gate_proj.weight"] = matrix(mlp, width)
        tensors[f"{block}.mlp.up_proj.weight"] = matrix(mlp, width)
        tensors[f"{block}.mlp.down_proj.weight"] = matrix(width, mlp)
        tensors[f"{block}.input_layernorm.weight"] = scale()
        tensors[f"{block}.post_attention_layernorm.weight"] = scale()
        if "max_position_embeddings" in config:
            tensors[f"{block}.self_attn.rotary_emb.inv_freq"] = scale()
    tensors["model.norm.weight"] = scale()
    tensors["lm_head.weight"] = matrix(config["vocab_size"], width)
    return tensors


def slopes_of_40_heads():
    """The 32-head series, then every other slope of the 64-head one, the first eight."""
    of_32 = [2 ** (-0.25 * head) for head in range(1, 33)]
    of_64 = [2 ** (-0.125 * head) for head in range(1, 65)]
    return of_32 + of_64[0::2][:8]


def hidden_states(token_ids, tensors, config):
    """[tokens, width] per hidden state of the 13B, by the formulas of the papers."""
    assert config["num_attention_heads"] == 40
    weights = {name.removeprefix("model."): np.float64(w) for name, w in tensors.items()}
    x = weights["embed_tokens.weight"][np.asarray(token_ids)]
    states = [x]
    for layer in range(config["num_hidden_layers"]):
        at = {
            name.removeprefix(f"layers.{layer}."): w
            for name, w in weights.items()
            if name.startswith(f"layers.{layer}.")
        }
        x = x + attention(rms_norm(x, at["input_layernorm.weight"]), at)
        x = x + swiglu(rms_norm(x, at["post_attention_layernorm.weight"]), at)
        states.append(x)
    states[-1] = rms_norm(x, weights["norm.weight"])
    return states


def rms_norm(x, weight):
    return np.stack([row / math.sqrt(np.mean(row**2) + 1e-6) * weight for row in x])


def swiglu(x, at):
    gate = x @ at["mlp.gate_proj.weight"].T
    return (gate / (1 + np.exp(-gate)) * (x @ at["mlp.up_proj.weight"].T)) @ at[
        "mlp.down_proj.weight"
    ].T


def attention(x, at):
    n_tokens, width = x.shape
    d = width // 40
    to_q, to_k, to_v = np.split(at["self_attn.W_pack.weight"], 3)
    mixed = np.zeros_like(x)
    for head, slope in enumerate(slopes_of_40_heads()):
        rows = slice(head * d, (head + 1) * d)
        q, k, v = x @ to_q[rows].T, x @ to_k[rows].T, x @ to_v[rows].T
        for query in range(n_tokens):
            scores = [
                q[query] @ k[key] / math.sqrt(d) - slope * (query - key) for key in range(query + 1)
            ]
            weight = np.exp(scores - np.max(scores))
            mixed[query, rows] = weight / weight.sum() @ v[: query + 1]
    return mixed @ at["self_attn.o_proj.weight"].T
