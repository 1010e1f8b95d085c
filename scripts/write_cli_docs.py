"""Write docs/reference/cli.md from the commands themselves.

    python scripts/write_cli_docs.py

A test compares the page with the commands, so it cannot fall behind.
"""

import argparse
import importlib
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "reference" / "cli.md"

INTRODUCTION = """\
# The command line

`cliper COMMAND` and `python -m backend COMMAND` are the same. Every command knows `--help`. An
expected error ends as one sentence on standard error and exit status 2; Ctrl-C gives status 130.

Made from the commands themselves by `python scripts/write_cli_docs.py`.

"""


def parser_of(name: str) -> argparse.ArgumentParser:
    """The subcommand's own parser, filled by its module."""
    command = importlib.import_module(f"backend.cli.{name.replace('-', '_')}")
    parser = argparse.ArgumentParser(prog=f"cliper {name}", description=command.HELP)
    command.configure(parser)
    return parser


def cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")


def meaning(action: argparse.Action, parser: argparse.ArgumentParser) -> str:
    """The help text with its placeholders filled in, and the choices it may take."""
    values = {**vars(action), "prog": parser.prog}
    text = (action.help or "") % values
    if action.choices:
        text += f" (one of: {', '.join(map(str, action.choices))})"
    if action.required and action.option_strings:
        text += " (required)"
    return cell(text)


def spelling(action: argparse.Action) -> str:
    """`-n N, --number N`, or the name of a positional argument."""
    default = action.dest.upper().replace("_", "-") if action.option_strings else action.dest
    metavar = action.metavar if isinstance(action.metavar, str) else default
    if not action.option_strings:
        dots = " ..." if action.nargs in ("+", "*") else ""
        return f"`{metavar}{dots}`"
    value = "" if action.nargs == 0 else f" {metavar}"
    return ", ".join(f"`{option}{value}`" for option in action.option_strings)


def table(parser: argparse.ArgumentParser) -> list[str]:
    rows = [
        f"| {spelling(action)} | {meaning(action, parser)} |"
        for action in parser._actions
        if not isinstance(action, (argparse._HelpAction, argparse._SubParsersAction))
        and action.help is not argparse.SUPPRESS
    ]
    return ["", "| argument | meaning |", "| --- | --- |", *rows] if rows else []


def section(parser: argparse.ArgumentParser, level: int = 2) -> list[str]:
    lines = [f"{'#' * level} {parser.prog}", "", cell(parser.description or ""), *table(parser), ""]
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            summaries = {choice.dest: choice.help or "" for choice in action._choices_actions}
            for name, inner in action.choices.items():
                inner.prog = f"{parser.prog} {name}"
                inner.description = inner.description or summaries.get(name, "")
                lines += section(inner, level + 1)
    return lines


def page() -> str:
    """The whole page as Markdown."""
    from backend.__main__ import COMMANDS

    lines = ["| command | |", "| --- | --- |"]
    lines += [
        f"| [`{name}`](#cliper-{name}) | {cell(summary)} |" for name, summary in COMMANDS.items()
    ]
    lines.append("")
    for name in COMMANDS:
        lines += section(parser_of(name))
    return INTRODUCTION + "\n".join(lines).rstrip() + "\n"


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    PAGE.parent.mkdir(parents=True, exist_ok=True)
    PAGE.write_text(page(), encoding="utf-8")
    print(PAGE.relative_to(ROOT))
