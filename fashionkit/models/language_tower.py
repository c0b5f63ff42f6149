"""A pretrained causal language model of `transformers`, from a local folder, that looks and answers as `Vlm` does.

    image (g, N, D) ──────► tower ─► kept keys, once a picture ─┐
    question (n, T) ids ──► tower, behind its picture's keys ───┴─► kept keys ─┐
    <sep> answer (n, A) ──► tower, behind all that ────────────────────────────┴─► next token

The pattern of nanoVLM (github.com/huggingface/nanoVLM): image tokens, projected to the width of the tower's words,
stand before the text. All attention is causal, so a picture never sees a question, and its keys and values are worked
out once for all its questions, as with `prefix: image` of `Vlm`. Padding stands between question and answer; nobody
looks at it, and positions are counted without it.

Ids: the tower's own, shifted by three, for 0, 1, 2 are PAD, SEP, EOS here as everywhere. PAD is no token of the tower.
SEP is a vector that is learnt, in front of the answer. EOS is the tower's own end token, so what it knows of ends is
kept, and no row is added to its tables: they stay as they are in the folder.

Letters: g pictures, n questions, N image tokens, T question tokens, A answer tokens, D width of the tower's words, V
words of its tokenizer and our three, W rows of its tables, H heads of keys, S tokens with keys.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fashionkit.models.answer_trie import AnswerTrie
from fashionkit.models.model_folder import check_finite
from fashionkit.models.tokenizer import EOS, PAD, SEP
from fashionkit.models.tower_files import EXTRA, layers_of, new_tower, read_tower
from fashionkit.models.tower_tokenizer import SHIFT, TowerTokenizer
from fashionkit.models.vlm import greedy_tokens
from fashionkit.models.vqa_config import VqaConfig
from fashionkit.models.vqa_parts import ImageTokens, Kept, init_weights
from fashionkit.tables import InputError
from fashionkit.vision.region_base import needed, said_by
from fashionkit.vision.tensors import fill, read_tensors

ROWS = 256  # of one pass of `rank`: each has keys and values of its own


class TowerVlm(nn.Module):
    """See the module's text. `config` is as given, with the tower's width, layers and heads.

    Args:
        config: Of kind `vlm`; `words` is V. source: The folder of the tower, or its settings, as `to_dict` gives them,
            for random weights. freeze_tower: Only image tokens and SEP learn; the tower drops nothing out in training.

    Raises:
        InputError: transformers is not installed; the folder lacks files, or they are damaged or of a model that cannot
            be used; or the tower is too short for what `config` lets in.
    """

    def __init__(self, config: VqaConfig, source: str | Path | Mapping[str, Any], freeze_tower: bool = False):
        super().__init__()
        self.tower: Any = new_tower(source) if isinstance(source, Mapping) else read_tower(Path(source))
        rows: Tensor = self.tower.get_input_embeddings().weight  # (W, D)
        self.config = _fitted(config, self.tower.config.get_text_config(), *rows.shape)
        self.end = _end(self.tower.config.get_text_config(), self.config.words - SHIFT)
        self.image = None if config.blind else ImageTokens(self.config)
        self.sep = nn.Parameter(rows.detach().mean(0))
        if self.image is not None:
            init_weights(self.image)
        self.freeze_tower = freeze_tower
        self.tower.requires_grad_(not freeze_tower)
        self._keys = _keyword(self.tower.base_model)
        if rows.device.type != "meta":
            self._try()

    def to_dict(self) -> dict[str, Any]:
        """Settings of both, plain types: `TowerVlm.from_dict` builds the same network, with random weights."""
        tower = json.loads(self.tower.config.to_json_string())
        tower.pop("_name_or_path", None)  # a shared model says nothing of its maker's folders
        return {"config": self.config.to_dict(), "tower": tower, "frozen": self.freeze_tower}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> TowerVlm:
        """What `to_dict` gave.

        Raises:
            InputError: A key is missing, or see the class.
        """
        for key in ("config", "tower"):
            if not isinstance(values.get(key), Mapping):
                raise InputError("settings of a language tower are missing", column=key, found=values.get(key))
        return cls(VqaConfig.from_dict(values["config"]), values["tower"], values.get("frozen") is True)

    def train(self, mode: bool = True) -> TowerVlm:
        """Training mode for what learns; a frozen tower stays in evaluation mode."""
        super().train(mode)
        if self.freeze_tower:
            self.tower.eval()
        return self

    def losses(
        self, cells: Tensor | None, image_of: Tensor, question: Tensor, answer: Tensor, answer_class: Tensor
    ) -> Tensor:
        """(n,) cross-entropy of each answer, summed over its tokens; arguments as in `Vlm.losses`."""
        logits = self._behind(self.prefix(cells, image_of, question), question, answer[:, :-1])  # (n, A, V - 3)
        theirs = self._theirs(answer).masked_fill(answer == PAD, -1)
        return F.cross_entropy(logits.transpose(1, 2), theirs, ignore_index=-1, reduction="none").sum(1)

    def prefix(self, cells: Tensor | None, image_of: Tensor, question: Tensor) -> list[Kept]:
        """Keys and values, layer by layer, of pictures and questions; arguments as in `losses`."""
        held = self._held(question)  # (n, N + T)
        kept = None if self.image is None else [each.of(image_of) for each in self.picture(cells)]
        return self._run(self._embedded(question), held, kept)

    def picture(self, cells: Tensor | None) -> list[Kept]:
        """Keys and values, layer by layer, of (g, C, h, w) maps: (g, H, N, D/H)."""
        assert cells is not None and self.image is not None, "a network that looks needs pictures"
        image = self.image(cells)  # (g, N, D)
        return self._run(image, image.new_ones(image.shape[:2], dtype=torch.bool), None)

    @torch.no_grad()
    def rank(self, cells: Tensor | None, image_of: Tensor, question: Tensor, trie: AnswerTrie, k: int = 1) -> Tensor:
        """(n, K) log-probabilities of the known answers, on the CPU, the k best of them exact; see `AnswerTrie`."""
        prefix = self.prefix(cells, image_of, question)

        def following(rows: Tensor, tokens: Tensor, length: Tensor) -> Tensor:
            found = torch.empty(len(rows), self.config.words)
            for t in length.unique().tolist():
                for part in (length == t).nonzero().squeeze(1).split(ROWS):
                    own = rows[part].to(question.device)
                    kept, written = [each.of(own) for each in prefix], tokens[part, :t].to(question.device)
                    found[part] = self._ours(self._behind(kept, question[own], written, 1)[:, -1]).float().cpu()
            return found

        return trie.log_probabilities(len(question), following, k)

    @torch.no_grad()
    def greedy(self, cells: Tensor | None, image_of: Tensor, question: Tensor, length: int = 0) -> list[list[int]]:
        """n answers as tokens, the likeliest token after another until EOS or so many tokens; 0: what fits."""
        prefix = self.prefix(cells, image_of, question)

        def following(tokens: Tensor) -> Tensor:
            return self._ours(self._behind(prefix, question, tokens, 1)[:, -1])

        return greedy_tokens(following, question, self.config, length)

    def _behind(self, prefix: list[Kept], question: Tensor, answer: Tensor, last: int = 0) -> Tensor:
        """(n, A + 1, V - 3) logits of the tower's tokens: behind SEP, and behind each of (n, A); or of some `last`."""
        x = torch.cat([self.sep.expand(len(answer), 1, -1), self._embedded(answer)], 1)
        held = F.pad(self._held(question), (0, x.shape[1]), value=True)
        options = {"logits_to_keep": last} if "logits_to_keep" in _parameters(self.tower) else {}
        logits: Tensor = self.tower(**self._inputs(x, held, prefix), **options).logits
        return logits[..., : self.config.words - SHIFT]

    def _run(self, x: Tensor, held: Tensor, before: list[Kept] | None) -> list[Kept]:
        """Keys and values of (n, T, D) behind those before; `held` is (n, S), false at padding."""
        inputs = self._inputs(x, held, before)
        self.tower.base_model(**inputs)
        return [Kept(layer.keys, layer.values) for layer in inputs[self._keys].layers]

    def _inputs(self, x: Tensor, held: Tensor, before: list[Kept] | None) -> dict[str, Any]:
        cache = needed("transformers", EXTRA).DynamicCache()  # grows in place, so each pass has its own
        for number, kept in enumerate(before or ()):
            cache.update(kept.key, kept.value, number)
        found = {"inputs_embeds": x, "attention_mask": held.long(), self._keys: cache, "use_cache": True}
        if "position_ids" in _parameters(self.tower.base_model):  # others count by the mask
            found["position_ids"] = (held.cumsum(1) - 1).clamp(min=0)[:, -x.shape[1] :]
        return found

    def _held(self, question: Tensor) -> Tensor:
        """(n, N + T), true at image tokens and words."""
        held = question != PAD
        if self.image is None:
            return held | (torch.arange(held.shape[1], device=held.device) == 0)  # never nothing at all
        return F.pad(held, (self.config.image_tokens, 0), value=True)

    def _embedded(self, tokens: Tensor) -> Tensor:
        """(n, T, D) of (n, T); zero at PAD."""
        table = self.tower.get_input_embeddings()
        found: Tensor = table(self._theirs(tokens)).masked_fill((tokens == PAD)[..., None], 0)
        return torch.where((tokens == SEP)[..., None], self.sep, found)

    def _theirs(self, tokens: Tensor) -> Tensor:
        """The tower's ids; any for PAD and SEP, which it has not."""
        return (tokens - SHIFT).clamp(min=0).masked_fill(tokens == EOS, self.end)

    def _ours(self, logits: Tensor) -> Tensor:
        """(..., V) of (..., V - 3): EOS takes the place of the tower's end; PAD and SEP are never written."""
        found = F.pad(logits, (SHIFT, 0), value=-torch.inf)
        found[..., EOS], found[..., self.end + SHIFT] = logits[..., self.end], -torch.inf
        return found

    def _try(self) -> None:
        """Refuses a tower that says another thing piece by piece, with padding between, than in one go."""
        x = torch.randn(1, 3, len(self.sep), generator=torch.Generator().manual_seed(0)).to(self.sep)
        held = torch.tensor([[True, True, False, True]], device=x.device)
        said = "another answer in pieces than in one go"
        try:
            with torch.no_grad():
                whole = self.tower(inputs_embeds=x, use_cache=False).logits[:, -1]
                kept = self._run(x[:, :1], held[:, :1], None)
                kept = self._run(F.pad(x[:, 1:2], (0, 0, 0, 1)), held[:, :3], kept)
                pieces = self.tower(**self._inputs(x[:, 2:], held, kept)).logits[:, -1]
            right = bool((whole - pieces).abs().max() <= 1e-4 * whole.abs().max())
        # Models of another kind keep something else, or take other arguments.
        except (TypeError, AttributeError, ValueError, LookupError, RuntimeError) as error:
            right, said = False, said_by(error)
        if not right:
            name = type(self.tower).__name__
            raise InputError(f"{name} keeps no keys and values of each token that others can go on from", found=said)


def build_tower(folder: str | Path, config: VqaConfig, freeze_tower: bool = False) -> tuple[TowerVlm, TowerTokenizer]:
    """A tower with its weights, and its tokenizer.

    Args:
        folder: With config.json, model.safetensors and tokenizer.json, as `save_pretrained` writes them.
        config: Of kind `vlm`; its words, width, layers and heads become the tower's. freeze_tower: As in `TowerVlm`.

    Raises:
        InputError: See `TowerVlm` and `TowerTokenizer.read`.
    """
    tokenizer = TowerTokenizer.read(Path(folder))
    return TowerVlm(replace(config, words=len(tokenizer)), folder, freeze_tower), tokenizer


def load_tower(values: Mapping[str, Any], file: Path) -> TowerVlm:
    """The network of some settings (`TowerVlm.to_dict`) with the tensors of a file.

    Raises:
        InputError: The settings or the file are damaged, or do not fit each other.
    """
    state = check_finite(file, read_tensors(file))
    layers = layers_of(values.get("tower"))
    if layers > len(state):  # layers cost time and memory even without tensors
        raise InputError(f"there are {len(state)} tensors", file=file, column="num_hidden_layers", found=layers)
    with torch.device("meta"):  # no memory is taken for sizes that the tensors then do not have
        bare = TowerVlm.from_dict(values)
    if {key: value.shape for key, value in bare.state_dict().items()} != {k: v.shape for k, v in state.items()}:
        fill(bare, state, file)  # says what differs
    # Built again, for tables of positions that no file holds are empty there.
    network = TowerVlm.from_dict(values)
    fill(network, state, file)
    return network


def _fitted(config: VqaConfig, tower: Any, rows: int, width: int) -> VqaConfig:
    """The settings, with what the tower says; whatever fits no place of it is refused."""
    if config.kind != "vlm":
        raise InputError("a language tower is a network of kind vlm", column="kind", found=config.kind)
    if not SHIFT < config.words <= rows + SHIFT:
        problem = f"the tower has {rows} rows for words, the tokenizer {config.words - SHIFT}"
        raise InputError(problem, column="words", found=config.words)
    longest = config.image_tokens + config.question_length + config.answer_length
    for name in ("max_position_embeddings", "sliding_window"):
        most = getattr(tower, name, None)
        if isinstance(most, int) and 0 < most < longest:
            parts = f"{config.image_tokens} image tokens, {config.question_length} of a question"
            problem = f"{parts} and {config.answer_length} of an answer are too many for this tower"
            raise InputError(problem, column=name, found=longest, allowed=[f"up to {most}"])
    heads = getattr(tower, "num_attention_heads", 1)
    heads = heads if isinstance(heads, int) and heads > 0 and width % heads == 0 else 1
    return replace(config, width=width, layers=tower.num_hidden_layers, heads=heads, prefix="image")


def _end(tower: Any, words: int) -> int:
    """The tower's end token."""
    found = tower.eos_token_id
    found = found[0] if isinstance(found, Sequence) and found else found
    if isinstance(found, bool) or not isinstance(found, int) or not 0 <= found < words:
        raise InputError("a tower needs a token for the end, among its words", column="eos_token_id", found=found)
    return found


def _parameters(module: nn.Module) -> Mapping[str, inspect.Parameter]:
    return inspect.signature(module.forward).parameters


def _keyword(module: nn.Module) -> str:
    """What a model calls its kept keys and values: transformers has renamed it."""
    return "cache" if "cache" in _parameters(module) else "past_key_values"
