"""Every kind of language model keeps the extractor's contract."""

import pytest
from extractor_contract import ExtractorContract
from text.baichuan_statement import SHAPE_7B, SHAPE_13B
from text.written_checkpoints import EMOJI, write_baichuan, write_transformers
from transformers import BertConfig, BertModel

from extractors.contract import ExtractorRequest, Source


@pytest.fixture(scope="module", autouse=True)
def own_digest_cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MER_STORE_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


class TextContract(ExtractorContract):
    """Transcripts: no file that could be missing or broken, but text that no UTF-8 can hold."""

    @classmethod
    def write_checkpoint(cls, folder):
        raise NotImplementedError

    @pytest.fixture(scope="class", autouse=True)
    @classmethod
    def checkpoint(cls, tmp_path_factory):
        if cls.request_ is None:
            folder = tmp_path_factory.mktemp("models") / "model"
            cls.write_checkpoint(folder)
            cls.request_ = ExtractorRequest("text", str(folder), device="cpu")

    @classmethod
    def write_sources(cls, folder):
        texts = ["我今天真的很开心", "你好吗", EMOJI, "what are you doing here"]
        return [Source(f"clip{n}", text=text) for n, text in enumerate(texts)]

    @classmethod
    def write_empty(cls, folder):
        return Source("no_speech", text="")

    @classmethod
    def write_very_short(cls, folder):
        return Source("one_letter", text="a")

    @classmethod
    def write_broken(cls, folder):
        return Source("not_unicode", text="\ud83d")

    @classmethod
    def write_missing(cls, folder):
        return None


class TestTiny(TextContract):
    request_ = ExtractorRequest("text", "tiny", device="cpu")


class TestTinySummed(TextContract):
    request_ = ExtractorRequest("text", "tiny", recipe="mertools2024", device="cpu")


class TestBaichuan2Alibi(TextContract):
    @classmethod
    def write_checkpoint(cls, folder):
        write_baichuan(folder, SHAPE_13B, "bin")


class TestBaichuan2Rotary(TextContract):
    @classmethod
    def write_checkpoint(cls, folder):
        write_baichuan(folder, SHAPE_7B)


class TestBert(TextContract):
    @classmethod
    def write_checkpoint(cls, folder):
        config = BertConfig(
            vocab_size=120,
            hidden_size=32,
            intermediate_size=48,
            num_hidden_layers=3,
            num_attention_heads=4,
            max_position_embeddings=40,
        )
        write_transformers(folder, BertModel, config, special=True)
