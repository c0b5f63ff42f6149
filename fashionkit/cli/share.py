"""`fashionkit share`: the model of a training run as a folder for others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from fashionkit.cli.arguments import arg

if TYPE_CHECKING:
    from pathlib import Path

    from fashionkit.models.answering import AnsweringModel
    from fashionkit.models.model_card import Metrics
    from fashionkit.models.vision_model import VisionModel
    from fashionkit.vision.backbones import Backbone


@dataclass
class ShareArgs:
    """Arguments of `fashionkit share`."""

    run: str = arg("folder of a training run, or one of its checkpoints (.ckpt)")
    out: str = arg("folder to write, new or empty", required=True)
    about: str = arg("what it was trained on, and what others should know; for the card", default="")
    metrics: str | None = arg(
        "JSON file of measures for the card: a mapping, or a list of rows; without it, what the run measured",
        default=None,
    )
    licence: str = arg("of the weights, for the card; without it, what their publisher states", default="")
    weights: str | None = arg("where the backbone's first weights lie, if not where training found them", default=None)
    general: str | None = arg("frozen backbone of the general vector, by name or the folder of a model", default=None)
    general_weights: str | None = arg(
        "weights of --general: offline, hub, hub:TAG, or a file, which is copied", default=None
    )


def share(args: ShareArgs) -> None:
    """Makes a folder that others can load from a training run.

    It holds the weights (safetensors), a configuration in plain types, and a card (README.md) that says what the model
    is, how it was judged and what it cannot do. Nothing of the optimizer or of the data goes with it. Of a run with
    averaged weights the averaged ones are shared. Nothing in it can run code.

    Example:
        fashionkit share runs/style --out models/style --about "Drawn outfits, eight styles."
    """
    from pathlib import Path

    from fashionkit.models.checkpoint import find_checkpoint
    from fashionkit.models.model_folder import check_new

    check_new(Path(args.out))
    file = find_checkpoint(args.run)
    metrics = _metrics(args.metrics, file)
    model, name = _model(args, file)
    model.licence = args.licence or model.licence
    folder = model.save(args.out, args.about, metrics)
    print(f"{folder}: {name}, from {file}")
    if not args.about:
        print(f"Say what it was trained on: --about, or write it into {folder / 'README.md'}")


def _model(args: ShareArgs, file: Path) -> tuple[VisionModel | AnsweringModel, str]:
    """The model of a checkpoint, and what it is in a few words."""
    from fashionkit.models.checkpoint import answers_questions, from_checkpoint, read_checkpoint
    from fashionkit.tables import InputError

    if answers_questions(read_checkpoint(file)):
        from fashionkit.models.answering_checkpoint import answering_from_checkpoint

        if args.general is not None:
            raise InputError("a model that answers questions takes no general vector", column="general")
        asked = answering_from_checkpoint(file, args.weights)
        on = "questions alone" if asked.backbone is None else asked.backbone.name
        return asked, f"{on} with {asked.config.kind}, {len(asked.answers):,} known answers"
    model = from_checkpoint(file, args.weights, *_general(args))
    parts = [name for name in ("attributes", "style") if getattr(model, name) is not None]
    return model, " with ".join([model.backbone.name, *([" and ".join(parts)] if parts else [])])


def _general(args: ShareArgs) -> tuple[Backbone | None, str | None]:
    """The frozen backbone, and the word by which anybody gets its weights; None where they are copied."""
    from pathlib import Path

    from fashionkit.tables import InputError
    from fashionkit.vision.backbones import build_backbone

    if args.general is None:
        return None, None
    if Path(args.general).is_dir():
        from fashionkit.models.vision_model import VisionModel

        return VisionModel.load(args.general).backbone, None
    if args.general_weights is None:
        hint = "say which it had in training: `offline`, `hub:TAG`, or a file"
        raise InputError("a general backbone by name needs weights", column="general-weights", hint=hint)
    word = args.general_weights.partition(":")[0] in ("offline", "hub", "random")
    return build_backbone(args.general, args.general_weights), args.general_weights if word else None


def _metrics(path: str | None, checkpoint: Path) -> Metrics:
    """Measures for the card: of a file, or those that the run wrote."""
    from fashionkit.embed.run_measures import measures_of_run, read_measures

    if path is not None:
        return read_measures(path)
    rows, used = measures_of_run(checkpoint)
    if used:
        print(f"The card has the measures of {', '.join(used)} of this run.")
    if not any(name.endswith("test.json") for name in used):
        print("No test measures of this checkpoint lie beside it: `fashionkit train test`, or --metrics FILE.")
    return rows


VERBS = {"share": share}
