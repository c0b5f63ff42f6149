"""Thresholds of the bias gate. A run spec's `audit` section may change them for its own set."""

from __future__ import annotations

from dataclasses import dataclass, fields


@dataclass(frozen=True)
class AuditOptions:
    """What a question set may give away at most, as shares (0.02 is two points).

    Attributes:
        majority_binary: Share of the more frequent answer of a yes/no template.
        majority_open: How far the most frequent answer of an open template may exceed its tempered target.
        blind_binary: Accuracy of a question-only model on a yes/no family.
        blind_open: How far a question-only model may exceed chance on any other family.
        association: Bias-corrected Cramér's V between a slot's value and yes or no.
        option_position: How far the share of right answers at one position may lie from one in k.
        option_length: The same for the shorter and the longer option.
        near_duplicate: Most differing bits (of 64) at which two pictures' perceptual hashes count as one picture.
        model_samples: Most samples the question-only models learn from and are judged on, together.
        resamples: Bootstrap resamples of an interval.
    """

    majority_binary: float = 0.52
    majority_open: float = 0.02
    blind_binary: float = 0.52
    blind_open: float = 0.02
    association: float = 0.05
    option_position: float = 0.01
    option_length: float = 0.01
    near_duplicate: int = 6
    model_samples: int = 2_000_000
    resamples: int = 1000

    def loosened(self) -> list[str]:
        """Names of the settings that let more pass than the defaults do."""
        usual = AuditOptions()
        stricter_above = ("near_duplicate", "model_samples", "resamples")
        change = {f.name: getattr(self, f.name) - getattr(usual, f.name) for f in fields(self)}
        return [name for name, by in change.items() if (by < 0 if name in stricter_above else by > 0)]


# The least and the most that each setting may be.
LIMITS: dict[str, tuple[float, float]] = {
    "majority_binary": (0.5, 1),
    "majority_open": (0, 1),
    "blind_binary": (0.5, 1),
    "blind_open": (0, 1),
    "association": (0, 1),
    "option_position": (0, 0.5),
    "option_length": (0, 0.5),
    "near_duplicate": (0, 64),
    "model_samples": (1000, 10**9),
    "resamples": (100, 10**6),
}
