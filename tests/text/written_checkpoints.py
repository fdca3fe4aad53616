"""Small checkpoints with random weights, written as the published ones lie in their folders."""

import io
import json
from contextlib import redirect_stderr

import sentencepiece
import torch
from safetensors.torch import save_file
from text.baichuan_statement import published_tensors
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors

SENTENCES = [
    "我今天真的很开心",
    "你好吗 我很好",
    "他为什么生气了",
    "不要担心 明天会好的",
    "天哪 太让人惊讶了",
    "我没有听懂你在说什么",
    "I am fine thank you",
    "what are you doing here",
    "这件事让我很难过",
    "好吧 那就这样",
]
EMOJI = "我😀ok ñ"


def write_baichuan(folder, config, form="safetensors", n_shards=2, seed=0):
    """Write config, tokenizer and shards with an index; give the tensors back."""
    folder.mkdir(parents=True, exist_ok=True)
    write_sentencepiece(folder / "tokenizer.model", config["vocab_size"])
    (folder / "config.json").write_text(json.dumps(config))
    arrays = published_tensors(config, seed)
    tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
    stem, suffix = ("model", "safetensors") if form == "safetensors" else ("pytorch_model", "bin")
    names, shards = list(tensors), {}
    for shard in range(n_shards):
        file = f"{stem}-{shard + 1:05}-of-{n_shards:05}.{suffix}"
        shards[file] = {name: tensors[name] for name in names[shard::n_shards]}
        write = save_file if form == "safetensors" else torch.save
        write(shards[file], folder / file)
    weight_map = {name: file for file, shard in shards.items() for name in shard}
    index = folder / f"{stem}.{suffix}.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return arrays


def write_sentencepiece(path, vocab_size):
    """Train a tokenizer as Baichuan's was: BPE, unknown characters as bytes."""
    model = io.BytesIO()
    with redirect_stderr(io.StringIO()):
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(SENTENCES),
            model_writer=model,
            model_type="bpe",
            vocab_size=vocab_size,
            character_coverage=1.0,
            byte_fallback=True,
            minloglevel=2,
        )
    path.write_bytes(model.getvalue())


def write_transformers(folder, model_class, config, *, special=False, seed=0):
    """Write a random model of transformers with a byte-level tokenizer, or one like BERT's."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(seed)
    model_class(config).eval().save_pretrained(folder)
    tokenizer = bert_like_tokenizer() if special else byte_tokenizer()
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {"tokenizer_class": "PreTrainedTokenizerFast"}
    if special:
        settings |= {"cls_token": "[CLS]", "sep_token": "[SEP]", "pad_token": "[PAD]"}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return folder


def byte_tokenizer():
    """One token per byte of UTF-8; nothing is added."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(
        models.BPE(vocab={letter: n for n, letter in enumerate(letters)}, merges=[])
    )
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def bert_like_tokenizer():
    """One token per character, [CLS] and [SEP] around."""
    characters = sorted({letter for sentence in SENTENCES for letter in sentence if letter != " "})
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *characters]
    tokenizer = Tokenizer(models.WordLevel({word: n for n, word in enumerate(words)}, "[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Split("", "isolated")]
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return tokenizer
