"""Parsing of the command line; mistakes become one line instead of a box."""

import contextlib
import io
import re
import sys
from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any

import tyro

from ash_core.commands.all_commands import all_commands
from ash_core.errors import InputError

PROGRAM = "ash-studio"
_RULE = re.compile(r"[─-]{8,}")
_ESCAPE = re.compile(r"\x1b\[[0-9;]*m")
_VALUE = re.compile(
    r"Error parsing (\S+): .*(invalid literal for int\(\)|could not convert string to float)"
    r".*?: '(.*?)'$"
)
_HELP = re.compile(rf"{PROGRAM}[a-z -]* --help")


def parse_command(arguments: Sequence[str]) -> Any:
    """Make the command that the arguments name. Raises: InputError for wrong ones, in one line."""
    commands = all_commands()
    if arguments and arguments[0] not in commands and not arguments[0].startswith("-"):
        near = get_close_matches(arguments[0], commands, 1)
        hint = f"; did you mean {near[0]}?" if near else ""
        names = ", ".join(commands)
        raise InputError(f"expected one of {names}, got {arguments[0]!r}{hint}")
    box = io.StringIO()
    try:
        with contextlib.redirect_stderr(box):
            return tyro.extras.subcommand_cli_from_dict(
                commands,
                prog=PROGRAM,
                description="Animatable Gaussian avatars. --version prints the version.",
                args=list(arguments),
            )
    except SystemExit as leaving:
        if not leaving.code:
            raise
        if (line := one_line(box.getvalue())) is None:
            sys.stderr.write(box.getvalue())
            raise
        raise InputError(line) from None


def one_line(box: str) -> str | None:
    """Condense tyro's box about wrong arguments to a line; None for a box of another form."""
    # Parts of the box between its rules.
    rows = [row[1:-1].rstrip() for row in _ESCAPE.sub("", box).splitlines()]
    if len(rows) < 3:
        return None
    parts: list[list[str]] = [[]]
    for row in rows[1:-1]:
        if _RULE.fullmatch(row.strip()):
            parts.append([])
        elif row.strip():
            parts[-1].append(row[1:])
    # One text for each part.
    advice, texts = "", []
    for part in parts:
        if not part:
            continue
        head, listed = part[0], part[1:]
        help_line = _HELP.search(" ".join(row.strip() for row in part))
        if help_line and head.startswith("For full"):
            advice = help_line[0]
            continue
        if head.startswith("Argument helptext"):
            continue
        # Names of arguments are indented once, their descriptions twice.
        names = [row.strip() for row in listed if re.match(r" {4}\S", row)]
        if head.startswith("Perhaps you meant"):
            options = dict.fromkeys(re.split("[ ,]", name)[0] for name in names if name[0] == "-")
            if options:
                texts.append(f"did you mean {' or '.join(list(options)[:3])}?")
        elif names and head.endswith(":"):
            texts.append(f"{head} {', '.join(names)}")
        else:
            texts.append(" ".join(row.strip() for row in part))
    # All of them in one line.
    if not texts:
        return None
    line = "; ".join(_in_plain_words(text.rstrip(".")) for text in texts)
    return f"{line[0].lower()}{line[1:]}" + (f" ({advice})" if advice else "")


def _in_plain_words(text: str) -> str:
    """Describe what a number's flag expects, instead of Python's own words."""
    if (match := _VALUE.match(text)) is None:
        return text
    flag, reason, value = match.groups()
    kind = "a whole number" if reason.startswith("invalid literal") else "a number"
    return f"{flag}: expected {kind}, got {value!r}"
