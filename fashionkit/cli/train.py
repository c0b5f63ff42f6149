"""`fashionkit train`: Lightning's command line over the recipes of `train/`."""

from __future__ import annotations

from dataclasses import dataclass

from fashionkit.cli.arguments import arg


@dataclass
class TrainArgs:
    """Arguments of `fashionkit train`."""

    words: list[str] = arg("fit, validate, test or predict, and what they take", rest=True)


def train(args: TrainArgs) -> int:
    """Trains models, and measures and uses what was trained.

    `fit` trains what a recipe says, `validate` and `test` measure the best weights of a run, `predict` writes what they
    say of each picture. A recipe is a YAML: one of those below by its name, or a file of yours by its path. Any setting
    of it can be said on the command line, too: `--data.batch 32`, `--model.lr 0.0003`, `--trainer.max_epochs 5`.

    A run has a folder, `--out` or else runs/<recipe>: config.yaml, metrics.csv, checkpoints/best.ckpt and last.ckpt.
    Stopped or killed, the same command goes on where its last checkpoint stands, and gives what it would have given.
    With other settings it is refused, unless `--overwrite` says to begin anew. A finished run says so.

    `fit --help-all` lists every setting of the trainer; `fit --config NAME --print_config` shows those of a recipe,
    defaults included; `fit --model.help fashionkit.train.style.StyleTask` says what each of a class means.

    Example:
        fashionkit train fit --config style_backbone_small --data.catalog out/drawn
        fashionkit train fit --config style_backbone_small --out runs/long --trainer.max_epochs 30
        fashionkit train test --out runs/long
        fashionkit train fit --config style_backbone_small --print_config   # its settings
    """
    if not args.words or args.words[-1] in ("-h", "--help", "help"):
        print(_help(), end="")
        return 0 if args.words else 2
    from fashionkit.train.cli import run

    return run(args.words)


def _help() -> str:
    from textwrap import dedent, indent

    from fashionkit.recipes import find, names

    about, _, example = (train.__doc__ or "").partition("Example:")
    first, _, more = about.partition("\n")
    lines = ["usage: fashionkit train fit|validate|test|predict [--config NAME] [--out FOLDER] [--setting value …]", ""]
    lines += [first, dedent(more).rstrip(), "", "settings of every run:"]
    lines += [f"  {option:<24}{text}" for option, text in OPTIONS.items()]
    lines += ["", "recipes:"]
    width = max(map(len, names("train")), default=0) + 2
    for name in names("train"):
        text = find("train", name).read_text(encoding="utf-8").splitlines()[0]
        lines.append(f"  {name:<{width}}{text.lstrip('# ')}")
    return "\n".join([*lines, "", "example:", indent(dedent(example).strip(), "  "), ""])


OPTIONS = {
    "--out FOLDER": "folder of the run; without it, runs/<recipe>",
    "--overwrite": "begin anew in a folder that holds a run",
    "--seed_everything N": "of weights, order, changes and dropout",
    "--run.ema DECAY": "average the weights; the average is judged and kept",
    "--run.patience N": "stop after so many epochs without a better measure",
    "--run.monitor NAME": "measure that picks the best weights",
    "--run.save_every N": "steps between checkpoints: what a kill costs at most",
    "--run.tensorboard true": "log for TensorBoard as well",
    "--trainer.devices N": "GPUs or processes; --trainer.precision bf16-mixed, …",
    "--ckpt_path FILE": "validate, test, predict: another checkpoint than the best of --out",
}
VERBS = {"train": train}
