"""Commands by name: ours, and those of packages above this one."""

from importlib.metadata import entry_points
from typing import Any, Final

from ash_core.commands.actor import Actor
from ash_core.commands.bench import Bench
from ash_core.commands.cameras import Cameras
from ash_core.commands.capture import Capture
from ash_core.commands.demo import Demo
from ash_core.commands.doctor import Doctor
from ash_core.commands.eval import Eval
from ash_core.commands.export_ import Export
from ash_core.commands.extract import Extract
from ash_core.commands.import_ import Import
from ash_core.commands.inspect_ import Inspect
from ash_core.commands.render import Render
from ash_core.commands.train import Train
from ash_core.commands.train_demo import TrainDemo

COMMANDS: Final[dict[str, Any]] = {
    "render": Render,
    "import": Import,
    "export": Export,
    "train": Train,
    "eval": Eval,
    "actor": Actor,
    "extract": Extract,
    "cameras": Cameras,
    "inspect": Inspect,
    "capture": Capture,
    "demo": Demo,
    "train-demo": TrainDemo,
    "doctor": Doctor,
    "bench": Bench,
}
GROUP: Final = "ash_studio.commands"
"""Entry points: commands of packages above this one, the viewer's."""


def all_commands() -> dict[str, Any]:
    """List our commands, and those of other packages."""
    return {**{entry.name: entry.load() for entry in entry_points(group=GROUP)}, **COMMANDS}
