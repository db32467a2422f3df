"""English of the code, read from its syntax trees.

Docstrings open with a verb or a noun, long functions have headings, variables are nouns.
"""

import ast
import re
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("ash_core", "viewer")
NO_OPENINGS = {
    "As",
    "By",
    "From",
    "How",
    "In",
    "Of",
    "Since",
    "Than",
    "Those",
    "What",
    "Where",
    "Whether",
    "Which",
    "With",
}
NO_NOUNS = {
    "asked",
    "at",
    "because",
    "found",
    "given",
    "gone",
    "here",
    "kept",
    "known",
    "left",
    "made",
    "mine",
    "ours",
    "said",
    "say",
    "seen",
    "tell",
    "theirs",
    "there",
    "told",
    "wanted",
    "who",
    "whose",
    "why",
}
SIDES = {"left": {"right", "top", "up"}}
"""Words that are a side beside one of these."""
LONG = 40
"""Lines from which a function has a comment line above each paragraph."""


@cache
def parse(source: str) -> ast.Module:
    """Parse a file once for all checks."""
    return ast.parse(source)


def opening(text: str) -> str:
    """Return the first word of a docstring."""
    match = re.match(r"\W*(\w+)", text)
    return "" if match is None else match[1]


def docstrings(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """List line and text of every docstring: of modules, classes, functions, fields, constants."""
    for node in ast.walk(tree):
        for block in ("body", "orelse", "finalbody"):
            statements = getattr(node, block, None)
            for statement in statements if isinstance(statements, list) else []:
                value = statement.value if isinstance(statement, ast.Expr) else None
                if isinstance(value, ast.Constant) and isinstance(value.value, str):
                    yield statement.lineno, value.value


def offenders(source: str) -> list[tuple[int, str]]:
    """List line and first line of the docstrings that open with one of these words, in order."""
    texts = sorted((line, text.splitlines()[0]) for line, text in docstrings(parse(source)) if text)
    return [(line, f'"""{text}') for line, text in texts if opening(text) in NO_OPENINGS]


def headless(source: str) -> list[tuple[int, str]]:
    """List the long functions with fewer comment lines than paragraphs after the first one.

    A long function has at least one comment line.
    """
    tree, lines, functions = parse(source), source.splitlines(), []
    inside_text = {
        line
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
        for line in range(node.lineno + 1, (node.end_lineno or 0) + 1)
    }
    for node in ast.walk(tree):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        end = node.end_lineno or node.lineno
        if end - node.lineno + 1 < LONG:
            continue
        numbers = [n for n in range(node.body[0].lineno, end + 1) if n not in inside_text]
        texts = [lines[n - 1].strip() for n in numbers]
        breaks, comments = texts.count(""), sum(text.startswith("#") for text in texts)
        if ast.get_docstring(node, clean=False) is not None and texts[1] == "":
            breaks -= 1
        if comments < max(breaks, 1):
            functions.append((node.lineno, f"{node.name}: {comments} of {max(breaks, 1)} headings"))
    return sorted(functions)


def vague_names(source: str) -> list[tuple[int, str]]:
    """List line and name of the variables, parameters and fields that are no nouns."""
    names: list[tuple[int, str]] = []

    def visit(scope: ast.AST) -> None:
        local: list[tuple[int, str]] = []
        nodes = list(ast.iter_child_nodes(scope))
        while nodes:
            node = nodes.pop()
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                visit(node)
                continue
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                local.append((node.lineno, node.id))
            elif isinstance(node, ast.arg):
                local.append((node.lineno, node.arg))
            nodes += ast.iter_child_nodes(node)
        bound = {name for _, name in local}
        names.extend(
            (line, name)
            for line, name in local
            if name in NO_NOUNS and not bound & SIDES.get(name, set())
        )

    visit(parse(source))
    return sorted(names)


def find_in_files(
    offenders_of: Callable[[str], list[tuple[int, str]]],
) -> dict[str, list[tuple[int, str]]]:
    """Find the offenders of all files of the packages, by path."""
    return {
        path.relative_to(ROOT).as_posix(): offenders_of(path.read_text())
        for package in PACKAGES
        for path in sorted((ROOT / package).rglob("*.py"))
    }


def describe(offending: dict[str, list[tuple[int, str]]]) -> list[str]:
    """Describe each offender by a line: path, line, text."""
    return [f"{path}:{line}: {text}" for path, texts in offending.items() for line, text in texts]


def test_docstrings_open_with_a_verb_or_a_noun() -> None:
    lines = describe(find_in_files(offenders))
    assert not lines, "open with a verb (functions) or a noun (the rest):\n" + "\n".join(lines)


def test_long_functions_have_headings() -> None:
    lines = describe(find_in_files(headless))
    assert not lines, "put a comment line above each paragraph:\n" + "\n".join(lines)


def test_variables_are_nouns() -> None:
    lines = describe(find_in_files(vague_names))
    assert not lines, "name variables by what they hold:\n" + "\n".join(lines)


SAMPLE = '''"""Where things lie."""

SIDE_PX = 3
"""Of the square."""


class Box:
    """Box around a person."""

    left: int
    """What is left."""

    @property
    def is_empty(self) -> bool:
        """Whether it has no pixels."""
        return False

    def cut(self) -> None:
        """Cut it out. Of this sentence only the first one counts."""
'''


def test_every_kind_of_docstring_is_read() -> None:
    assert [line for line, _ in offenders(SAMPLE)] == [1, 4, 11, 15]


def test_an_offender_is_named_by_path_and_line() -> None:
    assert describe({"box.py": offenders(SAMPLE), "empty.py": []}) == [
        'box.py:1: """Where things lie.',
        'box.py:4: """Of the square.',
        'box.py:11: """What is left.',
        'box.py:15: """Whether it has no pixels.',
    ]


def long_function(body: str) -> str:
    """Write a function of LONG lines that begins with a body."""
    lines = ["def run() -> None:", '    """Run."""', *body.splitlines()]
    return "\n".join([*lines, *["    pass"] * (LONG - len(lines))])


def test_a_long_function_without_a_heading_is_named() -> None:
    assert headless(long_function("")) == [(1, "run: 0 of 1 headings")]
    assert headless(long_function("    # Read.")) == []
    assert headless(long_function("\n    # Read.\n    a = 1")) == []
    text = "    # Read.\n    a = 1\n\n    b = 1\n\n    c = 1"
    assert headless(long_function(text)) == [(1, "run: 1 of 2 headings")]
    assert headless(long_function(text.replace("    c", "    # Write.\n    c"))) == []
    assert headless(long_function('    a = """\n\n# no heading\n"""\n    # Read.')) == []
    assert headless("def run() -> None:\n    pass") == []


def test_a_vague_name_is_named() -> None:
    source = "def run(at: int) -> int:\n    found = [said for said in at]\n    return found"
    assert vague_names(source) == [(1, "at"), (2, "found"), (2, "said")]
    assert vague_names("left = 3\ndef run(left, right): pass") == [(1, "left")]
    assert vague_names("class Box:\n    left: int\n    top: int") == []
    assert vague_names("box.left = at.found") == []
