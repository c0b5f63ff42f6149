"""Verdicts on exact counts: majority answers, yes/no by slot value, option positions, answers that train lacks.

    Counts of all samples ─┬─► majority          share of the most frequent answer of each template
    targets of the set  ───┘   association       slot value against yes/no, bias-corrected Cramér's V
                               option-position   how often the first option is the right one
                               missing-answers   answers of the evaluation splits that train never gives

Answers and positions are divided exactly when a set is made, so their thresholds hold for any number of samples, but
for the odd one that cannot be divided. Slot values outside a template's cell are left to chance, and among few samples
chance alone gives a large V; so an association fails only where it is above its threshold *and* chance does not explain
it: at most one clean set in a hundred fails that check (`CHANCE`, divided by the number of scopes looked at).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from fashionkit.datagen.audit.counts import Counts, Facts, Tally, by_template
from fashionkit.datagen.audit.options import AuditOptions
from fashionkit.datagen.audit.verdicts import Verdict, at_most
from fashionkit.datagen.samples import SAMPLE_SPLITS, SLOTS
from fashionkit.datagen.store import VQAStore
from fashionkit.datagen.vocab import NOT_PRESENT
from fashionkit.metrics.association import chance, chi_square, cramers_v
from fashionkit.tables import InputError, read_table, table_parts

Array = npt.NDArray[Any]
CHANCE = 0.01
ENOUGH = 2000  # samples of a template and attribute, from which on they are reported by themselves
LEARNT = ("train", "val", "test")
Outcome = Literal["pass", "fail", "skip", "info"]


def balance_checks(store: VQAStore, facts: Facts, counts: Counts, options: AuditOptions) -> list[Verdict]:
    """All verdicts on the counts of a set."""
    found = [*_binary(store, facts, counts, options), *_open(store, facts, counts, options)]
    found += [*_choices(store, facts, counts, options), *_association(store, facts, counts, options)]
    return [*found, *_positions(store, facts, counts, options), *_missing(store, facts, counts)]


def _together(counts: Counts) -> Tally:
    """Answers of train, val and test."""
    return sum((counts.answers[split] for split in LEARNT), Tally())


def _binary(store: VQAStore, facts: Facts, counts: Counts, options: AuditOptions) -> Iterator[Verdict]:
    """Yes and no: by template and by split gated, by attribute to be read."""
    scopes = [("", by_template(facts, _together(counts)))]
    scopes += [(f" in {split}", by_template(facts, counts.answers[split])) for split in SAMPLE_SPLITS[:-1]]
    for place, groups in scopes:
        for (template, _), group in groups.items():
            if facts.binary[template]:
                yield _yes_no(store.pack.templates[template].id + place, group, options.majority_binary)
    for (template, attribute), group in by_template(facts, _together(counts), wide=True).items():
        if facts.binary[template] and attribute and group.count.sum() >= ENOUGH:
            yield _yes_no(_scope(store, facts, template, attribute), group, options.majority_binary, info=True)


def _yes_no(scope: str, group: Tally, threshold: float, info: bool = False) -> Verdict:
    n, most = int(group.count.sum()), int(group.count.max())
    allowed = most <= max(threshold * n, -(-n // 2))
    outcome: Outcome = "info" if info else "pass" if allowed else "fail"
    return Verdict("majority", scope, outcome, most / n, threshold, n=n)


def _scope(store: VQAStore, facts: Facts, template: int, attribute: int) -> str:
    return f"{store.pack.templates[template].id} {store.vocab.key[facts.attributes[attribute]]}"


def read_targets(store: VQAStore) -> dict[tuple[int, int], Tally] | None:
    """(template, attribute id) → answers with their targets of train, val and test; None where the set has none.

    Raises:
        InputError: The table names ids that the set does not have, or holds targets that are no counts.
    """
    if not table_parts(store.path, "balance"):
        return None
    names = ["template", "attribute", "split", "answer", "target"]
    table = read_table(store.path, "balance", names)
    columns = {name: table[name].to_numpy() for name in names}
    limits = {"template": len(store.pack.templates), "attribute": len(store.vocab), "answer": len(store.vocab)}
    for name, limit in limits.items():
        if len(table) and not 0 <= columns[name].min() <= columns[name].max() < limit:
            raise InputError(f"the set has no such {name}", file=store.path / "balance", column=name)
    if not (np.isfinite(columns["target"]) & (columns["target"] >= 0)).all():
        raise InputError("a target is 0 or more", file=store.path / "balance", column="target")
    rows = np.flatnonzero(columns["split"] < len(LEARNT))
    found: dict[tuple[int, int], Tally] = {}
    code = columns["template"][rows].astype(np.int64) << 16 | columns["attribute"][rows]
    for value in np.unique(code).tolist():
        some = rows[code == value]
        answer, at = np.unique(columns["answer"][some].astype(np.int64), return_inverse=True)
        found[value >> 16, value & 0xFFFF] = Tally(answer, np.bincount(at, columns["target"][some]))
    return found


def _open(store: VQAStore, facts: Facts, counts: Counts, options: AuditOptions) -> Iterator[Verdict]:
    """Open answers against their targets, and not-present questions against the pack's share of the same words."""
    targets = read_targets(store)
    wide = by_template(facts, _together(counts), wide=True)
    for number, t in enumerate(store.pack.templates):
        here = {a: group for (n, a), group in wide.items() if n == number}
        if facts.binary[number] or facts.choice[number] or t.balance == "tied" or not here:
            continue
        whole = sum(here.values(), Tally())
        yield from _not_present(store, facts, wide, number, int(whole.count.sum()), options.majority_open)
        split = {a: tally for (n, a), tally in (targets or {}).items() if n == number}
        if not split:
            why = "the set holds no table `balance`" if targets is None else "the table `balance` has no targets of it"
            yield Verdict("majority", t.id, "skip", note=why)
            continue
        yield _against_target(t.id, store, whole, sum(split.values(), Tally()), options.majority_open)
        for attribute, group in here.items():
            if attribute and group.count.sum() >= ENOUGH:
                target = split.get(int(facts.attributes[attribute]), Tally())
                scope = _scope(store, facts, number, attribute)
                yield replace(_against_target(scope, store, group, target, options.majority_open), verdict="info")


def _not_present(
    store: VQAStore, facts: Facts, wide: dict[tuple[int, int], Tally], number: int, present: int, allowed: float
) -> Iterator[Verdict]:
    """The share of "not present" among all questions in the words of one template."""
    t = store.pack.templates[number]
    for follower, f in enumerate(store.pack.templates):
        absent = sum(int(group.count.sum()) for (n, _), group in wide.items() if n == follower)
        if f.tie == t.id and absent and not facts.binary[follower]:
            scope, n = f"{t.id}+{f.id}", absent + present
            group = Tally(np.array([NOT_PRESENT]), np.array([absent]))
            yield _largest("majority", scope, store, group, {NOT_PRESENT: f.share}, allowed, n)


def _against_target(scope: str, store: VQAStore, group: Tally, target: Tally, allowed: float) -> Verdict:
    """The most frequent answer of a template, or of one attribute of it, against its part of the targets."""
    whole = max(float(target.count.sum()), 1e-9)
    share = dict(zip(target.key.tolist(), (target.count / whole).tolist(), strict=True))
    return _largest("majority", scope, store, group, share, allowed, int(group.count.sum()))


def _largest(
    check: str, scope: str, store: VQAStore, group: Tally, share: dict[int, float], allowed: float, n: int
) -> Verdict:
    """Fails where the most frequent of `n` answers exceeds its share by more than `allowed`, and by over one sample."""
    at = int(group.count.argmax())
    answer, most = int(group.key[at]), int(group.count[at])
    wanted = share.get(answer, 0.0)
    outcome: Outcome = "pass" if most <= max((wanted + allowed) * n, wanted * n + 1) else "fail"
    note = f"{store.vocab.text[answer]!r}, target {wanted:.4f}"
    return Verdict(check, scope, outcome, most / n, wanted + allowed, n=n, note=note)


def _choices(store: VQAStore, facts: Facts, counts: Counts, options: AuditOptions) -> Iterator[Verdict]:
    """The most frequent answer of a choice against half of the samples that offer it."""
    held: dict[int, dict[int, float]] = {}
    for key, many in zip(counts.held.key.tolist(), counts.held.count.tolist(), strict=True):
        held.setdefault(key // facts.vocab, {})[key % facts.vocab] = many / 2
    for (template, _), group in by_template(facts, _together(counts)).items():
        if facts.choice[template]:
            n = int(group.count.sum())
            share = {answer: half / n for answer, half in held.get(template, {}).items()}
            scope = store.pack.templates[template].id
            yield _largest("majority", scope, store, group, share, options.majority_open, n)


def _association(store: VQAStore, facts: Facts, counts: Counts, options: AuditOptions) -> Iterator[Verdict]:
    """Each stored slot of each yes/no template against the answer."""
    code, side = np.divmod(counts.values.key, 2)
    place, value = np.divmod(code, facts.vocab)
    places, start = np.unique(place, return_index=True)
    for where, lo, hi in zip(places.tolist(), start, [*start, len(place)][1:], strict=True):
        _, row = np.unique(value[lo:hi], return_inverse=True)
        table = np.zeros((row.max() + 1, 2), np.int64)
        table[row, side[lo:hi]] = counts.values.count[lo:hi]
        template, slot = divmod(where, SLOTS)
        scope = f"{store.pack.templates[template].id} {store.slots[template][slot]}"
        statistic, freedom = chi_square(table)
        p, n = chance(statistic, freedom), int(table.sum())
        threshold = options.association
        yield _beyond_chance("association", scope, cramers_v(table), threshold, p, len(places), n)


def _beyond_chance(
    check: str, scope: str, value: float, threshold: float, p: float, looks: int, n: int, note: str = ""
) -> Verdict:
    """Fails where `value` is above its threshold and chance gives as much in fewer than one clean set in a hundred."""
    if value <= threshold:
        return Verdict(check, scope, "pass", value, threshold, n=n, note=note)
    said = f"{note}; " if note else ""
    if p < CHANCE / looks:
        return Verdict(check, scope, "fail", value, threshold, n=n, note=f"{said}chance gives as much with p = {p:.1g}")
    return Verdict(check, scope, "pass", value, threshold, n=n, note=f"{said}too few to tell from chance, p = {p:.2g}")


def _positions(store: VQAStore, facts: Facts, counts: Counts, options: AuditOptions) -> Iterator[Verdict]:
    """The share of programs whose first option is right, against one half."""
    for number in np.flatnonzero(counts.programs).tolist():
        n, first = int(counts.programs[number]), int(counts.first[number])
        off = max(abs(first - n / 2) - (n % 2) / 2, 0) / n  # the odd one stands somewhere
        note = f"the first option is right in {first / n:.4f}"
        yield at_most("option-position", store.pack.templates[number].id, off, options.option_position, n, note)


def _missing(store: VQAStore, facts: Facts, counts: Counts) -> Iterator[Verdict]:
    """Answers that evaluation needs and train never gives: of the set gated, of a template to be read."""
    known = np.unique(counts.answers["train"].key % facts.vocab)
    needed = sum((counts.answers[split] for split in SAMPLE_SPLITS if split != "train"), Tally())
    wrong = ~np.isin(needed.key % facts.vocab, known)
    ids, samples = np.unique(needed.key[wrong] % facts.vocab), int(needed.count[wrong].sum())
    named = ", ".join(repr(store.vocab.text[i]) for i in ids[:5].tolist())
    note = f"{samples:,} samples: {named}" if len(ids) else ""
    outcome: Outcome = "fail" if len(ids) else "pass"
    total = int(needed.count.sum())
    yield Verdict("missing-answers", "the set", outcome, float(len(ids)), 0.0, n=total, note=note)
    train = by_template(facts, counts.answers["train"])
    for place, group in by_template(facts, needed).items():
        lacking = group.key[~np.isin(group.key, train.get(place, Tally()).key)]
        if len(lacking):
            named = ", ".join(repr(store.vocab.text[i]) for i in lacking[:5].tolist())
            scope, many = store.pack.templates[place[0]].id, int(group.count.sum())
            yield Verdict(
                "missing-answers", scope, "info", float(len(lacking)), n=many, note=f"in this template: {named}"
            )
