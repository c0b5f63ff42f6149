"""English for ids: noun phrases, articles, agreement and clauses, built from features and never by pasting strings.

A paraphrase holds places such as `{the v cat}`; each is a function of this module applied to slots:

    {the v cat}  the striped shirt · the jeans        {ask cat v}      is the shirt striped · do the jeans have a zip
    {a v cat}    an olive coat · a pair of jeans      {say cat v}      the shirt has long sleeves
    {none cat}   no ... shirt · without ... jeans
    {many cat}   shirts · pairs of jeans              {ask_not cat v}  is the shirt not striped
    {is cat} {does cat} {has cat}   agreement         {say_not cat v}  the shirt is not striped
    {name x}     the bare name of anything            {query cat attr} what colour are the jeans
    {worn region} on the head                         {ask_and|ask_or|say_and|say_or cat v v2}
    {options v v2} black or white                     {say_v v} is striped · has long sleeves
    {look} in any place of a noun: the picture as a whole

Words before the last noun of `the` and `a` are values; adjectives stand in the order their attributes state.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from fashionkit.catalog.ontology import Category, Value
from fashionkit.datagen.vocab import LOOK, Vocab

AN_SOUND = re.compile(r"(?:[aeiou]|hour|honest|heir)", re.IGNORECASE)
A_SOUND = re.compile(r"(?:uni|use|usu|eu|ewe|one\b|once|u\b|ut[ei])", re.IGNORECASE)

# place → kinds its arguments may have; a leading "*value" takes any number of values.
PLACES: dict[str, tuple[str, ...]] = {
    "the": ("*value", "noun"),
    "a": ("*value", "noun"),
    "many": ("*value", "noun"),
    "none": ("*value", "noun"),
    "is": ("noun",),
    "does": ("noun",),
    "has": ("noun",),
    "name": ("any",),
    "names": ("attribute",),
    "worn": ("region",),
    "options": ("thing", "thing"),
    "options_a": ("category", "category"),
    "ask": ("*value", "noun", "value"),
    "say": ("*value", "noun", "value"),
    "ask_not": ("*value", "noun", "value"),
    "say_not": ("*value", "noun", "value"),
    "ask_and": ("noun", "value", "value"),
    "ask_or": ("noun", "value", "value"),
    "say_and": ("noun", "value", "value"),
    "say_or": ("noun", "value", "value"),
    "say_v": ("value",),
    "query": ("*value", "noun", "attribute"),
}


class Grammar:
    """Says ids of one vocabulary in English.

    Args:
        vocab: The ids.
        root: Id of the root category.
        noun: What the root is called ("item", or a product catalogue's "product").
        look: What the picture as a whole is called ("outfit" or the product's noun).
    """

    def __init__(self, vocab: Vocab, root: int, noun: str = "item", look: str = "outfit"):
        self.vocab, self.root, self.noun, self.look_noun = vocab, root, noun, look
        self.places: dict[str, Callable[..., str]] = {name: getattr(self, f"_{name}") for name in PLACES}

    def say(self, place: str, ids: tuple[int, ...]) -> str:
        """The words of one place for these ids."""
        return self.places[place](*ids)

    def category(self, number: int) -> Category:
        """Features of a category id; the root and the look take the catalogue's noun."""
        if number == LOOK:
            return Category("look", name=self.look_noun, plural=self.look_noun + "s")
        category = self.vocab.ontology.categories[self.vocab.key[number]]
        if number == self.root and self.noun != category.name:
            return Category(category.key, name=self.noun, plural=self.noun + "s")
        return category

    def value(self, number: int) -> Value:
        """Features of a value id."""
        attribute, key = self.vocab.key[number].split("/", 1)
        return self.vocab.ontology.attributes[attribute].values[key]

    def _order(self, number: int) -> int:
        return self.vocab.ontology.attributes[self.vocab.attribute_of(number)].order

    def _verb(self, number: int) -> str:
        return self.vocab.ontology.attributes[self.vocab.attribute_of(number)].verb

    def _modified(self, noun: str, values: tuple[int, ...]) -> str:
        """The noun with its adjectives in order before it and its other modifiers behind it."""
        before, behind = [], []
        for number in sorted(values, key=lambda v: (self._order(v), v)):
            value = self.value(number)
            if value.adj is not None:
                if not set(value.adj.split()) <= set(noun.split()):  # no "casual casual shoes"
                    before.append(value.adj)
            else:
                behind.append(value.post or f"that {'is' if self._verb(number) == 'be' else 'has'} {value.pred}")
        return " ".join([*before, noun, " and ".join(behind)]).strip()

    def _the(self, *ids: int) -> str:
        *values, noun = ids
        if noun == LOOK:
            return "this " + self._modified(self.look_noun, tuple(values))
        return "the " + self._modified(self.category(noun).name, tuple(values))

    def _a(self, *ids: int) -> str:
        *values, noun = ids
        category = self.category(noun)
        if category.unit:
            unit, _, rest = category.unit.partition(" of ")
            phrase = f"{unit} of {self._modified(rest or category.name, tuple(values))}"
            return f"{article(unit)} {phrase}"
        phrase = self._modified(category.name, tuple(values))
        forced = category.an if phrase.startswith(category.name) else None
        return f"{article(phrase, forced)} {phrase}"

    def _many(self, *ids: int) -> str:
        *values, noun = ids
        category = self.category(noun)
        if category.unit:
            units, _, rest = category.unit_plural.partition(" of ")
            return f"{units} of {self._modified(rest or category.name, tuple(values))}"
        return self._modified(category.plural, tuple(values))

    def _none(self, *ids: int) -> str:
        """What follows "no" or "without": a bare noun, singular, or plural where it has no other form."""
        *values, noun = ids
        return self._modified(self.category(noun).name, tuple(values))

    def _plural(self, noun: int) -> bool:
        return self.category(noun).pair

    def _is(self, noun: int) -> str:
        return "are" if self._plural(noun) else "is"

    def _does(self, noun: int) -> str:
        return "do" if self._plural(noun) else "does"

    def _has(self, noun: int) -> str:
        return "have" if self._plural(noun) else "has"

    def _name(self, number: int) -> str:
        if number == LOOK or self.vocab.kind[number] == "category":
            return self.category(number).name
        return self.vocab.text[number]

    def _names(self, attribute: int) -> str:
        return self.vocab.ontology.attributes[self.vocab.key[attribute]].plural

    def _worn(self, region: int) -> str:
        return self.vocab.ontology.regions[self.vocab.key[region]].phrase

    def _predicate(self, value: int) -> str:
        return self.value(value).pred

    def _options(self, one: int, two: int) -> str:
        have = [self.vocab.kind[v] == "value" and self._verb(v) == "have" for v in (one, two)]
        words = [self._predicate(v) if h else self._name(v) for v, h in zip((one, two), have, strict=True)]
        return f"{words[0]} or {words[1]}"

    def _options_a(self, one: int, two: int) -> str:
        return f"{self._a(one)} or {self._a(two)}"

    def _ask(self, *ids: int) -> str:
        *subject, value = ids
        noun = subject[-1]
        if self._verb(value) == "have":
            return f"{self._does(noun)} {self._the(*subject)} have {self._predicate(value)}"
        return f"{self._is(noun)} {self._the(*subject)} {self._predicate(value)}"

    def _say(self, *ids: int) -> str:
        *subject, value = ids
        verb = self._has(subject[-1]) if self._verb(value) == "have" else self._is(subject[-1])
        return f"{self._the(*subject)} {verb} {self._predicate(value)}"

    def _ask_not(self, *ids: int) -> str:
        *subject, value = ids
        noun = subject[-1]
        if self._verb(value) == "have":
            return f"{self._does(noun)} {self._the(*subject)} not have {self._predicate(value)}"
        return f"{self._is(noun)} {self._the(*subject)} not {self._predicate(value)}"

    def _say_not(self, *ids: int) -> str:
        *subject, value = ids
        noun = subject[-1]
        if self._verb(value) == "have":
            return f"{self._the(*subject)} {self._does(noun)} not have {self._predicate(value)}"
        return f"{self._the(*subject)} {self._is(noun)} not {self._predicate(value)}"

    def _say_v(self, value: int) -> str:
        return f"{'has' if self._verb(value) == 'have' else 'is'} {self._predicate(value)}"

    def _rest(self, one: int, two: int) -> str:
        """The second predicate without a beginning it shares with the first: sold for women or for men."""
        first, second = self._predicate(one).split(), self._predicate(two).split()
        shared = 0
        while shared < min(len(first), len(second)) - 1 and first[shared] == second[shared]:
            shared += 1
        return " ".join(second[max(shared - 1, 0) :])

    def _ask_both(self, noun: int, one: int, two: int, word: str) -> str:
        if self._verb(one) == self._verb(two):
            return f"{self._ask(noun, one)} {word} {self._rest(one, two)}"
        pronoun = "they" if self._plural(noun) else "it"
        if self._verb(two) == "have":
            return f"{self._ask(noun, one)} {word} {self._does(noun)} {pronoun} have {self._predicate(two)}"
        return f"{self._ask(noun, one)} {word} {self._is(noun)} {pronoun} {self._predicate(two)}"

    def _say_both(self, noun: int, one: int, two: int, word: str) -> str:
        if self._verb(one) == self._verb(two):
            return f"{self._say(noun, one)} {word} {self._rest(one, two)}"
        verb = self._has(noun) if self._verb(two) == "have" else self._is(noun)
        return f"{self._say(noun, one)} {word} {verb} {self._predicate(two)}"

    def _ask_and(self, noun: int, one: int, two: int) -> str:
        return self._ask_both(noun, one, two, "and")

    def _ask_or(self, noun: int, one: int, two: int) -> str:
        return self._ask_both(noun, one, two, "or")

    def _say_and(self, noun: int, one: int, two: int) -> str:
        return self._say_both(noun, one, two, "and")

    def _say_or(self, noun: int, one: int, two: int) -> str:
        return self._say_both(noun, one, two, "or")

    def _query(self, *ids: int) -> str:
        *subject, number = ids
        noun = subject[-1]
        attribute = self.vocab.ontology.attributes[self.vocab.key[number]]
        words = {
            "{is}": self._is(noun),
            "{does}": self._does(noun),
            "{has}": self._has(noun),
            "{the}": self._the(*subject),
        }
        if attribute.ask:
            text = attribute.ask[0]
            for mark, word in words.items():
                text = text.replace(mark, word)
            return text
        if attribute.verb == "have":
            return f"what {attribute.name} {words['{does}']} {words['{the}']} have"
        return f"what {attribute.name} {words['{is}']} {words['{the}']}"  # other texts ask for "the ... of"


def article(phrase: str, an: bool | None = None) -> str:
    """`a` or `an` by the sound the phrase starts with; `an` overrides."""
    if an is None:
        an = bool(AN_SOUND.match(phrase)) and not A_SOUND.match(phrase)
    return "an" if an else "a"
