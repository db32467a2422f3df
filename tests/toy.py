"""A tiny character in the published formats: a bending capsule of 58 vertices."""

import io
import shutil
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image as PillowImage
from torch import Tensor

from ash_core.files.cameras.published import write_cameras
from ash_core.files.io import write_atomic, write_text
from ash_core.files.obj import ObjMesh, write_obj
from ash_core.files.skeletool import (
    CharacterFiles,
    bone_joints,
    write_character,
    write_motion,
    write_skeleton,
    write_skin,
)
from ash_core.geometry.kinematics import joint_transforms
from ash_core.records import AvatarData, Camera, GraphMesh, Skeleton, Skinning, Template
from ash_core.variants import NATIVE

RINGS, SIDES = 7, 8
RADIUS_MM, HEIGHT_MM = 150.0, 1200.0
FRAMES = 20
GRAPH_RINGS, GRAPH_SIDES = (0, 2, 4, 6), (0, 2, 4, 6)


@dataclass(frozen=True)
class ToyFiles:
    """Paths of the toy's files."""

    folder: Path
    character: CharacterFiles
    entry: Path
    conf: Path
    graph: Path
    motion: Path
    texture: Path
    cameras: Path
    hand_mask: Path


def make_toy_character(folder: Path) -> ToyFiles:
    """Write the toy into a folder: 9 joints, 10 dofs, 3 bones, 58 vertices, 18 graph nodes."""
    files = toy_files(folder)
    character, skeleton = files.character, toy_skeleton()
    mesh = toy_mesh()
    write_skeleton(character.skeleton, skeleton)
    write_skin(character.skin, toy_skinning(mesh.vertices, skeleton))
    write_obj(character.mesh, mesh, files.texture.name)
    write_obj(files.graph, toy_graph(mesh.vertices))
    write_motion(character.pose, torch.zeros(1, len(skeleton.dof_names), dtype=torch.float64))
    write_motion(files.motion, toy_dofs())
    write_character(files.entry, character)
    write_cameras(files.cameras, toy_cameras())
    write_text(files.hand_mask, "".join(f"{int(y > 1000)}\n" for y in mesh.vertices[:, 1]))
    buffer = io.BytesIO()
    PillowImage.fromarray(toy_texture().numpy()).save(buffer, "PNG")
    write_atomic(files.texture, buffer.getvalue())
    write_text(files.conf, _CONF)
    return files


def toy_files(folder: Path) -> ToyFiles:
    """Return the paths of the toy's files in a folder."""
    named = {kind: folder / f"toy.{end}" for kind, end in zip(_KINDS, _ENDINGS, strict=True)}
    return ToyFiles(
        folder=folder,
        character=CharacterFiles(**named),
        entry=folder / "toy.character",
        conf=folder / "toy.conf",
        graph=folder / "toy_graph.obj",
        motion=folder / "motions" / "toy.motion",
        texture=folder / "toy.png",
        cameras=folder / "cameras.json",
        hand_mask=folder / "hand_segmentation.txt",
    )


def copy_toy(files: ToyFiles, folder: Path) -> ToyFiles:
    """Copy the toy, for tests that damage it; faster than writing another."""
    shutil.copytree(files.folder, folder)
    return toy_files(folder)


_KINDS, _ENDINGS = ("skeleton", "mesh", "skin", "pose"), ("skeleton", "obj", "skin", "rest.motion")
_CONF = """# the toy, as a published configuration lays its files out
general {
    data_root = "."
    character_file = ${general.data_root}/toy.character
}
model {
    embedded_graph = ./toy_graph.obj
    texture_file = "toy.png"
    hand_mask = hand_segmentation.txt
    bary_resolution = 64
}
cameras_file = cameras.json
"""


def toy_skeleton() -> Skeleton:
    """Make the root (three slides, three turns), spine (two turns) and head (one)."""
    names = ("Root_tx", "Root_ty", "Root_tz", "Root_ry", "Root_rz", "Root_rx")
    names += ("Spine_rz", "Spine_rx", "Head_rx")
    dof_names = ("translate_x", "translate_y", "translate_z", "rotate_y", "rotate_z", "rotate_x")
    dof_names += ("spine_lean", "spine_bend", "head_bend", "nod")
    x, y, z = (1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)
    offsets = torch.zeros(9, 3)
    offsets[6, 1], offsets[8, 1] = 0.4, 0.4
    matrix = torch.zeros(9, 10)
    matrix[range(9), range(9)] = torch.tensor([1.0, 1, 1, 3, 3, 3, 1, 1, 1])  # as published
    matrix[7, 9], matrix[8, 9] = 0.3, 0.7
    limits = torch.tensor([[-torch.inf, torch.inf]] * 6 + [[-0.5, 0.5]] * 3 + [[-0.8, 0.25]])
    return Skeleton(
        joint_names=names,
        parents=torch.arange(-1, 8),
        is_prismatic=torch.arange(9) < 3,
        axes=torch.tensor([x, y, z, y, z, x, z, x, x]),
        offsets=offsets,
        dof_names=dof_names,
        dof_limits=limits,
        dof_matrix=matrix,
    )


def toy_mesh() -> ObjMesh:
    """Make a closed tube: rings of 8, a pole at each end; a wall chart and two disc charts."""
    angle = torch.arange(SIDES) * (2 * torch.pi / SIDES)
    height = torch.linspace(0, HEIGHT_MM, RINGS)
    ring = torch.stack([angle.sin(), torch.zeros(SIDES), angle.cos()], -1) * RADIUS_MM
    wall = ring[None] + height[:, None, None] * torch.tensor([0.0, 1.0, 0.0])
    poles = torch.tensor([[0.0, -20.0, 0.0], [0.0, HEIGHT_MM + 20.0, 0.0]])
    vertices = torch.cat([wall.reshape(-1, 3), poles])
    faces: list[tuple[int, ...]] = []
    uvs: list[list[tuple[float, float]]] = []

    def at(r: int, s: int) -> tuple[float, float]:
        return 0.04 + 0.92 * s / SIDES, 0.04 + 0.6 * r / (RINGS - 1)

    for r in range(RINGS - 1):
        for s in range(SIDES):
            a, b = r * SIDES + s, r * SIDES + (s + 1) % SIDES
            c, d = a + SIDES, b + SIDES
            faces += [(a, b, d), (a, d, c)]
            uvs += [[at(r, s), at(r, s + 1), at(r + 1, s + 1)]]
            uvs += [[at(r, s), at(r + 1, s + 1), at(r + 1, s)]]
    for pole, start, centre in ((56, 0, 0.25), (57, 48, 0.75)):
        for s in range(SIDES):
            t = (s + 1) % SIDES
            corners = (s, t) if pole == 57 else (t, s)
            faces.append((start + corners[0], start + corners[1], pole))
            at_rim = [(0.13 * float(angle[c].cos()), 0.13 * float(angle[c].sin())) for c in corners]
            disc = [(centre + u, 0.82 + (v if pole == 57 else -v)) for u, v in at_rim]
            uvs.append([*disc, (centre, 0.82)])
    shade = 0.5 + 0.5 * vertices[:, 1:2].clamp(0, HEIGHT_MM) / HEIGHT_MM
    return ObjMesh(
        vertices, torch.tensor(faces), torch.tensor(uvs, dtype=torch.float64), shade.expand(-1, 3)
    )


def toy_graph(vertices: Tensor) -> ObjMesh:
    """Make a coarser tube on 18 of the template's vertices."""
    rings, sides = len(GRAPH_RINGS), len(GRAPH_SIDES)
    kept = [r * SIDES + s for r in GRAPH_RINGS for s in GRAPH_SIDES] + [56, 57]
    faces = []
    for r in range(rings - 1):
        for s in range(sides):
            a, b = r * sides + s, r * sides + (s + 1) % sides
            faces += [(a, b, b + sides), (a, b + sides, a + sides)]
    for s in range(sides):
        t = (s + 1) % sides
        faces += [(t, s, 16), (12 + s, 12 + t, 17)]
    return ObjMesh(vertices[kept], torch.tensor(faces))


def toy_skinning(vertices_mm: Tensor, skeleton: Skeleton) -> Skinning:
    """Blend weights from the root over the spine to the head by height."""
    names = ("Root", "Spine", "Head")
    joints = [joint for joint in bone_joints(names, skeleton) if joint is not None]
    weights = torch.relu(1.0 - (vertices_mm[:, 1:2] - torch.tensor([200.0, 600, 1000])).abs() / 400)
    weights /= weights.sum(1, keepdim=True)
    order = weights.argsort(stable=True, dim=1, descending=True)
    weights = weights.gather(1, order)[:, :2]
    bones = torch.where(weights > 0, order[:, :2], order[:, :1])
    return Skinning(names, torch.tensor(joints), bones, weights)


def toy_dofs() -> Tensor:
    """Make poses [20, 10] float64: a walk on a curve with a nod."""
    t = torch.arange(FRAMES, dtype=torch.float64)[:, None] / FRAMES
    rate = torch.tensor([1.0, 0, 1.5, 0.6, 0.1, 0.1, 2.0, 3.0, 1.0, 2.0], dtype=torch.float64)
    scale = torch.tensor([0.3, 0, 0.3, 0.2, 0.1, 0.1, 0.4, 0.5, 0.3, 0.2], dtype=torch.float64)
    return (2 * torch.pi * rate * t).sin() * scale


def toy_cameras() -> tuple[Camera, Camera]:
    """Make two cameras 3 m away at 0.6 m height, looking along -x and -y (world: Z up)."""
    K = torch.tensor([[150.0, 0, 80], [0, 150, 60], [0, 0, 1]])
    rows = (
        [[0, 1, 0, 0], [0, 0, -1, 0.6], [-1, 0, 0, 3]],
        [[-1, 0, 0, 0], [0, 0, -1, 0.6], [0, -1, 0, 3]],
    )
    front, side = (torch.tensor([*r, [0, 0, 0, 1]], dtype=torch.float32) for r in rows)
    return Camera(front, K, 160, 120, "front"), Camera(side, K, 160, 120, "side")


def figure(skeleton: Skeleton, vertices: Tensor | None = None, bone: int = 0) -> AvatarData:
    """Make an avatar of that skeleton, its vertices (body frame) on one joint, or on every one."""
    joints = torch.arange(len(skeleton.parents))
    rest = torch.zeros(len(skeleton.dof_names), dtype=torch.float64)
    bones = joints[:, None]
    if vertices is None:
        vertices = joint_transforms(skeleton, rest)[:, :3, 3].float()
    else:
        bones = torch.full((len(vertices), 1), bone)
    face = torch.tensor([[0, 1, 2]])
    return AvatarData(
        name="figure",
        variant="native",
        history_offsets=NATIVE.history_offsets,
        skeleton=skeleton,
        skinning=Skinning(skeleton.joint_names, joints, bones, torch.ones(len(bones), 1)),
        template=Template(vertices, face, torch.zeros(1, 3, 2), torch.zeros(1, 1, 3).byte()),
        graph=GraphMesh(vertices, face),
        rest_dofs=rest,
        root_translation=torch.zeros(3),
        atlas_resolution=32,
    )


def toy_texture() -> Tensor:
    """Make 64x64 checks on a gradient, uint8."""
    row, column = torch.meshgrid(torch.arange(64), torch.arange(64), indexing="ij")
    checks = ((row // 8 + column // 8) % 2) * 90
    rgb = torch.stack([80 + checks, 60 + 2 * row, 200 - column], -1)
    return rgb.clamp(0, 255).to(torch.uint8)
