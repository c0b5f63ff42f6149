"""Building blocks of a report: tables, tiles with a figure, folded parts, badges, the legend of a plot.

Texts are escaped; `Html` is taken as markup that is ready.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from fashionkit.report.html import Html, escape

Text = str | Html
Cell = str | Html | int | float | None


def figure(value: Cell) -> Html:
    """A cell's text: whole numbers with commas, others with three digits, nothing for None."""
    if value is None:
        return Html("")
    if isinstance(value, bool | str):
        return escape(value)
    return escape(f"{value:,}" if isinstance(value, int) else f"{value:.3g}")


def table(
    head: Sequence[Text],
    rows: Iterable[Sequence[Cell]],
    caption: Text = "",
    plot: int | None = None,
    right: Collection[int] = (),
) -> Html:
    """A table whose first column names the rows; columns of numbers stand on the right.

    Args:
        head: Names of the columns. rows: Cells in their order. caption: What the table tells.
        plot: Position of a column of drawings, which takes the room that is left.
        right: Further columns that stand on the right, such as numbers that are text already.
    """
    body = [list(row) for row in rows]
    assert all(len(row) == len(head) for row in body), "a row has as many cells as the head"
    numbers = {n for n in range(1, len(head)) if body and not any(isinstance(row[n], str) for row in body)} | set(right)
    classes = [' class="plot"' if n == plot else ' class="n"' if n in numbers else "" for n in range(len(head))]
    heads = "".join(f'<th scope="col"{c}>{escape(text)}</th>' for text, c in zip(head, classes, strict=True))
    lines = "".join(_line(row, classes) for row in body)
    told = f"<caption>{escape(caption)}</caption>" if caption else ""
    made = Html(f"<table>{told}<thead><tr>{heads}</tr></thead><tbody>{lines}</tbody></table>")
    return scroll(made, caption or head[0])


def _line(row: Sequence[Cell], classes: Sequence[str]) -> str:
    cells = "".join(f"<td{c}>{figure(cell)}</td>" for cell, c in zip(row[1:], classes[1:], strict=True))
    return f'<tr><th scope="row">{figure(row[0])}</th>{cells}</tr>'


def scroll(body: Html, label: Text) -> Html:
    """A part that is scrolled sideways where it does not fit; reached by keyboard."""
    return Html(f'<div class="scroll" role="region" tabindex="0" aria-label="{escape(label)}">{body}</div>')


def tiles(entries: Sequence[tuple[Text, Cell, Text]]) -> Html:
    """Key figures, each (name, value, note)."""
    made = "".join(
        f'<div class="tile"><dt>{escape(name)}</dt><dd>{figure(value)}'
        + (f'<span class="note">{escape(note)}</span>' if note else "")
        + "</dd></div>"
        for name, value, note in entries
    )
    return Html(f'<dl class="tiles">{made}</dl>')


def folded(summary: Text, body: Html, opened: bool = False) -> Html:
    """A part that is shown on a click; works without a script."""
    state = " open" if opened else ""
    return Html(f"<details{state}><summary>{escape(summary)}</summary><div>{body}</div></details>")


def badge(text: Text, kind: str = "") -> Html:
    """A word in a small frame; `kind` is `pass`, `fail`, `skip`, `stale` or nothing."""
    return Html(f'<span class="badge {kind}">{escape(text)}</span>')


def banner(text: Text, kind: str = "") -> Html:
    """A line that must not be overlooked; kinds as `badge`."""
    return Html(f'<p class="banner {kind}">{escape(text)}</p>')


def legend(names: Sequence[Text]) -> Html:
    """Which colour is which series; at most five."""
    keys = "".join(
        f'<li><svg width="11" height="11" aria-hidden="true"><rect class="s{n}" width="11" height="11" rx="2"/></svg>'
        f"{escape(name)}</li>"
        for n, name in enumerate(names)
    )
    return Html(f'<ul class="legend">{keys}</ul>')
