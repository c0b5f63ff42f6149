"""Texts as they are compared: folded to small letters and single spaces, and told apart by hash.

    texts ─► folded " is the t shirt navy blue " ─┬─► holds " navy blue "?      whole words of an answer
                                                  └─► 64-bit hash               equal texts have equal hashes

Hashes are sums of words of eight letters, each mixed under a key of its place by the finaliser of splitmix64 (see
`counter`); vectors of Arrow and numpy do it at some millions of texts a second.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from fashionkit.datagen.counter import mix, stream
from fashionkit.datagen.samples import SLOTS
from fashionkit.datagen.store import VQAStore

Array = npt.NDArray[Any]
SPACES = np.uint64(0x2020202020202020)
# Bytes of ASCII as they are compared: capitals small, whatever is neither letter nor digit a space.
PLAIN = np.array([ord(chr(b).lower()) if chr(b).isalnum() or b > 127 else 32 for b in range(256)], np.uint8)


def words_of(store: VQAStore, number: int) -> tuple[str, ...]:
    """What says an answer: canonical text, synonyms and the forms it takes in a sentence; of a set, of any member."""
    vocab, ontology = store.vocab, store.ontology
    kind, key = vocab.kind[number], vocab.key[number]
    if kind in ("none", "attribute", "look"):
        return ()
    if kind == "set":
        return tuple(dict.fromkeys(word for member in vocab.members[number] for word in words_of(store, member)))
    words: list[str | None] = [vocab.text[number]]
    if kind == "category":
        category = ontology.categories[key]
        words += [*category.synonyms, category.plural]
    elif kind == "value":
        attribute, name = key.split("/", 1)
        value = ontology.attributes[attribute].values[name]
        words += [*value.synonyms, value.adj, value.pred, value.post]
    found = folded(pa.array([word for word in words if word])).to_pylist()
    return tuple(dict.fromkeys(word for word in found if word.strip()))


def folded(texts: pa.Array) -> pa.Array:
    """Texts as they are compared: small letters and digits, all else one space, and a space at both ends."""
    padded = pc.binary_join_element_wise(" ", pc.utf8_lower(texts), " ", "")
    _, places, body = padded.buffers()
    if not len(padded) or body is None:
        return padded
    start = np.frombuffer(places, np.int32, len(padded) + 1)
    data = np.frombuffer(body, np.uint8, start[-1])
    if (data > 127).any():
        return pc.replace_substring_regex(padded, r"[^\pL\pM\pN]+", " ")
    plain = PLAIN.take(data)
    letter = plain != 32
    keep = letter.copy()
    keep[1:] |= letter[:-1]  # the first space of each run
    keep[start[:-1]] = True
    place = np.concatenate([np.zeros(1, np.int32), np.cumsum(keep, dtype=np.int32)]).take(start)
    return pa.Array.from_buffers(pa.string(), len(padded), [None, pa.py_buffer(place), pa.py_buffer(plain[keep])])


def hashes(texts: pa.Array, key: int) -> Array:
    """(n,) uint64: a hash of each folded text; texts that differ agree with a chance of about 2^-64.

    The sum over a text's words of 8 letters, each mixed under a key of its place. Folded texts hold no run of spaces,
    so the spaces that fill a text up to the longest one are told apart and count nothing.
    """
    if not len(texts):
        return np.zeros(0, np.uint64)
    width = -(-int(pc.max(pc.binary_length(texts)).as_py()) // 8) * 8
    wide = pc.ascii_rpad(texts, width, padding=" ")
    words = np.frombuffer(wide.buffers()[2], np.uint64, len(texts) * width // 8).reshape(len(texts), -1)
    total = np.zeros(len(texts), np.uint64)
    for place in range(words.shape[1]):
        word = np.ascontiguousarray(words[:, place])
        total += np.where(word == SPACES, np.uint64(0), mix(stream(key, f"word {place}"), word))
    return total


def distinct(columns: list[Array], limits: list[int]) -> tuple[Array, Array, Array]:
    """Distinct combinations of the values of some columns, in ascending order.

    Args:
        columns: (n,) integers from 0. limits: More than the largest of each column.

    Returns:
        (k,) the first row of each combination; (n,) the combination of each row; (k,) ascending keys from 0, which mean
        the same for all columns of these limits as long as the product of the limits is below 2^62.
    """
    code, size = np.zeros(len(columns[0]), np.int64), 1
    for column, limit in zip(columns, limits, strict=True):
        if size * limit >= 1 << 62:  # numbers of the combinations so far, in the same order
            code = np.unique(code, return_inverse=True)[1]
            size = len(code)
        code, size = code * limit + column, size * limit
    coded = pa.array(code).dictionary_encode()  # quicker than sorting where few combinations are in many rows
    order = np.argsort(coded.dictionary.to_numpy())
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    combination = rank.take(coded.indices.to_numpy())
    row = np.empty(len(order), np.int64)
    row[combination[::-1]] = np.arange(len(code))[::-1]
    return row, combination, coded.dictionary.to_numpy()[order]


def questions_of(store: VQAStore, rows: dict[str, Array], at: Array) -> pa.Array:
    """The question texts of the rows `at` of some columns of samples."""
    slots = [rows[f"slot{i}"][at] for i in range(SLOTS)]
    return store.renderer.questions(rows["template"][at], rows["paraphrase"][at], slots)


def in_words(store: VQAStore, rows: dict[str, Array], at: Array, splits: list[str]) -> list[str]:
    """Rows for people: picture, split, template, question and answer."""
    found = []
    for row, question, split in zip(at.tolist(), questions_of(store, rows, at).to_pylist(), splits, strict=True):
        picture, t = store.image_ids[rows["image"][row]], store.pack.templates[rows["template"][row]]
        found.append(f"{picture} ({split}, {t.id}): {question} → {store.vocab.text[rows['answer'][row]]}")
    return found
