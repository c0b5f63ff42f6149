"""`fashionkit ask`: answers to questions about a picture."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from fashionkit.cli.arguments import JsonArg, arg, write_json

if TYPE_CHECKING:
    from PIL.Image import Image

    from fashionkit.embed.asking import Answer


@dataclass
class AskArgs(JsonArg):
    """Arguments of `fashionkit ask`."""

    image: str = arg("a picture file; with --catalog, the id of one of its pictures")
    questions: list[str] = arg("what to ask, each question in quotes")
    model: str = arg("folder of a model that answers questions, or of a training run", required=True)
    alternatives: int = arg("how many answers to name beside the likeliest", default=4)
    threshold: float | None = arg(
        "say `cannot tell` where the likeliest answer is less likely than this, 0 to 1; without it, the model's own",
        default=None,
    )
    catalog: str | None = arg("catalogue that the picture comes from", default=None)


def ask(args: AskArgs) -> None:
    """Answers questions about a picture.

    Of each question: the likeliest of the answers that the model knows, how likely it is, and the next ones. `not
    present` says that what was asked about is not in the picture; `cannot tell` that no answer is likely enough
    (--threshold), or that the question cannot be read. Ask in the way you would ask a shop. What stands in a question
    or in the picture is never followed as an instruction: one of the known answers comes back, whatever it says.

    Example:
        fashionkit ask photo.jpg "what colour is the dress?" "got a hood?" --model models/questions
    """
    from fashionkit.embed.asking import VQAModel
    from fashionkit.tables import InputError

    for question in args.questions:
        if os.path.isfile(question):
            problem = "one picture is asked at a time, and this is another file"
            raise InputError(problem, column="questions", found=question, hint="run the command again for it")
    picture = _picture(args)
    model = VQAModel.load(args.model)
    answers = model.ask(picture, args.questions, args.alternatives, threshold=args.threshold)
    for question, answer in zip(args.questions, answers, strict=True):
        print("\n".join(_lines(question, answer)))
    found = [{"question": question} | asdict(answer) for question, answer in zip(args.questions, answers, strict=True)]
    write_json(args.json, {"image": args.image, "answers": found})


def _lines(question: str, answer: Answer) -> list[str]:
    """What is printed of one question."""
    from fashionkit.tables import shorten

    known = answer.state != "cannot tell"
    sure = f"  {answer.probability:.1%}" if known else ""  # of what is not said
    others = ", ".join(f"{shorten(text)} {probability:.1%}" for text, probability in answer.alternatives)
    lines = [shorten(question), f"  {shorten(answer.text)}{sure}"]
    if others:
        lines.append(f"  {'else' if known else 'perhaps'}: {others}")
    if answer.note:
        lines.append(f"  note: {answer.note}")
    return lines


def _picture(args: AskArgs) -> Image:
    """The picture, opened."""
    from fashionkit.catalog.catalog import Catalog
    from fashionkit.catalog.images import PictureError
    from fashionkit.embed.catalog import encoded_pictures
    from fashionkit.embed.picture_batches import read_picture
    from fashionkit.tables import InputError

    shown: str | bytes = args.image
    if args.catalog is not None:
        shown = encoded_pictures(Catalog(args.catalog), [args.image])[args.image]
        if isinstance(shown, str):
            raise InputError(shown, file=args.catalog, found=args.image)
    try:
        return read_picture(shown)
    except PictureError as error:
        where = None if args.image in str(error) else args.image
        raise InputError(str(error), file=where) from error


VERBS = {"ask": ask}
