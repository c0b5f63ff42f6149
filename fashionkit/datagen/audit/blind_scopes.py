"""What is judged together: families, joined where questions cannot be told apart by their words.

    templates ─► kind of answer ─► family, with the not-present questions that share its wording ─► Scope

"What colour is the hat?" has an answer or none, so C1 and the N1 that follows it are one thing to a model that does
not look; so are C6 and the N1 that asks where something is worn.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from fashionkit.datagen.packs import Pack, Template

Kind = Literal["yes/no", "choice", "open"]


@dataclass(frozen=True)
class Scope:
    """Templates that are judged together, of one kind of answer."""

    name: str
    kind: Kind
    templates: tuple[int, ...]


def kind_of(t: Template, pack: Pack) -> Kind:
    """How a template is answered."""
    if t.balance == "choice":
        return "choice"
    leader = pack.by_id(t.tie) if t.balance == "tied" and t.tie is not None else t
    return "yes/no" if leader.balance == "binary" else "open"


def scopes_of(pack: Pack, templates: set[int]) -> list[Scope]:
    """Families; a family of several kinds by template; what shares its words with another family's leader joins it.

    Args:
        pack: All templates. templates: Positions of those that have questions.
    """
    members: dict[tuple[str, Kind], list[int]] = {}
    for number in sorted(templates):
        t = pack.templates[number]
        leader = pack.by_id(str(t.tie)) if same_words(t, pack) else t
        members.setdefault((leader.family, kind_of(t, pack)), []).append(number)
    families = [family for family, _ in members]
    found = []
    for (family, kind), numbers in members.items():
        if families.count(family) == 1:
            joined = dict.fromkeys([family, *(pack.templates[n].family for n in numbers)])
            found.append(Scope("+".join(joined), kind, tuple(numbers)))
        else:  # the picture as a whole: yes or no, one of two, and open questions
            found.append(Scope("+".join(pack.templates[n].id for n in numbers), kind, tuple(numbers)))
    return found


def same_words(t: Template, pack: Pack) -> bool:
    """Whether a template only differs from its leader by the answer: a question about what is not there."""
    return t.balance == "tied" and kind_of(t, pack) == "open"
