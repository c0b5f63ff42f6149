"""English from features: articles, agreement, adjective order, clauses; then every word of the shipped ontology."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from fashionkit import recipes
from fashionkit.catalog.ontology import Ontology
from fashionkit.datagen.grammar import PLACES, Grammar, article
from fashionkit.datagen.packs import Place, Template, load_packs
from fashionkit.datagen.render import Renderer
from fashionkit.datagen.samples import SLOTS
from fashionkit.datagen.vocab import LOOK, Vocab

ONTOLOGY = """
schema: fashionkit.ontology/1
name: words
regions:
  top: {name: upper body}
  hand: {phrase: in the hand}
categories:
  item: {}
  shirt: {parent: item}
  umbrella: {parent: item}
  uniform: {parent: item}
  heirloom: {parent: item, an: true}
  herb_bag: {parent: item, name: herb bag, an: true}
  jeans: {parent: item, pair: true}
  overalls: {parent: item, pair: true, unit: outfit of overalls}
  swimwear: {parent: item, mass: true}
  equipment: {parent: item, mass: true, unit: item of equipment, unit_plural: items of equipment}
  casual_shoes: {parent: item, name: casual shoes, pair: true}
  party: {parent: item, name: party dress}
attributes:
  size: {order: 10, values: {small: {}, oversized: {}}}
  colour:
    order: 30
    ask: what colour {is} {the}
    values: {red: {}, olive: {name: olive green}, navy: {adj: null, pred: navy in tone, with: in navy}}
  use: {order: 50, values: {casual: {}, formal: {}}}
  pattern: {order: 40, values: {striped: {}}}
  sleeves:
    name: sleeve length
    verb: have
    order: 20
    ask: what sleeves {does} {the} have
    values: {long: {name: long sleeves}, short: {name: short sleeves, adj: short-sleeved}}
  detail:
    verb: have
    order: 60
    values: {bow: {pred: a bow}, zip: {pred: a zip, with: that closes with a zip}}
  mood: {scope: image, values: {casual: {}, formal: {}}}
"""

Say = Callable[[str], str]


@pytest.fixture(scope="module")
def grammar(tmp_path_factory: pytest.TempPathFactory) -> Grammar:
    path = tmp_path_factory.mktemp("words") / "words.yaml"
    path.write_text(ONTOLOGY)
    vocab = Vocab(Ontology.load(path))
    return Grammar(vocab, vocab.category["item"], noun="product", look="outfit")


@pytest.fixture
def say(grammar: Grammar) -> Say:
    """`say("the red shirt")`: a place with the keys of its ids."""
    vocab = grammar.vocab
    known = {"look": LOOK, "root": grammar.root, **vocab.region, **vocab.category}
    known |= {f"attr:{key}": number for key, number in vocab.attribute.items()}
    known |= {value: number for (attribute, value), number in vocab.value.items() if attribute != "mood"}

    def words(place: str) -> str:
        name, *keys = place.split()
        return grammar.say(name, tuple(known[key] for key in keys))

    return words


@pytest.mark.parametrize(
    ("phrase", "wanted"),
    [
        ("shirt", "a"),
        ("umbrella", "an"),
        ("uniform", "a"),
        ("unitard", "a"),
        ("utility vest", "a"),
        ("undershirt", "an"),
        ("ushanka", "an"),
        ("used coat", "a"),
        ("U-shaped neckline", "a"),
        ("u-neck", "a"),
        ("hourglass coat", "an"),
        ("heirloom", "an"),
        ("honest coat", "an"),
        ("hat", "a"),
        ("European coat", "a"),
        ("one-piece", "a"),
        ("once-worn coat", "a"),
        ("orange coat", "an"),
        ("olive coat", "an"),
        ("A-line skirt", "an"),
        ("ikat shirt", "an"),
        ("Oxford shoe", "an"),
        ("ushered bag", "an"),
    ],
)
def test_articles_follow_the_sound(phrase: str, wanted: str) -> None:
    assert article(phrase) == wanted


def test_an_article_may_be_forced() -> None:
    assert article("one-off", True) == "an" and article("umbrella", False) == "a"


@pytest.mark.parametrize(
    ("place", "wanted"),
    [
        ("a shirt", "a shirt"),
        ("a umbrella", "an umbrella"),
        ("a uniform", "a uniform"),
        ("a red umbrella", "a red umbrella"),
        ("a olive shirt", "an olive green shirt"),
        ("a herb_bag", "an herb bag"),
        ("a red herb_bag", "a red herb bag"),  # the forced article belongs to the noun alone
        ("a olive herb_bag", "an olive green herb bag"),
        ("a long herb_bag", "an herb bag with long sleeves"),
        ("a jeans", "a pair of jeans"),
        ("a olive jeans", "a pair of olive green jeans"),
        ("a overalls", "an outfit of overalls"),
        ("a swimwear", "a piece of swimwear"),
        ("a red swimwear", "a piece of red swimwear"),
        ("a equipment", "an item of equipment"),
        ("the shirt", "the shirt"),
        ("the jeans", "the jeans"),
        ("the swimwear", "the swimwear"),
        ("the look", "this outfit"),
        ("a look", "an outfit"),
        ("the root", "the product"),
        ("a red root", "a red product"),
        ("many root", "products"),
        ("many shirt", "shirts"),
        ("many party", "party dresses"),
        ("many jeans", "pairs of jeans"),
        ("many red jeans", "pairs of red jeans"),
        ("many swimwear", "pieces of swimwear"),
        ("many equipment", "items of equipment"),
        ("none shirt", "shirt"),
        ("none red jeans", "red jeans"),
        ("none swimwear", "swimwear"),
        ("name jeans", "jeans"),
        ("name look", "outfit"),
        ("name root", "product"),
        ("name attr:sleeves", "sleeve length"),
        ("names attr:detail", "details"),
        ("name top", "upper body"),
        ("worn top", "on the upper body"),
        ("worn hand", "in the hand"),
        ("is shirt", "is"),
        ("is jeans", "are"),
        ("is swimwear", "is"),
        ("does shirt", "does"),
        ("does jeans", "do"),
        ("has shirt", "has"),
        ("has jeans", "have"),
        ("is look", "is"),
    ],
)
def test_nouns(say: Say, place: str, wanted: str) -> None:
    assert say(place) == wanted


@pytest.mark.parametrize(
    ("place", "wanted"),
    [
        ("the striped red shirt", "the red striped shirt"),
        ("the red striped shirt", "the red striped shirt"),
        ("the casual striped red small shirt", "the small red striped casual shirt"),
        ("a oversized red shirt", "an oversized red shirt"),
        ("the short red shirt", "the short-sleeved red shirt"),
        ("the long red shirt", "the red shirt with long sleeves"),
        ("the long zip red shirt", "the red shirt with long sleeves and that closes with a zip"),
        ("the navy shirt", "the shirt in navy"),
        ("the casual casual_shoes", "the casual shoes"),
        ("the red casual casual_shoes", "the red casual shoes"),
        ("a casual casual_shoes", "a pair of casual shoes"),
        ("the formal casual_shoes", "the formal casual shoes"),
    ],
)
def test_adjectives_stand_in_order_and_never_repeat_the_noun(say: Say, place: str, wanted: str) -> None:
    assert say(place) == wanted


@pytest.mark.parametrize(
    ("place", "wanted"),
    [
        ("ask shirt striped", "is the shirt striped"),
        ("ask jeans striped", "are the jeans striped"),
        ("ask jeans bow", "do the jeans have a bow"),
        ("ask shirt bow", "does the shirt have a bow"),
        ("ask red shirt bow", "does the red shirt have a bow"),
        ("ask look casual", "is this outfit casual"),
        ("say shirt long", "the shirt has long sleeves"),
        ("say jeans zip", "the jeans have a zip"),
        ("say red jeans striped", "the red jeans are striped"),
        ("ask_not shirt striped", "is the shirt not striped"),
        ("ask_not jeans bow", "do the jeans not have a bow"),
        ("say_not shirt striped", "the shirt is not striped"),
        ("say_not jeans zip", "the jeans do not have a zip"),
        ("say_not red shirt long", "the red shirt does not have long sleeves"),
        ("ask_and shirt red striped", "is the shirt red and striped"),
        ("ask_and shirt long bow", "does the shirt have long sleeves and a bow"),
        ("ask_and shirt red bow", "is the shirt red and does it have a bow"),
        ("ask_and shirt bow red", "does the shirt have a bow and is it red"),
        ("ask_and jeans red bow", "are the jeans red and do they have a bow"),
        ("ask_and jeans bow red", "do the jeans have a bow and are they red"),
        ("ask_or jeans red striped", "are the jeans red or striped"),
        ("say_and shirt bow red", "the shirt has a bow and is red"),
        ("say_and jeans red bow", "the jeans are red and have a bow"),
        ("say_or jeans bow red", "the jeans have a bow or are red"),
        ("say_or shirt long bow", "the shirt has long sleeves or a bow"),
        ("say_v striped", "is striped"),
        ("say_v bow", "has a bow"),
        ("options red olive", "red or olive green"),
        ("options long short", "long sleeves or short sleeves"),
        ("options bow zip", "a bow or a zip"),
        ("options top hand", "upper body or hand"),
        ("options_a umbrella jeans", "an umbrella or a pair of jeans"),
        ("query shirt attr:colour", "what colour is the shirt"),
        ("query jeans attr:colour", "what colour are the jeans"),
        ("query red jeans attr:sleeves", "what sleeves do the red jeans have"),
        ("query jeans attr:detail", "what detail do the jeans have"),
        ("query shirt attr:pattern", "what pattern is the shirt"),
        ("query look attr:mood", "what mood is this outfit"),
        ("query root attr:pattern", "what pattern is the product"),
    ],
)
def test_clauses(say: Say, place: str, wanted: str) -> None:
    assert say(place) == wanted


def test_every_place_has_a_form_and_every_form_a_test() -> None:
    here = Path(__file__).read_text()
    for name in PLACES:
        assert callable(getattr(Grammar, f"_{name}"))
        assert f'("{name} ' in here, f"no test says {{{name} ...}}"


# The shipped words.

ODD = re.compile(r"  |[{}<>]|None|\bnan\b|^\s|\s$|\s[,.?]|\?\?|_", re.IGNORECASE)
VOWEL = re.compile(r"\ba (?=[aeio])(?!(?:one|once|eu|ewe)\w*)\w+", re.IGNORECASE)
CONSONANT = re.compile(r"\ban (?=[bcdfgjklmnpqrstvwxyz])\w+", re.IGNORECASE)
REPEATED = re.compile(r"\b(?:an? an?|the the|an? the|the an?)\b(?!-)", re.IGNORECASE)  # but "an A-line"
DOUBLED = re.compile(r"(?<![\w-])([a-z]{3,}) \1(?![\w-])", re.IGNORECASE)  # but "open-top top"


def faults(text: str, is_noun: bool = True) -> list[str]:
    """What is plainly wrong with a phrase; "is the sports jersey jersey" is odd, but no fault of the grammar."""
    patterns = {"odd": ODD, "a before a vowel": VOWEL, "an before a consonant": CONSONANT, "repeated": REPEATED}
    if is_noun:
        patterns["doubled word"] = DOUBLED
    return [f"{problem}: {m[0]!r}" for problem, pattern in patterns.items() if (m := pattern.search(text))]


def test_the_fault_finder_finds_faults() -> None:
    wrong = [
        "a  shirt",
        "{a cat}",
        "None",
        "a a shirt",
        "an shirt",
        "a umbrella a orange",
        "the the hat",
        "casual casual shoes",
        "the an hat",
        "t_shirt",
    ]
    assert [text for text in wrong if not faults(text)] == []
    right = [
        "a uniform",
        "an umbrella",
        "a one-piece",
        "an hour-like coat",
        "a pair of jeans",
        "a European coat",
        "a t-shirt",
        "an A-line skirt",
        "a U-shaped neckline",
    ]
    assert [(text, faults(text)) for text in right if faults(text)] == []


@cache
def shipped(noun: str = "item", look: str = "outfit") -> Grammar:
    vocab = Vocab(Ontology.load(recipes.find("datagen/ontologies", "fashion")))
    return Grammar(vocab, vocab.category["item"], noun, look)


def test_every_category_is_said_well() -> None:
    grammar = shipped()
    bad = []
    for key, number in grammar.vocab.category.items():
        texts = [grammar.say(place, (number,)) for place in ("a", "the", "many", "name")]
        texts += [grammar.say("options_a", (number, number))[: len(texts[0])]]
        bad += [(key, text, found) for text in texts if (found := faults(text))]
        assert grammar.say("is", (number,)) == ("are" if grammar.vocab.ontology.categories[key].pair else "is")
    assert bad == []


def test_every_value_is_said_well_of_every_kind_of_category() -> None:
    grammar, rng = shipped(), np.random.default_rng(0)
    vocab, onto = grammar.vocab, grammar.vocab.ontology
    bad, count = [], 0
    for attribute in onto.attributes.values():
        if attribute.scope == "image" or not attribute.visible:
            continue
        able = [n for key, n in vocab.category.items() if onto.applies(attribute.key, key)]
        for key in attribute.values:
            value, number = vocab.value[attribute.key, key], vocab.attribute[attribute.key]
            for category in rng.choice(able, min(len(able), 12), replace=False).tolist():
                ids = {
                    "a": (value, category),
                    "the": (value, category),
                    "ask": (category, value),
                    "say": (category, value),
                }
                ids |= {
                    "ask_not": (category, value),
                    "say_not": (category, value),
                    "query": (category, number),
                    "say_v": (value,),
                }
                for place, words in ids.items():
                    text = grammar.say(place, words)
                    count += 1
                    if found := faults(text, place in ("a", "the")):
                        bad.append((place, vocab.key[category], vocab.key[value], text, found))
    assert count > 10_000
    assert bad == []


def test_every_category_takes_values_well() -> None:
    grammar, rng = shipped(), np.random.default_rng(1)
    vocab, onto = grammar.vocab, grammar.vocab.ontology
    bad = []
    for key, category in vocab.category.items():
        values = [n for (a, _), n in vocab.value.items() if onto.attributes[a].scope == "item" and onto.applies(a, key)]
        for one, two in rng.choice(values, (8, 2)).tolist():
            if vocab.attribute_of(one) == vocab.attribute_of(two):
                continue
            for place in ("ask_and", "say_and", "ask_or", "say_or"):
                bad += [
                    (key, text, found)
                    for text in [grammar.say(place, (category, one, two))]
                    if (found := faults(text, False))
                ]
            bad += [(key, text, found) for text in [grammar.say("a", (one, two, category))] if (found := faults(text))]
    assert bad == []


TEMPLATES = load_packs([recipes.find("datagen/packs", "core")]).templates


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda t: t.id)
def test_every_template_reads_as_a_sentence(template: Template) -> None:
    """Any ids of the right kinds give a text that starts large, ends with ? or . and holds no trace of its making."""
    grammar = shipped("product", "product") if template.scene == "product" else shipped()
    vocab, onto = grammar.vocab, grammar.vocab.ontology
    rng = np.random.default_rng(5)
    pack = load_packs([recipes.find("datagen/packs", "core")])
    names = [[x.name for x in t.stored_slots] for t in pack.templates]
    renderer, at = Renderer(pack, grammar, names), pack.index(template.id)
    scope = "image" if template.anchor == "image" else "item"
    attributes = [a.key for a in onto.attributes.values() if a.visible and a.scope == scope]
    values = {a: [n for (b, _), n in vocab.value.items() if a == b] for a in attributes}
    spoken = [n for key, n in vocab.category.items() if onto.categories[key].spoken]
    rows = []
    for paraphrase in range(len(template.paraphrases)):
        for _ in range(25):
            chosen = dict(
                zip(
                    (s.name for s in template.attribute_slots),
                    rng.choice(attributes, len(template.attribute_slots), replace=False),
                    strict=True,
                )
            )
            pools = {
                s.name: spoken
                if s.kind == "category"
                else list(vocab.region.values())
                if s.kind == "region"
                else [vocab.attribute[chosen[s.name]]]
                if s.kind == "attribute"
                else values[chosen[str(s.of)]]
                for s in template.slots
            }
            rows.append((paraphrase, [int(rng.choice(pools[name])) for name in names[at]]))
    columns = [np.array([ids[i] if i < len(ids) else 0 for _, ids in rows], np.uint16) for i in range(SLOTS)]
    texts = renderer.questions(np.full(len(rows), at), np.array([p for p, _ in rows]), columns).to_pylist()
    for (paraphrase, ids), text in zip(rows, texts, strict=True):
        assert text[0].isupper() and text[-1] in "?." and not re.search(r"  |[{}<>_]|None|[a-z][A-Z][a-z]", text), text
        for part in template.paraphrases[paraphrase].parts:
            if (
                isinstance(part, Place)
                and len(part.slots) == 1
                and part.function == "name"
                and part.slots[0] in names[at]
            ):
                assert grammar.say("name", (ids[names[at].index(part.slots[0])],)).lower() in text.lower()
