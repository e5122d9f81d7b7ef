"""The tokenizers of LLaMA, Baichuan, ChatGLM, Falcon, MPT, Qwen, Llama 3, GPT-2 and BERT."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sentencepiece
import tiktoken
from transformers import PreTrainedTokenizerFast

from tongwen.messages import encode_text
from tongwen.tokenizer import load_tokenizer
from tongwen.tokenizer.extend import (
    extend_with_pieces,
    extended_model,
    pieces_of,
    unreachable,
)
from tongwen.tokenizer.gguf import gguf_header
from tongwen.tokenizer.ranks import byte_level
from tongwen.tokenizer.report import measure
from tongwen.tokenizer.samples import Sample
from tongwen.tokenizer.splits import CL100K, QWEN2

Load = Callable[[str], PreTrainedTokenizerFast]

# Tokens per character, measured with sentencepiece, tiktoken and tokenizers; columns as in SAMPLES.
# Falcon and MPT were counted with GPT-2's way of splitting words and without added tokens.
TABLE = {
    "chatglm_ice_text.model": ("0.580", "0.511", "0.661", "0.227"),
    "ggml-vocab-baichuan.gguf": ("0.724", "0.645", "0.849", "0.268"),
    "ggml-vocab-falcon.gguf": ("1.121", "1.098", "1.310", "0.250"),
    "ggml-vocab-mpt.gguf": ("1.332", "1.168", "1.343", "0.250"),
    "llama_tokenizer.model": ("1.433", "1.268", "1.459", "0.266"),
    "qwen.tiktoken": ("0.666", "0.568", "0.750", "0.238"),
    "llama3_tokenizer.model": ("0.846", "0.708", "0.881", "0.238"),
    "gpt2_encoder.json": ("1.876", "1.837", "2.069", "0.261"),
}
SIZES = {
    "chatglm_ice_text.model": 130_344,
    "ggml-vocab-baichuan.gguf": 64_000,
    "ggml-vocab-falcon.gguf": 65_024,
    "ggml-vocab-mpt.gguf": 50_432,
    "llama_tokenizer.model": 32_000,
    "qwen.tiktoken": 151_643 + 208,
    "llama3_tokenizer.model": 128_000 + 256,
    "gpt2_encoder.json": 50_257,
    "chinese_sp.model": 20_000,
}
CHARACTERS = 100_000
FIRST_OF_BOOKS = 20_000
"""The samples of books begin behind the front matter."""


@pytest.fixture(scope="module")
def folder(shared_data: Path) -> Path:
    return shared_data / "tokenizers"


@pytest.fixture(scope="module")
def load(folder: Path) -> Load:
    known: dict[str, PreTrainedTokenizerFast] = {}

    def tokenizer(name: str) -> PreTrainedTokenizerFast:
        if name not in known:
            known[name] = load_tokenizer(folder / name)
        return known[name]

    return tokenizer


@pytest.fixture(scope="module")
def samples(shared_data: Path) -> list[Sample]:
    """News without the gaps for idioms, answers, and two books; lines are joined by a newline."""
    with (shared_data / "eval/fewclue/chid/test_public.json").open(encoding="utf-8") as file:
        news = [json.loads(line)["content"].replace("#idiom#", "") for line in file]
    answers = json.loads((shared_data / "instruct/alpaca_zh_demo.json").read_text(encoding="utf-8"))
    books = ("pretrain/zh/novel/朱自清大全集.txt", "pretrain/en/gutenberg/pride_and_prejudice.txt")
    prose, novel = (
        (shared_data / book).read_text(encoding="utf-8-sig")[FIRST_OF_BOOKS:] for book in books
    )
    texts = {
        "zh_news": "\n".join(news),
        "zh_instr": "\n".join(answer["output"] for answer in answers),
        "zh_prose": prose,
        "en_novel": novel,
    }
    return [Sample(name, text[:CHARACTERS]) for name, text in texts.items()]


@pytest.mark.parametrize("name", ["llama-spm", "gpt-2", "falcon", "mpt", "bert-bge"])
def test_ids_of_llama_cpp(name: str, folder: Path, load: Load) -> None:
    tokenizer = load(f"ggml-vocab-{name}.gguf")
    expected = _fixtures(folder, name)
    assert len(expected) == 47
    for text, ids in expected:
        assert encode_text(tokenizer, text) == ids, text


@pytest.mark.parametrize(
    ("name", "file"), [("llama-spm", "llama_tokenizer.model"), ("gpt-2", "gpt2_encoder.json")]
)
def test_the_original_files_give_the_same_ids(
    name: str, file: str, folder: Path, load: Load
) -> None:
    for text, ids in _fixtures(folder, name):
        assert encode_text(load(file), text) == ids, text


def _fixtures(folder: Path, name: str) -> list[tuple[str, list[int]]]:
    stem = folder / f"ggml-vocab-{name}.gguf"
    inputs = stem.with_name(f"{stem.name}.inp").read_text(encoding="utf-8")
    outputs = stem.with_name(f"{stem.name}.out").read_text(encoding="utf-8")
    texts = inputs.split("\n__ggml_vocab_test__\n")
    ids = [[int(one) for one in line.split()] for line in outputs.split("\n")]
    return list(zip(texts, ids, strict=True))


def test_vectors_of_llama(load: Load) -> None:
    tokenizer = load("llama_tokenizer.model")
    begin, end = tokenizer.bos_token_id, tokenizer.eos_token_id
    assert (begin, end) == (1, 2)
    vectors = {
        "Hello, nice to meet you!": [15043, 29892, 7575, 304, 5870, 366, 29991],
        "你好很高兴能见到你！": [
            *[29871, 30919, 31076, 232, 193, 139, 30528, 31914, 30815],
            *[235, 170, 132, 30780, 30919, 30584],
        ],
    }
    for text, ids in vectors.items():
        assert encode_text(tokenizer, text) == ids


@pytest.mark.parametrize("name", SIZES)
def test_sizes(name: str, load: Load) -> None:
    assert len(load(name)) == SIZES[name]


@pytest.mark.parametrize("name", TABLE)
def test_tokens_per_character(name: str, load: Load, samples: list[Sample], folder: Path) -> None:
    plain = "falcon" in name or "mpt" in name
    tokenizer = _merges_alone(folder / name) if plain else load(name)
    figures = measure(folder / name, tokenizer, samples)
    found = tuple(f"{text.tokens_per_character:.3f}" for text in figures.texts)
    assert found == TABLE[name]


def _merges_alone(path: Path) -> PreTrainedTokenizerFast:
    header = gguf_header(path)
    tokens, merges = header["tokenizer.ggml.tokens"], header["tokenizer.ggml.merges"]
    return byte_level(
        {token: number for number, token in enumerate(tokens)},
        [(left, right) for left, right in map(str.split, merges)],
        split="gpt-2",
        whose=str(path),
        specials={},
    )


@pytest.mark.parametrize("name", ["llama_tokenizer.model", "chatglm_ice_text.model"])
def test_real_text_has_the_ids_of_sentencepiece(
    name: str, load: Load, folder: Path, samples: list[Sample]
) -> None:
    theirs = sentencepiece.SentencePieceProcessor(str(folder / name))
    for line in _lines(samples):
        assert encode_text(load(name), line) == theirs.encode(line), line


@pytest.mark.parametrize(
    ("name", "pattern"), [("qwen.tiktoken", QWEN2), ("llama3_tokenizer.model", CL100K)]
)
def test_real_text_has_the_ids_of_tiktoken(
    name: str, pattern: str, load: Load, folder: Path, samples: list[Sample]
) -> None:
    lines = (folder / name).read_bytes().splitlines()
    ranks = {base64.b64decode(token): int(rank) for token, rank in map(bytes.split, lines)}
    theirs = tiktoken.Encoding(name, pat_str=pattern, mergeable_ranks=ranks, special_tokens={})
    for line in _lines(samples):
        assert encode_text(load(name), line) == theirs.encode_ordinary(line), line


def _lines(samples: list[Sample]) -> Iterator[str]:
    """Lines from all over the samples, and code."""
    for sample in samples:
        yield from sample.text.splitlines(keepends=True)[::16]
    yield from Path(__file__).read_text(encoding="utf-8").split("\n\n")


def test_the_smallest_model_tells_its_story(shared_data: Path) -> None:
    tokenizer = load_tokenizer(shared_data / "models/tok512.bin")
    assert (len(tokenizer), tokenizer.bos_token_id) == (512, 1)
    tokens = tokenizer.convert_ids_to_tokens(encode_text(tokenizer, "Once upon a time, 你"))
    assert tokens == [*["▁Once", "▁upon", "▁a", "▁time", ",", "▁"], "<0xE4>", "<0xBD>", "<0xA0>"]


def test_chinese_pieces_in_llama(folder: Path, load: Load, samples: list[Sample]) -> None:
    """32,000 and 20,000 make 49,953, as in Chinese-LLaMA-Alpaca, with the same ids."""
    old = load("llama_tokenizer.model")
    extension = extend_with_pieces(old, pieces_of(load("chinese_sp.model"), old))
    new = extension.tokenizer
    assert (len(new), extension.first) == (49_953, 32_000)
    theirs = sentencepiece.SentencePieceProcessor(
        model_proto=extended_model(folder / "llama_tokenizer.model", extension.added)
    )
    assert theirs.vocab_size() == 49_953
    for line in _lines(samples):
        assert encode_text(new, line) == theirs.encode(line), line
    before, after = (
        [len(encode_text(one, sample.text)) for sample in samples] for one in (old, new)
    )
    assert all(2 * small < 1.2 * large for small, large in zip(after[:3], before[:3], strict=True))
    assert after[3] <= before[3]
    # Pieces that no two others join to; sentencepiece never reaches them either.
    assert len(unreachable(extension)) == 344
