"""Parts of the documentation site that are read from the code, so that they cannot go stale.

MkDocs calls `on_page_markdown` for every page (`hooks` in mkdocs.yml). A comment on a line of its
own is replaced: `<!-- commands -->`, `<!-- help COMMAND -->`, `<!-- keys -->`,
`<!-- files PACKAGE -->`, `<!-- examples -->`, `<!-- findings -->`. A public name of `ash_core`
without a section in library.md is a warning, and `make docs` fails on warnings.
"""

import ast
import contextlib
import io
import logging
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args
from unittest import mock

import ash_core
from ash_core.commands.all_commands import all_commands
from ash_core.commands.usage import parse_command

ROOT = Path(ash_core.__file__).resolve().parent.parent
LIBRARY_PAGE = "library.md"
HELP_COLUMNS = 200
"""Characters a line of help: wide enough that no argument is cut."""
_BOX = ("╭", "│", "╰")
_PLACE = re.compile(r"^<!-- (\w+) ?([\w -]*?) -->$", re.MULTILINE)
_SECTION = re.compile(r"^::: ([\w.]+)$", re.MULTILINE)
_log = logging.getLogger("mkdocs.hooks.ash_studio")


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Fill in what a page asks of the code, and warn of undocumented public names."""
    if page.file.src_uri == LIBRARY_PAGE:
        for name in undocumented(markdown):
            _log.warning("%s has no section for the public name ash_core.%s", LIBRARY_PAGE, name)
    return filled(markdown)


def filled(markdown: str) -> str:
    """Replace the comments by tables. Raises: KeyError for a comment of an unknown kind."""
    return _PLACE.sub(lambda match: PARTS[match[1]](match[2]), markdown)


def undocumented(markdown: str) -> list[str]:
    """List the public names of `ash_core` without a `:::` section in this page."""
    sections = {match[1].rpartition(".")[2] for match in _SECTION.finditer(markdown)}
    names = [name for name in getattr(ash_core, "__all__", ()) if not name.startswith("__")]
    return [name for name in names if name not in sections]


def command_names() -> Iterator[tuple[str, Any]]:
    """List every command as it is typed, with its class; those of `import` one by one."""
    for name, command in all_commands().items():
        choice = getattr(command, "__dataclass_fields__", {}).get("what")
        if choice is None:
            yield name, command
            continue
        for kind in get_args(getattr(choice.type, "__origin__", choice.type)):
            for mark in kind.__metadata__:
                if hasattr(mark, "name"):  # else the filler of a group of one
                    yield f"{name} {mark.name}", kind.__origin__


def command_table(_: str = "") -> str:
    """Write a line for every command: its name, and the first line of its help."""
    rows = ["| command | use |", "|---|---|"]
    for name, command in command_names():
        first = (command.__doc__ or "").strip().splitlines()[0]
        anchor = name.replace(" ", "-")
        rows.append(f"| [`ash-studio {name}`](#ash-studio-{anchor}) | {_as_text(first)} |")
    return "\n".join(rows)


def help_table(name: str) -> str:
    """Write what `ash-studio NAME --help` prints: usage, text and a table of arguments."""
    screen = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")  # tyro asks it for its encoding
    environment = {"COLUMNS": str(HELP_COLUMNS), "NO_COLOR": "1", "TERM": "dumb"}
    with (
        mock.patch.dict("os.environ", environment),
        contextlib.redirect_stdout(screen),
        contextlib.suppress(SystemExit),  # the way that help leaves
    ):
        parse_command([*name.split(), "--help"])
    screen.seek(0)
    usage, _, rest = screen.read().partition("\n\n")
    text = "\n".join(line for line in rest.splitlines() if line[:1] not in _BOX)
    rows = ["| argument | meaning |", "|---|---|"]
    rows += [f"| {_as_code(flags)} | {_as_text(words)} |" for flags, words in arguments(rest)]
    code = f"```text\n{' '.join(usage.removeprefix('usage: ').split())}\n```"
    return "\n\n".join((code, _as_text(text.strip()), "\n".join(rows)))


def arguments(printed: str) -> list[tuple[str, str]]:
    """Read argument and description from the boxes of a help text; --help itself is left out.

    A row that begins at the margin opens an argument. Indented rows go on with its description.
    """
    found: list[list[str]] = []
    for line in printed.splitlines():
        row = line.strip("│").removeprefix(" ").rstrip() if line[:1] == "│" else ""
        if not row or set(row) == {"─"}:
            continue
        name, _, words = row.partition("  ")
        if not row.startswith(" "):
            found.append([name, words.strip()])
        elif found:
            found[-1][1] = f"{found[-1][1]} {row.strip()}".strip()
    # The title of a group of arguments has no description.
    return [(flags, text) for flags, text in found if text and not flags.startswith("-h,")]


def key_table(_: str = "") -> str:
    """Write the window's shortcuts, a row for each command that has one."""
    from viewer.commands import COMMANDS

    rows = ["| keys | menu | command |", "|---|---|---|"]
    for command in COMMANDS:
        if command.shortcut:
            keys = command.keys.replace("\\", "&#92;")
            rows.append(f"| <kbd>{keys}</kbd> | {command.group} | {_as_text(command.title)} |")
    return "\n".join(rows)


def file_tables(package: str) -> str:
    """Write a table of modules and their first lines for each folder of a package."""
    parts = []
    folders = sorted({path.parent for path in (ROOT / package).rglob("*.py")})
    for folder in folders:
        modules = [path for path in sorted(folder.glob("*.py")) if ast.parse(path.read_text()).body]
        rows = ["| module | subject |", "|---|---|"]
        rows += [f"| `{path.name}` | {_as_text(first_line(path))} |" for path in modules]
        parts += [f"## {folder.relative_to(ROOT)}/", "\n".join(rows)]
    return "\n\n".join(parts)


def example_programs(_: str = "") -> str:
    """Write every program of examples/: its name and its code."""
    parts = []
    for path in sorted((ROOT / "examples").glob("*.py")):
        parts += [f"### {path.name}", f"```python\n{path.read_text().strip()}\n```"]
    return "\n\n".join(parts)


def finding_table(_: str = "") -> str:
    """Write every kind of finding of an inspection, and what it means."""
    from ash_core.footage.inspect.findings import FINDINGS

    rows = ["| finding | meaning, and what to do |", "|---|---|"]
    rows += [f"| {_as_text(kind.shown)} | {kind.meaning} |" for kind in FINDINGS.values()]
    return "\n".join(rows)


def first_line(module: Path) -> str:
    """Read the first sentence line of a module's docstring."""
    return (ast.get_docstring(ast.parse(module.read_text())) or "").partition("\n")[0]


def _as_text(text: str) -> str:
    """Escape what Markdown would read as marks of its own."""
    return re.sub(r"([|*<>{}\[\]])", r"\\\1", text)


def _as_code(text: str) -> str:
    return "`" + text.replace("|", "\\|") + "`"


PARTS: dict[str, Callable[[str], str]] = {
    "commands": command_table,
    "help": help_table,
    "keys": key_table,
    "files": file_tables,
    "examples": example_programs,
    "findings": finding_table,
}
"""First word of a comment: the function that replaces it."""
