"""The script and the style of the sheet that is checked by hand (see `fashionkit.report.sheet`)."""

STYLE = """
.checkbar { position: sticky; top: 0; z-index: 3; background: var(--paper); border-bottom: 1px solid var(--line);
 margin: 0 -24px 16px; padding: 10px 24px 8px; }
.progress { display: flex; gap: 12px; align-items: center; font-size: 14px; flex-wrap: wrap; }
.progress progress { flex: 1 1 160px; height: 10px; appearance: none; border: 0; border-radius: 5px; overflow: hidden;
 background: var(--sunk); }
progress::-webkit-progress-bar { background: var(--sunk); }
progress::-webkit-progress-value { background: var(--good); }
progress::-moz-progress-bar { background: var(--good); }
.buttons { display: flex; flex-wrap: wrap; gap: 8px; align-items: center; margin: 8px 0 4px; }
button { font: inherit; font-size: 14px; padding: 4px 12px; border-radius: 7px; border: 1px solid var(--line);
 background: var(--sunk); color: var(--ink); cursor: pointer; }
button.main { background: var(--link); border-color: var(--link); color: var(--paper); }
.box { font-size: 14px; margin-right: auto; }
#sheet-note { margin: 2px 0; font-size: 13px; } #sheet-note:empty { display: none; }
.keys { list-style: none; padding: 0; margin: 2px 0 0; display: flex; flex-wrap: wrap; gap: 2px 14px; font-size: 12.5px;
 color: var(--soft); }
kbd { font: 12px ui-monospace, "DejaVu Sans Mono", monospace; border: 1px solid var(--line); border-radius: 4px;
 padding: 0 4px; background: var(--sunk); color: var(--ink); }
.checks { grid-template-columns: repeat(auto-fill, minmax(min(320px, 100%), 1fr)); }
.check { scroll-margin-top: 150px; } .check:focus { outline: 3px solid var(--s0); outline-offset: 1px; }
.check[data-verdict="right"] { border-color: var(--good); background: var(--goodback); }
.check[data-verdict="wrong"] { border-color: var(--bad); background: var(--badback); }
.check[data-verdict="cannot_tell"] { border-color: var(--warn); background: var(--warnback); }
.check .place { color: var(--soft); font-size: 12.5px; }
.judge { margin-top: auto; display: grid; gap: 8px; }
.check fieldset { border: 0; margin: 0; padding: 0; display: flex; flex-wrap: wrap; gap: 6px; }
.check fieldset label { flex: 1 1 auto; border: 1px solid var(--line); border-radius: 7px; padding: 5px 8px;
 text-align: center; cursor: pointer; background: var(--paper); font-size: 14px; white-space: nowrap; }
.check fieldset input { margin: 0 6px 0 0; vertical-align: -1px; }
.v-right:has(:checked) { border-color: var(--good); } .v-wrong:has(:checked) { border-color: var(--bad); }
.v-cannot_tell:has(:checked) { border-color: var(--warn); } .check label:has(:checked) { font-weight: 650; }
.comment { font: inherit; font-size: 14px; padding: 4px 8px; border: 1px solid var(--line); border-radius: 7px;
 background: var(--paper); color: var(--ink); width: 100%; }
.sheet:not(:has(#sheet-marks:checked)) .pic svg, .sheet:not(:has(#sheet-marks:checked)) .marks { display: none; }
@media (max-width: 620px) { .checkbar { margin: 0 -14px 12px; padding: 8px 14px 6px; } .keys { display: none; }
 .check { scroll-margin-top: 172px; } button { padding: 4px 9px; } }
@media (max-height: 620px) { .checkbar { position: static; } .check { scroll-margin-top: 12px; } }
@media print { .judge .comment { border-color: #999; } }
"""

SCRIPT = """
(() => {
  "use strict";
  const sheet = document.getElementById("sheet");
  if (!sheet) return;
  const cards = [...sheet.querySelectorAll(".check")];
  const part = (name) => document.getElementById("sheet-" + name);
  const prefix = "fashionkit.check/" + sheet.dataset.content + "/";
  const field = (card) => card.querySelector(".comment");
  const given = (card) => {
    const ticked = card.querySelector("input:checked");
    return { verdict: ticked ? ticked.value : "", comment: field(card).value.trim() };
  };
  const printed = new Map(cards.map((card) => [card, given(card)]));
  let unsaved = false;
  let kept = true;

  const show = (card, entry) => {
    for (const radio of card.querySelectorAll("input[type=radio]")) radio.checked = radio.value === entry.verdict;
    field(card).value = typeof entry.comment === "string" ? entry.comment : "";
    card.dataset.verdict = given(card).verdict;
  };
  const read = (card) => {
    try {
      const entry = JSON.parse(localStorage.getItem(prefix + card.dataset.id));
      if (entry && typeof entry === "object") return entry;
    } catch (error) {
      // what cannot be read counts as not there
    }
    return printed.get(card);
  };
  const count = () => {
    const tally = { right: 0, wrong: 0, cannot_tell: 0 };
    for (const card of cards) {
      const verdict = given(card).verdict;
      if (verdict in tally) tally[verdict] += 1;
    }
    const done = tally.right + tally.wrong + tally.cannot_tell;
    part("bar").value = done;
    part("count").textContent = done + " of " + cards.length + " judged: " + tally.right + " right, " + tally.wrong +
      " wrong, " + tally.cannot_tell + " cannot tell";
  };
  const save = (card) => {
    card.dataset.verdict = given(card).verdict;
    unsaved = true;
    try {
      localStorage.setItem(prefix + card.dataset.id, JSON.stringify(given(card)));
    } catch (error) {
      kept = false;
      part("note").textContent = "This browser keeps nothing for this page: export before you close it.";
    }
    count();
  };
  const rows = () => cards.map((card) => ({ id: card.dataset.id, ...given(card) }))
    .filter((row) => row.verdict || row.comment);
  const quoted = (text) => /[",\\r\\n;]/.test(text) ? '"' + text.replaceAll('"', '""') + '"' : text;
  const asCsv = () => {
    const lines = rows().map((row) => [sheet.dataset.content, row.id, row.verdict, row.comment]);
    return [["set", sheet.dataset.idName, "verdict", "comment"], ...lines]
      .map((line) => line.map(quoted).join(",") + "\\r\\n").join("");
  };
  const asJson = () => JSON.stringify({ set: sheet.dataset.content, verdicts: rows().map((row) => ({
    [sheet.dataset.idName]: Number(row.id), verdict: row.verdict, comment: row.comment })) }, null, 1) + "\\n";
  const download = (text, type, ending) => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([text], { type: type + ";charset=utf-8" }));
    link.download = sheet.dataset.file + ending;
    document.body.append(link);
    link.click();
    link.remove();
    setTimeout(() => URL.revokeObjectURL(link.href), 60000);
    unsaved = false;
    const number = rows().length;
    part("note").textContent = number + (number === 1 ? " row" : " rows") + " written to " + link.download + ".";
  };
  const go = (card) => {
    if (!card) return;
    card.focus({ preventScroll: true });
    card.scrollIntoView({ block: "start", behavior: "auto" });
  };
  const next = (from) => {
    const open = [...cards.slice(from + 1), ...cards.slice(0, from + 1)].find((card) => !given(card).verdict);
    if (open) go(open);
    else part("note").textContent = "All are judged. Export the verdicts, then give the file to the command.";
  };
  const tick = (card, verdict) => {
    for (const radio of card.querySelectorAll("input[type=radio]")) radio.checked = radio.value === verdict;
    save(card);
    next(cards.indexOf(card));
  };

  sheet.addEventListener("change", (event) => {
    const card = event.target.closest(".check");
    if (card) save(card);
  });
  sheet.addEventListener("input", (event) => {
    const card = event.target.closest(".check");
    if (card) save(card);
  });
  sheet.addEventListener("keydown", (event) => {
    const card = event.target.closest(".check");
    if (!card || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target === field(card)) {
      if (event.key === "Enter" || event.key === "Escape") go(card);
      return;
    }
    const at = cards.indexOf(card);
    const actions = {
      1: () => tick(card, "right"), 2: () => tick(card, "wrong"), 3: () => tick(card, "cannot_tell"),
      j: () => go(cards[at + 1]), k: () => go(cards[at - 1]), u: () => next(at), c: () => field(card).focus(),
      m: () => { part("marks").checked = !part("marks").checked; },
    };
    if (Object.hasOwn(actions, event.key)) {
      event.preventDefault();
      actions[event.key]();
    }
  });
  part("next").addEventListener("click", () => next(cards.indexOf(document.activeElement.closest(".check"))));
  part("csv").addEventListener("click", () => download(asCsv(), "text/csv", ".csv"));
  part("json").addEventListener("click", () => download(asJson(), "application/json", ".json"));
  part("clear").addEventListener("click", () => {
    if (!confirm("Forget all verdicts and comments on this page?")) return;
    for (const card of cards) {
      show(card, { verdict: "", comment: "" });
      save(card);
    }
    unsaved = false;
  });
  window.addEventListener("storage", (event) => {
    const card = cards.find((one) => event.key === prefix + one.dataset.id);
    if (card) {
      show(card, read(card));
      count();
    }
  });
  window.addEventListener("beforeunload", (event) => {
    if (unsaved && !kept) event.preventDefault();
  });
  for (const card of cards) show(card, read(card));
  count();
})();
"""
