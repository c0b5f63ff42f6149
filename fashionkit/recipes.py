"""Finds a recipe, a YAML of the top-level `datagen/`, `train/` or `eval/`, by its name or by a path.

    "products"               ──► <checkout>/datagen/products.yaml, or the copy that the wheel carries
    "mine.yaml", "a/mine"    ──► that file: beside the YAML that names it, else from the working folder

Commands and YAMLs name recipes the same way, so a person's own pack or mapping stands in for a shipped one anywhere.
"""

from __future__ import annotations

from pathlib import Path

from fashionkit.tables import InputError

_PACKAGE = Path(__file__).resolve().parent


def root() -> Path:
    """The folder that holds `datagen/`, `train/` and `eval/`: the checkout, or `_recipes` in an installed package."""
    checkout = _PACKAGE.parent
    in_checkout = (checkout / "pyproject.toml").is_file() and (checkout / "datagen").is_dir()
    return checkout if in_checkout else _PACKAGE / "_recipes"


def names(kind: str, suffix: str = ".yaml") -> list[str]:
    """The names of all recipes of a kind, sorted.

    Args:
        kind: The folder, e.g. `datagen`, `datagen/packs` or `train`.
        suffix: Ending of the files.
    """
    return sorted(path.name.removesuffix(suffix) for path in (root() / kind).glob(f"*{suffix}") if path.is_file())


def find(kind: str, name: str, suffix: str = ".yaml", *, relative_to: Path | None = None) -> Path:
    """The file of a recipe.

    Args:
        kind: The folder, e.g. `datagen`, `datagen/packs`, `datagen/ontologies`, `datagen/mappings`, `train`, `eval`.
        name: A path (it has a separator, or ends in `suffix`), or the name of a shipped recipe, or a file's name.
        suffix: Ending of the files.
        relative_to: Folder of the YAML that says `name`; a path is looked for there first, then in the working folder.

    Raises:
        InputError: There is none; the error lists the names there are.
    """
    if not name or "\0" in name:
        raise InputError(f"this is no name of a {kind} recipe", found=name, allowed=names(kind, suffix))
    if not _is_path(name, suffix):
        shipped = root() / kind / f"{name}{suffix}"
        if shipped.is_file():
            return shipped
    places = [Path(name)] if relative_to is None else [relative_to / name, Path(name)]
    for place in places:
        if place.is_file():
            return place
    if _is_path(name, suffix):
        looked = " or ".join(str(place.parent.absolute()) for place in dict.fromkeys(places))
        hint = (
            f"looked in {looked}; the shipped recipes go by their bare name: {', '.join(names(kind, suffix)) or 'none'}"
        )
        raise InputError("no such file", file=name, hint=hint)
    hint = "a file of your own is named by its path"
    raise InputError(f"no {kind} recipe of this name", found=name, allowed=names(kind, suffix), hint=hint)


def _is_path(name: str, suffix: str) -> bool:
    return "/" in name or "\\" in name or name.endswith(suffix)
