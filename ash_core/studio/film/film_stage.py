"""Virtual stage: an actor, its cameras, and the data set's files that all its splits share."""

import hashlib
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from jaxtyping import Float

from ash_core.conventions import R_WORLD_BODY
from ash_core.errors import InputError
from ash_core.files.cameras.published import read_cameras, write_calibration, write_cameras
from ash_core.files.dataset import CALIBRATION, CAMERAS, Split
from ash_core.files.io import bad, write_atomic
from ash_core.files.released import character_files, import_ash
from ash_core.records import Camera
from ash_core.studio.film.camera_ring import camera_ring
from ash_core.studio.film.film_record import CLOTH, footage, read_record
from ash_core.studio.truth.cloth import SPRINGS, ClothName
from ash_core.studio.truth.dressing import FILE as DRESSING
from ash_core.studio.truth.dressing import load_dressing
from ash_core.studio.truth.true_surface import TrueActor

EVERY: Final = 4
"""Step between the poses that place the cameras."""
FLESH_M: Final = 0.04
SWING_M: Final = 0.12
"""Distance from the skinned surface to the true one: folds and hair; cloth that swings."""
MAX_FILE_BYTES: Final = 1 << 30


@dataclass(frozen=True)
class FilmStage:
    """Actor and the cameras around it."""

    actor: TrueActor
    cameras: tuple[Camera, ...]
    reach_m: float
    """Reach of the surface about the middle of its box, in any pose."""
    identity: dict[str, Any]
    """Values that determine the stage: all footage of one data set has the same."""


def read_actor(folder: Path, seed: int, cloth: ClothName = SPRINGS) -> TrueActor:
    """Load an actor from its folder. cloth: solver of what swings. Raises: InputError."""
    data, _ = import_ash(folder)
    return TrueActor(data, load_dressing(folder / DRESSING, data), seed, cloth)


def build_stage(
    folder: Path,
    actor: TrueActor,
    motions: Sequence[Float[np.ndarray, "_ D"]],
    count: int,
    size: tuple[int, int],
    seed: int,
) -> FilmStage:
    """Build a stage. motions: all motions of the data set's splits, which share their cameras."""
    parts = [_outline(actor, dofs[::EVERY]) for dofs in motions]
    outlines = np.concatenate(parts)  # [F, P, 3]
    middles = (outlines.min(1) + outlines.max(1)) / 2
    reach = float(np.linalg.norm(outlines - middles[:, None], axis=-1).max())
    # Repeated points take time without an effect.
    points = np.unique(outlines.reshape(-1, 3).round(2), axis=0)
    cameras = tuple(camera_ring(points, count, *size, seed))
    identity = {
        "actor": _fingerprint(files_of_actor(folder)),
        "cameras": count,
        "size": list(size),
        "seed": seed,
        CLOTH: actor.solver.identity,
        # The motions that placed the cameras.
        "stage": hashlib.sha256(b"".join(dofs.tobytes() for dofs in motions)).hexdigest()[:16],
    }
    return FilmStage(actor, cameras, reach, identity)


def stage_as_filmed(stage: FilmStage, out: Path, splits: Iterable[Split]) -> FilmStage:
    """Return the stage with the cameras of existing footage of the same actor, whatever its motion.

    Without footage, or with another actor's (which `Film.check` reports): the stage itself.
    """
    for split in splits:
        record = read_record(out / split) if footage(out, split) else None
        settings = record["settings"] if record is not None else {}
        others = [key for key in stage.identity if settings.get(key) != stage.identity[key]]
        if others != ["stage"] or not (out / CAMERAS).is_file():
            continue
        cameras = read_cameras(out / CAMERAS)
        if len(cameras) == len(stage.cameras):
            return replace(
                stage, cameras=cameras, identity={**stage.identity, "stage": settings.get("stage")}
            )
    return stage


def _outline(actor: TrueActor, dofs: Float[np.ndarray, "F D"]) -> Float[np.ndarray, "F P 3"]:
    """Return the outermost points of the surface in each pose, world, m, with room for cloth."""
    golden = np.pi * (3.0 - np.sqrt(5.0))
    height = 1 - (2 * np.arange(96) + 1) / 96
    radius = np.sqrt(1 - height**2)
    angle = golden * np.arange(96)
    ways = np.stack((radius * np.cos(angle), radius * np.sin(angle), height))
    is_loose = bool((actor.dressing.loose > 0.05).any())
    moves = actor.moves(np.asarray(dofs, float))
    outlines = []
    for pose in moves:
        places = actor.skinned(pose) @ np.array(R_WORLD_BODY).T
        furthest = places[(places @ ways).argmax(0)]
        outlines.append(furthest + (SWING_M if is_loose else FLESH_M) * ways.T)
    return np.stack(outlines)


def files_of_actor(folder: Path) -> list[Path]:
    """List the files of an actor that a data set needs; other files stay in its folder."""
    home = folder.absolute()
    named = [path for path in character_files(folder) if path.is_relative_to(home)]
    return sorted({*named, *home.glob(DRESSING)})


def _fingerprint(files: Iterable[Path]) -> str:
    mark = hashlib.sha256()
    for path in files:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise bad(path, None, f"expected at most {MAX_FILE_BYTES >> 20} MiB")
        mark.update(path.name.encode() + b"\0" + path.read_bytes())
    return mark.hexdigest()[:16]


def write_stage(out: Path, folder: Path, cameras: Sequence[Camera]) -> None:
    """Write the character and the calibration of a data set."""
    for path in files_of_actor(folder):
        target = out / path.relative_to(folder.absolute())
        if not target.is_file() or not _same(path, target):
            write_atomic(target, path.read_bytes())
    if not _holds(out, cameras):
        write_calibration(out / CALIBRATION, cameras)
        write_cameras(out / CAMERAS, cameras)


def _holds(out: Path, cameras: Sequence[Camera]) -> bool:
    """Return whether the file has these very cameras: written again, they would be rounded
    again."""
    if not (out / CALIBRATION).is_file() or not (out / CAMERAS).is_file():
        return False
    try:
        stored = read_cameras(out / CAMERAS)
    except InputError:
        return False
    return len(stored) == len(cameras) and all(
        torch.equal(a.viewmat, b.viewmat)
        and torch.equal(a.K, b.K)
        and (a.width, a.height) == (b.width, b.height)
        for a, b in zip(stored, cameras, strict=True)
    )


def _same(one: Path, other: Path) -> bool:
    return one.stat().st_size == other.stat().st_size and one.read_bytes() == other.read_bytes()


def free_bytes(place: Path) -> int:
    """Return the free bytes of a folder's disk; the folder need not exist yet."""
    place = place.absolute()
    while not place.exists():
        place = place.parent
    return shutil.disk_usage(place).free
