"""Language towers of random weights: shared and padded as one by one, what they learn, and folders that are refused."""

from __future__ import annotations

import json
import pickle
import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tokenizers
import torch
from tokenizers import decoders, models, pre_tokenizers, trainers
from torch import Tensor
from torch.nn import functional as F

from fashionkit.models.answer_trie import AnswerTrie
from fashionkit.models.language_tower import TowerVlm, build_tower, load_tower
from fashionkit.models.model_folder import write_tensors
from fashionkit.models.tokenizer import EOS, PAD
from fashionkit.models.tower_tokenizer import TowerTokenizer
from fashionkit.models.vqa import count_parameters, flops
from fashionkit.models.vqa_config import VqaConfig
from fashionkit.tables import InputError

transformers: Any = pytest.importorskip("transformers")

# Legend: g pictures, n questions, N image tokens, T question tokens, A answer tokens, V words
C, END = 6, "<|endoftext|>"
WORDS = ("what colour is the dress?", "is it a coat?", "red", "blue", "dark blue", "yes", "no", "not present")
CONFIG = VqaConfig("vlm", C, (2, 2), words=4, answers=5, question_length=12, answer_length=6)
SIZES = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
LLAMA = {**SIZES, "num_key_value_heads": 2, "max_position_embeddings": 64}
# Of several kinds: rotary positions with shared keys, learnt positions, capped logits, positions by the mask alone.
KINDS: dict[str, dict[str, Any]] = {
    "llama": LLAMA,
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64},
    "gemma2": {**LLAMA, "head_dim": 8, "sliding_window": 32},
    "bloom": {"hidden_size": 32, "n_layer": 2, "n_head": 4},
}


def tokenizer() -> tokenizers.Tokenizer:
    """Like GPT-2's: tokens for other purposes and the end, bytes, merges of a few words."""
    found = tokenizers.Tokenizer(models.BPE())
    found.pre_tokenizer, found.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=["<other>", END], initial_alphabet=alphabet, show_progress=False
    )
    found.train_from_iterator(WORDS, trainer)
    return found


def settings(kind: str = "llama", **changes: Any) -> Any:
    """Settings of a small model; its table has more rows than the tokenizer has words, as many have."""
    rows = tokenizer().get_vocab_size() + 5
    ends = {"eos_token_id": 1, "bos_token_id": 0, "pad_token_id": 0}
    return transformers.CONFIG_MAPPING[kind](**{**KINDS[kind], "vocab_size": rows, **ends, **changes})


@pytest.fixture(autouse=True)
def still() -> Iterator[None]:
    """No bars."""
    transformers.utils.logging.disable_progress_bar()
    yield
    transformers.utils.logging.enable_progress_bar()


def written(folder: Path, kind: str = "llama", **changes: Any) -> Path:
    """A folder as `save_pretrained` writes it, with large random weights, so that all they are told shows."""
    torch.manual_seed(1)
    network = transformers.AutoModelForCausalLM.from_config(settings(kind, **changes))
    with torch.no_grad():
        for value in network.parameters():
            value.add_(torch.randn_like(value) * (0.3 if value.ndim > 1 else 0.05))
    network.save_pretrained(folder)
    tokenizer().save(str(folder / "tokenizer.json"))
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(tmp_path_factory.mktemp("llama"))


@pytest.fixture(params=list(KINDS))
def tower(request: pytest.FixtureRequest, tmp_path: Path) -> TowerVlm:
    """Of each kind, in float64, for sharp comparisons."""
    return loud(build_tower(written(tmp_path / "tower", request.param), CONFIG)[0])


def loud(network: TowerVlm) -> TowerVlm:
    """In evaluation mode and float64, with image tokens that are large enough to be heard."""
    with torch.no_grad():
        if network.image is not None:
            network.image.linear.weight.mul_(10)
    return network.double().eval()


@pytest.fixture
def copy(folder: Path, tmp_path: Path) -> Path:
    """A folder to damage."""
    return Path(shutil.copytree(folder, tmp_path / "copy"))


QUESTIONS = [(40, 41, 42), (50,), (60, 61, 62, 63, 64), (), (42, 41, 40)]
IMAGE_OF = torch.tensor([1, 0, 1, 1, 0])
ANSWERS = [(70,), (70, 71), (72, 73), (74,), (74, 75, 76)]
TOLD = [(*answer, EOS) for answer in (ANSWERS[1], ANSWERS[3], ANSWERS[4], ANSWERS[0], ANSWERS[2])]
TRIE, CLASSES = AnswerTrie(ANSWERS), torch.arange(5)


def padded(rows: Sequence[Sequence[int]], length: int = 0) -> Tensor:
    """(n, T) ids, PAD behind."""
    length = length or max(1, *map(len, rows))
    return torch.tensor([[*row, *[PAD] * (length - len(row))] for row in rows], dtype=torch.long)


def pictures(g: int = 2) -> Tensor:
    """(g, C, h, w) maps."""
    return torch.randn(g, C, 2, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(5))


def slow(network: TowerVlm, cells: Tensor | None, question: Sequence[int], answer: Sequence[int]) -> Tensor:
    """(A + 1, V) logits of one question in one go: no padding, nothing kept, nothing shared."""
    table = network.tower.get_input_embeddings()
    parts = [] if network.image is None or cells is None else [network.image(cells[None])[0]]
    if question or parts:
        parts.append(table(torch.tensor([token - 3 for token in question], dtype=torch.long)))
    else:
        parts.append(torch.zeros(1, len(network.sep), dtype=network.sep.dtype))
    parts += [network.sep[None], table(torch.tensor([token - 3 for token in answer], dtype=torch.long))]
    logits = network.tower(inputs_embeds=torch.cat(parts)[None], use_cache=False).logits[0, -len(answer) - 1 :]
    found = logits.new_full((len(logits), network.config.words), -torch.inf)
    found[:, 3:] = logits[:, : network.config.words - 3]
    found[:, EOS], found[:, 4] = logits[:, 1], -torch.inf  # the end is the tower's second word
    return found


def same(one: Tensor, other: Tensor, tolerance: float = 1e-6) -> None:
    """Equal but for the last digits; some models work out positions or norms in float32 whatever they are."""
    torch.testing.assert_close(one.double(), other.double(), atol=tolerance, rtol=tolerance)


# ---- Many at once, shared and padded, are as one by one


@torch.no_grad()
def test_losses_are_those_of_one_question_in_one_go(tower: TowerVlm) -> None:
    cells = pictures()
    found = tower.losses(cells, IMAGE_OF, padded(QUESTIONS), padded(TOLD), CLASSES)
    for at, (question, answer) in enumerate(zip(QUESTIONS, TOLD, strict=True)):
        logits = slow(tower, cells[IMAGE_OF[at]], question, answer[:-1])
        same(found[at], F.cross_entropy(logits, torch.tensor(answer), reduction="sum"))
    assert found.std() > 0.5
    more = tower.losses(cells, IMAGE_OF, padded(QUESTIONS, 9), padded(TOLD, 6), CLASSES)
    same(more, found)
    each = [tower.losses(cells, IMAGE_OF[[i]], padded([QUESTIONS[i]]), padded([TOLD[i]]), CLASSES) for i in range(5)]
    same(torch.cat(each), found)


@torch.no_grad()
def test_ranks_are_those_of_a_tree_that_is_walked_slowly(tower: TowerVlm) -> None:
    cells = pictures()

    def following(rows: Tensor, tokens: Tensor, length: Tensor) -> Tensor:
        return torch.stack(
            [
                slow(tower, cells[IMAGE_OF[row]], QUESTIONS[row], tokens[at, : length[at]].tolist())[-1]
                for at, row in enumerate(rows.tolist())
            ]
        )

    found = tower.rank(cells, IMAGE_OF, padded(QUESTIONS, 7), TRIE, 5)
    same(found, TRIE.log_probabilities(len(QUESTIONS), following, 5), 1e-5)
    same(found.exp().sum(1), torch.ones(5), 1e-5)
    alone = tower.rank(cells, IMAGE_OF[[2]], padded([QUESTIONS[2]]), TRIE, 5)
    same(alone[0], found[2], 1e-5)


def test_many_rows_are_ranked_in_passes(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network = loud(build_tower(folder, CONFIG)[0])
    inputs = pictures(), IMAGE_OF, padded(QUESTIONS), TRIE, 5
    found = network.rank(*inputs)
    monkeypatch.setattr("fashionkit.models.language_tower.ROWS", 2)
    same(network.rank(*inputs), found, 1e-5)


@torch.no_grad()
def test_greedy_writes_the_likeliest_token_until_the_end(tower: TowerVlm) -> None:
    cells, answers = pictures(), list[list[int]]()
    for at, question in enumerate(QUESTIONS):
        tokens: list[int] = []
        while len(tokens) < 6:
            best = int(slow(tower, cells[IMAGE_OF[at]], question, tokens)[-1].argmax())
            if best == EOS:
                break
            tokens.append(best)
        answers.append(tokens)
    assert tower.greedy(cells, IMAGE_OF, padded(QUESTIONS)) == answers
    assert tower.greedy(cells, IMAGE_OF, padded(QUESTIONS), 2) == [tokens[:2] for tokens in answers]


@pytest.mark.parametrize(("word", "wanted"), [(1, []), (40, [43] * 6)], ids=["end", "no end"])
def test_greedy_stops_at_the_towers_end(tmp_path: Path, word: int, wanted: list[int]) -> None:
    network = build_tower(written(tmp_path, "gpt2"), CONFIG)[0].eval()
    last = network.tower.transformer.ln_f
    with torch.no_grad():  # a tower that says one word whatever it is asked
        last.weight.zero_()
        last.bias.copy_(network.tower.transformer.wte.weight[word] * 9)
    assert network.greedy(pictures().float(), IMAGE_OF, padded(QUESTIONS)) == [wanted] * 5


def test_the_towers_end_has_one_place_and_what_it_has_not_none(folder: Path) -> None:
    network, words = build_tower(folder, CONFIG)
    logits = torch.randn(3, len(words) - 3)
    ours = network._ours(logits)
    same(ours.logsumexp(1), logits.logsumexp(1))
    assert ours.isinf().nonzero()[:, 1].tolist() == [0, 1, 4] * 3
    assert torch.equal(ours[:, EOS], logits[:, 1]) and torch.equal(ours[:, 5:], logits[:, 2:])


def test_a_picture_is_worked_out_once_and_sees_no_question(folder: Path) -> None:
    network = loud(build_tower(folder, CONFIG)[0])
    runs = list[tuple[int, ...]]()

    def count(_: Any, inputs: tuple[Any, ...], options: dict[str, Any]) -> None:
        runs.append(tuple(options["inputs_embeds"].shape[:2]))

    hook = network.tower.base_model.register_forward_pre_hook(count, with_kwargs=True)
    network.losses(pictures(), IMAGE_OF, padded(QUESTIONS), padded(TOLD), CLASSES)
    hook.remove()
    assert runs == [(2, 4), (5, 5), (5, 4)]  # pictures and their tokens; questions; SEP and answers without the end
    kept = network.picture(pictures())
    behind = network.prefix(pictures(), IMAGE_OF, padded(QUESTIONS))
    for alone, shared in zip(kept, behind, strict=True):
        same(shared.key[:, :, :4], alone.key[IMAGE_OF])
        same(shared.value[:, :, :4], alone.value[IMAGE_OF])


@torch.no_grad()
def test_questions_of_another_picture_and_padding_change_nothing(folder: Path) -> None:
    network = loud(build_tower(folder, CONFIG)[0])
    inputs = padded(QUESTIONS), padded(TOLD), CLASSES
    found = network.losses(pictures(), IMAGE_OF, *inputs)
    other = network.losses(pictures().flip(0), 1 - IMAGE_OF, *inputs)
    same(other, found)
    changed = network.losses(torch.stack([pictures()[0], -pictures()[1]]), IMAGE_OF, *inputs)
    same(changed[IMAGE_OF == 0], found[IMAGE_OF == 0])
    assert (changed - found).abs()[IMAGE_OF == 1].min() > 1e-3


@torch.no_grad()
def test_a_blind_tower_reads_any_question(folder: Path) -> None:
    network = loud(build_tower(folder, replace(CONFIG, blind=True))[0])
    found = network.losses(None, IMAGE_OF, padded(QUESTIONS), padded(TOLD), CLASSES)
    for at, (question, answer) in enumerate(zip(QUESTIONS, TOLD, strict=True)):
        logits = slow(network, None, question, answer[:-1])
        same(found[at], F.cross_entropy(logits, torch.tensor(answer), reduction="sum"))
    assert network.rank(None, IMAGE_OF, padded(QUESTIONS), TRIE, 1).isfinite().any(1).all()


# ---- Learning


TABLE = [(p, q, (p + 2 * q) % 5) for p in range(4) for q in range(3)]  # picture, question, answer


def learn(network: TowerVlm, steps: int, lr: float) -> float:
    """Share of the table that is right behind some steps."""
    cells = torch.randn(4, C, 2, 2, generator=torch.Generator().manual_seed(2))
    image_of, classes = torch.tensor([p for p, _, _ in TABLE]), torch.tensor([a for _, _, a in TABLE])
    question = padded([((40,), (50, 51), (60, 61, 62))[q] for _, q, _ in TABLE])
    answer = padded([(*ANSWERS[a], EOS) for _, _, a in TABLE])
    optimizer = torch.optim.AdamW([value for value in network.parameters() if value.requires_grad], lr)
    network.train()
    for _ in range(steps):
        optimizer.zero_grad()
        network.losses(cells, image_of, question, answer, classes).mean().backward()
        optimizer.step()
    network.eval()
    written = network.greedy(cells, image_of, question)
    ranked = network.rank(cells, image_of, question, TRIE, 1).argmax(1)
    right = [tuple(row) == ANSWERS[a] for row, a in zip(written, classes.tolist(), strict=True)]
    assert (ranked == classes).tolist() == right or not all(right)
    return sum(right) / len(right)


def test_it_learns_a_table_of_pictures_and_questions(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = TowerVlm(replace(CONFIG, words=290), settings().to_dict())
    assert learn(network, 90, 5e-3) == 1.0


def test_a_frozen_tower_stays_and_what_stands_before_it_learns(folder: Path) -> None:
    network, _ = build_tower(folder, CONFIG, freeze_tower=True)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    network.train()
    assert network.training and not any(part.training for part in network.tower.modules())
    learn(network, 3, 1e-2)
    changed = {key for key, value in network.state_dict().items() if not torch.equal(value, before[key])}
    assert changed == {"sep", *(key for key in before if key.startswith("image."))}
    free, _ = build_tower(folder, CONFIG)
    free.train()
    assert all(part.training for part in free.tower.modules())
    assert all(value.requires_grad for value in free.parameters())


# ---- As files


def test_the_folders_words_and_sizes_count(folder: Path) -> None:
    network, words = build_tower(folder, replace(CONFIG, width=8, heads=2, layers=9))
    assert network.config == replace(CONFIG, words=len(words), width=32, heads=4, layers=2, prefix="image")
    assert len(words) == tokenizer().get_vocab_size() + 3
    assert network._theirs(torch.tensor([EOS, 3, 4])).tolist() == [1, 0, 1]
    assert count_parameters(network) > 1000 and flops(network) > count_parameters(network)


def test_saved_and_loaded_it_says_the_same(folder: Path, tmp_path: Path) -> None:
    network = build_tower(folder, CONFIG, freeze_tower=True)[0].eval()
    learn(network, 2, 1e-2)
    text = json.dumps(network.to_dict())
    assert str(folder) not in text
    write_tensors(tmp_path / "network.safetensors", network)
    twin = load_tower(json.loads(text), tmp_path / "network.safetensors").eval()
    assert twin.config == network.config and twin.freeze_tower
    inputs = pictures().float(), IMAGE_OF, padded(QUESTIONS), padded(TOLD), CLASSES
    assert torch.equal(network.losses(*inputs), twin.losses(*inputs))


def test_tensors_that_do_not_fit_are_refused(folder: Path, tmp_path: Path) -> None:
    network, file = build_tower(folder, CONFIG)[0], tmp_path / "network.safetensors"
    values = network.to_dict()
    write_tensors(file, network)
    huge = {**values, "tower": {**values["tower"], "hidden_size": 1 << 20, "head_dim": 1 << 18}}
    with pytest.raises(InputError, match="do not fit"):
        load_tower(huge, file)
    with pytest.raises(InputError, match="num_hidden_layers"):
        load_tower({**values, "tower": {**values["tower"], "num_hidden_layers": 1 << 30}}, file)
    with pytest.raises(InputError, match="settings of a language tower are missing"):
        load_tower({"config": values["config"]}, file)
    with pytest.raises(InputError, match="settings of the language tower are damaged"):
        load_tower({**values, "tower": {**values["tower"], "hidden_size": "many"}}, file)
    with torch.no_grad():
        network.sep[0] = torch.nan
    write_tensors(file, network)
    with pytest.raises(InputError, match="not finite"):
        load_tower(values, file)


def rewrite(folder: Path, **changes: Any) -> None:
    """Changes keys of a folder's config.json."""
    file = folder / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
def test_a_file_that_is_missing_is_named(copy: Path, name: str) -> None:
    (copy / name).unlink()
    (copy / "pytorch_model.bin").write_bytes(b"never read")
    with pytest.raises(InputError, match=f"lacks {name}"):
        build_tower(copy, CONFIG)


def test_no_folder_at_all_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"lacks tokenizer\.json"):
        build_tower(tmp_path / "nowhere", CONFIG)
    with pytest.raises(InputError, match=r"lacks config\.json[\s\S]*pickles are not read"):
        TowerVlm(CONFIG, tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"auto_map": {"AutoModelForCausalLM": "code.Evil"}}, "architecture of transformers"),
        ({"quantization_config": {"quant_method": "bitsandbytes"}}, "plain weights"),
        ({"model_type": "t5"}, "no causal language model"),
        ({"model_type": None}, "no causal language model"),
        ({"num_hidden_layers": "two"}, "damaged"),
        ({"hidden_size": 64}, "do not fit"),
        ({"num_hidden_layers": 3}, "missing or do not fit"),
        ({"eos_token_id": None}, "token for the end"),
        ({"eos_token_id": 304}, "token for the end"),
        ({"max_position_embeddings": 21}, "too many for this tower"),
        ({"vocab_size": 20}, "do not fit"),
    ],
    ids=lambda value: ",".join(value) if isinstance(value, dict) else "",
)
def test_settings_that_cannot_be_used_are_refused(copy: Path, changes: dict[str, Any], said: str) -> None:
    rewrite(copy, **changes)
    (copy / "code.py").write_text("raise SystemExit('code of a folder was run')")
    with pytest.raises(InputError, match=said):
        build_tower(copy, CONFIG)


def test_what_fits_exactly_is_taken(copy: Path) -> None:
    rewrite(copy, max_position_embeddings=22, eos_token_id=[0, 5])
    assert build_tower(copy, CONFIG)[0].end == 0


def test_a_window_that_would_close_on_the_picture_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="too many for this tower"):
        build_tower(written(tmp_path, "gemma2", sliding_window=21), CONFIG)


def test_a_kernel_that_the_settings_name_is_not_fetched(copy: Path) -> None:
    rewrite(copy, attn_implementation="someone/kernel", _attn_implementation="someone/kernel")
    network, _ = build_tower(copy, CONFIG)
    assert network.tower.config._attn_implementation == "sdpa"


def test_damaged_files_and_adapters_are_refused(copy: Path) -> None:
    whole = (copy / "model.safetensors").read_bytes()
    (copy / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match="cannot be read") as error:
        build_tower(copy, CONFIG)
    assert str(copy) in "".join(error.value.__notes__)
    (copy / "model.safetensors").write_bytes(whole)
    (copy / "adapter_config.json").write_text('{"base_model_name_or_path": "someone/else"}')
    with pytest.raises(InputError, match="an adapter"):
        build_tower(copy, CONFIG)
    (copy / "adapter_config.json").unlink()
    (copy / "config.json").write_text("{")
    with pytest.raises(InputError, match="configuration is damaged"):
        build_tower(copy, CONFIG)


def test_weights_that_are_no_numbers_are_refused(copy: Path) -> None:
    from safetensors.torch import load_file, save_file

    state = load_file(copy / "model.safetensors")
    state["model.norm.weight"][3] = torch.inf
    save_file(state, copy / "model.safetensors", {"format": "pt"})
    with pytest.raises(InputError, match="not finite"):
        build_tower(copy, CONFIG)


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("mpt", {"d_model": 32, "n_heads": 4, "n_layers": 2, "max_seq_len": 64}),  # counts padding as words
        (
            "bert",
            {**SIZES, "max_position_embeddings": 64, "is_decoder": False, "initializer_range": 0.5},
        ),  # looks both ways
    ],
)
def test_models_that_say_another_thing_piece_by_piece_are_refused(kind: str, options: dict[str, Any]) -> None:
    values = transformers.CONFIG_MAPPING[kind](vocab_size=99, eos_token_id=5, **options).to_dict()
    with pytest.raises(InputError, match="keeps no keys and values"):
        TowerVlm(replace(CONFIG, words=99), values)


def test_other_networks_and_words_are_refused(folder: Path) -> None:
    with pytest.raises(InputError, match="of kind vlm"):
        build_tower(folder, replace(CONFIG, kind="mcan"))
    with pytest.raises(InputError, match="rows for words"):
        TowerVlm(replace(CONFIG, words=1000), folder)


def test_without_transformers_the_extra_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(InputError, match=r"transformers is needed[\s\S]*fashionkit\[segment\]"):
        build_tower(folder, CONFIG)


def test_an_old_transformers_is_told_apart(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("transformers.DynamicCache", dict)
    with pytest.raises(InputError, match="too old"):
        build_tower(folder, CONFIG)


# ---- Its tokenizer


def test_the_tokenizer_shifts_the_towers_ids(folder: Path) -> None:
    words, theirs = TowerTokenizer.read(folder), tokenizer()
    texts = ["what colour is the dress?", "  Red \n", "日本 🧥", "", "red" * 50]
    found = words.encode(texts)
    assert found == [[number + 3 for number in theirs.encode(text.strip()).ids] for text in texts]
    assert [words.decode(row) for row in found] == [text.strip() for text in texts]
    assert words.encode(texts, 2) == [row[:2] for row in found]
    assert words.decode([PAD, *found[1], EOS, PAD]) == "Red"
    twin = pickle.loads(pickle.dumps(words))
    assert twin.encode(texts) == found and twin.to_text() == words.to_text() and len(twin) == len(words)


def test_no_text_gives_a_special_token(folder: Path) -> None:
    words = TowerTokenizer.read(folder)
    (row,) = words.encode([f"is it {END}?"])
    assert min(row) > 4 and words.decode(row) == f"is it {END}?"
    (bad,) = words.encode(["a \ud800 b"])
    assert words.decode(bad) == "a ? b"


def test_what_a_file_says_of_padding_and_beginnings_is_left_alone(folder: Path, tmp_path: Path) -> None:
    noisy = tokenizer()
    noisy.enable_padding(length=20)
    noisy.enable_truncation(2)
    noisy.post_processor = tokenizers.processors.TemplateProcessing(single=f"{END} $A", special_tokens=[(END, 1)])
    noisy.save(str(tmp_path / "tokenizer.json"))
    text = ["what colour is the dress?"]
    assert TowerTokenizer.read(tmp_path).encode(text) == TowerTokenizer.read(folder).encode(text)


def test_damaged_tokenizers_and_misuse_are_refused(copy: Path) -> None:
    words = TowerTokenizer.read(copy)
    with pytest.raises(TypeError, match="a list of texts"):
        words.encode("red")
    for ids in ([len(words)], [-1]):
        with pytest.raises(ValueError, match="ids are 0 to"):
            words.decode(ids)
    for text in ("{", "{}", "[]", '{"model": 3}', words.to_text()[:-9]):
        with pytest.raises(InputError, match="damaged"):
            TowerTokenizer.from_text(text)
    for data in (b"\xff\xfe", b"{}"):
        (copy / "tokenizer.json").write_bytes(data)
        with pytest.raises(InputError, match="cannot be read") as error:
            build_tower(copy, CONFIG)
        assert "tokenizer.json" in str(error.value)
