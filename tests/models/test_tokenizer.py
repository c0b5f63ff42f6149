"""Any text comes back; special tokens are never a user's; the same texts train the same tokenizer; damage is told."""

from __future__ import annotations

import copy
import json
import os
import pickle
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fashionkit.models import tokenizer as module
from fashionkit.models.tokenizer import EOS, PAD, SEP, SMALLEST, SPECIAL, Tokenizer, normalise
from fashionkit.tables import InputError

TEXTS = [
    "What colour is the dress?", "Is the navy dress longer than the shirt?", "navy", "navy blue", "yes", "no", "<eos>",
    "Is there a pair of trousers in this picture?", "not present", "Which of them is navy: the skirt or the shirt?",
] * 3  # fmt: skip
ROOT = module.__file__.rpartition("/fashionkit/")[0]
READER = Tokenizer.train(TEXTS, 400)

# Texts of everything: any code point with the lone surrogates, and pieces that are likely to go wrong.
PIECES = [
    *SPECIAL, "<EOS>", " ", "\t", "\0", "\n", "\x1c", "\x85", "\u3000", "é", "e\u0301", "ﬁ", "İ", "ẞ", "Ω", "\u00a8",
    "日本", "ا", "👗", "👩\u200d👧", "\ufdfa", "\ufeff", "\ufffd", "\ud83d", "\udc57", "navy", "?", "Ġ", "\U0010ffff",
]  # fmt: skip
anything = st.text(st.characters(exclude_categories=())) | st.lists(st.sampled_from(PIECES)).map("".join)


@given(anything)
@example("\ud83d\ude00")
@example("\u00a8 navy")  # its compatible form begins with a space
def test_any_text_comes_back(text: str) -> None:
    (ids,) = READER.encode([text])
    assert all(len(SPECIAL) <= number < len(READER) for number in ids)
    assert READER.decode(ids) == normalise(text)


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("  What COLOUR?\n", "what colour?"),
        ("ＮＡＶＹ\u00a0ﬁt", "navy fit"),
        ("Ärmel ÉCRU", "ärmel écru"),
        ("two  spaces", "two  spaces"),
        ("a\ud83db", "a?b"),
        ("\u2003 \t", ""),
        ("<EOS>", "<eos>"),
    ],
)
def test_texts_are_normalised(text: str, read: str) -> None:
    assert normalise(text) == read
    assert [READER.decode(ids) for ids in READER.encode([text])] == [read]


@pytest.mark.parametrize("text", [*SPECIAL, "<EOS>", "x <pad><sep> y<eos>", "<<eos>>", "<pad>" * 50])
def test_special_tokens_in_a_text_are_characters(text: str) -> None:
    for reader in (READER, Tokenizer.train([text] * 100, 400)):
        (ids,) = reader.encode([text])
        assert not {PAD, SEP, EOS} & {*ids}
        assert reader.decode(ids) == normalise(text)


def test_special_ids_are_not_written() -> None:
    (ids,) = READER.encode(["navy blue"])
    assert READER.decode([SEP, *ids, EOS, PAD, PAD]) == "navy blue"
    assert READER.decode([]) == READER.decode([PAD, EOS]) == ""
    assert (PAD, SEP, EOS) == (0, 1, 2)


def test_a_word_has_the_same_tokens_wherever_it_stands() -> None:
    (first,), (alone,) = READER.encode(["navy dress"]), READER.encode(["navy"])
    (behind,) = READER.encode(["is it navy"])
    assert len(alone) == 1 and first[0] == behind[-1] == alone[0]


def test_bytes_that_are_no_character_are_told_as_such() -> None:
    (ids,) = READER.encode(["👗"])
    assert "\ufffd" in READER.decode(ids[:-1])


def test_the_first_tokens_of_a_long_text_stay() -> None:
    texts = ["is the navy skirt " + "what colour " * 5000, "navy", "", " \n "]
    start = time.perf_counter()
    found = READER.encode(texts, length=32)
    assert time.perf_counter() - start < 2
    whole = READER.encode(texts)
    assert [len(ids) for ids in found] == [32, 1, 0, 0] and len(whole[0]) >= 10_000
    assert found == [ids[:32] for ids in whole]


def test_many_texts_are_each_alone() -> None:
    assert READER.encode(TEXTS) == [ids for text in TEXTS for ids in READER.encode([text])]
    assert READER.encode([]) == []


def test_the_same_texts_make_the_same_tokenizer() -> None:
    assert Tokenizer.train(iter(TEXTS), 400).to_text() == READER.to_text()
    assert Tokenizer.train(reversed(TEXTS), 400).to_text() == READER.to_text()
    script = (
        "import sys, json; from fashionkit.models.tokenizer import Tokenizer\n"
        "assert 'torch' not in sys.modules\n"
        "print(Tokenizer.train(json.loads(sys.argv[1]), 400).to_text())"
    )
    assert run(script, json.dumps(TEXTS), PYTHONHASHSEED="7").stdout.rstrip("\n") == READER.to_text()


def test_other_texts_make_another() -> None:
    assert Tokenizer.train([*TEXTS, *["turquoise"] * 50], 400).to_text() != READER.to_text()


def test_sizes() -> None:
    assert len(READER) <= 400
    small = Tokenizer.train(TEXTS, 270)
    assert len(small) == 270 and len(small.encode(["navy dress"])[0]) > len(READER.encode(["navy dress"])[0])
    assert len(Tokenizer.train(TEXTS)) < 2048, "all words have their own token before"
    bare = Tokenizer.train([], SMALLEST)
    assert len(bare) == SMALLEST == 259
    assert bare.decode(bare.encode(["Ärmel 👗"])[0]) == "ärmel 👗"
    assert max(len(token) for token in json.loads(READER.to_text())["model"]["vocab"]) <= module.LONGEST_TOKEN
    lengthy = Tokenizer.train(["a" * 1000], 400)
    assert max(len(token) for token in json.loads(lengthy.to_text())["model"]["vocab"]) <= module.LONGEST_TOKEN


@pytest.mark.parametrize("size", [0, -1, 258, module.LARGEST + 1, True, 300.0, "300", None])
def test_sizes_out_of_range_are_refused(size: Any) -> None:
    with pytest.raises(InputError, match="259") as caught:
        Tokenizer.train(TEXTS, size)
    assert caught.value.column == "words"


def test_one_text_for_many_is_refused() -> None:
    for read in (Tokenizer.train, READER.encode):
        with pytest.raises(TypeError, match="list of texts"):
            read("navy")


@pytest.mark.parametrize("ids", [[-1], [len(READER)], [5, 10**12]])
def test_ids_that_are_none_are_refused(ids: list[int]) -> None:
    with pytest.raises(ValueError, match="ids are 0 to"):
        READER.decode(ids)


def test_errors_of_an_iterator_come_through() -> None:
    def texts() -> Any:
        yield "navy"
        raise KeyError("gone")

    with pytest.raises(KeyError, match="gone"):
        Tokenizer.train(texts())


@pytest.mark.parametrize(
    "again",
    [lambda t: Tokenizer.from_text(t.to_text()), lambda t: pickle.loads(pickle.dumps(t)), copy.deepcopy],
    ids=["text", "pickle", "copy"],
)
def test_saved_and_read_it_is_the_same(again: Callable[[Tokenizer], Tokenizer]) -> None:
    found = again(READER)
    assert found.to_text() == READER.to_text() and len(found) == len(READER)
    texts = [*TEXTS, "<eos> <pad>", "\ud800", "日本 👗"]
    assert found.encode(texts) == READER.encode(texts)
    assert not {PAD, SEP, EOS} & {*found.encode(["<eos> <pad>"])[0]}


def change(values: Any, path: str, value: Any) -> None:
    *parents, last = path.split("/")
    for key in parents:
        values = values[key]
    values[last] = value


def renamed(values: Any, old: str, new: str) -> None:
    vocab = values["model"]["vocab"]
    vocab[new] = vocab.pop(old)


DAMAGED: dict[str, tuple[Callable[[Any], Any], str]] = {
    "another model": (lambda v: change(v, "model/type", "WordPiece"), "no byte-level BPE"),
    "no type": (lambda v: v["model"].pop("type"), "no byte-level BPE"),
    "no model": (lambda v: v.pop("model"), "no byte-level BPE"),
    "a list for the model": (lambda v: change(v, "model", []), "no byte-level BPE"),
    "no ids": (lambda v: v["model"].pop("vocab"), "has a number"),
    "ids that are none": (lambda v: change(v, "model/vocab/a", "7"), "has a number"),
    "yes for an id": (lambda v: change(v, "model/vocab/a", True), "has a number"),
    "an id twice": (lambda v: change(v, "model/vocab/a", v["model"]["vocab"]["b"]), "those of its merges"),
    "an id below 0": (lambda v: change(v, "model/vocab/a", -1), "those of its merges"),
    "a gap": (lambda v: change(v, "model/vocab/a", 10**30), "those of its merges"),
    "a byte is missing": (lambda v: v["model"]["vocab"].pop("Ā"), "those of its merges"),
    "a token of no merge": (lambda v: change(v, "model/vocab/zzz", len(v["model"]["vocab"])), "those of its merges"),
    "no merges": (lambda v: v["model"].pop("merges"), "pairs of tokens"),
    "merges of three": (lambda v: v["model"]["merges"].append(["a", "b", "c"]), "pairs of tokens"),
    "merges as texts": (lambda v: v["model"]["merges"].append("a b"), "pairs of tokens"),
    "merges of numbers": (lambda v: v["model"]["merges"].append([1, 2]), "pairs of tokens"),
    "a merge of what is not there": (lambda v: v["model"]["merges"].append(["a", "日"]), "not there"),
    "a merge of nothing": (lambda v: v["model"]["merges"].append(["", "a"]), "not there"),
    "a merge before its parts": (lambda v: v["model"]["merges"].reverse(), "not there"),
    "merges that make a special one": (
        lambda v: v["model"]["merges"].extend([["<", "e"], ["<e", "o"], ["<eo", "s"], ["<eos", ">"]]),
        "made of no others",
    ),
    "other special tokens": (lambda v: renamed(v, "<eos>", "[EOS]"), "first tokens are"),
    "special tokens elsewhere": (
        lambda v: v["model"]["vocab"].update({"<eos>": 1, "<sep>": 2}),
        "first tokens are",
    ),
    "no special tokens": (lambda v: change(v, "added_tokens", []), "another kind"),
    "one more special token": (lambda v: v["added_tokens"].append(dict(v["added_tokens"][0], id=9)), "another kind"),
    "another normaliser": (lambda v: change(v, "normalizer", {"type": "NFC"}), "another kind"),
    "no normaliser": (lambda v: change(v, "normalizer", None), "another kind"),
    "another splitting": (lambda v: change(v, "pre_tokenizer/add_prefix_space", False), "another kind"),
    "another decoder": (lambda v: v.pop("decoder"), "another kind"),
    "it cuts": (lambda v: change(v, "truncation", {"max_length": 3}), "another kind"),
    "an unknown key": (lambda v: change(v, "run", "os.system"), "another kind"),
    "dropout": (lambda v: change(v, "model/dropout", 0.5), "another kind"),
    "an unknown word": (lambda v: change(v, "model/unk_token", "<pad>"), "another kind"),
    "deep": (lambda v: change(v, "post_processor", deep(900)), "another kind"),
}


def deep(n: int) -> Any:
    found: Any = 1
    for _ in range(n):
        found = [found]
    return found


@pytest.mark.parametrize("what", DAMAGED)
def test_another_tokenizer_is_refused(what: str) -> None:
    damage, problem = DAMAGED[what]
    values = json.loads(READER.to_text())
    damage(values)
    with pytest.raises(InputError, match=problem):
        Tokenizer.from_text(json.dumps(values))


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "7", '"BPE"', "[" * 100_000, "\ud800", READER.to_text()[:-9]])
def test_what_is_no_tokenizer_is_refused(text: str) -> None:
    with pytest.raises(InputError, match=r"damaged|no byte-level BPE"):
        Tokenizer.from_text(text)


def test_keys_that_say_nothing_may_come_and_go() -> None:
    values = json.loads(READER.to_text())
    del values["padding"], values["model"]["ignore_merges"]
    values["model"]["new_in_some_version"] = None
    assert Tokenizer.from_text(json.dumps(values)).to_text() == READER.to_text()


def test_too_large_a_text_is_refused() -> None:
    text = READER.to_text()
    assert len(Tokenizer.from_text(text + " " * (module.LARGEST_TEXT - len(text.encode())))) == len(READER)
    for much in (" " * module.LARGEST_TEXT, "é" * (module.LARGEST_TEXT // 2)):
        with pytest.raises(InputError, match="16 MiB"):
            Tokenizer.from_text(text + much)


def run(script: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """A script in a fresh interpreter that knows nothing of the package's threads."""
    there = {key: value for key, value in os.environ.items() if key != module.THREADS} | environment
    command = [sys.executable, "-W", "ignore", "-c", script, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT, env=there)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.parametrize("said", [{}, {"TOKENIZERS_PARALLELISM": "true"}], ids=["nothing said", "threads wanted"])
def test_forked_workers_read_and_nothing_is_printed_or_started(said: dict[str, str]) -> None:
    script = """
import multiprocessing, os
from fashionkit.models.tokenizer import Tokenizer
before = os.environ.get("TOKENIZERS_PARALLELISM")
threads = lambda: len(os.listdir("/proc/self/task")) if os.path.isdir("/proc/self/task") else 0
alone = threads()
reader = Tokenizer.train(["what colour is the dress", "navy"] * 200, 300)
texts = ["what colour is the navy dress"] * 300
truth = reader.encode(texts)
assert os.environ.get("TOKENIZERS_PARALLELISM") == before
assert threads() == alone
with multiprocessing.get_context("fork").Pool(2) as pool:
    found = pool.map_async(reader.encode, [texts] * 4).get(30)
assert found == [truth] * 4
print(before)
"""
    done = run(script, **said)
    assert (done.stdout.strip(), done.stderr) == (said.get("TOKENIZERS_PARALLELISM", "None"), "")
