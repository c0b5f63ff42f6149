"""The networks that answer questions about pictures, by the kind of their settings; their sizes and costs.

`VqaConfig` ─► `build_vqa` ─► a network with `losses` (to learn), `rank` (among known answers) and `greedy` (free text)
"""

from __future__ import annotations

from copy import deepcopy

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from fashionkit.models.encoder_decoder import EncoderDecoder
from fashionkit.models.mcan import Mcan
from fashionkit.models.vlm import Vlm
from fashionkit.models.vqa_config import VqaConfig

VqaNetwork = Vlm | EncoderDecoder | Mcan


def build_vqa(config: VqaConfig) -> VqaNetwork:
    """The network of some settings, with random weights of torch's generator."""
    if config.kind == "vlm":
        return Vlm(config)
    return EncoderDecoder(config) if config.kind == "encoder_decoder" else Mcan(config)


def count_parameters(network: VqaNetwork) -> int:
    """Numbers that are learnt."""
    return sum(value.numel() for value in network.parameters())


def flops(network: VqaNetwork, questions: int = 8, question_length: int = 14, answer_length: int = 3) -> int:
    """Operations (a multiplication and its addition are two) of one forward pass of training, for each question.

    Args:
        network: It. questions: Of one picture, asked together. question_length, answer_length: Tokens of each.
    """
    config = network.config
    # The counter knows matrix products only, not the kernels that do attention or an LSTM at once: a copy in float64 on
    # the processor works both out step by step, and draws nothing.
    twin = deepcopy(network).to("cpu", torch.float64).eval()
    cells = None if config.blind else torch.zeros(1, config.channels, *config.cells, dtype=torch.float64)
    question, answer = (torch.ones(questions, t, dtype=torch.long) for t in (question_length, answer_length))
    image_of = torch.zeros(questions, dtype=torch.long)
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        twin.losses(cells, image_of, question, answer, image_of)
    return int(counter.get_total_flops()) // questions
