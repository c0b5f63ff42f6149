"""What programs mean (docs/programs.md), on pictures small enough to answer in one's head.

The catalogue is closed for footwear and hats only, so that both kinds of world are seen side by side.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from fashionkit.datagen.expression import parse
from fashionkit.datagen.program import FALSE, OPEN, TRUE, Batch, Runner, degenerate
from fashionkit.datagen.scene import MAX_ITEMS, Scenes, load_scenes
from fashionkit.datagen.vocab import MAX_INT
from tests.datagen.conftest import HIDDEN, MISSING, Item, Picture, make_catalog
from tests.datagen.conftest import OPEN as UNSAID

PICTURES = {
    "plain": [Item("shirt", {"colour": "navy", "pattern": "printed", "details": ["bow", "logo"]})],
    "listed": [Item("shirt", {"details": ["bow"]}, complete=False)],
    "hidden": [Item("shirt", {"colour": HIDDEN, "sleeves": HIDDEN, "pattern": UNSAID})],
    "none": [Item("shirt", {"details": MISSING, "pattern": MISSING})],
    "unstated": [Item("shirt", {})],
    "clash": [Item("shirt", {"colour": ["red", "black"]})],
    "line": [Item("shirt", {"colour": ["blue", "navy"]})],
    "shod": [Item("boots", {"colour": "black"}), Item("hat", {"colour": "red"}), Item("shirt", {"colour": "red"})],
    "two_hats": [Item("hat", {"colour": "red"}), Item("hat", {"colour": "blue"}), Item("bag", {})],
    "hats_half": [Item("hat", {"colour": "red"}), Item("hat", {}), Item("shoes", {"colour": "navy"})],
    "blouse": [Item("blouse", {"colour": "red"}), Item("skirt", {"colour": "red"})],
    "bare": [],
    "same": [Item("hat", {"colour": "navy"}), Item("shoes", {"colour": "blue"}), Item("bag", {"colour": "black"})],
    "crowd": [Item("hat", {"colour": "red"}) for _ in range(MAX_ITEMS)],
    "too_many": [Item("hat", {"colour": "red"}) for _ in range(MAX_ITEMS + 1)],
    "words": [  # uses what no other picture does, for a program names only what the catalogue has
        Item("uniform", {"sleeves": "long", "pattern": "pinstriped", "details": ["zip"], "colour": "orange"}),
        Item("coat", {"pattern": "plain"}),
        Item("anorak", {"pattern": "dotted"}),
    ],
    "hats_hidden": [Item("hat", {"colour": "red"}), Item("hat", {"colour": HIDDEN}), Item("bag", {})],
    "legs": [Item("trousers", {"colour": "red"}), Item("jeans", {"colour": "blue"})],
    "patched": [Item("shirt", {"colour": "red", "pattern": "patched"}), Item("hat", {"colour": "blue"})],
    "lone_hat": [Item("hat", {"colour": "navy"})],
    "nowhere": [Item("umbrella", {"colour": "red"}, region="none"), Item("hat", {"colour": "red"})],
}
LABELS = {"plain": {"style": "formal"}, "listed": {"style": "casual"}}
Ask = Callable[..., str]


def scenes_of(folder: Path, scene: str, **facts: list[str]) -> Scenes:
    pictures = [Picture(name, items, labels=LABELS.get(name)) for name, items in PICTURES.items()]
    return load_scenes(make_catalog(folder, pictures, scene=scene, noun="product", **facts))


@pytest.fixture(scope="module")
def outfit(tmp_path_factory: pytest.TempPathFactory) -> Scenes:
    folder = tmp_path_factory.mktemp("scenes") / "outfit"
    return scenes_of(
        folder, "outfit", closed_categories=["footwear", "hat", "bottomwear"], countable=["hat", "footwear"]
    )


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Scenes:
    folder = tmp_path_factory.mktemp("scenes") / "shop"
    return scenes_of(folder, "product", sole_categories=["topwear"], alone_categories=["hat"])


def asker(scenes: Scenes) -> Ask:
    """`ask("plain", VERIFY, cat="shirt", v="colour/red")`: the answer's key, "" where it is not settled."""
    vocab = scenes.vocab
    ids = {("category", k): n for k, n in vocab.category.items()} | {("region", k): n for k, n in vocab.region.items()}
    ids |= {("value", f"{a}/{v}"): n for (a, v), n in vocab.value.items()}
    ids |= {("attribute", a): n for a, n in vocab.attribute.items()}

    def bind(image: str, program: str, said: dict[str, str]) -> tuple[Batch, object]:
        kinds = {name: next(k for k, key in ids if key == value) for name, value in said.items()}
        slots = {name: np.array([ids[kinds[name], value]], np.uint16) for name, value in said.items()}
        known = [*scenes.attributes, *scenes.labels]
        at = {
            n: (scenes.labels if v in scenes.labels else scenes.attributes).index(v)
            for n, v in said.items()
            if v in known
        }
        batch = Batch(np.array([scenes.image_ids.index(image)], np.int32), slots, at)
        return batch, parse(program, kinds)

    def ask(image: str, program: str, **said: str) -> str:
        batch, tree = bind(image, program, said)
        answer = int(Runner(scenes, batch).answer(tree)[0])
        return vocab.key[answer]

    ask.bind = bind
    return ask


@pytest.fixture
def ask(outfit: Scenes) -> Ask:
    return asker(outfit)


@pytest.fixture
def ask_shop(shop: Scenes) -> Ask:
    return asker(shop)


VERIFY = "verify(unique(filter(scene, cat)), v)"


# Three-valued logic.


def kleene_and(a: int, b: int) -> int:
    return FALSE if FALSE in (a, b) else TRUE if (a, b) == (TRUE, TRUE) else OPEN


def kleene_or(a: int, b: int) -> int:
    return TRUE if TRUE in (a, b) else FALSE if (a, b) == (FALSE, FALSE) else OPEN


def test_truth_tables(outfit: Scenes) -> None:
    one, two = np.array(list(product((FALSE, TRUE, OPEN), repeat=2)), np.int8).T
    runner = Runner(outfit, Batch(np.zeros(9, np.int32), {}))
    assert runner._and(one, two).tolist() == [kleene_and(a, b) for a, b in zip(one, two, strict=True)]
    assert runner._or(one, two).tolist() == [kleene_or(a, b) for a, b in zip(one, two, strict=True)]
    assert runner._not(np.array([FALSE, TRUE, OPEN])).tolist() == [TRUE, FALSE, OPEN]


TRUTHS = {"yes": "colour/navy", "no": "colour/red", "": "sleeves/long"}  # of the shirt in "plain"


@pytest.mark.parametrize(("left", "right"), list(product(TRUTHS, repeat=2)))
def test_connectives_of_real_clauses(ask: Ask, left: str, right: str) -> None:
    truth = {"yes": TRUE, "no": FALSE, "": OPEN}
    say = {TRUE: "yes", FALSE: "no", OPEN: ""}
    slots = {"cat": "shirt", "v": TRUTHS[left], "w": TRUTHS[right]}
    assert ask("plain", VERIFY, cat="shirt", v=TRUTHS[left]) == left
    parts = f"{VERIFY}, {VERIFY.replace('v)', 'w)')}"
    assert ask("plain", f"and({parts})", **slots) == say[kleene_and(truth[left], truth[right])]
    assert ask("plain", f"or({parts})", **slots) == say[kleene_or(truth[left], truth[right])]
    assert ask("plain", f"not({VERIFY})", cat="shirt", v=TRUTHS[left]) == {"yes": "no", "no": "yes", "": ""}[left]


@pytest.mark.parametrize(("left", "right"), list(product(TRUTHS, repeat=2)))
def test_which_needs_one_yes_and_one_no(ask: Ask, left: str, right: str) -> None:
    program = f"which({VERIFY}, v, {VERIFY.replace('v)', 'w)')}, w)"
    wanted = {("yes", "no"): TRUTHS[left], ("no", "yes"): TRUTHS[right]}.get((left, right), "")
    assert ask("plain", program, cat="shirt", v=TRUTHS[left], w=TRUTHS[right]) == wanted


# Unknown is not no.


@pytest.mark.parametrize(
    ("image", "value", "wanted"),
    [
        ("plain", "colour/navy", "yes"),
        ("plain", "colour/blue", "yes"),  # navy is a blue
        ("plain", "colour/red", "no"),
        ("plain", "colour/black", ""),  # an honest annotator could have said black
        ("plain", "pattern/printed", "yes"),
        ("plain", "pattern/striped", ""),  # printed stripes
        ("plain", "pattern/pinstriped", "no"),
        ("plain", "pattern/plain", "no"),
        ("plain", "details/bow", "yes"),
        ("plain", "details/logo", "yes"),
        ("plain", "details/zip", "no"),  # the list is complete
        ("listed", "details/bow", "yes"),
        ("listed", "details/zip", ""),  # the list may go on
        ("hidden", "colour/red", ""),
        ("hidden", "sleeves/long", ""),
        ("hidden", "pattern/plain", ""),
        ("unstated", "colour/red", ""),
        ("none", "details/bow", ""),  # absent is known, but `verify` asks of a stated value only
        ("none", "pattern/plain", ""),
        ("clash", "colour/red", ""),  # two colours that exclude each other are no knowledge
        ("clash", "colour/blue", ""),
        ("line", "colour/navy", "yes"),  # of one line of descent the lowest holds
        ("line", "colour/blue", "yes"),
        ("line", "colour/red", "no"),
    ],
)
def test_a_value_of_an_item(ask: Ask, image: str, value: str, wanted: str) -> None:
    assert ask(image, VERIFY, cat="shirt", v=value) == wanted
    assert ask(image, f"not({VERIFY})", cat="shirt", v=value) == {"yes": "no", "no": "yes"}.get(wanted, "")


@pytest.mark.parametrize("image", ["hidden", "unstated", "none", "clash"])
def test_what_is_not_stated_is_never_said(ask: Ask, image: str) -> None:
    for attribute in ("colour", "pattern", "sleeves"):
        assert ask(image, "query(unique(filter(scene, cat)), attr)", cat="shirt", attr=attribute) == ""


def test_absent_is_known_where_a_clause_needs_it(ask: Ask) -> None:
    program = "exist(filter(filter(scene, cat), v))"
    hat = {"cat": "hat", "v": "colour/blue"}
    assert ask("shod", program, **hat) == "no"  # the only hat is red, and hats are all listed
    assert ask("hats_half", program, **hat) == ""  # the colour of one hat is not stated
    assert ask("two_hats", program, **hat) == "yes"


def test_what_is_hidden_may_be_anything(ask: Ask) -> None:
    for image in ("hats_hidden", "hats_half"):
        assert ask(image, "exist(filter(filter(scene, cat), v))", cat="hat", v="colour/blue") == ""
        assert ask(image, "count(filter(filter(scene, cat), v))", cat="hat", v="colour/red") == ""
        assert ask(image, "category(unique(filter(filter(scene, cat), v)))", cat="hat", v="colour/red") == ""
        assert ask(image, "count(filter(scene, cat))", cat="hat") == "2"


def test_an_attribute_that_cannot_apply_is_no_and_one_that_can_is_open(ask: Ask) -> None:
    program = "count(filter(filter(scene, cat), v))"
    assert ask("shod", program, cat="hat", v="sleeves/long") == "0"  # hats have no sleeves
    assert ask("shod", program, cat="hat", v="details/bow") == ""  # they may have a bow
    assert ask("shod", program, cat="hat", v="colour/red") == "1"


# Worlds.


@pytest.mark.parametrize(
    ("image", "category", "wanted"),
    [
        ("shod", "boots", "yes"),
        ("shod", "footwear", "yes"),
        ("shod", "shoes", "no"),  # footwear is closed
        ("plain", "boots", "no"),
        ("plain", "shirt", "yes"),
        ("plain", "coat", ""),  # clothing is open
        ("plain", "blouse", ""),  # overlaps the shirt
        ("blouse", "shirt", ""),
        ("blouse", "topwear", "yes"),
        ("bare", "hat", "no"),
        ("bare", "bag", ""),
        ("bare", "accessory", ""),  # hats are closed, bags are not
        ("bare", "item", ""),
    ],
)
def test_existence(ask: Ask, image: str, category: str, wanted: str) -> None:
    assert ask(image, "exist(filter(scene, cat))", cat=category) == wanted


def test_a_picture_with_too_many_items_is_left_out_and_noted(outfit: Scenes, ask: Ask) -> None:
    assert outfit.notes[f"item of a picture with more than {MAX_ITEMS} items"] == MAX_ITEMS + 1


@pytest.mark.parametrize(
    ("image", "category", "wanted"),
    [
        ("shod", "hat", "1"),
        ("two_hats", "hat", "2"),
        ("bare", "hat", "0"),
        ("crowd", "hat", str(MAX_INT)),
        ("shod", "footwear", "1"),
        ("shod", "shirt", ""),  # neither closed nor countable
        ("two_hats", "bag", ""),
        ("shod", "item", ""),
    ],
)
def test_counts(ask: Ask, image: str, category: str, wanted: str) -> None:
    assert ask(image, "count(filter(scene, cat))", cat=category) == wanted


QUERY = "query(unique(filter(scene, cat)), attr)"


@pytest.mark.parametrize(
    ("image", "category", "wanted"),
    [
        ("shod", "hat", "colour/red"),
        ("shod", "footwear", "colour/black"),
        ("bare", "hat", "not_present"),  # closed: it is known that there is none
        ("plain", "footwear", "not_present"),
        ("bare", "bag", ""),  # open: nobody knows
        ("two_hats", "hat", ""),  # which one?
        ("plain", "shirt", "colour/navy"),
        ("plain", "topwear", ""),  # "the top" may be another one: clothing is open and its leaf is shirt
        ("blouse", "shirt", ""),
        ("blouse", "blouse", "colour/red"),
    ],
)
def test_the_one_item_that_is_meant(ask: Ask, image: str, category: str, wanted: str) -> None:
    assert ask(image, QUERY, cat=category, attr="colour") == wanted


def test_a_value_can_pick_the_item(ask: Ask) -> None:
    program = "category(unique(filter(filter(scene, cat), v)))"
    assert ask("two_hats", program, cat="hat", v="colour/red") == "hat"
    assert ask("two_hats", program, cat="hat", v="colour/orange") == "not_present"
    assert ask("hats_half", program, cat="hat", v="colour/red") == ""  # the other hat may be red, too
    assert ask("shod", program, cat="footwear", v="colour/black") == "boots"


def test_a_second_item_that_may_be_meant_makes_it_unsettled(ask: Ask) -> None:
    program = "same(unique(filter(scene, cat)), unique(filter(scene, cat2)), attr)"
    assert ask("same", program, cat="hat", cat2="shoes", attr="colour") == ""  # navy and blue: the same, or not
    assert ask("shod", program, cat="hat", cat2="boots", attr="colour") == "no"
    assert ask("shod", program, cat="hat", cat2="footwear", attr="colour") == "no"
    assert ask("shod", program, cat="hat", cat2="hat", attr="colour") == ""  # one item is not two
    assert ask("two_hats", program, cat="hat", cat2="bag", attr="colour") == ""
    assert ask("blouse", program, cat="blouse", cat2="skirt", attr="colour") == "yes"
    assert ask("hats_half", program, cat="shoes", cat2="hat", attr="colour") == ""


def test_regions(ask: Ask) -> None:
    assert ask("shod", "region(unique(filter(scene, cat)))", cat="hat") == "head"
    assert ask("bare", "region(unique(filter(scene, cat)))", cat="hat") == "not_present"
    assert ask("shod", "category(unique(filter(scene, r)))", r="feet") == "boots"
    assert ask("nowhere", "region(unique(filter(scene, cat)))", cat="hat") == "head"
    assert ask("shod", "category(unique(filter(scene, r)))", r="top") == ""  # the region is open
    assert ask("nowhere", "region(unique(filter(scene, cat)))", cat="umbrella") == ""  # worn nowhere is no answer


def test_a_kind_that_has_kinds_of_its_own_is_no_answer(ask: Ask) -> None:
    """What is labelled trousers may well be jeans, so "trousers" is no settled answer; jeans are."""
    program = "category(unique(filter(filter(scene, cat), v)))"
    assert ask("legs", program, cat="bottomwear", v="colour/blue") == "jeans"
    assert ask("legs", program, cat="bottomwear", v="colour/red") == ""


def test_the_colour_of_a_patched_thing_excludes_no_other(ask: Ask) -> None:
    assert ask("patched", VERIFY, cat="shirt", v="colour/red") == "yes"
    assert ask("patched", VERIFY, cat="shirt", v="colour/blue") == ""
    assert ask("shod", VERIFY, cat="shirt", v="colour/blue") == "no"
    same = "same(unique(filter(scene, cat)), unique(filter(scene, cat2)), attr)"
    assert ask("patched", same, cat="shirt", cat2="hat", attr="colour") == ""
    assert ask("shod", same, cat="shirt", cat2="boots", attr="colour") == "no"


def test_lists_need_complete_rows(ask: Ask) -> None:
    program = "list(unique(filter(scene, cat)), attr)"
    assert ask("plain", program, cat="shirt", attr="details") == "details/bow+logo"
    assert ask("listed", program, cat="shirt", attr="details") == ""
    assert ask("none", program, cat="shirt", attr="details") == ""


def test_labels(ask: Ask) -> None:
    assert ask("plain", "label(attr)", attr="style") == "style/formal"
    assert ask("bare", "label(attr)", attr="style") == ""
    answers = {v: ask("plain", "label_is(v)", v=f"style/{v}") for v in ("formal", "casual", "elegant", "sporty")}
    assert answers == {"formal": "yes", "casual": "no", "elegant": "", "sporty": "no"}
    assert ask("bare", "label_is(v)", v="style/casual") == ""


def test_what_a_picture_cannot_show_is_not_even_loaded(outfit: Scenes) -> None:
    assert "price" not in outfit.attributes and outfit.labels == ["style"]


# Products: one a picture, other things in it are not labelled.


@pytest.mark.parametrize(
    ("image", "category", "wanted"),
    [
        ("plain", "item", "colour/navy"),  # "the product"
        ("plain", "shirt", "colour/navy"),  # its own kind
        ("plain", "topwear", "colour/navy"),  # declared sole: nobody wears another top
        ("plain", "clothing", ""),  # the model wears other clothing
        ("plain", "hat", ""),  # never "not present": nothing is closed
        ("same", "item", ""),  # three products are not one
    ],
)
def test_how_a_product_may_be_named(ask_shop: Ask, image: str, category: str, wanted: str) -> None:
    assert ask_shop(image, QUERY, cat=category, attr="colour") == wanted


def test_a_nameless_description_is_for_products_shown_alone(ask_shop: Ask) -> None:
    """A model who shows a shirt wears other things, and "the navy product" may be one of those."""
    program = "category(unique(filter(scene, v)))"
    assert ask_shop("lone_hat", program, v="colour/navy") == "hat"
    assert ask_shop("plain", program, v="colour/navy") == ""
    assert ask_shop("plain", "category(unique(filter(filter(scene, cat), v)))", cat="item", v="colour/navy") == ""
    assert ask_shop("plain", "category(unique(filter(filter(scene, cat), v)))", cat="shirt", v="colour/navy") == "shirt"


def test_a_product_needs_no_name_at_all(ask_shop: Ask, ask: Ask) -> None:
    assert ask_shop("plain", "query(unique(scene), attr)", attr="colour") == "colour/navy"
    assert ask("plain", "query(unique(scene), attr)", attr="colour") == ""  # in an outfit other things may be there


@pytest.mark.parametrize("category", ["hat", "skirt", "boots", "clothing", "item"])
def test_an_open_world_never_says_no_or_counts(ask_shop: Ask, category: str) -> None:
    assert ask_shop("plain", "exist(filter(scene, cat))", cat=category) in ("yes", "")
    assert ask_shop("plain", "count(filter(scene, cat))", cat=category) == ""


@pytest.mark.parametrize(
    ("category", "wanted"),
    [("shirt", "yes"), ("topwear", "yes"), ("hat", "no"), ("blouse", ""), ("uniform", "no")],
)
def test_what_the_product_is(ask_shop: Ask, category: str, wanted: str) -> None:
    assert ask_shop("plain", "verify(unique(scene), cat)", cat=category) == wanted


# Degenerate questions.


def is_degenerate(scenes: Scenes, image: str, program: str, **said: str) -> bool:
    batch, tree = asker(scenes).bind(image, program, said)
    return bool(degenerate(scenes, batch, tree, Runner(scenes, batch).answer(tree))[0])


def test_a_clause_that_changes_nothing_is_found(outfit: Scenes) -> None:
    program = "category(unique(filter(filter(scene, cat), v)))"
    assert is_degenerate(outfit, "shod", program, cat="footwear", v="colour/black")  # "the black footwear": one only
    assert not is_degenerate(outfit, "two_hats", program, cat="hat", v="colour/red")
    assert is_degenerate(outfit, "two_hats", "exist(filter(filter(scene, cat), v))", cat="hat", v="colour/red")


def test_pictures_of_one_item_are_never_degenerate(outfit: Scenes) -> None:
    assert not is_degenerate(
        outfit, "plain", "category(unique(filter(filter(scene, cat), v)))", cat="shirt", v="colour/navy"
    )


def test_leaving_a_filter_out_does_not_reuse_what_was_worked_out_with_it(outfit: Scenes) -> None:
    """Both halves hold the same filter; the answer without it must be worked out anew in each."""
    program = "which(verify(unique(filter(scene, cat)), v), v, verify(unique(filter(scene, cat)), w), w)"
    assert not is_degenerate(outfit, "shod", program, cat="hat", v="colour/red", w="colour/blue")


# Batches.


def test_a_batch_answers_like_its_rows(outfit: Scenes) -> None:
    rng, vocab = np.random.default_rng(0), outfit.vocab
    used = [n for n in vocab.category.values() if outfit.clause[n] >= 0]
    values = [n for (a, _), n in vocab.value.items() if a == "colour" and outfit.clause[n] >= 0]
    slots = {"cat": rng.choice(used, 400).astype(np.uint16), "v": rng.choice(values, 400).astype(np.uint16)}
    image = rng.integers(0, len(outfit.image_ids), 400).astype(np.int32)
    for program in (VERIFY, "exist(filter(filter(scene, cat), v))", "region(unique(filter(filter(scene, cat), v)))"):
        tree = parse(program, {"cat": "category", "v": "value"})
        whole = Runner(outfit, Batch(image, slots)).answer(tree)
        alone = [
            Runner(outfit, Batch(image[i : i + 1], {k: v[i : i + 1] for k, v in slots.items()})).answer(tree)[0]
            for i in range(400)
        ]
        assert whole.tolist() == alone
        assert whole.dtype == np.uint16 and len(set(whole.tolist())) > 1


def test_an_empty_batch_has_no_answers(outfit: Scenes) -> None:
    batch = Batch(np.zeros(0, np.int32), {"cat": np.zeros(0, np.uint16), "v": np.zeros(0, np.uint16)})
    for program in (VERIFY, "label_is(v)", "count(filter(scene, cat))"):
        assert len(Runner(outfit, batch).answer(parse(program, {"cat": "category", "v": "value"}))) == 0
