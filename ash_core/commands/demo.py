"""`ash-studio demo`: the bundled avatar dances."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import tyro

from ash_core.commands.measure import as_table, machine, save_json, time_stages
from ash_core.commands.options import check_range, parse_background
from ash_core.commands.render import render_to_file
from ash_core.commands.terminal import note, say
from ash_core.scene.open import (
    BUNDLED,
    load_avatar_data,
    load_motion,
    make_renderer,
)

if TYPE_CHECKING:
    from ash_core.files.video import Pixels
    from ash_core.scene.record import Shot

WIDTH, HEIGHT = 640, 480
FOV_RAD: Final = math.radians(30.0)
BACKGROUND: Final = "#e9ecf2"
LEAST_SECONDS: Final = 4.0
COLUMNS, ROWS = 4, 3
TIMED_FRAMES: Final = 40
MARGIN, CAPTION = 12, 24
"""Pixels between the pictures of the contact sheet, and of the line of text under each."""
INK, PAPER = (70, 78, 92), (250, 250, 252)


@dataclass(frozen=True)
class Demo:
    """Render the bundled avatar's motion: avatar.mp4, contact_sheet.png and timings.json."""

    out: Annotated[Path, tyro.conf.arg(aliases=["-o"], metavar="DIR")] = Path("demo")
    """Folder for the three files; made when missing."""
    seconds: float = 10.0
    """Length of the video at 25 frames a second, s; at most the motion's."""

    def run(self) -> int:
        # Check the flags.
        check_range("--seconds", self.seconds, LEAST_SECONDS, 3600.0, "seconds")
        from ash_core.files.video import open_writer
        from ash_core.geometry.framing import orbit_cameras
        from ash_core.scene.record import make_shots

        # Avatar, motion and an orbit of cameras.
        data = load_avatar_data(BUNDLED)
        motion = load_motion(None, BUNDLED, data)
        frames = list(range(min(len(motion.dofs), round(self.seconds * motion.fps))))
        dofs = motion.dofs[frames]
        cameras = orbit_cameras(data, dofs, FOV_RAD, WIDTH, HEIGHT, motion.fps)
        background = parse_background(BACKGROUND)
        renderer = make_renderer(data, "auto", "auto", None, note)

        # Requests of chosen frames.
        def shots(chosen: Sequence[int]) -> "list[Shot]":
            chosen_cameras = [cameras[n] for n in chosen]
            return list(
                make_shots(data, motion, chosen, chosen_cameras, background, device=renderer.device)
            )

        # Render it; the contact sheet takes some of the frames.
        pictures: dict[int, Pixels] = {}
        sheet_numbers = evenly(len(frames), COLUMNS * ROWS)

        def keep(shot: "Shot", pixels: "Pixels") -> None:
            if shot.number in sheet_numbers:
                pictures[shot.number] = pixels

        # Video.
        video = self.out / "avatar.mp4"
        writer = open_writer(video, WIDTH, HEIGHT, motion.fps)
        code = render_to_file(renderer, shots(frames), len(frames), writer, after=keep)
        if code != 0:
            return code
        # Contact sheet and timings.
        save_contact_sheet(self.out / "contact_sheet.png", pictures, motion.fps)
        stages = time_stages(renderer, shots(evenly(len(frames), TIMED_FRAMES)))
        timings: dict[str, Any] = {
            **machine(),
            "avatar": data.name,
            "motion": motion.name,
            "size": [WIDTH, HEIGHT],
            "frames": len(frames),
            "milliseconds": as_table(stages),
            "frames_per_second": round(1e3 / stages["pose to pixels"].median, 1),
        }
        save_json(self.out / "timings.json", timings)
        say(f"{self.out / 'contact_sheet.png'}: {len(pictures)} frames of it")
        say(
            f"{self.out / 'timings.json'}: pose to pixels {stages['pose to pixels']} ms, "
            f"{timings['frames_per_second']} frames/s"
        )
        return 0


def evenly(count: int, most: int) -> list[int]:
    """Choose at most `most` of the numbers 0..count-1, evenly spaced, the first among them."""
    return sorted({count * n // most for n in range(most)})


def save_contact_sheet(out: Path, pictures: "dict[int, Pixels]", fps: float) -> None:
    """Save a grid of frames, each with its number and time under it."""
    import numpy as np
    from PIL import Image, ImageDraw, ImageFont

    from ash_core.files.video import open_writer

    tile_width, tile_height = WIDTH // 2, HEIGHT // 2
    step_x, step_y = tile_width + MARGIN, tile_height + CAPTION + MARGIN
    width, height = COLUMNS * step_x + MARGIN, ROWS * step_y + MARGIN
    sheet = Image.new("RGB", (width, height), PAPER)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(14)
    for place, (number, pixels) in enumerate(sorted(pictures.items())):
        x = MARGIN + place % COLUMNS * step_x
        y = MARGIN + place // COLUMNS * step_y
        tile = Image.fromarray(pixels).resize((tile_width, tile_height), Image.Resampling.LANCZOS)
        sheet.paste(tile, (x, y))
        caption = f"frame {number}   {number / fps:.2f} s"
        draw.text((x + 2, y + tile_height + 4), caption, INK, font)
    with open_writer(out, width, height) as writer:
        writer.write(np.asarray(sheet))
