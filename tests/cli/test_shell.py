"""The shell: verbs, arguments, exit codes, and errors in words. Every verb's help and example are held to its code."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal, get_type_hints

import pytest

import fashionkit
from fashionkit.cli import main
from fashionkit.cli.arguments import JsonArg, arg, write_json
from fashionkit.cli.parsing import parse
from fashionkit.cli.shell import VERBS
from fashionkit.engine import WorkerLost
from fashionkit.tables import InputError


@dataclass
class WearArgs(JsonArg):
    """Arguments of a made-up verb."""

    spec: str = arg("the spec")
    mapping: str = arg("the mapping", required=True)
    out: str | None = arg("where to", default=None)
    samples: int = arg("how many", default=20)
    share: float = arg("a share", default=0.5)
    format: Literal["parquet", "jsonl"] = arg("the format", default="parquet")
    family: list[str] = arg("only these", default=())
    hold_out: bool = arg("hold some out", default=False)


seen: list[WearArgs] = []


def wear(args: WearArgs) -> int | None:
    """Wears what the spec says.

    Example:
        fashionkit test wear SPEC --mapping shop
    """
    seen.append(args)
    return None if args.spec != "fail" else 1


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Runs a command line that knows the made-up verb; gives the code and what was printed."""
    monkeypatch.setitem(VERBS, "test wear", wear)
    seen.clear()

    def call(*words: str) -> tuple[int, str, str]:
        code = main(words)
        return code, *capsys.readouterr()

    return call


@pytest.mark.parametrize("name", VERBS)
def test_every_verb_explains_itself(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*name.split(), "--help"]) == 0
    text = capsys.readouterr().out
    assert text.startswith(f"usage: fashionkit {name}")
    assert "\nexample:\n" in text
    (arguments,) = (hint for key, hint in get_type_hints(VERBS[name]).items() if key != "return")
    assert all(entry.metadata["help"] for entry in fields(arguments))


@pytest.mark.parametrize("name", VERBS)
def test_every_example_parses(name: str) -> None:
    verb = VERBS[name]
    (arguments,) = (hint for key, hint in get_type_hints(verb).items() if key != "return")
    example = (verb.__doc__ or "").partition("Example:")[2].replace("\\\n", " ")
    lines = [line.strip() for line in example.splitlines() if line.strip().startswith(f"fashionkit {name} ")]
    assert lines, "the example shows the verb itself"
    for line in lines:
        words = shlex.split(line, comments=True)[1 + len(name.split()) :]
        assert isinstance(parse(name, verb.__doc__ or "", arguments, words), arguments)


def test_arguments_arrive_with_their_types(run: Callable[..., tuple[int, str, str]]) -> None:
    words = "--mapping m --out null --samples 1_000 --share 2 --format jsonl --family C1 C2 --hold-out --json f.json"
    assert run("test", "wear", "no", *words.split())[0] == 0
    expected = WearArgs(
        spec="no", mapping="m", out=None, samples=1000, share=2.0, format="jsonl", family=["C1", "C2"], hold_out=True,
        json="f.json",
    )  # fmt: skip
    assert seen == [expected]
    assert type(seen[0].share) is float
    run("test", "wear", "12", "--mapping", "on")
    assert seen[1] == WearArgs(spec="12", mapping="on")


def test_what_follows_two_dashes_is_no_option(run: Callable[..., tuple[int, str, str]]) -> None:
    assert run("test", "wear", "--mapping", "m", "--", "--debug")[0] == 0
    assert seen[0].spec == "--debug"


def test_a_verb_that_judges_sets_the_code(run: Callable[..., tuple[int, str, str]]) -> None:
    assert run("test", "wear", "fail", "--mapping", "m")[0] == 1


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        ("s", "still needed: --mapping"),
        ("--mapping m", "still needed: SPEC"),
        ("s --mapping m --samples few", "--samples takes a whole number, not 'few'"),
        ("s --mapping m --samples 2.5", "--samples takes a whole number, not '2.5'"),
        ("s --mapping m --share half", "--share takes a number, not 'half'"),
        ("s --mapping m --format csv", "--format takes parquet or jsonl, not 'csv'"),
        ("s --mapping m --hold_out", "there is no argument --hold_out; the nearest is --hold-out"),
        ("s --map m --mapping m", "there is no argument --map; the nearest is --mapping"),
        ("s t --mapping m", "there is no argument t"),
        ("s --mapping m --family", "--family: expected at least one argument"),
    ],
)
def test_bad_arguments_are_named(run: Callable[..., tuple[int, str, str]], words: str, problem: str) -> None:
    code, out, err = run("test", "wear", *words.split())
    assert (code, out) == (2, "")
    assert problem in err
    assert "`fashionkit test wear --help`" in err
    assert not seen


def test_top_help_version_and_groups(run: Callable[..., tuple[int, str, str]]) -> None:
    code, out, _ = run("--help")
    assert code == 0 and all(f"\n  {name} " in out for name in VERBS)
    assert run() == (2, out, "")
    assert run("--version")[:2] == (0, f"fashionkit {fashionkit.__version__}\n")
    code, out, _ = run("test", "--help")
    assert code == 0 and "test wear" in out and "inspect" not in out
    assert run("test")[0] == 2


@pytest.mark.parametrize(
    ("words", "nearest"), [("inspekt x", "inspect"), ("test ware", "test wear"), ("tset wear", "test wear")]
)
def test_an_unknown_verb_names_the_nearest(run: Callable[..., tuple[int, str, str]], words: str, nearest: str) -> None:
    code, _, err = run(*words.split())
    assert code == 2
    assert f"The nearest is {nearest!r}" in err


def _noted(error: Exception) -> Exception:
    error.add_note("  in shard 7")
    return error


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (InputError("no such colour", file="a.csv", row=3), 2, "fashionkit: a.csv, row 3: no such colour\n"),
        (_noted(ValueError("bad")), 2, "fashionkit: bad\n  in shard 7\n"),
        (OSError(28, "No space left on device", "out/part.parquet"), 1, "out/part.parquet: No space left on device\n"),
        (_noted(OSError("Arrow's words")), 1, "fashionkit: Arrow's words\n  in shard 7\n"),
        (WorkerLost("a worker was ended"), 1, "fashionkit: a worker was ended\n"),
        (KeyError("colour"), 1, "unexpected error: KeyError: 'colour'; run with --debug for the traceback\n"),
        (RuntimeError(), 1, "unexpected error: RuntimeError: RuntimeError; run"),
        (KeyboardInterrupt(), 130, "running the same command again continues"),
    ],
)
def test_errors_become_words_and_a_code(
    error: BaseException, code: int, text: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(args: WearArgs) -> int:
        """Fails."""
        raise error

    monkeypatch.setitem(VERBS, "fail", fail)
    assert main(["fail", "s", "--mapping", "m"]) == code
    err = capsys.readouterr().err
    assert text in err
    assert "Traceback" not in err
    if isinstance(error, Exception):
        assert main(["fail", "--debug", "s", "--mapping", "m"]) == code
        assert "Traceback" in capsys.readouterr().err


def test_json_figures(tmp_path: Path) -> None:
    path = tmp_path / "f.json"
    write_json(str(path), {"b": 1, "a": "é"})
    assert path.read_text(encoding="utf-8") == '{\n "a": "é",\n "b": 1\n}\n'
    write_json(None, {"never": "written"})
    assert os.listdir(tmp_path) == ["f.json"]
    with pytest.raises(ValueError, match="JSON"):
        write_json(str(path), {"share": float("nan")})


def test_json_is_written_into_a_pipe_without_replacing_it(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with subprocess.Popen(["cat", str(pipe)], stdout=subprocess.PIPE) as reader:
        write_json(str(pipe), {"a": 1})
        assert reader.communicate(timeout=10)[0] == b'{\n "a": 1\n}\n'
    assert pipe.is_fifo()


def _start(body: str, root: Path, **options: Any) -> subprocess.Popen[str]:
    """A process whose only verb has this body."""
    script = (
        "import sys, time\nfrom fashionkit.cli import main\nfrom fashionkit.cli.inspect import InspectArgs\n"
        "from fashionkit.cli.shell import VERBS\ndef verb(args: InspectArgs):\n    'Runs.'\n"
        + textwrap.indent(body, "    ")
        + "\nVERBS['verb'] = verb\nsys.exit(main(['verb', 'x']))"
    )
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONUNBUFFERED"}  # as users have it
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "env": environment, **options}
    return subprocess.Popen([sys.executable, "-c", script], text=True, cwd=root, **pipes)


@pytest.mark.parametrize("lines", [1, 100_000])
def test_a_reader_that_goes_away_ends_it_quietly(lines: int, root: Path) -> None:
    body = f"print('on', flush=True)\nsys.stdin.readline()\nfor _ in range({lines}):\n    print('a line')"
    with _start(body, root, stdin=subprocess.PIPE) as process:
        assert process.stdin is not None and process.stdout is not None and process.stderr is not None
        assert process.stdout.readline() == "on\n"
        process.stdout.close()
        process.stdin.write("go on\n")
        process.stdin.flush()
        assert process.wait(10) == 141
        assert process.stderr.read() == ""


@pytest.mark.skipif(not Path("/dev/full").is_char_device(), reason="needs a device that is always full")
def test_a_full_disk_behind_stdout_is_a_failure(root: Path) -> None:
    with open("/dev/full", "w") as full, _start("print('a line')", root, stdout=full) as process:
        _, err = process.communicate(timeout=10)
    assert process.returncode == 1
    assert err == "fashionkit: standard output: No space left on device\n"


def test_ctrl_c_ends_it_with_a_line(root: Path) -> None:
    with _start("print('on', flush=True)\ntime.sleep(60)", root) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=10)
        assert process.returncode == 130
        assert err.strip() == "fashionkit: stopped; running the same command again continues where it stopped"


def test_a_letter_that_the_terminal_lacks_is_escaped(root: Path) -> None:
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    with _start("print('caf\\u00e9')", root, env=environment) as process:
        assert process.communicate(timeout=10) == ("caf\\xe9\n", "")
        assert process.returncode == 0
