"""`ash-studio train-demo`: the whole pipeline on two CPU cores, from an actor to a video."""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Annotated, Any, Final

import tyro

from ash_core.commands.capture import Capture, find_actor
from ash_core.commands.demo import evenly
from ash_core.commands.eval import Eval
from ash_core.commands.extract import Extract
from ash_core.commands.import_ import ImportAsh
from ash_core.commands.options import check_range, parse_size
from ash_core.commands.render import Render
from ash_core.commands.terminal import complain, say
from ash_core.commands.train import Train
from ash_core.errors import INTERRUPTED, InputError
from ash_core.scene.open import Preset

CAMERAS: Final = 8
"""Number of cameras; the seventh is held out."""
TAKES, TAKE_FRAMES = 4, 15
"""Number of training motions, and of frames from the middle of each: they begin in a plain pose."""
TEST_FRAMES: Final = 15
MEASURED_VIEWS: Final = 24
VIDEO_FRAMES: Final = 100
VIDEO_SIZE: Final = "640x480"
VIEWS, RATE, DECAY = 4, 3e-3, 0.99
"""Views per pose, learning rate and EMA decay: the defaults are for ten times the steps."""
MOST_STEPS: Final = 10**9
"""Number of steps that is never reached: the time ends the training."""
SAVE_EVERY: Final = 250
"""Steps between checkpoints: about a minute."""
BEFORE, AFTER = "before", "after"
JUDGED: Final = "novel view"
LEAST_GAIN_DB: Final = 3.0
"""Least gain of PSNR on the held-out camera."""
TOO_LITTLE: Final = 1
"""Exit code where the gain is smaller."""


@dataclass(frozen=True)
class TrainDemo:
    """Film an actor, train an avatar of it on the CPU, measure it before and after, render it.

    Runs capture, extract, import, train, eval and render with small settings. It succeeds when the
    held-out camera's PSNR rises by at least 3 dB. Stopped (Ctrl-C), it goes on where it was when it
    is run again. Needs EGL; ida needs the extra 'studio'.
    """

    out: Annotated[Path, tyro.conf.arg(aliases=["-o"], metavar="DIR")] = Path("train-demo")
    """Folder for footage/, trained/, before/, after/, pictures.png and avatar.mp4."""
    actor: Annotated[str, tyro.conf.arg(metavar="ACTOR")] = "ida"
    """Folder that `ash-studio actor` made, or a name: actor, ida, otto, mira. The last three take a
    few minutes to make, once."""
    minutes: float = 5.0
    """Duration of the training, minutes."""
    size: Annotated[str, tyro.conf.arg(metavar="WxH")] = "384x288"
    """Size of the images filmed and trained on, px."""

    def run(self) -> int:
        check_range("--minutes", self.minutes, 0.1, 1440.0, "minutes")
        parse_size(self.size)
        if self.out.exists() and not self.out.is_dir():
            raise InputError(f"{self.out}: is a file, expected a folder")
        self._agree()
        stages: list[tuple[str, Callable[[], int]]] = [
            (f"the actor {self.actor}, some poses of its motions", self._prepare),
            (f"filming it with {CAMERAS} cameras, {self.size}", self._film),
            (
                "masked images out of the videos",
                Extract(self.footage).run,
            ),
            (
                "measuring the untrained avatar",
                partial(self._measure, self.untrained, BEFORE, "cpu"),
            ),
            (f"training the preset cpu for {self.minutes:g} minutes", self._train),
            ("measuring the trained avatar", partial(self._measure, self.trained, AFTER)),
            ("rendering it in a motion that it never saw", self._render),
        ]
        for number, (what, stage) in enumerate(stages, start=1):
            say(f"--- {number} of {len(stages)}: {what}")
            started = time.perf_counter()
            if code := stage():
                return code
            say(f"    {time.perf_counter() - started:.0f} s")
        return self.conclude()

    def _agree(self) -> None:
        """Check that existing footage is of the same actor and size."""
        from ash_core.files.io import read_lines

        if self._settings.exists():
            others = json.loads("".join(read_lines(self._settings)))
            for name, value in self._identity.items():
                if others.get(name) != value:
                    text = f"expected {others.get(name)} as in {self.out}, got {value}"
                    raise InputError(f"--{name}: {text}: or another --out")
        elif self.footage.exists():
            raise InputError(f"{self.out}: holds other files, expected another --out")

    # ---- places ----

    @cached_property
    def _actor(self) -> Path:
        return find_actor(self.actor)

    @property
    def _identity(self) -> dict[str, str]:
        """Settings that all footage in one folder shares."""
        return {"actor": self.actor, "size": self.size}

    @property
    def _settings(self) -> Path:
        return self.out / "settings.json"

    @property
    def footage(self) -> Path:
        return self.out / "footage"

    @property
    def pictures(self) -> Path:
        return self.out / "pictures.png"

    @property
    def video(self) -> Path:
        return self.out / "avatar.mp4"

    @property
    def motions(self) -> Path:
        return self.out / "motions"

    @property
    def untrained(self) -> Path:
        return self.out / "untrained.safetensors"

    @property
    def trained(self) -> Path:
        return self.out / "trained" / "avatar.safetensors"

    # ---- stages ----

    def _prepare(self) -> int:
        """Make the untrained avatar, and short pieces of the actor's motions."""
        from ash_core.files.avatar_file import load_avatar
        from ash_core.files.io import write_text
        from ash_core.files.skeletool import read_motion, write_motion
        from ash_core.studio.film.script import find_motions

        motions = find_motions(self._actor)["training"]
        write_text(self._settings, json.dumps(self._identity) + "\n")
        if code := ImportAsh(self._actor, self.untrained).run():
            return code
        skeleton = load_avatar(self.untrained).skeleton
        for name in [list(motions)[n] for n in evenly(len(motions), TAKES)]:
            dofs = read_motion(motions[name], skeleton).dofs
            middle = len(dofs) // 2
            write_motion(self.motions / f"{name}.motion", dofs[middle : middle + TAKE_FRAMES])
        return 0

    def _film(self) -> int:
        motions = ",".join(map(str, sorted(self.motions.glob("*.motion"))))
        film = partial(Capture, str(self._actor), self.footage, cameras=CAMERAS, size=self.size)
        training = film(split="training", motions=motions)
        return training.run() or film(split="testing", frames=f":{TEST_FRAMES}").run()

    def _train(self) -> int:
        from ash_core.training.checkpoints import newest_checkpoint

        folder = self.trained.parent
        code = Train(
            self.footage,
            folder,
            resume=(folder / "checkpoints").exists(),
            preset="cpu",
            steps=MOST_STEPS,
            minutes=self.minutes,
            views_per_pose=VIEWS,
            learning_rate=RATE,
            ema=DECAY,
            checkpoint_every=SAVE_EVERY,
            validate_every=SAVE_EVERY,
            device="cpu",
        ).run()
        # A training that SIGTERM ended succeeds before its time is over.
        newest = newest_checkpoint(folder / "checkpoints")
        if code == 0 and (newest is None or newest[1].seconds < 60 * self.minutes):
            return INTERRUPTED
        return code

    def _measure(self, avatar: Path, out: str, preset: Preset | None = None) -> int:
        measure = partial(Eval, str(avatar), self.footage, self.out / out, views=MEASURED_VIEWS)
        return measure(device="cpu", preset=preset).run()

    def _render(self) -> int:
        from ash_core.studio.film.script import find_motions

        motion = list(find_motions(self._actor)["testing"].values())[-1]
        return Render(
            self.video,
            str(self.trained),
            motion=str(motion),
            frames=f":{VIDEO_FRAMES}",
            camera="orbit",
            size=VIDEO_SIZE,
            device="cpu",
        ).run()

    # ---- results ----

    def conclude(self) -> int:
        """Report the gain; returns the exit code."""
        self._save_pictures()
        before, after = (read_report(self.out / name) for name in (BEFORE, AFTER))
        for name in after:
            psnr, ssim = ([part[name][key] for part in (before, after)] for key in ("psnr", "ssim"))
            say(
                f"{name}: {psnr[0]:.2f} -> {psnr[1]:.2f} dB, {psnr[1] - psnr[0]:+.2f} dB; "
                f"SSIM {ssim[0]:.4f} -> {ssim[1]:.4f}"
            )
        say(f"{self.pictures}: untrained, trained, ground truth, error (dark)")
        say(f"{self.video}: the trained avatar")
        gain = after[JUDGED]["psnr"] - before[JUDGED]["psnr"]
        if gain < LEAST_GAIN_DB:
            complain(f"{JUDGED}: expected a gain of {LEAST_GAIN_DB:g} dB or more, got {gain:.2f}")
            return TOO_LITTLE
        return 0

    def _save_pictures(self) -> None:
        """Save the trained avatar's images of `eval`, with the untrained one's to their left."""
        import torch

        from ash_core.files.image import encode_png, read_image
        from ash_core.files.io import write_atomic
        from ash_core.training.evaluation import LABEL_WIDTH, draw_titles

        before, after = (read_image(self.out / name / "pictures.png") for name in (BEFORE, AFTER))
        column = (after.shape[1] - LABEL_WIDTH) // 3
        rows = torch.cat((before[:, : LABEL_WIDTH + column], after[:, LABEL_WIDTH:]), 1)
        centres = {"untrained": LABEL_WIDTH + 0.5 * column, "trained": LABEL_WIDTH + 1.5 * column}
        titles = draw_titles(rows.shape[1], centres)
        write_atomic(self.pictures, encode_png(torch.cat((titles, rows))))


def read_report(folder: Path) -> dict[str, Any]:
    """Read the report of `eval`, by the name of the set."""
    return json.loads((folder / "report.json").read_text())
