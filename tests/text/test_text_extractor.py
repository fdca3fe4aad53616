"""The text extractor on random checkpoints that lie in their folders as published ones do."""

import hashlib
from dataclasses import replace

import numpy as np
import pytest
import sentencepiece
import torch
from text.baichuan_statement import SHAPE_7B, SHAPE_13B, hidden_states
from text.written_checkpoints import EMOJI, SENTENCES, write_baichuan, write_transformers
from transformers import (
    AlbertConfig,
    AlbertModel,
    AutoModel,
    BertConfig,
    BertModel,
    GPT2Config,
    GPT2Model,
    LlamaConfig,
    LlamaModel,
    Qwen2Config,
    Qwen2Model,
    RobertaConfig,
    RobertaModel,
    T5Config,
    T5Model,
    XLMConfig,
    XLMModel,
    XLNetConfig,
    XLNetModel,
)

from extractors.batching import batches
from extractors.contract import ClipEmpty, ClipFailed, ExtractorRequest, Source, Want
from extractors.text.extractor import DEFAULT_MODEL, TextExtractor
from mer_store.errors import UsageError

NARROW = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "max_position_embeddings": 40,
}
NO_SPECIAL = {"bos_token_id": None, "eos_token_id": None, "pad_token_id": None}
GPT2 = {"n_embd": 32, "n_layer": 3, "n_head": 4, "n_positions": 40, "vocab_size": 256}
#: name -> class, config, whether its tokenizer puts [CLS] and [SEP] around the text.
KINDS = {
    "bert": (BertModel, BertConfig(**NARROW, vocab_size=120), True),
    "roberta": (RobertaModel, RobertaConfig(**NARROW, vocab_size=120, pad_token_id=0), True),
    "albert": (AlbertModel, AlbertConfig(**NARROW, vocab_size=120, embedding_size=16), True),
    "gpt2": (GPT2Model, GPT2Config(**GPT2, **NO_SPECIAL), False),
    "llama": (LlamaModel, LlamaConfig(**NARROW, **NO_SPECIAL, vocab_size=256), False),
    "qwen2": (
        Qwen2Model,
        Qwen2Config(**NARROW, **NO_SPECIAL, num_key_value_heads=2, vocab_size=256),
        False,
    ),
    # Two whose blocks cannot be tapped: no module per block, and tokens before clips inside.
    "xlm": (XLMModel, XLMConfig(emb_dim=32, n_layers=3, n_heads=4, vocab_size=120), True),
    "xlnet": (
        XLNetModel,
        XLNetConfig(d_model=32, n_layer=3, n_head=4, d_inner=48, vocab_size=120),
        True,
    ),
}
BAICHUANS = {"13b": SHAPE_13B, "7b": SHAPE_7B}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("checkpoints")
    for name, (model_class, config, special) in KINDS.items():
        write_transformers(root / name, model_class, config, special=special)
    for name, config in BAICHUANS.items():
        write_baichuan(root / name, config)
    return root


@pytest.fixture(autouse=True)
def own_digest_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MER_STORE_CACHE", str(tmp_path / "cache"))


def text_extractor(model, **settings):
    return TextExtractor(ExtractorRequest("text", str(model), device="cpu", **settings))


def load(extractor, *texts):
    sources = [Source(f"clip{n}", text=text) for n, text in enumerate(texts)]
    return [extractor.load(extractor.open(source)) for source in sources]


def run(extractor, *texts, utterance=(), frame=()):
    return extractor(load(extractor, *texts), Want(utterance, frame))


def reference_states(folder, text, special):
    """All hidden states of the real tokens by transformers' own tuple: [states, T, D]."""
    from tokenizers import Tokenizer

    ids = Tokenizer.from_file(str(folder / "tokenizer.json")).encode(text).ids
    model = AutoModel.from_pretrained(folder)
    with torch.inference_mode():
        mask = torch.ones(1, len(ids))
        states = model(torch.tensor([ids]), attention_mask=mask, output_hidden_states=True)
    real = slice(1, -1) if special else slice(None)
    return torch.stack(states.hidden_states)[:, 0, real].numpy()


# -- numbers ---------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_states_of_any_transformers_model(folders, kind):
    extractor = text_extractor(folders / kind)
    expected = reference_states(folders / kind, "我很好", KINDS[kind][2])
    layers = extractor.identity.layers
    assert layers == (0, 1, 2, 3)
    assert extractor.identity.default_layers == layers
    assert extractor.identity.widths == dict.fromkeys(layers, 32)
    [states] = run(extractor, "我很好", utterance=layers, frame=layers)
    for layer in layers:
        np.testing.assert_allclose(states.frame[layer], expected[layer], atol=1e-6)
        np.testing.assert_allclose(states.utterance[layer], expected[layer].mean(0), atol=1e-6)
        assert states.frame[layer].dtype == states.utterance[layer].dtype == np.float32


@pytest.mark.parametrize("kind", ["bert", "albert", "xlm", "xlnet", "gpt2", "qwen2"])
def test_one_layer_alone_equals_the_same_layer_among_all(folders, kind):
    extractor = text_extractor(folders / kind)
    [everything] = run(extractor, "我很好", frame=(0, 1, 2, 3))
    for layer in range(4):
        [alone] = run(extractor, "我很好", frame=(layer,))
        assert list(alone.frame) == [layer]
        np.testing.assert_array_equal(alone.frame[layer], everything.frame[layer])


@pytest.mark.parametrize("kind", KINDS)
def test_blocks_are_tapped_where_that_gives_the_same(folders, kind):
    extractor = text_extractor(folders / kind)
    assert (extractor._model.blocks is None) == (kind in {"albert", "xlm", "xlnet"})


def test_blocks_above_the_highest_layer_are_not_run(folders):
    extractor = text_extractor(folders / "bert")
    run(extractor, "我", utterance=(1,))
    ran = []
    for number, block in enumerate(extractor._model.blocks, start=1):
        block.register_forward_hook(lambda *_, number=number: ran.append(number))
    run(extractor, "我", utterance=(1, 2))
    assert max(ran) == 2
    assert 1 in ran


@pytest.mark.parametrize("form", ["safetensors", "bin"])
def test_13b_from_its_folder(tmp_path, form):
    tensors = write_baichuan(tmp_path / "Baichuan2-13B-Base", SHAPE_13B, form, n_shards=3)
    extractor = text_extractor(tmp_path / "Baichuan2-13B-Base")
    vocabulary = str(tmp_path / "Baichuan2-13B-Base" / "tokenizer.model")
    ids = sentencepiece.SentencePieceProcessor(model_file=vocabulary).encode("我很好 你呢")
    expected = hidden_states(ids, tensors, SHAPE_13B)
    [states] = run(extractor, "我很好 你呢", utterance=(1, 3), frame=(0, 2, 3))
    assert extractor.identity.model == "Baichuan2-13B-Base"
    assert sorted(states.frame) == [0, 2, 3]
    for layer, rows in states.frame.items():
        np.testing.assert_allclose(rows, expected[layer], atol=1e-4, rtol=1e-4)
    for layer, row in states.utterance.items():
        np.testing.assert_allclose(row, expected[layer].mean(0), atol=1e-4, rtol=1e-4)


def test_the_two_forms_of_weights_give_the_same_numbers(tmp_path):
    pair = []
    for form in ("safetensors", "bin"):
        write_baichuan(tmp_path / form, SHAPE_7B, form)
        [states] = run(text_extractor(tmp_path / form), "你好吗", utterance=(1, 2, 3))
        pair.append(states.utterance)
    for layer in (1, 2, 3):
        np.testing.assert_array_equal(pair[0][layer], pair[1][layer])


@pytest.mark.parametrize("kind", [*KINDS, *BAICHUANS, "tiny"])
def test_a_row_never_depends_on_its_batch_mates(folders, kind):
    extractor = text_extractor("tiny" if kind == "tiny" else folders / kind)
    texts = ["我", "今天真的很开心" if kind != "roberta" else "今天", "好吧"]
    layers = extractor.identity.layers
    together = run(extractor, *texts, utterance=layers, frame=layers)
    for text, states in zip(texts, together, strict=True):
        [alone] = run(extractor, text, utterance=layers, frame=layers)
        for layer in layers:
            assert states.frame[layer].shape == alone.frame[layer].shape
            np.testing.assert_allclose(states.frame[layer], alone.frame[layer], atol=1e-5)
            np.testing.assert_allclose(states.utterance[layer], alone.utterance[layer], atol=1e-5)


def test_outcomes_come_in_the_order_of_the_batch(folders):
    extractor = text_extractor(folders / "7b")
    texts = ["好吧 那就这样", "我", "他为什么"]
    forward = run(extractor, *texts, utterance=(3,), frame=(3,))
    backward = run(extractor, *reversed(texts), utterance=(3,), frame=(3,))
    n_tokens = [loaded.n_frames for loaded in load(extractor, *texts)]
    assert len(set(n_tokens)) == 3
    assert [len(states.frame[3]) for states in forward] == n_tokens
    for one, other in zip(forward, reversed(backward), strict=True):
        np.testing.assert_allclose(one.utterance[3], other.utterance[3], atol=1e-5)


def test_one_token_beside_sixteen(folders):
    extractor = text_extractor("tiny")
    short, long = load(extractor, "a", "sixteen letters!")
    assert (short.size, long.size) == (1, 16)
    alone, _ = extractor([short, long], Want((8,), (8,)))
    assert alone.frame[8].shape == (1, 64)
    np.testing.assert_allclose(alone.frame[8][0], alone.utterance[8], atol=1e-6)


def test_same_text_same_numbers(folders):
    extractor, again = text_extractor(folders / "13b"), text_extractor(folders / "13b")
    [one], [other] = (run(e, "你好吗", utterance=(3,)) for e in (extractor, again))
    np.testing.assert_array_equal(one.utterance[3], other.utterance[3])
    [different] = run(extractor, "你好", utterance=(3,))
    assert not np.allclose(one.utterance[3], different.utterance[3])


# -- recipes ---------------------------------------------------------------------------------


@pytest.mark.parametrize("recipe", ["mertools2024", "mertools2023"])
def test_the_baseline_sums_the_last_four(folders, recipe):
    extractor = text_extractor(folders / "bert", recipe=recipe)
    plain = text_extractor(folders / "bert")
    assert extractor.identity.layers == extractor.identity.default_layers == ("last4sum",)
    assert extractor.identity.recipe == recipe
    [got] = run(extractor, "我很好", utterance=("last4sum",), frame=("last4sum",))
    [single] = run(plain, "我很好", utterance=(0, 1, 2, 3), frame=(0, 1, 2, 3))
    np.testing.assert_allclose(got.utterance["last4sum"], sum(single.utterance.values()), atol=1e-5)
    np.testing.assert_allclose(got.frame["last4sum"], sum(single.frame.values()), atol=1e-5)


def test_the_sum_of_the_tiny_model_leaves_out_its_first_layers():
    [got] = run(text_extractor("tiny", recipe="mertools2024"), "abc", utterance=("last4sum",))
    [single] = run(text_extractor("tiny"), "abc", utterance=(5, 6, 7, 8))
    np.testing.assert_allclose(got.utterance["last4sum"], sum(single.utterance.values()), atol=1e-5)


def test_half_precision_is_summed_in_float32(folders):
    """Four states near the top of bfloat16's digits: their sum is exact, not rounded three times."""
    half = text_extractor("tiny", recipe="mertools2024", compute_dtype="bfloat16")
    plain = text_extractor("tiny", compute_dtype="bfloat16")
    [got] = run(half, "abc", frame=("last4sum",))
    [single] = run(plain, "abc", frame=(5, 6, 7, 8))
    exact = sum(states.astype(np.float64) for states in single.frame.values())
    np.testing.assert_allclose(got.frame["last4sum"], exact, rtol=1e-6, atol=1e-6)
    assert half.identity.compute_dtype == "bfloat16"


def test_default_layers_are_the_last_four():
    assert text_extractor("tiny").identity.default_layers == (5, 6, 7, 8)


def test_unknown_recipe():
    with pytest.raises(UsageError, match="recipe 'mertools2030': expected one of default"):
        text_extractor("tiny", recipe="mertools2030")


@pytest.mark.parametrize("layer", [9, -1, "last4sum", "embed"])
def test_a_layer_the_model_does_not_have(layer):
    with pytest.raises(UsageError, match=f"no layer {layer}; tiny offers 0-8"):
        run(text_extractor("tiny"), "abc", utterance=(layer,))


# -- transcripts -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "reason"),
    [(None, "no transcript"), ("", "empty transcript"), (" \t\n\u3000", "empty transcript")],
)
def test_clips_without_words_are_empty(text, reason):
    with pytest.raises(ClipEmpty, match=f"^{reason}$"):
        text_extractor("tiny").open(Source("clip", text=text))


@pytest.mark.parametrize("text", ["\u200b\ufeff", "\x01"])
def test_a_text_without_tokens_is_empty(folders, text):
    with pytest.raises(ClipEmpty, match="no token"):
        load(text_extractor(folders / "13b"), text)


def test_only_special_tokens_is_empty(folders):
    extractor = text_extractor(folders / "bert")
    blob = extractor.open(Source("clip", text="我"))
    with pytest.raises(ClipEmpty, match="no token"):
        extractor.load(replace(blob, data=b"  "))


def test_a_lone_surrogate_fails_its_clip():
    with pytest.raises(ClipFailed, match="not valid Unicode"):
        text_extractor("tiny").open(Source("clip", text="a\ud800"))


@pytest.mark.parametrize("kind", [*BAICHUANS, "bert", "gpt2", "llama"])
@pytest.mark.parametrize("text", [EMOJI, "What are you doing?", "😀", "ﾊﾝｶｸ 𠮷", "…——"])
def test_emoji_and_latin_text(folders, kind, text):
    extractor = text_extractor(folders / kind)
    [loaded] = load(extractor, text)
    [states] = extractor([loaded], Want((2,), (2,)))
    assert loaded.n_frames == len(states.frame[2]) >= 1
    assert np.isfinite(states.frame[2]).all()


@pytest.mark.parametrize(("kind", "limit"), [("bert", 40), ("roberta", 39), ("13b", 64)])
def test_a_text_longer_than_the_model_takes_fails_and_is_not_cut(folders, kind, limit):
    extractor = text_extractor(folders / kind)
    n_around = 2 if kind != "13b" else len(load(extractor, "我")[0].payload.ids) - 1
    [longest] = load(extractor, "我" * (limit - n_around))
    assert longest.size == limit
    [states] = extractor([longest], Want(frame=(3,)))
    assert len(states.frame[3]) == longest.n_frames
    with pytest.raises(ClipFailed, match=f"of {limit + 1} tokens, the model takes {limit}"):
        load(extractor, "我" * (limit - n_around + 1))


def test_what_is_opened_is_the_text_and_no_file():
    extractor = text_extractor("tiny")
    source = Source("clip", text="你好")
    blob = extractor.open(source)
    assert blob.origin.digest == f"sha256:{hashlib.sha256('你好'.encode()).hexdigest()}"
    assert blob.origin.mtime_ns is None
    assert extractor.path(source) is None
    loaded = extractor.load(blob)
    assert (loaded.size, loaded.n_frames, loaded.media_s) == (6, 6, 0.0)


def test_nothing_readable_is_given_on(folders):
    """Transcripts never enter the store: neither ids nor pieces of text leave the extractor."""
    for name in ("13b", "bert"):
        [states] = run(text_extractor(folders / name), "我很好", utterance=(3,), frame=(3,))
        assert states.tables == {}


# -- tokens ----------------------------------------------------------------------------------


def test_baichuan_text_has_no_token_around_it(folders):
    vocabulary = folders / "13b" / "tokenizer.model"
    processor = sentencepiece.SentencePieceProcessor(model_file=str(vocabulary))
    extractor = text_extractor(folders / "13b")
    for text in [*SENTENCES, EMOJI, "😀"]:
        [loaded] = load(extractor, text)
        assert loaded.payload.ids.tolist() == processor.encode(text)
        assert not {processor.bos_id(), processor.eos_id()} & set(loaded.payload.ids.tolist())
        assert loaded.payload.real.all()


def test_special_tokens_go_into_the_model_and_not_into_the_rows(folders):
    [loaded] = load(text_extractor(folders / "bert"), "我很好")
    assert loaded.payload.ids[[0, -1]].tolist() == [2, 3]
    assert loaded.payload.real.tolist() == [False, True, True, True, False]
    assert (loaded.size, loaded.n_frames) == (5, 3)


def test_a_changed_tokenizer_is_another_spec(tmp_path):
    write_baichuan(tmp_path / "a", SHAPE_7B)
    before = text_extractor(tmp_path / "a").identity
    file = tmp_path / "a" / "tokenizer.model"
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    assert before.preprocessing["tokenizer"] == f"sha256:{digest}"
    file.write_bytes(file.read_bytes() + b"\x42\x00")
    assert text_extractor(tmp_path / "a").identity.preprocessing != before.preprocessing


def test_a_changed_fast_tokenizer_is_another_spec(tmp_path):
    write_transformers(tmp_path / "bert", *KINDS["bert"][:2], special=True)
    before = text_extractor(tmp_path / "bert").identity
    again = text_extractor(tmp_path / "bert").identity
    assert before == again
    settings = tmp_path / "bert" / "tokenizer_config.json"
    settings.write_text(settings.read_text().replace("[CLS]", "[UNK]"))
    assert text_extractor(tmp_path / "bert").identity.preprocessing != before.preprocessing
    assert text_extractor(tmp_path / "bert").identity.weights == before.weights


def test_truncation_in_a_tokenizer_file_is_not_obeyed(tmp_path, folders):
    from tokenizers import Tokenizer

    write_transformers(tmp_path / "bert", *KINDS["bert"][:2], special=True)
    file = str(tmp_path / "bert" / "tokenizer.json")
    cutting = Tokenizer.from_file(file)
    cutting.enable_truncation(4)
    cutting.enable_padding(length=12)
    cutting.save(file)
    [loaded] = load(text_extractor(tmp_path / "bert"), "我今天真的很开心")
    assert loaded.size == 10


# -- checkpoints -----------------------------------------------------------------------------


def test_a_checkpoint_without_tokenizer(tmp_path):
    write_transformers(tmp_path / "bert", *KINDS["bert"][:2], special=True)
    (tmp_path / "bert" / "tokenizer.json").unlink()
    with pytest.raises(UsageError, match=r"no tokenizer; expected tokenizer\.json"):
        text_extractor(tmp_path / "bert")


def test_baichuan_without_its_tokenizer(tmp_path):
    write_baichuan(tmp_path / "a", SHAPE_7B)
    (tmp_path / "a" / "tokenizer.model").unlink()
    with pytest.raises(UsageError, match=r"tokenizer\.model: no such file"):
        text_extractor(tmp_path / "a")
    (tmp_path / "a" / "tokenizer.model").write_bytes(b"no model")
    with pytest.raises(UsageError, match="not a sentencepiece model"):
        text_extractor(tmp_path / "a")


def test_a_model_that_needs_remote_code(tmp_path):
    write_transformers(tmp_path / "own", *KINDS["bert"][:2], special=True)
    config = tmp_path / "own" / "config.json"
    config.write_text(
        '{"model_type": "ours", "auto_map": {"AutoConfig": "run.Config", "AutoModel": "run.Model"}}'
    )
    (tmp_path / "own" / "run.py").write_text("raise SystemExit('remote code was run')")
    with pytest.raises(UsageError, match="'ours' without running the checkpoint's own code"):
        text_extractor(tmp_path / "own")


def test_an_encoder_decoder(tmp_path):
    config = T5Config(vocab_size=120, d_model=16, d_kv=4, d_ff=16, num_layers=2, num_heads=2)
    write_transformers(tmp_path / "t5", T5Model, config, special=True)
    with pytest.raises(UsageError, match="expected an encoder such as BERT"):
        text_extractor(tmp_path / "t5")


def test_a_missing_shard_is_named_when_weights_are_digested(tmp_path):
    write_baichuan(tmp_path / "a", SHAPE_13B)
    (tmp_path / "a" / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(UsageError, match="model-00002-of-00002"):
        text_extractor(tmp_path / "a")


def test_default_model():
    assert DEFAULT_MODEL == "baichuan-inc/Baichuan2-13B-Base"


def test_tiny_says_that_it_is_not_trained(folders):
    assert not text_extractor("tiny").identity.trained
    assert text_extractor(folders / "bert").identity.trained


# -- batches ---------------------------------------------------------------------------------


class Model:
    """Runs another model, but not for more than `most` padded tokens at once."""

    def __init__(self, model, most):
        self.model, self.most, self.sizes = model, most, []

    def __call__(self, token_ids, n_tokens, layers):
        self.sizes.append(len(token_ids))
        if token_ids.numel() > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return self.model(token_ids, n_tokens, layers)


def test_a_batch_too_large_for_the_device_is_halved():
    extractor = text_extractor("tiny")
    expected = run(extractor, *SENTENCES[:7], utterance=(8,))
    small = extractor.__dict__["_model"] = Model(extractor._model, 100)
    for asked in ([7, 3, 3, 1], [3, 3, 1]):  # what was too much once is not tried again
        small.sizes.clear()
        got = run(extractor, *SENTENCES[:7], utterance=(8,))
        assert small.sizes == asked
        for one, other in zip(got, expected, strict=True):
            np.testing.assert_allclose(one.utterance[8], other.utterance[8], atol=1e-5)


def test_weights_too_large_for_the_device_end_the_run():
    """Else every clip would be put down as failed."""

    def load_too_much(device, dtype):
        raise torch.OutOfMemoryError("CUDA out of memory")

    extractor = text_extractor("tiny")
    extractor._text_model = replace(extractor._text_model, load=load_too_much)
    with pytest.raises(UsageError, match="model tiny: its weights in float32 do not fit"):
        run(extractor, "ab", utterance=(8,))


def test_a_text_too_large_for_the_device_fails_alone():
    extractor = text_extractor("tiny")
    extractor.__dict__["_model"] = Model(extractor._model, 0)
    outcomes = run(extractor, "ab", "c", utterance=(8,))
    assert [str(outcome) for outcome in outcomes] == [
        "no memory on cpu for 2 tokens",
        "no memory on cpu for 1 tokens",
    ]
    assert all(isinstance(outcome, ClipFailed) for outcome in outcomes)


def test_batches_are_bounded_by_padded_tokens():
    extractor = text_extractor("tiny")
    loaded = load(extractor, *SENTENCES)
    for batch in batches(loaded, 64, extractor.equal_sizes):
        assert max(clip.size for clip in batch) * len(batch) <= 64 or len(batch) == 1


def test_batches_are_sized_to_the_memory_there_is(monkeypatch):
    def limit(n_free_bytes):
        monkeypatch.setattr("extractors.models.memory.free_bytes", lambda device: n_free_bytes)
        extractor = text_extractor("tiny")
        extractor._device = torch.device("cuda", 0)
        return extractor.batch_limit

    assert text_extractor("tiny").batch_limit == 512
    assert limit(10**12) == 4096
    assert limit(2 * 100 * (64 + 8 * 8) * 64) == 100  # 8 states of width 64
    assert limit(0) == 1
