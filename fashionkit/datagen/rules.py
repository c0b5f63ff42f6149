"""What a pack may say follows from a question: the entries of a template's `entails`, and whether they fit.

    - {template: B2.verify, slots: {cat: cat, v: answer}, answer: yes}      what colour is the coat? (red) ─► is it red?
    - {template: B2.verify, slots: {cat: cat, v: w}, answer: no, when: no}  is it blue or green? (no) ─► is it green?

A rule only proposes. What is stored is what the program of the implied question says of the catalogue (see `entail`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from fashionkit.datagen.expression import SIGNATURES, Call, Slot
from fashionkit.datagen.vocab import MAX_INT

if TYPE_CHECKING:
    from fashionkit.datagen.packs import Template

ANSWERS = ("yes", "no", "opposite", "answer")  # of an entailed question; or a slot of the one it follows from
RESULTS = {"query": "value", "label": "value", "category": "category", "region": "region"}
RESULTS |= {"list": "set", "count": "int"}


@dataclass(frozen=True)
class Entailment:
    """A question that follows from one of this template.

    Attributes:
        template: The implied template.
        slots: Its stored slots → a slot of this one, `answer`, `other` (the option that is not the answer), `member`
            (each value of an answer that lists several) or `root`.
        answer: Its answer: `yes`, `no`, `answer` (the same), `opposite`, or a slot of this one.
        when, unless: It follows only where this question's answer is, or is not, this one.
    """

    template: str
    slots: dict[str, str]
    answer: str
    when: str | None = None
    unless: str | None = None


def answer_kind(program: Call, kinds: dict[str, str] | None = None) -> str:
    """What a program answers: `bool`, `set`, `int` or the kind of a slot; `option` of a choice without `kinds`.

    Args:
        program: The program. kinds: Slot name → kind.
    """
    if SIGNATURES[program.function][1] == "bool":
        return "bool"
    if program.function != "which":
        return RESULTS[program.function]
    options = {(kinds or {}).get(a.name, "option") for a in program.arguments if isinstance(a, Slot)}
    return options.pop() if len(options) == 1 else "option"


def sources(program: Call, kinds: dict[str, str]) -> dict[str, str]:
    """What the slots of an entailed question may take from one of this program → its kind.

    Args:
        program: The program. kinds: Slot name → kind; a slot wins over a word of the same name.
    """
    answer = answer_kind(program, kinds)
    more = {"root": "category"}
    if answer in ("category", "value", "region"):
        more["answer"] = answer
        if program.function == "which":
            more["other"] = answer
    if answer == "set":
        more["member"] = "value"
    return {**more, **kinds}


def conditions(program: Call) -> list[str]:
    """Answers that `when` and `unless` may name."""
    allowed = {"bool": ["yes", "no"], "int": [str(n) for n in range(MAX_INT + 1)]}
    return allowed.get(answer_kind(program), ["not_present"])


def misfit(t: Template, e: Entailment, implied: Template) -> tuple[str, object]:
    """Why an entailed question cannot be: the problem and what was found; an empty text where it can.

    Every stored slot of the implied template is bound to something of its kind, and its answer is one it can have.

    Args:
        t: The template it follows from. e: The entry. implied: The template that the entry names.
    """
    wanted = {s.name: s.kind for s in implied.stored_slots}
    given = sources(t.program, {s.name: s.kind for s in t.slots})
    if set(wanted) - set(e.slots):
        return f"the entailed question {e.template} has an unbound slot", sorted(set(wanted) - set(e.slots))
    if set(e.slots) - set(wanted):
        return f"the entailed question {e.template} stores no such slot", sorted(set(e.slots) - set(wanted))
    wrong = [f"{given[v]} {v!r} for {wanted[k]} {k!r}" for k, v in e.slots.items() if given[v] != wanted[k]]
    if wrong:
        return f"a slot of the entailed question {e.template} is of another kind", ", ".join(wrong)
    settled = e.answer in ("yes", "no", "opposite") or (e.answer == "answer" and answer_kind(t.program) == "bool")
    if settled != (answer_kind(implied.program) == "bool"):
        return f"the entailed question {e.template} cannot have this answer", e.answer
    return "", None
