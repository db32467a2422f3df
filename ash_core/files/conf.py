"""HOCON configurations, read as a flat list of keys and values.

pyhocon parses; substitutions are done here, since its own may never end and read the environment.
Includes are refused: they open files and addresses that the user did not name.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from pyhocon import ConfigFactory
from pyhocon.config_tree import ConfigQuotedString, ConfigSubstitution, ConfigValues

from ash_core.files.io import bad, read_bytes, show

MAX_CONF_BYTES = 64 << 10
MAX_DEPTH = 32
MAX_NODES = 4096
MAX_VALUE = 4096
"""Longest string value, after substitution."""

Value = str | int | float | bool | tuple[()]
"""Value of an entry; an empty list is an empty tuple."""


def read_conf(path: Path | str) -> list[tuple[str, Value]]:
    """Return dotted keys and values of a HOCON file, in its order; list items have numbers as
    keys."""
    text = read_bytes(path, MAX_CONF_BYTES).decode("utf-8-sig", errors="replace")
    # Wider than HOCON's own rule (comments and strings count too), so that no include passes.
    if re.search(r'INCLUDE\s*(REQUIRED|URL|FILE|PACKAGE|")', text.upper()):
        raise bad(path, None, "expected a configuration without include; paste the other file in")
    if text.count(",") + text.count("\n") > MAX_NODES:  # the parser takes 0.4 ms for each
        raise bad(path, None, f"expected at most {MAX_NODES} lines and list items")
    if _depth(text) > MAX_DEPTH:
        raise bad(path, None, f"expected at most {MAX_DEPTH} nested brackets")
    try:
        tree = ConfigFactory.parse_string(text, resolve=False)
    except Exception as error:  # pyhocon and pyparsing share no base class
        line = getattr(error, "lineno", None)
        reason = show(str(error) or type(error).__name__)
        text = f"expected HOCON, could not read it: {reason}"
        raise bad(path, line if isinstance(line, int) else None, text) from None
    if not isinstance(tree, dict):
        raise bad(path, None, "expected keys and values, got a list")
    return list(_Leaves(path, tree).walk("", tree, 0))


def _depth(text: str) -> int:
    depth = deepest = 0
    for character in text:
        if character in "{[":
            depth += 1
            deepest = max(deepest, depth)
        elif character in "}]":
            depth -= 1
    return deepest


class _Leaves:
    """Leaves of a parsed tree, with every substitution bounded in depth, number and length."""

    def __init__(self, path: Path | str, root: dict) -> None:
        self.path, self.root = path, root
        self.visited = 0
        self.known: dict[str, str] = {}
        self.open: set[str] = set()

    def walk(self, key: str, node: object, depth: int) -> Iterator[tuple[str, Value]]:
        """Yield all leaves under a node."""
        self.visited += 1
        if self.visited > MAX_NODES or depth > 2 * MAX_DEPTH:
            raise bad(self.path, None, f"expected at most {MAX_NODES} values, not nested so deep")
        if isinstance(node, ConfigValues):
            target = self.target_of(node)
            if target is not None:
                yield from self.walk(key, target, depth + 1)
            else:
                yield key, self.text(node)
        elif isinstance(node, dict):
            for name, child in node.items():
                yield from self.walk(f"{key}.{name}" if key else str(name), child, depth + 1)
        elif isinstance(node, list):
            if not node:
                yield key, ()
            for number, child in enumerate(node):
                yield from self.walk(f"{key}.{number}", child, depth + 1)
        elif isinstance(node, ConfigQuotedString):
            yield key, node.value
        elif isinstance(node, str | int | float):
            yield key, node

    def target_of(self, values: ConfigValues) -> object:
        """Return the value of a lone `${variable}`, if it is not a string."""
        token: object = values.tokens[0]
        if len(values.tokens) == 1 and isinstance(token, ConfigSubstitution):
            target = self.find(token.variable)
            if isinstance(target, dict | list | int | float):
                return target
        return None

    def find(self, variable: str) -> object:
        """Find the node that a variable names; None without one."""
        node: object = self.root
        for name in variable.strip().split("."):
            # ConfigTree's own get would raise.
            node = dict.get(node, name.strip('"')) if isinstance(node, dict) else None
        return node

    def text(self, values: ConfigValues) -> str:
        """Return a string with its substitutions done."""
        parts = []
        for token in values.tokens:
            if isinstance(token, ConfigSubstitution):
                parts.append(self.variable(token) + token.ws)
            elif isinstance(token, ConfigQuotedString):
                parts.append(token.value + token.ws)
            elif isinstance(token, str | int | float):
                parts.append(str(token))
        text = "".join(parts).strip()
        if len(text) > MAX_VALUE:
            raise bad(self.path, None, f"expected values of at most {MAX_VALUE} characters")
        return text

    def variable(self, token: ConfigSubstitution) -> str:
        """Return the string of a `${variable}`; each is computed once."""
        name = token.variable
        if name in self.open or len(self.open) > MAX_DEPTH:
            raise bad(
                self.path, None, f"expected no circular substitution, got one of {show(name)}"
            )
        if name not in self.known:
            target = self.find(name)
            if target is None and not token.optional:
                text = f"expected a value of {show(name)} in this file, found none"
                raise bad(self.path, None, text)
            self.open.add(name)
            if isinstance(target, ConfigValues):
                self.known[name] = self.text(target)
            else:
                self.known[name] = str(target) if isinstance(target, str | int | float) else ""
            self.open.discard(name)
        return self.known[name]
