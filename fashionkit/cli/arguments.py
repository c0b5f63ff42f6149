"""How a verb states its arguments: one dataclass, each field with its help beside it.

    @dataclass
    class ShowArgs:
        path: str = arg("folder of questions")                       # no default: a positional, and required
        out: str | None = arg("where to write", default=None)        # a default: the option `--out OUT`
        n: int = arg("how many", default=20)
        html: bool = arg("write a page instead", default=False)      # the flag `--html`
        family: list[str] = arg("only these", default=())            # `--family C1 C2`
        mapping: str = arg("mapping YAML", required=True)            # an option that must be given
        words: list[str] = arg("what another reads", rest=True)      # all words, --help too; then the only field

Types may be str, int, float, bool, Path, Literal, lists of these, and any of them `| None`. The verb gets an ordinary
object of the class, which tests and scripts can make themselves.
"""

from __future__ import annotations

from dataclasses import MISSING, dataclass, field
from typing import Any


def arg(help: str, *, default: Any = MISSING, required: bool = False, rest: bool = False) -> Any:
    """A dataclass field that is an argument of a verb.

    Args:
        help: What it is, for `--help`.
        default: Value where the argument is left out; without one the argument is a positional.
        required: The argument is an option (not a positional) that must be given.
        rest: It takes all words behind the verb as they are; the verb then prints its help itself.
    """
    metadata = {"help": help, "required": required, "rest": rest}
    if isinstance(default, tuple | list):
        values = list(default)
        return field(default_factory=lambda: list(values), metadata=metadata)
    if default is MISSING and required:
        return field(kw_only=True, metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass
class JsonArg:
    """Mixed into the arguments of every verb that measures or judges."""

    json: str | None = field(
        default=None, kw_only=True, metadata={"help": "write the figures to this JSON file, too", "required": False}
    )


def write_json(path: str | None, figures: dict[str, Any]) -> None:
    """Writes a verb's figures where `--json FILE` asks for them; nothing where it does not."""
    if path is None:
        return
    import json
    from pathlib import Path

    from fashionkit.tables import write_text

    text = json.dumps(figures, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"
    target = Path(path)
    if target.exists() and not target.is_file():  # /dev/stdout or a pipe: written to, never replaced
        target.write_text(text, encoding="utf-8")
    else:
        write_text(target, text)
