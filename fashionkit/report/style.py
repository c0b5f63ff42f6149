"""The look of a report: colours for light, dark and paper, tables, bars, cards. One text, put into the page's head.

Colours of series are told apart by people who see no red or no green (after Okabe and Ito, "Color Universal Design",
2008), and every figure stands beside its bar as a number.
"""

from __future__ import annotations

STYLE = """
:root { color-scheme: light dark;
 --back: #f6f6f4; --paper: #fff; --sunk: #efefec; --ink: #1c1e21; --soft: #5c636b; --line: #dcdcd6; --link: #1b5fa8;
 --good: #136f43; --bad: #b3261e; --warn: #8a5a00; --goodback: #e3f3ea; --badback: #fbe6e4; --warnback: #fbf0d9;
 --s0: #2f6db3; --s1: #e08e1b; --s2: #1f9a76; --s3: #b4569c; --s4: #8b9199; }
@media (prefers-color-scheme: dark) { :root {
 --back: #141618; --paper: #1d2023; --sunk: #26292d; --ink: #e8e9ea; --soft: #a3abb3; --line: #363b40; --link: #84b6f0;
 --good: #6fd6a2; --bad: #ff9a90; --warn: #f0c064; --goodback: #163526; --badback: #42201d; --warnback: #3b2f14;
 --s0: #6ba3e8; --s1: #f2ae4e; --s2: #4cc69f; --s3: #dd8cc8; --s4: #a2a9b1; } }
* { box-sizing: border-box; }
html { scroll-padding-top: 12px; }
body { margin: 0; font: 15px/1.5 system-ui, "Segoe UI", "DejaVu Sans", sans-serif; color: var(--ink);
 background: var(--back); overflow-wrap: break-word; }
a { color: var(--link); }
.hidden { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); white-space: nowrap; }
.jump { position: absolute; left: -999px; }
.jump:focus { left: 12px; top: 12px; background: var(--paper); padding: 8px 12px; z-index: 9; }
:focus-visible { outline: 3px solid var(--s0); outline-offset: 2px; }
header, main, footer { max-width: 1180px; margin: 0 auto; padding: 0 24px; }
header { padding-top: 32px; }
h1 { font-size: 28px; line-height: 1.2; margin: 0 0 6px; letter-spacing: -.01em; }
h2 { font-size: 20px; margin: 0 0 6px; letter-spacing: -.005em; }
h3 { font-size: 15px; margin: 22px 0 6px; }
.lead, .say { color: var(--soft); margin: 0 0 14px; max-width: 76ch; }
nav ul { display: flex; flex-wrap: wrap; gap: 6px 18px; list-style: none; margin: 14px 0 0; padding: 0; }
section { background: var(--paper); border: 1px solid var(--line); border-radius: 12px; padding: 22px 24px;
 margin: 18px 0; }
footer { color: var(--soft); padding-bottom: 40px; font-size: 13px; }
code, .mono { font: 12.5px/1.45 ui-monospace, "DejaVu Sans Mono", monospace; overflow-wrap: anywhere; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); gap: 12px; margin: 18px 0 0; }
.tile { background: var(--paper); border: 1px solid var(--line); border-radius: 12px; padding: 12px 16px; }
.tile dt { color: var(--soft); font-size: 13px; }
.tile dd { margin: 0; font-size: 22px; font-weight: 650; font-variant-numeric: tabular-nums; line-height: 1.3; }
.tile .note { font-size: 12.5px; font-weight: 400; color: var(--soft); display: block; }
.scroll { overflow-x: auto; margin: 0 0 8px; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; font-size: 14px; }
caption { text-align: left; color: var(--soft); padding: 0 0 6px; font-size: 13px; }
th, td { text-align: left; padding: 4px 14px 4px 0; border-bottom: 1px solid var(--line); vertical-align: middle; }
thead th { color: var(--soft); font-weight: 500; font-size: 13px; white-space: nowrap; vertical-align: bottom; }
tbody th { font-weight: 550; }
tbody tr:last-child > * { border-bottom: 0; }
th:last-child, td:last-child { padding-right: 0; }
.n { text-align: right; white-space: nowrap; }
.plot { width: 38%; min-width: 130px; }
.note { color: var(--soft); font-weight: 400; }
td.note, th .note { font-size: 13px; }
svg { display: block; max-width: 100%; }
svg text { fill: var(--soft); font: 11px system-ui, "DejaVu Sans", sans-serif; }
.s0 { fill: var(--s0); } .s1 { fill: var(--s1); } .s2 { fill: var(--s2); } .s3 { fill: var(--s3); }
.s4 { fill: var(--s4); } .good { fill: var(--good); color: var(--good); } .bad { fill: var(--bad); color: var(--bad); }
.track { fill: var(--sunk); } .tick, .axis { stroke: var(--ink); } .axis { stroke: var(--line); }
.tick { stroke-width: 2; } .whisker { stroke: var(--ink); stroke-width: 1.5; opacity: .75; }
.legend { display: flex; flex-wrap: wrap; gap: 4px 16px; list-style: none; margin: 0 0 10px; padding: 0;
 font-size: 13px; color: var(--soft); }
.legend svg { display: inline-block; vertical-align: -1px; margin-right: 6px; }
.pair { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(420px, 100%), 1fr)); gap: 0 40px; }
.pair > div { min-width: 0; } .pair h3 { margin-top: 0; } .say code { white-space: nowrap; }
.many.wide { grid-template-columns: repeat(auto-fill, minmax(min(340px, 100%), 1fr)); }
.many { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(250px, 100%), 1fr)); gap: 18px 24px; }
figure { margin: 0; } figcaption { font-size: 13.5px; margin-bottom: 4px; }
details { margin: 10px 0 0; } details > *:nth-child(2) { margin-top: 10px; }
summary { cursor: pointer; color: var(--link); font-size: 14px; width: fit-content; }
.badge { display: inline-block; border-radius: 99px; padding: 0 9px; font-size: 12.5px; line-height: 20px;
 border: 1px solid var(--line); color: var(--soft); white-space: nowrap; }
.badge.pass { color: var(--good); background: var(--goodback); border-color: transparent; }
.badge.fail { color: var(--bad); background: var(--badback); border-color: transparent; }
.badge.skip, .badge.stale { color: var(--warn); background: var(--warnback); border-color: transparent; }
.banner { border-radius: 8px; padding: 10px 14px; margin: 0 0 12px; background: var(--sunk); }
.banner.pass { background: var(--goodback); color: var(--good); }
.banner.fail { background: var(--badback); color: var(--bad); }
.banner.stale { background: var(--warnback); color: var(--warn); }
.banner code { color: inherit; }
.cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(300px, 100%), 1fr)); gap: 16px; }
.card { border: 1px solid var(--line); border-radius: 10px; padding: 12px; display: flex; flex-direction: column;
 gap: 8px; min-width: 0; background: var(--paper); }
.card p { margin: 0; } .card .q { font-weight: 600; font-size: 15.5px; line-height: 1.35; }
.card .a { font-size: 15.5px; } .card .a b { color: var(--good); }
.card code { color: var(--soft); } .tags { display: flex; flex-wrap: wrap; gap: 4px; }
.pic { position: relative; border-radius: 6px; overflow: hidden; background: var(--sunk); align-self: center;
 max-width: 100%; line-height: 0; }
.pic img { display: block; max-width: 100%; max-height: 320px; width: auto; height: auto; }
.pic svg { position: absolute; inset: 0; width: 100%; height: 100%; }
.pic.none { display: grid; place-items: center; width: 100%; height: 120px; color: var(--soft); line-height: 1.4; }
.mark { vector-effect: non-scaling-stroke; stroke-linejoin: round; stroke-width: 2.2; fill-opacity: .14;
 filter: drop-shadow(0 0 1px #fff) drop-shadow(0 0 1px #fff); }
.key { stroke-width: 2; fill-opacity: .25; } .near { stroke-dasharray: 5 3; fill-opacity: 0; }
.m0 { fill: #d3165d; stroke: #d3165d; } .m1 { fill: #0a6fd1; stroke: #0a6fd1; }
.m2 { fill: #0a8f5c; stroke: #0a8f5c; } .m3 { fill: #a75a00; stroke: #a75a00; }
.marks { font-size: 13px; color: var(--soft); display: flex; flex-wrap: wrap; gap: 2px 12px; }
.marks svg { display: inline-block; vertical-align: -2px; margin-right: 5px; }
@media (max-width: 620px) {
 header, main, footer { padding-left: 12px; padding-right: 12px; } section { padding: 16px 14px; }
 h1 { font-size: 23px; } .tiles { grid-template-columns: repeat(2, 1fr); } .plot { min-width: 96px; }
 th, td { padding-right: 10px; } }
@media print {
 :root { --back: #fff; --sunk: #f0f0f0; } body { font-size: 11pt; } nav, .noprint { display: none !important; }
 section { border: 0; padding: 0; } .card, figure, tr { break-inside: avoid; } .scroll { overflow: visible; }
 * { print-color-adjust: exact; -webkit-print-color-adjust: exact; } }
"""
