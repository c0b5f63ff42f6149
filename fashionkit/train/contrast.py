"""Contrastive fine-tuning of an open_clip model on one's own catalogue: pictures near captions that hold of them.

    picture ─► image tower ─► unit vector ──┐
                                            ├─► cosines, scaled ─► softmax or sigmoid loss
    caption ─► text tower ──► unit vector ──┘          ▲
    what captions say, facts of pictures ─► `pairs`: positive, negative, or left out

Softmax is InfoNCE in both directions (CLIP, arXiv 2103.00020); sigmoid judges each pair by itself (SigLIP, arXiv
2303.15343). A catalogue has many pictures of which one caption holds, and calling those pairs wrong keeps fine-tuning
from converging. So (ours) captions that say the same share one mass of positives, captions that hold or could hold of a
picture and are not its own are left out, and positives of one row do not compete with each other.

Letters: N pictures with a caption each, in all processes; D width of the vectors; S, M, K as in `captions`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fashionkit.metrics.retrieval import hit_at
from fashionkit.tables import InputError
from fashionkit.train.captions import same, truths
from fashionkit.train.start import start_backbone
from fashionkit.train.task import Task, normalised
from fashionkit.vision.backbones import Backbone

LOSSES = ("softmax", "sigmoid")
LARGEST_SCALE = math.log(100)  # CLIP's limit, without which training becomes unstable
BIAS = -10.0  # SigLIP's first bias: nearly all pairs are negative
LOWEST = -1e9  # of a logit that is left out; its exponential is 0, and so is its gradient
_QUERIES = 1024  # ranked at a time


class ContrastTask(Task):
    """Fine-tunes both towers of an open_clip model.

    Args:
        backbone: `open_clip/<arch>`. facts: Of the data; nothing of them is needed here.
        weights: Of both towers (`fashionkit.vision.weights`), or a run's folder or checkpoint, to go on from.
        size: Side of its input, where not the weights' own.
        freeze: What of the image tower does not train (`Backbone.freeze`). freeze_text: The text tower does not.
        loss: `softmax` or `sigmoid`. scale, bias: First values of what cosines are multiplied by (1 to 100) and of what
            is added (sigmoid only); None: the network's own, and for a network without a bias SigLIP's.
        at: Places of which recall is logged.
        lr: Of scale and bias. backbone_lr, weight_decay, warmup, seed: See `Task`.
    """

    monitor = "val/recall"

    def __init__(
        self,
        backbone: str,
        facts: dict[str, Any],
        weights: str = "random",
        size: int | None = None,
        freeze: str | int = "none",
        freeze_text: bool = False,
        loss: str = "softmax",
        scale: float | None = None,
        bias: float | None = None,
        at: Sequence[int] = (1, 5, 10),
        lr: float = 1e-3,
        backbone_lr: float = 0.01,
        weight_decay: float = 0.05,
        warmup: float = 0.05,
        seed: int = 0,
    ):
        super().__init__(lr, backbone_lr, weight_decay, warmup, seed)
        self.save_hyperparameters()
        if loss not in LOSSES:
            raise InputError("no such loss", column="loss", found=loss, allowed=LOSSES)
        if not at or min(at) < 1:
            raise InputError("recall is of the first 1 or more places", column="at", found=list(at))
        if scale is not None and not 1 <= scale <= 100:
            raise InputError("cosines are multiplied by 1 to 100", column="scale", found=scale)
        if bias is not None and not math.isfinite(bias):
            raise InputError("the bias is a number", column="bias", found=bias)
        torch.manual_seed(seed)
        built = start_backbone(backbone, weights, size)
        if not built.has_text:
            hint = "only open_clip/<arch> has one, e.g. open_clip/ViT-B-32"
            raise InputError("this backbone has no text tower", column="backbone", found=backbone, hint=hint)
        self.preprocess, self.backbone, self.loss, self.at = built.preprocess, built, loss, sorted(at)
        free_towers(built.train(), freeze, freeze_text)
        own = built.network
        first = own.logit_scale.detach().reshape(()).float() if scale is None else torch.tensor(math.log(scale))
        self.log_scale = nn.Parameter(first.clone())
        self._most = max(LARGEST_SCALE, float(first))  # SigLIP's weights bring a larger one
        self.bias: nn.Parameter | None = None
        if loss == "sigmoid":
            if bias is None:
                bias = BIAS if getattr(own, "logit_bias", None) is None else float(own.logit_bias)
            self.bias = nn.Parameter(torch.tensor(float(bias)))

    def forward(self, batch: dict[str, Any]) -> tuple[Tensor, Tensor]:
        """(B, D) vectors of pictures and of their captions, of unit norm, float32."""
        assert self.backbone is not None
        images = self.backbone.pooled(normalised(batch["image"], self.preprocess))
        return F.normalize(images.float(), dim=1), F.normalize(self.backbone.text(batch["caption"]).float(), dim=1)

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        images, texts = (gathered(vectors) for vectors in self(batch))  # N D, of all processes
        said, closed, sure, may = (gathered(batch[name]) for name in ("said", "closed", "sure", "may"))
        positive, negative = pairs(said, closed, sure, may)
        scale = self.log_scale.clamp(max=self._most).exp()
        with torch.autocast(self.device.type, enabled=False):
            cosines = images @ texts.T
            if self.bias is None:
                loss = softmax_loss(scale * cosines, positive, negative)
            else:
                loss = sigmoid_loss(scale * cosines + self.bias, positive, negative)
        found = {"loss": loss.detach(), "scale": scale.detach(), "negatives": negative.float().mean()}
        self.log_dict({f"train/{name}": value for name, value in found.items()}, batch_size=len(batch["row"]))
        return loss

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """The scale stays in its range, and the network that is saved has what was learnt."""
        super().on_train_batch_end(outputs, batch, batch_idx)
        with torch.no_grad():
            self.log_scale.clamp_(0, self._most)
            assert self.backbone is not None
            own = self.backbone.network
            own.logit_scale.fill_(self.log_scale)
            if self.bias is not None and getattr(own, "logit_bias", None) is not None:
                own.logit_bias.fill_(self.bias)

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        images, texts = self(batch)
        kept = {name: batch[name] for name in ("said", "closed", "sure", "may")}
        self.keep_rows(batch["row"], images=images, texts=texts, **kept)

    def on_validation_epoch_end(self) -> None:
        self._judge("val")

    def test_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        self.validation_step(batch, batch_idx)

    def on_test_epoch_end(self) -> None:
        self._judge("test")

    def _judge(self, split: str) -> None:
        """Recall over all pictures and distinct captions of all processes."""
        found = {name: value.to(self.device) for name, value in self.all_rows().items() if name != "row"}
        measures = recalls(**found, at=self.at)
        values = {f"{split}/{name}": value for name, value in measures.items()}
        self.log_dict(values, prog_bar=True, sync_dist=True, batch_size=len(found["images"]))


def free_towers(backbone: Backbone, pictures: str | int, freeze_text: bool) -> None:
    """Says which parameters of both towers train.

    Args:
        backbone: With a text tower. pictures: Level for the image tower (`Backbone.freeze`). freeze_text: Whether the
            text tower stays as it is.

    Raises:
        InputError: No such level, or nothing is left to train.
    """
    texts = {
        name
        for name, value in backbone.network.named_parameters()
        # A decoder beside the towers (CoCa) has no part in this, and the scale is the task's own.
        if value.requires_grad and not name.startswith(("visual.", "text_decoder.", "logit_"))
    }
    backbone.freeze(pictures)
    for name, value in backbone.network.named_parameters():
        if not name.startswith("visual."):
            value.requires_grad_(name in texts and not freeze_text)
    backbone.train(backbone.training)
    if not any(value.requires_grad for value in backbone.parameters()):
        raise InputError("both towers are frozen, so nothing would be learnt", column="freeze", found=pictures)


def pairs(said: Tensor, closed: Tensor, sure: Tensor, may: Tensor) -> tuple[Tensor, Tensor]:
    """(N, N) bool each, picture by caption: the pairs to bring together, and those to push apart.

    Args:
        said: (N, S, M) and closed: (N, S) of the captions. sure, may: (N, K) of the pictures.
    """
    positive = same(said, said)
    _, could = truths(said, closed, sure, may)
    return positive, ~could & ~positive


def softmax_loss(logits: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
    """InfoNCE in both directions, averaged.

        row i:  mean over its positives p of  -log( exp l_ip / (exp l_ip + sum over its negatives n of exp l_in) )

    Args:
        logits: (N, N), picture by caption. positive, negative: (N, N) bool; what is neither is left out.
    """
    return (_one_way(logits, positive, negative) + _one_way(logits.T, positive.T, negative.T)) / 2


def _one_way(logits: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
    against = logits.masked_fill(~negative, LOWEST).logsumexp(1, keepdim=True)  # N 1
    each = F.softplus(against - logits) * positive  # N N
    return (each.sum(1) / positive.sum(1).clamp(min=1)).mean()


def sigmoid_loss(logits: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
    """Sum over pairs of -log sigmoid(± l), for each picture; captions that say the same share the weight of one.

    Args:
        logits: (N, N), picture by caption, bias included. positive, negative: As for `softmax_loss`.
    """
    share = positive / positive.sum(1, keepdim=True).clamp(min=1)
    return (share * F.softplus(-logits) + negative * F.softplus(logits)).sum(1).mean()


def recalls(
    images: Tensor, texts: Tensor, said: Tensor, closed: Tensor, sure: Tensor, may: Tensor, at: Sequence[int]
) -> dict[str, float]:
    """How often the first k hold what was looked for, both ways, and `recall`, the mean of all these.

    Captions that say the same count as one. A picture looks for its own caption, a caption for the pictures that it was
    made of; other captions that hold or could hold of a picture are neither right nor wrong, and stand in no ranking.

    Args:
        images, texts: (N, D) of unit norm. said, closed, sure, may: As for `pairs`. at: Values of k.

    Returns:
        `caption_at_<k>` (the caption of a picture), `image_at_<k>` (a picture of a caption), `recall`; and
        `chance`, the mean of a random ranking.
    """
    _, group = said.flatten(1).unique(dim=0, return_inverse=True)
    first = torch.from_numpy(np.unique(group.cpu().numpy(), return_index=True)[1]).to(group.device)  # T
    found: dict[str, list[tuple[Any, Any, Any]]] = {"caption": [], "image": []}
    places = {"caption": min(max(at), len(first)), "image": min(max(at), len(images))}
    for lo in range(0, len(images), _QUERIES):
        part = slice(lo, lo + _QUERIES)
        own = same(said[part], said[first])  # q T
        _, could = truths(said[first], closed[first], sure[part], may[part])
        found["caption"].append(_ranked(images[part] @ texts[first].T, own, could & ~own, places["caption"]))
    for lo in range(0, len(first), _QUERIES):
        which = first[lo : lo + _QUERIES]
        own = same(said[which], said)  # q N
        _, could = truths(said[which], closed[which], sure, may)
        found["image"].append(_ranked(texts[which] @ images.T, own, could.T & ~own, places["image"]))
    measures, chances = {}, []
    for name, parts in found.items():
        relevant, good, count = (np.concatenate(column) for column in zip(*parts, strict=True))
        for k in at:
            measures[f"{name}_at_{k}"] = hit_at(relevant, good, min(k, places[name])).value
            chances.append(float(np.mean(chance(good, count, k))))
    measures["recall"] = float(np.mean(list(measures.values())))
    return {**measures, "chance": float(np.mean(chances))}


def _ranked(cosines: Tensor, own: Tensor, left_out: Tensor, places: int) -> tuple[Any, Any, Any]:
    """(q, places) bool which results are right; (q,) how many there are to find; (q,) how many are ranked."""
    order = cosines.masked_fill(left_out, -2.0).topk(places, dim=1).indices
    return own.gather(1, order).cpu().numpy(), own.sum(1).cpu().numpy(), (~left_out).sum(1).cpu().numpy()


def chance(good: Any, count: Any, k: int) -> Any:
    """(q,) probability that k results drawn at random, of `count` with `good` right ones, hold a right one."""
    missed = np.ones(len(good))
    for drawn in range(k):
        left = np.maximum(count - drawn, 0)
        missed *= np.where(left > good, (left - good) / np.maximum(left, 1), 0)
    return 1 - missed


def gathered(x: Tensor) -> Tensor:
    """(world * n, …) rows of all processes from (n, …) of each; gradients flow back to where the rows come from.

    Raises:
        InputError: Other processes have another n.
    """
    import torch.distributed as dist

    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return x
    sizes = [torch.zeros((), dtype=torch.int64, device=x.device) for _ in range(dist.get_world_size())]
    dist.all_gather(sizes, torch.tensor(len(x), device=x.device))
    counts = [int(size) for size in sizes]
    if len(set(counts)) > 1:
        hint = "a batch for each process must fit into the training pictures; make `batch` smaller"
        raise InputError("the processes have batches of different sizes", found=counts, hint=hint)
    found: Tensor = _Gathered.apply(x)
    return found


class _Gathered(torch.autograd.Function):
    """(world * n, …) of (n, …) in each process; each gets the gradients that all have for its rows, summed."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        import torch.distributed as dist

        parts = [torch.empty_like(x) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, x.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        import torch.distributed as dist

        whole = grads[0].contiguous()
        dist.all_reduce(whole)
        return whole.chunk(dist.get_world_size())[dist.get_rank()]
