"""Extension of griffe, which reads docstrings for the site: examples become blocks of code.

A docstring's example begins with `>>>` and ends at an empty line, as doctest has it. Markdown would
read it as a quotation.
"""

import re
from typing import Any

import griffe

EXAMPLE = re.compile(r"^>>> .*(?:\n.+)*", re.MULTILINE)


class Examples(griffe.Extension):
    """Puts fences around the examples of every docstring."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Rewrite one docstring."""
        if obj.docstring is not None:
            obj.docstring.value = fenced(obj.docstring.value)


def fenced(text: str) -> str:
    """Fence the examples in a docstring."""
    return EXAMPLE.sub(lambda match: f"\n```pycon\n{match[0]}\n```", text)
