"""The known answers as a tree of tokens: what a network that writes text thinks of each of them.

    answers (token sequences) ─► `AnswerTrie` ─► forks: where more than one answer is still possible
    network: logits of the next token ─► at each fork a softmax over the tokens that may follow ─► their product

Probabilities are normalised at each fork, so those of all answers sum to 1, and no token that leads to one answer only
costs a pass of the network. Forks are worked out in the order of what they can still yield, so the best answers are
exact, however many there are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from fashionkit.models.tokenizer import EOS

# Legend: n questions, K answers, F forks, M tokens that may follow one, V words, m rows of one pass
PASS = 1024  # rows of one pass, or n where that is more: each holds keys and values of its picture and its question
FLOOR = -9.2  # log of 1e-4: a fork less likely than that is left alone, unless the best answer may hide behind it
Next = Callable[[Tensor, Tensor, Tensor], Tensor]


@dataclass
class _Node:
    children: dict[int, _Node] = field(default_factory=dict)
    answer: int = -1  # of the leaf


class AnswerTrie:
    """Answers as token sequences, none of them twice; that they end is a token of its own.

    Args:
        sequences: K of them, of 1 or more tokens each.

    Raises:
        ValueError: None, an empty one, one twice, or one with EOS in it.
    """

    def __init__(self, sequences: Sequence[Sequence[int]]):
        self.sequences = [tuple(sequence) for sequence in sequences]
        if not self.sequences or min(map(len, self.sequences)) < 1 or len(set(self.sequences)) < len(self.sequences):
            raise ValueError("answers are needed, each of some tokens, and none twice")
        if any(EOS in sequence for sequence in self.sequences):
            raise ValueError(f"the end of an answer, {EOS}, is added here")
        root = _Node()
        for number, sequence in enumerate(self.sequences):
            node = root
            for token in (*sequence, EOS):
                node = node.children.setdefault(token, _Node())
            node.answer = number
        forks: list[tuple[tuple[int, ...], _Node]] = [((), root)]
        following: list[list[tuple[int, int]]] = []  # of each fork: token, and answer, or -1 - number of a fork
        for path, node in forks:  # grows as we go
            options = []
            for token, child in node.children.items():
                end, below = (*path, token), child
                while len(below.children) == 1:  # nothing to choose
                    ((only, below),) = below.children.items()
                    end = (*end, only)
                if below.children:
                    options.append((token, -1 - len(forks)))
                    forks.append((end, below))
                else:
                    options.append((token, below.answer))
            following.append(options)
        width, depth = max(map(len, following)), max(len(path) for path, _ in forks)
        self.token = torch.zeros(len(forks), width, dtype=torch.long)  # (F, M)
        self.there = torch.zeros(len(forks), width, dtype=torch.bool)
        self.leads = torch.zeros(len(forks), width, dtype=torch.long)
        self.path = torch.zeros(len(forks), max(depth, 1), dtype=torch.long)
        self.length = torch.tensor([len(path) for path, _ in forks])  # (F,)
        for number, ((path, _), options) in enumerate(zip(forks, following, strict=True)):
            self.path[number, : len(path)] = torch.tensor(path, dtype=torch.long)
            self.token[number, : len(options)] = torch.tensor([token for token, _ in options])
            self.leads[number, : len(options)] = torch.tensor([where for _, where in options])
            self.there[number, : len(options)] = True

    def __len__(self) -> int:
        """K."""
        return len(self.sequences)

    def log_probabilities(self, n: int, next_logits: Next, exact: int = 1) -> Tensor:
        """(n, K) float32 log-probabilities; -inf for answers that were not looked at, as less likely than others.

        Args:
            n: Questions. next_logits: Of (m,) question rows, (m, L) tokens of answers and (m,) how many of them count
                → (m, V) logits of the token behind them. exact: So many best answers are exact for sure; further ones
                are where they are more likely than 1e-4.
        """
        found = torch.full((n, len(self)), -torch.inf)
        row, fork, score = torch.arange(n), torch.zeros(n, dtype=torch.long), torch.zeros(n)
        least = min(exact, len(self))
        while len(row):
            leads, there = self.leads[fork], self.there[fork]
            options = self._options(row, fork, next_logits, max(n, PASS)).masked_fill(~there, -torch.inf)
            scores = score[:, None] + options.log_softmax(1)  # (m, M)
            done = there & (leads >= 0)
            found[row[:, None].expand_as(leads)[done], leads[done]] = scores[done]
            open_ = there & (leads < 0)
            row, fork, score = row[:, None].expand_as(leads)[open_], -1 - leads[open_], scores[open_]
            best = found.topk(least, 1).values[:, -1]  # what a fork must beat
            kept = score > best[row].clamp(max=FLOOR)
            row, fork, score = row[kept], fork[kept], score[kept]
        return found

    def _options(self, row: Tensor, fork: Tensor, next_logits: Next, most: int) -> Tensor:
        """(m, M) logits of what may follow at forks, from passes of so many rows."""
        found = []
        for rows, forks in zip(row.split(most), fork.split(most), strict=True):
            length = self.length[forks]
            logits = next_logits(rows, self.path[forks][:, : max(1, int(length.max()))], length)  # (m, V)
            found.append(logits.gather(1, self.token[forks].to(logits.device)).float().cpu())
        return torch.cat(found)
