"""Distance of a template fitted to masks from the true clothed surface of a studio actor.

    python tests/bench/bench_template.py [mira ida] [--frames 24] [--cameras 8] [--size 640x470]
        [--joints smplx] [--pictures DIR]
    python tests/bench/bench_template.py ida mira --sheet docs/fitted_templates.jpg

Needs the package anny. The actor's nude body and poses, on the joints of SMPL-X, and masks of its
true surface are all that the fit gets. Distances are from points to surfaces, mm.
"""

import argparse
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from numba import njit
from PIL import Image, ImageDraw, ImageFont

from ash_core.captures.capture import CaptureCamera
from ash_core.commands.options import parse_size
from ash_core.conventions import R_WORLD_BODY
from ash_core.files.body_poses import BODY_JOINTS
from ash_core.footage.inspect.silhouette import silhouette
from ash_core.geometry.kinematics import joint_transforms
from ash_core.importers.template.closest import ClosestSurface
from ash_core.importers.template.fit import FittedTemplate, fit_clothed_template
from ash_core.importers.template.linear_skinning import bone_moves, place_points
from ash_core.importers.template.parts import BodyParts
from ash_core.records import Skinning
from ash_core.studio.actor.rig import build_rig, build_skin
from ash_core.studio.film.camera_ring import camera_ring
from ash_core.studio.mesh.surface import vertex_normals
from ash_core.studio.truth.dressing import EYE, LINING, SKIN
from ash_core.studio.truth.true_surface import TrueActor
from ash_core.studio.wardrobe.make import dressing_of, rigged
from ash_core.studio.wardrobe.outfits import OUTFITS
from ash_core.studio.wardrobe.routines import make_routines

MOTIONS = ("dance", "jacks")
R_WB = np.array(R_WORLD_BODY)
SMPLX = BODY_JOINTS["smplx"]
_SIDE = {
    "Shoulder": "collar", "Arm": "shoulder", "ArmRoll": "shoulder", "ForeArm": "elbow",
    "ForeArmRoll": "elbow", "Hand": "wrist", "UpLeg": "hip", "UpLegRoll": "hip", "Leg": "knee",
    "Foot": "ankle", "Toe": "foot", "Eye": "eye",
} | {f"{finger}{k}": f"{finger.lower()}{k}" for k in (1, 2, 3)
     for finger in ("Thumb", "Index", "Middle", "Ring", "Pinky")}  # fmt: skip
_TRUNK = {
    "Root": "pelvis", "Spine1": "spine1", "Spine2": "spine2", "Spine3": "spine3",
    "Chest": "spine3", "Neck1": "neck", "Neck2": "neck", "Head": "head", "Jaw": "jaw",
}  # fmt: skip


def smplx_joint(bone: str) -> str:
    """Return the SMPL-X joint of a studio bone."""
    if bone.endswith("Lid"):
        return "head"
    for side in ("Left", "Right"):
        if bone.startswith(side):
            return f"{side.lower()}_{_SIDE[bone.removeprefix(side)]}"
    return _TRUNK[bone]


@dataclass(frozen=True)
class Handed:
    """All that the fit gets, and the true surface."""

    body: np.ndarray
    body_faces: np.ndarray
    body_weights: np.ndarray
    turns: np.ndarray
    places: np.ndarray
    rest_joints: np.ndarray
    cameras: list[CaptureCamera]
    masks: np.ndarray
    true_rest: np.ndarray
    true_frames: np.ndarray
    true_faces: np.ndarray
    materials: np.ndarray
    parts: BodyParts | None


def hand_over(name: str, frames: int, count: int, size: tuple[int, int], joints: str) -> Handed:
    """Dress an actor, play some motions, and take its masks."""
    base = rigged(OUTFITS[name])
    sheet, body = base.fitted.sheet, base.fitted.body
    gloss: Any = SimpleNamespace(gloss=np.zeros((4, 4), np.uint8))
    data: Any = SimpleNamespace(
        skeleton=base.skeleton, skinning=base.skinning,
        rest_dofs=torch.zeros(len(base.skeleton.dof_names)),
        template=SimpleNamespace(
            vertices=torch.from_numpy(sheet.points), faces=torch.from_numpy(sheet.faces),
            corner_uvs=torch.zeros(len(sheet.faces), 3, 2),
            texture=torch.zeros(4, 4, 3, dtype=torch.uint8),
        ),
    )  # fmt: skip
    actor = TrueActor(data, dressing_of(base.fitted, OUTFITS[name], gloss))
    # True surfaces: at rest, and in frames spread over the motions.
    still = actor.play(np.zeros((1, len(base.skeleton.dof_names))))
    true_rest = still.frame(0).vertices.astype(float)
    routines = make_routines(base.skeleton, base.skinning, sheet.points, MOTIONS)["training"]
    true_frames, moves = [], []
    for dofs in routines.values():
        play = actor.play(dofs)
        every = -(-frames // len(routines))
        for frame in np.linspace(10, len(dofs) - 30, every).astype(int).tolist():
            true_frames.append(play.frame(frame).vertices.astype(float) @ R_WB.T)
            moves.append(actor.moves(dofs[frame]).numpy())
    true_frames, moves = np.stack(true_frames)[:frames], np.stack(moves)[:frames]
    # Nude body on our bones, then on the joints that the fit sees.
    lift = np.array([0.0, base.fitted.lift, 0.0])
    _, owner = build_rig(body, base.fitted.lift)
    skin = build_skin(body.weights, body.bones, owner, base.skeleton)
    weights, turns, places, rest, parts = on_joints(skin, base.skeleton, moves, joints)
    cameras = camera_ring(true_frames[:, ::7].reshape(-1, 3), count, *size, 0)
    faces = torch.from_numpy(actor.surface.faces.astype(np.int64))
    masks = np.stack([
        [255 * silhouette(torch.from_numpy(points), faces, camera).numpy().astype(np.uint8)
         for camera in cameras] for points in true_frames
    ])  # fmt: skip
    return Handed(
        body.vertices + lift, body.faces, weights, turns, places, rest,
        [CaptureCamera(c.name, c.K.double().numpy(), c.viewmat.double().numpy(), c.width, c.height)
         for c in cameras],
        masks, true_rest, true_frames, actor.surface.faces.astype(np.int64),
        actor.surface.materials, parts,
    )  # fmt: skip


def on_joints(skin: Skinning, skeleton, moves: np.ndarray, joints: str):
    """Map bones to joints: weights [V, J], turns and places of each frame in the world, rest."""
    rest = joint_transforms(skeleton, torch.zeros(len(skeleton.dof_names)).double()).numpy()
    heads = rest[skin.bone_joints.numpy()][:, :3, 3]
    bones = moves[:, skin.bone_joints.numpy()]
    if joints == "own":
        names = list(skin.bone_names)
        target = names
    else:
        names, target = list(SMPLX), [smplx_joint(bone) for bone in skin.bone_names]
    index = np.array([names.index(joint) for joint in target])
    weights = np.zeros((len(skin.bones), len(names)))
    rows = np.arange(len(weights))[:, None]
    np.add.at(weights, (rows, index[skin.bones.numpy()]), skin.weights.numpy())
    # The first bone of a joint has its place, the last one its turn. Joints without: the head's.
    turns = np.zeros((len(moves), len(names), 3, 3))
    places = np.zeros((len(moves), len(names), 3))
    places_rest = np.zeros((len(names), 3))
    head = list(skin.bone_names).index("Head")
    for j in range(len(names)):
        own = [n for n in np.flatnonzero(index == j) if not skin.bone_names[n].endswith("Lid")]
        first, last = (own[0], own[-1]) if len(own) else (head, head)
        places_rest[j] = heads[first]
        turns[:, j] = R_WB @ bones[:, last, :3, :3]
        here = bones[:, first, :3, :3] @ heads[first] + bones[:, first, :3, 3]
        places[:, j] = here @ R_WB.T
    parts = None
    if joints == "own":
        fingers = ("Hand", "Thumb", "Index", "Middle", "Ring", "Pinky")
        hands = [
            tuple(j for j, name in enumerate(names)
                  if name.startswith(side) and name.removeprefix(side).startswith(fingers))
            for side in ("Left", "Right")
        ]  # fmt: skip
        parts = BodyParts((hands[0], hands[1]), (names.index("Head"),))
    return weights, turns, places, places_rest, parts


def line(values: np.ndarray) -> str:
    return f"{np.median(values) * 1000:5.1f} {np.percentile(values, 90) * 1000:5.1f}"


def measure(fitted: np.ndarray, fitted_faces: np.ndarray, true: np.ndarray, handed: Handed):
    """Return distances: clothed fitted vertices to the true surface, and the reverse."""
    surface = ClosestSurface(true, handed.true_faces)
    to_true = surface.query(fitted)
    cloth = ~np.isin(handed.materials, (SKIN, EYE))
    clothed = cloth[to_true.faces]
    outside = np.unique(handed.true_faces[cloth & (handed.materials != LINING)])
    to_fitted = ClosestSurface(fitted, fitted_faces).query(true[outside[::3]])
    return to_true.distances[clothed], to_true.distances, to_fitted.distances


def report(name: str, fit: FittedTemplate, handed: Handed) -> None:
    """Print the distances at rest and in the frames."""
    moves = bone_moves((handed.turns, handed.places), handed.rest_joints)
    print(f"{name}: {len(fit.vertices)} vertices, {dict(fit.facts)}")
    print("             clothed->true  all->true  true->fitted  (median, 90 %, mm)")
    nude = measure(handed.body, handed.body_faces, handed.true_rest, handed)
    print("nude rest   ", "    ".join(line(part) for part in nude))
    rest = measure(fit.vertices, fit.faces, handed.true_rest, handed)
    print("rest        ", "    ".join(line(part) for part in rest))
    sums = [[], [], []]
    for move, true in zip(moves[::2], handed.true_frames[::2], strict=True):
        posed = place_points(fit.vertices, fit.weights, move)
        for part, values in zip(sums, measure(posed, fit.faces, true, handed), strict=True):
            part.append(values)
    print("frames      ", "    ".join(line(np.concatenate(part)) for part in sums), flush=True)


@njit(cache=True)
def _draw(pixels, depth, normals, faces, image, buffer):
    height, width = buffer.shape
    for f in range(len(faces)):
        i, j, k = faces[f]
        ax, ay, bx, by, cx, cy = (pixels[i, 0], pixels[i, 1], pixels[j, 0], pixels[j, 1],
                                  pixels[k, 0], pixels[k, 1])  # fmt: skip
        area = (bx - ax) * (cy - ay) - (cx - ax) * (by - ay)
        if area == 0:
            continue
        for row in range(max(int(min(ay, by, cy)), 0), min(int(max(ay, by, cy)) + 1, height)):
            for column in range(max(int(min(ax, bx, cx)), 0),
                                min(int(max(ax, bx, cx)) + 1, width)):  # fmt: skip
                x, y = column + 0.5, row + 0.5
                v = ((x - ax) * (cy - ay) - (cx - ax) * (y - ay)) / area
                w = ((bx - ax) * (y - ay) - (x - ax) * (by - ay)) / area
                u = 1 - v - w
                if u < 0 or v < 0 or w < 0:
                    continue
                z = u * depth[i] + v * depth[j] + w * depth[k]
                if z < buffer[row, column]:
                    buffer[row, column] = z
                    for d in range(3):
                        n = u * normals[i, d] + v * normals[j, d] + w * normals[k, d]
                        image[row, column, d] = 0.5 + 0.5 * n


def draw(
    vertices: np.ndarray, faces: np.ndarray, yaw: float, centre, scale: float, size
) -> np.ndarray:
    """Draw normals of a mesh without perspective; Y up."""
    c, s = np.cos(np.radians(yaw)), np.sin(np.radians(yaw))
    turned = (vertices - centre) @ np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]]).T
    width, height = size
    pixels = np.stack([width / 2 + turned[:, 0] * scale, height / 2 - turned[:, 1] * scale], 1)
    image = np.ones((height, width, 3))
    _draw(pixels, -turned[:, 2], vertex_normals(turned, faces), faces, image,
          np.full((height, width), np.inf))  # fmt: skip
    return (255 * image).astype(np.uint8)


def pictures(folder: Path, name: str, fit: FittedTemplate, handed: Handed) -> None:
    """Write pictures of the fitted and the true surface: whole, face, hand, hem; and of a frame."""
    folder.mkdir(parents=True, exist_ok=True)
    middle = np.array([0.0, 0.9, 0.0])
    head = handed.rest_joints[list(SMPLX).index("head")] + [0, 0.08, 0]
    hand = handed.rest_joints[list(SMPLX).index("left_middle2")]
    views = [
        *((yaw, middle, 330) for yaw in (0, 60, 180)),
        *((yaw, head, 1400) for yaw in (0, 50)),
        *((yaw, hand, 2000) for yaw in (60, -60)),
        (0, [0, 0.3, 0], 900),
    ]
    moves = bone_moves((handed.turns, handed.places), handed.rest_joints)
    meshes = [(fit.vertices, fit.faces), (handed.true_rest, handed.true_faces)]
    size = (360, 640)
    rows = [
        np.concatenate([draw(v, f, yaw, place, scale, size) for yaw, place, scale in views], 1)
        for v, f in meshes
    ]
    chosen = np.linspace(0, len(moves) - 1, 4).astype(int)
    for kind in range(2):
        row = []
        for frame in chosen:
            v = (
                place_points(fit.vertices, fit.weights, moves[frame])
                if kind == 0
                else handed.true_frames[frame]
            )
            v = v @ R_WB
            centre = [*((v.min(0) + v.max(0)) / 2)]
            f = fit.faces if kind == 0 else handed.true_faces
            row += [draw(v, f, yaw, centre, 300, size) for yaw in (0, 90)]
        rows.append(np.concatenate(row, 1))
    Image.fromarray(np.concatenate(rows)).save(folder / f"{name}.png")


SHEET_YAWS = {"front": 0, "from the side": 60, "back": 180}
SHEET_SCALE, SHEET_FINER, SHEET_MARGIN, LABEL_PX = 190, 2, 12, 15
"""Pixels a metre, rendered pixels a pixel along a side, px around a person, height of letters."""


def sheet(path: Path, fits: dict[str, tuple[FittedTemplate, Handed]]) -> None:
    """Write a labelled sheet: a row of fitted templates over one of true surfaces."""
    meshes = {
        name: {"fitted": (fit.vertices, fit.faces), "true": (handed.true_rest, handed.true_faces)}
        for name, (fit, handed) in fits.items()
    }
    # One size of cell, in which nobody is cut off.
    every = np.concatenate([v for kinds in meshes.values() for v, _ in kinds.values()])
    reach = np.hypot(every[:, 0], every[:, 2]).max()
    low, high = every[:, 1].min(), every[:, 1].max()
    width = round(2 * reach * SHEET_SCALE) + 2 * SHEET_MARGIN
    height = round((high - low) * SHEET_SCALE) + 2 * SHEET_MARGIN
    top, left = 3 * LABEL_PX, 5 * LABEL_PX
    columns = [(name, view) for name in meshes for view in SHEET_YAWS]
    page = Image.new("RGB", (left + width * len(columns), top + 2 * height), "white")
    pen, font = ImageDraw.Draw(page), ImageFont.load_default(LABEL_PX)
    # Draw the meshes with their labels.
    for column, (name, view) in enumerate(columns):
        middle = left + width * column + width // 2
        pen.text((middle, top // 2), f"{name}, {view}", "black", font, "mm")
        for row, (vertices, faces) in enumerate(meshes[name].values()):
            finer = (width * SHEET_FINER, height * SHEET_FINER)
            centre = np.array([0.0, (low + high) / 2, 0.0])
            scale = SHEET_SCALE * SHEET_FINER
            pixels = draw(vertices, faces, SHEET_YAWS[view], centre, scale, finer)
            cell = Image.fromarray(pixels).resize((width, height), Image.Resampling.BOX)
            page.paste(cell, (left + width * column, top + height * row))
    for row, kind in enumerate(("fitted", "true")):
        pen.text((left // 2, top + height * row + height // 2), kind, "black", font, "mm")
    page.save(path, quality=90)


class Clock:
    """Records the processor time at which each step starts."""

    def __init__(self) -> None:
        self.start = time.process_time()
        self.steps: dict[str, float] = {}

    def __call__(self, what: str, done: float) -> None:
        now = round(time.process_time() - self.start, 1)
        if what not in self.steps:
            print(f"{now:6.1f} s {what}", flush=True)
        self.steps.setdefault(what, now)


def mask_of(masks: np.ndarray, frame: int, camera: int) -> np.ndarray:
    return masks[frame, camera]


def options_of(options: argparse.Namespace) -> dict[str, Any]:
    """Return the options of the fit that the command line changes."""
    changes = {"frames": options.fitted, "cell_m": options.cell}
    return {name: value for name, value in changes.items() if value is not None}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("actors", nargs="*", default=["mira", "ida"])
    parser.add_argument("--frames", type=int, default=24)
    parser.add_argument("--cameras", type=int, default=8)
    parser.add_argument("--size", default="640x470")
    parser.add_argument("--joints", choices=("smplx", "own"), default="smplx")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--fitted", type=int)
    parser.add_argument("--cell", type=float)
    parser.add_argument("--pictures", type=Path)
    parser.add_argument("--sheet", type=Path)
    options = parser.parse_args()
    fits = {}
    for name in options.actors:
        handed = hand_over(
            name, options.frames, options.cameras, parse_size(options.size), options.joints
        )
        clock = Clock()
        fit = fit_clothed_template(
            handed.body, handed.body_faces, handed.body_weights, (handed.turns, handed.places),
            handed.rest_joints, handed.cameras, partial(mask_of, handed.masks), clock,
            parts=handed.parts, rounds=options.rounds, **options_of(options),
        )  # fmt: skip
        print(f"{name}: processor seconds at the start of each step: {clock.steps}", flush=True)
        report(name, fit, handed)
        fits[name] = fit, handed
        if options.pictures:
            pictures(options.pictures, name, fit, handed)
    if options.sheet:
        sheet(options.sheet, fits)


if __name__ == "__main__":
    main()
