"""`ash-studio doctor`: check of this machine."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ash_core.doctor import Finding


@dataclass(frozen=True)
class Doctor:
    """Report what this machine has and, for what is missing, the one thing to do.

    The exit code is 1 when something is missing without which the CPU cannot render.
    """

    json: bool = False
    """Print the findings as JSON."""

    def run(self) -> int:
        from rich.console import Console

        from ash_core.commands.terminal import working
        from ash_core.doctor import examine, is_fit

        with working("examining this machine"):
            findings = examine()
        if self.json:
            Console().print_json(json.dumps([asdict(finding) for finding in findings]))
        else:
            print_table(findings)
        return 0 if is_fit(findings) else 1


def print_table(findings: "Sequence[Finding]") -> None:
    """Print a section for each group; fits a narrow terminal."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    marks = {
        "ok": Text("ok", "green"),
        "missing": Text("missing", "yellow"),
        "info": Text("-", "dim"),
    }
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    table.add_column("")
    table.add_column("found", overflow="fold")
    table.add_column("")
    table.add_column("what to do", overflow="fold")
    for n, finding in enumerate(findings):
        if n == 0 or finding.group != findings[n - 1].group:
            table.add_section()
            table.add_row(Text(finding.group, "bold"))
        mark = Text("missing", "bold red") if is_obstacle(finding) else marks[finding.state]
        table.add_row(f"  {finding.name}", Text(finding.value), mark, Text(finding.cure))
    Console().print(table)


def is_obstacle(finding: "Finding") -> bool:
    return finding.needed and finding.state == "missing"
