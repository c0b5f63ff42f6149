"""Contrastive fine-tuning: losses against slow NumPy, duplicates that do not repel, recall, and a run that learns."""

from __future__ import annotations

import json
import math
import multiprocessing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import open_clip
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from fashionkit.catalog.drawn import DrawOptions, draw_catalog
from fashionkit.engine import threads
from fashionkit.tables import InputError
from fashionkit.train.captions import NOTHING, CaptionData
from fashionkit.train.contrast import (
    ContrastTask,
    chance,
    free_towers,
    gathered,
    pairs,
    recalls,
    sigmoid_loss,
    softmax_loss,
)
from fashionkit.vision.backbones import build_backbone

TEXT = {"context_length": 48, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 1}
VISION = {"image_size": 64, "layers": 1, "width": 64, "patch_size": 16}
CONVOLUTIONS = {"image_size": 64, "layers": [1, 1, 1, 1], "width": 8, "head_width": 64}
SIGMOID = {"init_logit_bias": -10, "init_logit_scale": math.log(10)}


@pytest.fixture(scope="module", autouse=True)
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """One thread of torch, and small models that open_clip knows by name."""
    folder = tmp_path_factory.mktemp("configs")
    config = {"embed_dim": 32, "vision_cfg": VISION, "text_cfg": TEXT}
    (folder / "tiny-contrast.json").write_text(json.dumps(config), encoding="utf-8")
    (folder / "tiny-pairs.json").write_text(json.dumps(config | SIGMOID), encoding="utf-8")
    (folder / "tiny-quick.json").write_text(json.dumps(config | {"vision_cfg": CONVOLUTIONS}), encoding="utf-8")
    open_clip.add_model_config(folder)
    with threads.one_thread():
        yield


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("drawn") / "catalog"
    draw_catalog(folder, DrawOptions(40, seed=2, size=64, workers=1))
    return str(folder)


def task(**options: Any) -> ContrastTask:
    return ContrastTask(**{"backbone": "open_clip/tiny-contrast", "facts": {}, "size": 64} | options)


def some(seed: int, n: int = 7) -> tuple[Tensor, Tensor, Tensor]:
    """Logits, positives in classes, negatives among the others."""
    rng = np.random.default_rng(seed)
    group = rng.integers(0, 4, n)
    positive = group[:, None] == group[None]
    negative = ~positive & (rng.random((n, n)) < 0.7)
    return torch.from_numpy(rng.normal(0, 3, (n, n))), torch.from_numpy(positive), torch.from_numpy(negative)


def slow_softmax(logits: np.ndarray, positive: np.ndarray, negative: np.ndarray) -> float:
    total, n = 0.0, len(logits)
    for turned in (False, True):
        for i in range(n):
            at = [(j, i) if turned else (i, j) for j in range(n)]
            against = sum(math.exp(logits[p]) for p in at if negative[p])
            own = [p for p in at if positive[p]]
            total += sum(-math.log(math.exp(logits[p]) / (math.exp(logits[p]) + against)) for p in own) / len(own)
    return total / (2 * n)


def slow_sigmoid(logits: np.ndarray, positive: np.ndarray, negative: np.ndarray) -> float:
    total, n = 0.0, len(logits)
    for i in range(n):
        for j in range(n):
            if positive[i, j]:
                total -= math.log(1 / (1 + math.exp(-logits[i, j]))) / positive[i].sum()
            elif negative[i, j]:
                total -= math.log(1 / (1 + math.exp(logits[i, j])))
    return total / n


@pytest.mark.parametrize("seed", range(4))
def test_losses_are_those_of_slow_loops(seed: int) -> None:
    logits, positive, negative = some(seed)
    arrays = [part.numpy() for part in (logits, positive, negative)]
    assert float(softmax_loss(logits, positive, negative)) == pytest.approx(slow_softmax(*arrays), rel=1e-7)
    assert float(sigmoid_loss(logits, positive, negative)) == pytest.approx(slow_sigmoid(*arrays), rel=1e-7)


def test_without_masks_they_are_the_papers_losses() -> None:
    logits, eye = some(9)[0], torch.eye(7, dtype=torch.bool)
    usual = (F.cross_entropy(logits, torch.arange(7)) + F.cross_entropy(logits.T, torch.arange(7))) / 2
    assert float(softmax_loss(logits, eye, ~eye)) == pytest.approx(float(usual), rel=1e-7)
    signs = 2.0 * eye - 1  # SigLIP's Algorithm 1
    assert float(sigmoid_loss(logits, eye, ~eye)) == pytest.approx(float(-F.logsigmoid(signs * logits).sum() / 7))


@pytest.mark.parametrize("loss", [softmax_loss, sigmoid_loss])
def test_equal_captions_do_not_repel(loss: Any) -> None:
    """Two pictures of which one caption holds, and a third: no gradient pushes the two apart, whatever their logits."""
    logits = torch.tensor([[2.0, 5.0, 1.0], [-3.0, 4.0, 0.0], [0.5, 0.2, 3.0]], requires_grad=True)
    positive = torch.block_diag(torch.ones(2, 2), torch.ones(1, 1)).bool()
    (grad,) = torch.autograd.grad(loss(logits, positive, ~positive), logits)
    assert (grad[positive] < 0).all() and (grad[~positive] > 0).all()  # descent raises the first, lowers the others
    masked = torch.eye(3, dtype=torch.bool)  # the same pairs left out instead: nothing at all between them
    (grad,) = torch.autograd.grad(loss(logits, masked, ~positive), logits)
    assert grad[0, 1] == grad[1, 0] == 0


def test_a_batch_of_equal_captions_teaches_softmax_nothing() -> None:
    logits, everything = torch.randn(4, 4, requires_grad=True), torch.ones(4, 4, dtype=torch.bool)
    loss = softmax_loss(logits, everything, ~everything)
    (grad,) = torch.autograd.grad(loss, logits)
    assert loss == 0 and not grad.any()


def captions(*said: list[int]) -> Tensor:
    """(N, 1, 3) captions of one item."""
    return torch.tensor([[row + [NOTHING] * (3 - len(row))] for row in said])


def bits(*facts: list[int]) -> Tensor:
    """(N, 4) facts of pictures with one item."""
    return torch.tensor([[int(k in row) for k in range(4)] for row in facts])


def test_pairs_are_positive_negative_or_left_out() -> None:
    # 0 shirt, 1 navy, 2 red, 3 dress: a navy shirt twice, a shirt of unknown colour, a red shirt, a dress
    said = captions([0, 1], [0, 1], [0], [0, 2], [3])
    sure = bits([0, 1], [0, 1], [0], [0, 2], [3])
    may = bits([0, 1], [0, 1], [0, 1, 2], [0, 2], [3])
    positive, negative = pairs(said, torch.ones(5, 1, dtype=torch.bool), sure, may)
    signs = (positive.int() - negative.int()).tolist()
    assert signs == [
        [1, 1, 0, -1, -1],  # "a shirt" holds of a navy one
        [1, 1, 0, -1, -1],
        [0, 0, 1, 0, -1],  # of unknown colour: it could be navy, and could be red
        [-1, -1, 0, 1, -1],
        [-1, -1, -1, -1, 1],
    ]


def test_recall_counts_equal_captions_as_one() -> None:
    said, closed = captions([0, 1], [0, 1], [0], [3]), torch.ones(4, 1, dtype=torch.bool)
    sure = bits([0, 1], [0, 1], [0], [3])
    images = F.normalize(torch.tensor([[1.0, 0, 0], [0.9, 0.1, 0], [0, 0, 1], [0, 1.0, 0]]), dim=1)
    texts = F.normalize(torch.tensor([[1.0, 0, 0], [1.0, 0, 0], [0.95, 0, 0.2], [0, 1.0, 0.5]]), dim=1)
    found = recalls(images, texts, said, closed, sure, sure, at=[1, 2])
    # "a shirt" holds of the navy shirts and stands in their rankings as little as they in its own; the plain shirt
    # takes the dress (0.45) for its caption (0.2).
    assert found["caption_at_1"] == 3 / 4 and found["caption_at_2"] == 1
    assert found["image_at_1"] == 1 and found["image_at_2"] == 1
    assert found["recall"] == pytest.approx((3 / 4 + 3) / 4)


def test_chance_is_what_random_rankings_reach() -> None:
    rng, trials = np.random.default_rng(0), 20_000
    hits = np.mean([(rng.permutation(6)[:2] < 2).any() for _ in range(trials)])
    assert chance(np.array([2]), np.array([6]), 2)[0] == pytest.approx(1 - 4 / 6 * 3 / 5)
    assert chance(np.array([2]), np.array([6]), 2)[0] == pytest.approx(hits, abs=0.01)
    assert chance(np.array([1, 2]), np.array([1, 3]), 2).tolist() == [1, 1]


@pytest.mark.filterwarnings("ignore:.*LeafSpec.*:FutureWarning", "ignore:The .*dataloader.* does not have many workers")
@pytest.mark.parametrize("loss", ["softmax", "sigmoid"])
def test_a_run_learns_its_catalogue(drawn: str, loss: str, tmp_path: Path) -> None:
    data = CaptionData(drawn, attributes=["colour"], items=1, values=1, batch=12, limit=12, seed=1)
    options: dict[str, Any] = {"backbone": "open_clip/tiny-quick", "at": (1, 3), "seed": 3}
    learner = task(**options, loss=loss, scale=10.0, bias=-3.0, lr=5e-3, backbone_lr=1.0, warmup=0.2)
    data.prepare(learner.preprocess)

    def judged() -> dict[str, float]:
        batch: Any = data.examples["train"].__getitems__([(0, row) for row in range(len(data.examples["train"]))])
        with torch.no_grad():
            images, texts = learner.eval()(batch)
        found = recalls(images, texts, *(batch[n] for n in ("said", "closed", "sure", "may")), at=learner.at)
        parts = [batch[n] for n in ("said", "closed", "sure", "may")]
        logits = learner.log_scale.exp() * images @ texts.T + (0 if learner.bias is None else learner.bias)
        found["loss"] = float((softmax_loss if loss == "softmax" else sigmoid_loss)(logits, *pairs(*parts)).detach())
        return found

    before = judged()
    trainer = L.Trainer(
        max_epochs=45,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        check_val_every_n_epoch=45,
        default_root_dir=tmp_path,
    )
    trainer.fit(learner.train(), data)
    after = judged()
    assert after["loss"] < 0.6 * before["loss"]
    assert after["recall"] > after["chance"] + 0.3 and after["recall"] > before["recall"]
    logged = trainer.callback_metrics
    assert {"val/recall", "val/chance", "val/caption_at_1", "val/image_at_3", "train/loss"} <= set(logged)
    own = learner.backbone.network  # type: ignore[union-attr]
    assert own.logit_scale.item() == pytest.approx(learner.log_scale.item()) and learner.log_scale.item() != math.log(
        10
    )


def test_what_is_learnt_can_be_shared(tmp_path: Path) -> None:
    from fashionkit.embed.embedder import Embedder

    learner = task()
    state = learner.state_dict()
    assert {"backbone.network.token_embedding.weight", "backbone.network.visual.proj"} <= set(state)
    backbone: Any = learner.backbone
    Embedder(backbone).save(tmp_path / "model")
    loaded = Embedder.load(tmp_path / "model")
    assert np.array_equal(loaded.text(["a navy shirt"]), Embedder(backbone).text(["a navy shirt"]))


def test_a_checkpoint_becomes_a_model_folder_with_both_towers(tmp_path: Path) -> None:
    from fashionkit.embed.embedder import Embedder
    from fashionkit.models.checkpoint import from_checkpoint

    learner = task()
    how = learner.preprocess.to_dict()
    body = {"state_dict": learner.state_dict(), "hyper_parameters": dict(learner.hparams), "preprocess": how}
    torch.save(body, tmp_path / "best.ckpt")
    from_checkpoint(tmp_path / "best.ckpt").save(tmp_path / "model")
    backbone: Any = learner.backbone
    said = Embedder.load(tmp_path / "model").text(["a navy shirt"])
    assert np.array_equal(said, Embedder(backbone).text(["a navy shirt"]))


def test_the_scale_stays_in_its_range() -> None:
    learner = task(scale=100.0, loss="sigmoid", backbone="open_clip/tiny-pairs", bias=-3.0)
    with torch.no_grad():
        learner.log_scale.fill_(9.0)
    learner.on_train_batch_end(None, None, 0)
    assert learner.log_scale.item() == pytest.approx(math.log(100))
    assert learner.backbone.network.logit_bias.item() == -3  # type: ignore[union-attr]


def test_first_scale_and_bias() -> None:
    assert task().log_scale.item() == pytest.approx(math.log(1 / 0.07))  # CLIP's
    sigmoid = task(backbone="open_clip/tiny-pairs", loss="sigmoid")
    assert sigmoid.log_scale.exp().item() == pytest.approx(10) and sigmoid.bias.item() == -10  # type: ignore[arg-type]
    assert task(loss="sigmoid").bias.item() == -10 and task().bias is None  # type: ignore[arg-type]


def test_weights_with_a_larger_scale_keep_it(monkeypatch: pytest.MonkeyPatch) -> None:
    from fashionkit.train import contrast

    backbone = build_backbone("open_clip/tiny-pairs", "random", 64)
    with torch.no_grad():
        backbone.network.logit_scale.fill_(math.log(117))
    monkeypatch.setattr(contrast, "start_backbone", lambda *_: backbone)
    learner = task(loss="sigmoid")
    learner.on_train_batch_end(None, None, 0)
    assert learner.log_scale.exp().item() == pytest.approx(117)


@pytest.mark.parametrize(("freeze", "freeze_text"), [("none", True), ("all", False), (1, False), ("stem", True)])
def test_towers_freeze_by_themselves(freeze: str | int, freeze_text: bool) -> None:
    learner = task(freeze=freeze, freeze_text=freeze_text)
    network: Any = learner.backbone.network  # type: ignore[union-attr]
    grown = {name: value.requires_grad for name, value in network.named_parameters()}
    assert grown["token_embedding.weight"] is grown["transformer.resblocks.0.ln_1.weight"] is (not freeze_text)
    assert grown["visual.conv1.weight"] is (freeze == "none")
    assert grown["visual.transformer.resblocks.0.ln_1.weight"] is (freeze != "all")
    assert not grown["logit_scale"]  # the task's own is trained
    assert network.transformer.training is (not freeze_text)


def test_every_parameter_that_trains_gets_a_gradient(drawn: str) -> None:
    """Otherwise training in several processes stops at the first step."""
    data, learner = CaptionData(drawn, batch=8), task(backbone="open_clip/tiny-pairs", loss="sigmoid")
    data.prepare(learner.preprocess)
    images, texts = learner(data.examples["train"].__getitems__([(0, row) for row in range(8)]))
    eye = torch.eye(8, dtype=torch.bool)
    assert learner.bias is not None
    sigmoid_loss(learner.log_scale.exp() * images @ texts.T + learner.bias, eye, ~eye).backward()
    assert [name for name, value in learner.named_parameters() if value.requires_grad and value.grad is None] == []


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"loss": "hinge"}, "no such loss"),
        ({"at": []}, "first 1 or more places"),
        ({"at": [0]}, "first 1 or more places"),
        ({"scale": 1000.0}, "1 to 100"),
        ({"scale": math.nan}, "1 to 100"),
        ({"loss": "sigmoid", "bias": math.nan}, "bias is a number"),
        ({"backbone": "timm/mobilenetv3_small_050"}, "no text tower"),
        ({"freeze": "all", "freeze_text": True}, "both towers are frozen"),
        ({"freeze": 9}, "stages"),
    ],
)
def test_misuse(options: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        task(**options)


def test_freezing_a_backbone_twice_thaws_nothing() -> None:
    backbone = build_backbone("open_clip/tiny-contrast", "random", 64)
    for name, value in backbone.network.named_parameters():
        value.requires_grad_(name != "positional_embedding")
    free_towers(backbone, "none", False)
    assert not backbone.network.positional_embedding.requires_grad


def _of_two(rank: int, folder: str, results: Any) -> None:
    """One of two processes: the loss of all pairs, and the gradient of its half as DDP would average it."""
    import torch.distributed as dist

    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    weight, x, logits_of = _problem()
    loss = logits_of(gathered(x[rank * 3 : rank * 3 + 3] @ weight))
    loss.backward()
    assert weight.grad is not None
    dist.all_reduce(weight.grad)
    try:
        gathered(torch.zeros(1 + rank))
        refused = ""
    except InputError as error:
        refused = str(error)
    results.put((rank, loss.item(), (weight.grad / 2).tolist(), refused))
    dist.destroy_process_group()


def _problem() -> tuple[Tensor, Tensor, Any]:
    rng = torch.Generator().manual_seed(0)
    weight = torch.randn(4, 4, generator=rng, dtype=torch.float64).requires_grad_()
    x, texts = (torch.randn(6, 4, generator=rng, dtype=torch.float64) for _ in range(2))
    eye = torch.eye(6, dtype=torch.bool)
    return weight, x, lambda images: softmax_loss(images @ texts.T, eye, ~eye)


def test_two_processes_have_the_loss_and_the_gradient_of_one(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    results = context.Queue()
    workers = [context.Process(target=_of_two, args=(rank, str(tmp_path), results)) for rank in (0, 1)]
    for worker in workers:
        worker.start()
    found = sorted(results.get(timeout=60) for _ in workers)
    for worker in workers:
        worker.join(30)
    weight, x, logits_of = _problem()
    loss = logits_of(x @ weight)
    loss.backward()
    for _, value, grad, refused in found:
        assert value == pytest.approx(loss.item()) and np.allclose(grad, weight.grad)  # type: ignore[arg-type]
        assert "batches of different sizes" in refused
