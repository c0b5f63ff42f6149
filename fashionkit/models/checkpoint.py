"""From a checkpoint of training to a model that can be shared.

    run ──► `find_checkpoint` ──► .ckpt ──► hyper-parameters ──► backbone, network ──┐
                                    └─────► state_dict, by the beginnings of names ──┴──► VisionModel

    backbone.network.   the backbone; not there where training read cached features
    network.            the style network          model.   the attribute heads, whose configuration is `attributes`

Runs that learned to answer questions: `fashionkit.models.answering_checkpoint`.

A checkpoint is Lightning's, and its `state_dict` holds the averaged weights where training averaged them. It is read
with weights_only=True: tensors and plain types.
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from fashionkit.models.attribute_model import AttributeModel
from fashionkit.models.irsn import Irsn, IrsnConfig
from fashionkit.models.model_folder import ANSWERING, KINDS
from fashionkit.models.style_model import StyleModel
from fashionkit.models.vision_model import General, VisionModel
from fashionkit.tables import MANIFEST, InputError, Manifest, read_manifest
from fashionkit.vision.backbones import Backbone, build_backbone
from fashionkit.vision.feature_store import feature_key
from fashionkit.vision.preprocess import Preprocess
from fashionkit.vision.tensors import State, fill

BACKBONE, STYLE, ATTRIBUTES = "backbone.network.", "network.", "model."
NAMES = ("best.ckpt", "last.ckpt")  # of a run of `fashionkit train`
TASKS = {"classes", "specs", "tokenizer"}  # facts that tell what was learned: styles, attributes, answers
HINT = "`fashionkit train fit` writes checkpoints"
Checkpoint = dict[str, Any]


def from_checkpoint(
    file: str | Path, weights: str | Path | None = None, general: Backbone | None = None, source: str | None = None
) -> VisionModel:
    """The model that a task of `fashionkit.train` had when it wrote a checkpoint.

    Args:
        file: The .ckpt. weights: Of the backbone, where they lie elsewhere than in training.
        general: The frozen backbone whose vectors a style task read. source: Where anybody gets the weights of it, see
            `General`; None: they are copied.

    Raises:
        InputError: The file is damaged, holds code, or is no checkpoint of such a task; or what it needs is not there.
    """
    file = Path(file)
    found = read_checkpoint(file)
    if answers_questions(found):
        does, loads = KINDS[ANSWERING]
        raise InputError(f"this run {does}: it is no model of vectors, attributes or styles", file=file, hint=loads)
    facts = found["hyper_parameters"]["facts"]
    data = found.get("datamodule_hyper_parameters") or {}
    try:
        backbone, licence = trained_backbone(found, weights, file)
        _check_features(backbone, data.get("features"), "backbone")
        if "classes" in facts:
            style = _style(found, backbone, data, file)
            beside = _general(style, general, source, data.get("general"))
            return VisionModel(backbone, None, style, beside, licence)
        if "specs" in facts and "regions" not in facts:  # heads of items are for training only
            return VisionModel(backbone, _attributes(found, file), licence=licence)
        return VisionModel(backbone, licence=licence)  # of contrastive training: the towers are all there is
    except (KeyError, TypeError, AttributeError) as error:
        problem = f"this checkpoint lacks what its task should have written: {type(error).__name__}: {error}"
        raise InputError(problem, file=file, hint=HINT) from error


def find_checkpoint(run: str | Path) -> Path:
    """The checkpoint of a run: the file itself; in a folder the best one, without one the last, or the only one.

    Raises:
        InputError: There is none, or several that nothing tells apart.
    """
    run = Path(run)
    for file in (run, *(folder / name for name in NAMES for folder in (run / "checkpoints", run))):
        if file.is_file():
            return file
    files = sorted(run.rglob("*.ckpt")) if run.is_dir() else []
    if len(files) == 1:
        return files[0]
    if not files:
        raise InputError("there is no checkpoint", file=run, hint=HINT)
    names = [str(path.relative_to(run)) for path in files]
    raise InputError("a folder with several checkpoints", file=run, allowed=names, hint="name the file of one")


def read_checkpoint(file: Path) -> Checkpoint:
    """The plain types and tensors of a checkpoint of a task.

    Raises:
        InputError: See `from_checkpoint`.
    """
    try:
        found = torch.load(file, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise InputError("there is no such checkpoint", file=file) from error
    except pickle.UnpicklingError as error:
        hint = "a checkpoint holds tensors and plain types; code in it is never run"
        raise InputError("this file is damaged, or holds code", file=file, hint=hint) from error
    except Exception as error:  # a damaged archive can raise almost anything
        raise InputError(f"the checkpoint cannot be read: {type(error).__name__}", file=file) from error
    hyper = found.get("hyper_parameters") if isinstance(found, dict) else None
    facts = hyper.get("facts") if isinstance(hyper, Mapping) else None
    state = found.get("state_dict") if isinstance(found, dict) else None
    whole = isinstance(facts, Mapping) and isinstance(state, Mapping)
    if not whole or not (TASKS & set(facts or ()) or any(k.startswith(BACKBONE) for k in state or ())):
        raise InputError("this is no checkpoint of a task of `fashionkit train`", file=file, hint=HINT)
    return dict(found)


def answers_questions(found: Checkpoint) -> bool:
    """Whether a checkpoint is of a run that learned to answer questions."""
    return "tokenizer" in found["hyper_parameters"]["facts"]


def trained_backbone(found: Checkpoint, weights: str | Path | None, file: Path) -> tuple[Backbone, str]:
    """The trained backbone with its preprocessing, and the licence of the weights that training began with."""
    hyper, tensors = found["hyper_parameters"], part_of(found["state_dict"], BACKBONE)
    source = hyper["weights"] if weights is None else weights
    if hyper.get("mask_channels"):
        raise InputError("a backbone that sees masks as channels is for comparison and is not shared", file=file)
    how = Preprocess.from_dict(found["preprocess"])
    if not tensors and (run := _run_of(source)) is not None:
        tensors, file = part_of(read_checkpoint(run)["state_dict"], BACKBONE), run
        if not tensors:
            raise InputError("there is no backbone in this checkpoint", file=run, column="weights")
    try:  # with tensors of its own, what training began with is not needed any more
        backbone = build_backbone(hyper["backbone"], "random" if tensors else source, how.size)
    except InputError as error:
        error.add_note("  these are the weights that training began with; `weights` says where they lie now")
        raise
    backbone.preprocess = how
    if tensors:
        fill(backbone.network, tensors, file)
    return backbone, _licence(backbone, str(hyper["weights"]))


def _run_of(weights: str | Path) -> Path | None:
    """The checkpoint that is named in place of weights, as training takes them from another run; None: it is none."""
    path = Path(weights)
    return find_checkpoint(path) if path.suffix == ".ckpt" or (path / "checkpoints").is_dir() else None


def _style(found: Checkpoint, backbone: Backbone, data: Mapping[str, Any], file: Path) -> StyleModel:
    hyper, facts = found["hyper_parameters"], found["hyper_parameters"]["facts"]
    sizes = {"classes": len(facts["classes"]), "channels": backbone.channels, "general": facts["general"]}
    try:
        network = Irsn(IrsnConfig(**{**(hyper.get("network") or {}), **sizes}))
    except ValueError as error:
        raise InputError(f"its network cannot be built: {error}", file=file) from error
    fill(network, part_of(found["state_dict"], STYLE), file)
    regions = data.get("regions") if network.config.use_regions else None
    return StyleModel(network, facts["classes"], regions, float(found.get("temperature", 1.0)))


def _attributes(found: Checkpoint, file: Path) -> AttributeModel:
    model = AttributeModel.from_dict(found["attributes"])
    fill(model, part_of(found["state_dict"], ATTRIBUTES), file)
    return model


def _general(style: StyleModel, backbone: Backbone | None, source: str | None, folder: Any) -> General | None:
    """The frozen backbone beside the network, which must be the one whose vectors training read."""
    if not style.general:
        if backbone is not None:
            raise InputError("this network takes no general vector", column="general", found=backbone.name)
        return None
    manifest = _manifest(folder)
    if manifest is None:
        hint = "it tells which backbone made them, and whether they are of unit norm"
        raise InputError("the folder of general vectors that training read is gone", file=folder, hint=hint)
    if backbone is None:
        name = manifest.params.get("backbone", manifest.params.get("model"))
        problem = f"the network takes a general vector of {style.general} numbers, so its backbone belongs to the model"
        raise InputError(problem, column="general", hint=f"name it, {name}, and the weights it had")
    _check_features(backbone, folder, "general")
    return General(backbone, source, unit=manifest.kind == "vectors")


def _check_features(backbone: Backbone, folder: Any, column: str) -> None:
    """Where the folder of features that training read is still there, the backbone must be the one that made it."""
    manifest = _manifest(folder)
    if manifest is not None and manifest.params.get("fingerprint") != feature_key(backbone):
        problem = "training read features of other weights or another preparation than these"
        raise InputError(problem, file=folder, column=column, found=backbone.name)


def _manifest(folder: Any) -> Manifest | None:
    """Of a folder of vectors or features; None where it is gone."""
    return read_manifest(folder) if isinstance(folder, str) and (Path(folder) / MANIFEST).is_file() else None


def part_of(state: Mapping[str, Any], prefix: str) -> State:
    """The tensors whose names begin so, without that beginning."""
    return {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}


def _licence(backbone: Backbone, source: str) -> str:
    """Of published weights, where their publisher says so."""
    if source.partition(":")[0] != "hub":
        return ""
    config = getattr(backbone.network, "pretrained_cfg", None)
    return str((config or {}).get("license") or "")
