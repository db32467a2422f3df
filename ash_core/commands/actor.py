"""`ash-studio actor`: make the default character, or an actor of the wardrobe."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from ash_core.commands.import_ import check_avatar_name, write_avatar
from ash_core.commands.terminal import note, progress_bar, say, working
from ash_core.errors import InputError

if TYPE_CHECKING:
    from ash_core.studio.actor.actor import Build


@dataclass(frozen=True)
class Actor:
    """Make a character from the anny body model, with motions (extra 'studio').

    Without --name it is the default character, with three motions. Clothed actors take a few
    minutes: ida (T-shirt, loose skirt, pony tail), otto (belted coat, trousers), mira (leather
    jacket, checked trousers, bob). Their clothes move (`dressing.safetensors`). Each has eight
    motions of 20 s for training, two that training never sees, and one of another actor.
    Writes the published formats: .skeleton .skin .motion .character .obj .png and a .conf.
    """

    out: Annotated[Path, tyro.conf.arg(aliases=["-o"], metavar="DIR")]
    """Folder for the character's files; made when missing."""
    avatar: Annotated[Path | None, tyro.conf.arg(metavar="FILE", help_behavior_hint="")] = None
    """Also import the character into this avatar file (.safetensors)."""
    name: Literal["actor", "ida", "otto", "mira"] = "actor"
    """Character to make; actor is the default character."""

    def run(self) -> int:
        if self.avatar is not None:
            check_avatar_name(self.avatar)
        if self.out.exists() and not self.out.is_dir():
            raise InputError(f"{self.out}: is a file, expected a folder")
        from ash_core.studio.actor.actor import make_actor

        with progress_bar(counts=False) as progress:
            task = progress.add_task("", total=1.0)

            def tell(what: str, done: float) -> None:
                progress.update(task, description=what, completed=done)

            make_actor(self.out, tell, self._build())
        motions = sorted(path.stem for path in (self.out / "motions").glob("*.motion"))
        say(f"{self.out}: character with actor.conf, motions {', '.join(motions)}")
        if self.avatar is not None:
            from ash_core.files.released import import_ash, notes_worth_showing

            with working("importing it"):
                data, notes = import_ash(self.out / "actor.conf")
            write_avatar(self.avatar, data)
            for text in notes_worth_showing(data.variant, notes):
                note(text)
        return 0

    def _build(self) -> "Build | None":
        """Choose the function that makes it; None: the default character."""
        if self.name == "actor":
            return None
        from ash_core.studio.wardrobe.make import build_dressed
        from ash_core.studio.wardrobe.outfits import OUTFITS

        return partial(build_dressed, OUTFITS[self.name])
