"""What follows from a sample, worked out slowly from the packs' YAML and the page on adding questions.

    sample, its template's `entails` ─► Follows (rule, template, slots, stated answer) ─► Interpreter ─► settled or not

It shares no code with the engine. Nothing of the package is imported.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from tests.datagen.slow_interpreter import Id, Interpreter, Words
from tests.datagen.slow_questions import Questions, Sample

KINDS = ("category", "value", "attribute", "region")
Rule = tuple[str, int]  # template id, position among its `entails`


class Follows(NamedTuple):
    """A question that a rule states, before anything is run; `slots` are those its template stores, in their order."""

    rule: Rule
    template: int
    slots: tuple[Id, ...]
    answer: Id


def word(raw: Any) -> str | None:
    """A word of YAML 1.1, which reads yes and no as true and false."""
    return None if raw is None else {True: "yes", False: "no"}[raw] if isinstance(raw, bool) else str(raw)


def rules(questions: Questions) -> list[Rule]:
    """All rules of the packs."""
    return [(t["id"], n) for t in questions.templates.values() for n in range(len(t.get("entails", ())))]


def follows(questions: Questions, run: Interpreter, s: Sample) -> Iterator[Follows]:
    """What the rules of a sample's template state; rules for other scenes and slots of another kind are left out."""
    t = questions.templates[s.template]
    answer, options = questions.ids[s.answer], questions.pairs[s.template]
    for number, rule in enumerate(t.get("entails", ())):
        when, unless = word(rule.get("when")), word(rule.get("unless"))
        if (when is not None and answer[1] != when) or (unless is not None and answer[1] == unless):
            continue
        mine: dict[str, Id] = {"answer": answer, "root": ("category", run.words.root), **questions.slots(s)}
        if options:
            mine["other"] = next(mine[name] for name in options if mine[name] != answer)
        said = str(word(rule["answer"]))
        if said == "opposite":
            if answer[1] not in ("yes", "no"):
                continue
            said = "no" if answer[1] == "yes" else "yes"
        reply = mine.get(said, ("answer", said))
        template = questions.by_id[rule["template"]]
        implied = questions.templates[template]
        if implied.get("scene", "any") not in ("any", "product" if run.pictures.product else "outfit"):
            continue
        kinds = [next(k for k in KINDS if k in implied["slots"][name]) for name in implied["stored"]]
        for member in members(questions, s) if "member" in rule["slots"].values() else [answer]:
            slots = tuple({**mine, "member": member}[rule["slots"][name]] for name in implied["stored"])
            if [kind for kind, _ in slots] == kinds:
                yield Follows((t["id"], number), template, slots, reply)


def members(questions: Questions, s: Sample) -> list[Id]:
    """The values of an answer that lists several, in the order of the vocabulary."""
    keys = questions.members[s.answer] or {questions.ids[s.answer][1]}
    return [said for said in questions.ids.values() if said[0] == "value" and said[1] in keys]


def speakable(questions: Questions, words: Words, f: Follows) -> bool:
    """Whether its categories may be named: not groupings that nobody names, the root only where it is asked about."""
    t = questions.templates[f.template]
    for name, (kind, key) in zip(t["stored"], f.slots, strict=True):
        if kind == "category" and key == words.root and "root" not in t.get("levels", ["leaf"]):
            return False
        if kind == "category" and key != words.root and words.categories[key].get("spoken") is False:
            return False
        texts = " ".join(text["text"] if isinstance(text, dict) else text for text in t["text"])
        before = {n for place in re.findall(r"{\w+ ([\w ]*)\b" + name + r"\b", texts) for n in place.split()}
        said = [one for n, one in zip(t["stored"], f.slots, strict=True) if n in before and one[0] == "value"]
        if kind == "category" and any(misnames(words, value, key) for value in said):
            return False
    return True


def misnames(words: Words, value: Id, category: str) -> bool:
    """Whether the end of the adjective and the noun name a category, or the noun says the adjective anyway."""
    attribute, key = value[1].split("/", 1)
    spec = words.attributes[attribute]["values"][key]
    plain = spec.get("name") or key.replace("_", " ")
    adjective = spec.get("adj", plain if words.attributes[attribute].get("verb", "be") == "be" else None)
    if adjective is None:
        return False
    noun = (words.categories[category].get("name") or category).replace("_", " ").replace("-", " ").split()
    names = {n for k, c in words.categories.items() for n in (k, c.get("name", k), *c.get("synonyms", ()))}
    spoken = {str(n).replace("_", " ").replace("-", " ") for n in names}
    front = adjective.replace("-", " ").split()
    return noun[: len(front)] == front or any(" ".join(front[i:] + noun) in spoken for i in range(len(front)))


def settled(run: Interpreter, questions: Questions, f: Follows, image: str) -> Id | None:
    """What the program of the implied template says; None where the tables do not settle it."""
    t = questions.templates[f.template]
    slots = dict(zip(t["stored"], f.slots, strict=True))
    for name, spec in t["slots"].items():
        if "of" in spec:
            slots.setdefault(spec["of"], ("attribute", slots[name][1].split("/")[0]))
    answer: Id | None = run.answer(questions.programs[f.template], slots, image)
    return answer
