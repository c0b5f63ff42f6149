"""`fashionkit inspect`: what a folder is, from its manifest alone, so that it works for kinds yet to come."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fashionkit.cli.arguments import JsonArg, arg, write_json

if TYPE_CHECKING:
    from pathlib import Path

    from fashionkit.tables import Manifest


@dataclass
class InspectArgs(JsonArg):
    """Arguments of `fashionkit inspect`."""

    path: str = arg("a folder that fashionkit made")
    verify: bool = arg("compare every file with its checksum; exit with 1 where one differs", default=False)


def inspect(args: InspectArgs) -> int:
    """Says what a folder made by fashionkit is, and who made it from what.

    Shows the kind and schema, the tables with their rows, the counts, the source and licence, the inputs with their
    hashes, and the command, version and time. A folder that a command has not finished is said to be so.

    Example:
        fashionkit inspect out/questions --verify
    """
    from pathlib import Path

    from fashionkit.tables import MANIFEST, InputError, read_manifest, verify

    folder = Path(args.path)
    if folder.name == MANIFEST:
        folder = folder.parent
    if folder.is_file():
        raise InputError("this is a file; name the folder it is in", file=folder)
    if folder.is_dir() and not (folder / MANIFEST).is_file():
        return _unfinished(folder, args)
    manifest = read_manifest(folder)
    figures = _figures(manifest)
    print("\n".join(_describe(folder, manifest, figures["tables"])))
    if args.verify:
        figures["problems"] = verify(folder)
        _print_problems(figures["problems"], len(manifest.files))
    write_json(args.json, figures)
    return 1 if figures.get("problems") else 0


def _unfinished(folder: Path, args: InspectArgs) -> int:
    """Tells a folder whose command was stopped from one that is none of ours."""
    from fashionkit.tables import InputError

    parts: dict[str, int] = {}
    for path in sorted(folder.glob("*/part-*.parquet")):
        parts[path.parent.name] = parts.get(path.parent.name, 0) + 1
    half = sum(1 for _ in folder.rglob(".*.tmp"))
    if not parts and not half:
        below = sorted(path.parent.name for path in folder.glob("*/manifest.json"))
        hint = f"folders made by fashionkit lie in it: {', '.join(below)}" if below else None
        raise InputError("this folder was not made by fashionkit: it has no manifest.json", file=folder, hint=hint)
    print(f"{folder}: unfinished. It has no manifest.json; running the command that makes it again continues.")
    for table, count in parts.items():
        print(f"  {_clean(table)}: {count} finished part{'s' if count > 1 else ''}")
    if half:
        print(f"  {half} half-written file{'s' if half > 1 else ''}, which the next run replaces")
    write_json(args.json, {"finished": False, "parts": parts, "half_written": half})
    return 1 if args.verify else 0


def _figures(manifest: Manifest) -> dict[str, Any]:
    """What `--json` gets: the manifest with its files summed up by table."""
    tables: dict[str, dict[str, int]] = {}
    for name, entry in manifest.files.items():
        if not name.endswith(".parquet") or "/" not in name:
            continue
        table = tables.setdefault(name.rsplit("/", 1)[0], {"parts": 0, "rows": 0, "bytes": 0})
        table["parts"] += 1
        table["bytes"] += entry["bytes"]
        table["rows"] += entry["rows"] if isinstance(entry.get("rows"), int) else 0
    return {
        "finished": True,
        "kind": manifest.kind,
        "schema": manifest.schema,
        "content": manifest.content_hash(),
        "made_by": manifest.made_by,
        "provenance": manifest.provenance,
        "inputs": manifest.inputs,
        "params": manifest.params,
        "counts": manifest.counts,
        "about": manifest.about,
        "tables": tables,
        "files": len(manifest.files),
        "bytes": sum(entry["bytes"] for entry in manifest.files.values()),
    }


def _describe(folder: Path, manifest: Manifest, tables: dict[str, dict[str, int]]) -> list[str]:
    made = manifest.provenance
    command = made.get("command")
    lines = [f"{folder}: {_clean(manifest.kind)}, schema {manifest.schema}, finished"]
    lines.append(f"  made by   {_clean(manifest.made_by)}, {_clean(made.get('time', 'at an unknown time'))}")
    if isinstance(command, list):
        lines.append(f"  command   {_clean(' '.join(map(str, command)), 400)}")
    lines.append(f"  content   {manifest.content_hash()[:16]}")
    lines += _section("from", manifest.inputs)
    lines += _section("about", manifest.about)
    lines += _section("settings", manifest.params)
    lines += _section("counts", manifest.counts)
    if tables:
        lines.append("  tables")
        width = max(map(len, tables)) + 2
        for name, table in tables.items():
            shape = f"{table['rows']:>14,} rows  {table['parts']:>4} part{'s' if table['parts'] != 1 else ' '}"
            lines.append(f"    {_clean(name):<{width}}{shape}  {_size(table['bytes']):>9}")
    others = [name for name in manifest.files if not (name.endswith(".parquet") and "/" in name)]
    lines += _section("files", {name: _size(manifest.files[name]["bytes"]) for name in others[:20]})
    if len(others) > 20:
        lines.append(f"    and {len(others) - 20:,} more")
    return lines


def _section(title: str, entries: dict[str, Any]) -> list[str]:
    if not entries:
        return []
    width = min(max(map(len, entries)), 40) + 2
    return [f"  {title}"] + [f"    {_clean(name, 80):<{width}}{_value(value)}" for name, value in entries.items()]


def _value(value: object) -> str:
    if type(value) is int:
        return f"{value:,}"
    if isinstance(value, dict):
        return _clean(", ".join(f"{name} {_value(inner)}" for name, inner in value.items()), 300)
    return _clean(value, 300)


def _clean(value: object, limit: int = 200) -> str:
    """A manifest may come from anywhere: nothing in it reaches the terminal as a control character."""
    from fashionkit.tables import shorten

    return shorten(value, limit)


def _size(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def _print_problems(problems: list[str], files: int) -> None:
    if not problems:
        print(f"  verified  {files:,} file{'s' if files != 1 else ''}, each as it was written")
        return
    print(f"  verified  {len(problems):,} of {files:,} files differ:")
    for problem in problems:
        print(f"    {_clean(problem, 300)}")


VERBS = {"inspect": inspect}
