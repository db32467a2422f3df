"""Make the default character, from body to motions, and write it in the published formats."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ash_core.conventions import MM_PER_M
from ash_core.errors import InputError
from ash_core.files.image import encode_png
from ash_core.files.io import write_atomic, write_text
from ash_core.files.obj import ObjMesh, write_obj
from ash_core.files.skeletool import (
    CharacterFiles,
    write_character,
    write_motion,
    write_skeleton,
    write_skin,
)
from ash_core.records import Skeleton, Skinning
from ash_core.studio.actor.atlas_layout import layout
from ash_core.studio.actor.body import Body, load_body, repose
from ash_core.studio.actor.dress import dress
from ash_core.studio.actor.regions import fields, landmarks, shares
from ash_core.studio.actor.rig import build_rig, build_skin
from ash_core.studio.actor.texture import paint
from ash_core.studio.actor.trim import cap_toes, close_holes, thin
from ash_core.studio.choreography.motions import make_motions
from ash_core.studio.mesh.graph import make_graph
from ash_core.studio.truth.dressing import FILE, Dressing, save_dressing

Progress = Callable[[str, float], None]
"""Callback that takes the current step's name and the fraction that is complete."""

VERTICES = 7000
HAND = 0.5
"""Share of a vertex's weight on the hand's bones from which it is in the hand mask."""

_CONF = """\
# ABOUT. Names are relative to this file.
dataset {
  dataset_name = NAME
  img_width = 1285
  img_height = 940
  fps = 25
  atlas_resolution = 256
}
character {
  character = NAME.character
  skeleton = NAME.skeleton
  skin = NAME.skin
  mesh = NAME.obj
  pose = NAME.motion
  graph = NAME_graph.obj
  texture = NAME.png
  hand_mask = hand_segmentation.txt
}
"""


def conf(name: str, about: str) -> str:
    """Return the configuration of a character whose files have this name."""
    return _CONF.replace("NAME", name).replace("ABOUT", about)


CONF = conf("actor", "The default character, made by `ash-studio actor`")


@dataclass(frozen=True)
class Actor:
    """Finished character. Body frame, m."""

    vertices: np.ndarray
    faces: np.ndarray
    corner_uvs: np.ndarray
    texture: np.ndarray
    skeleton: Skeleton
    skinning: Skinning
    graph_nodes: np.ndarray
    graph_faces: np.ndarray
    hands: np.ndarray
    motions: Mapping[str, np.ndarray]
    name: str = "actor"
    dressing: Dressing | None = None
    """Properties of the true surface beyond the template; None: wrinkles alone."""


Build = Callable[[Progress], Actor]
"""Function that makes an actor without writing files."""


def make_actor(
    out: Path, progress: Progress | None = None, build: Build | None = None
) -> CharacterFiles:
    """Make a character and write it to a folder. Needs the package anny; always the same result."""
    out = Path(out)
    try:
        (out / "motions").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"{out}: expected a folder that can be written, {error.strerror}"
        ) from error
    actor = (build or build_actor)(progress or (lambda _what, _done: None))
    return write_actor(out, actor)


def build_actor(progress: Progress) -> Actor:
    """Make the character without writing files."""
    progress("loading the body model (the first time takes a minute or two)", 0.0)
    body = cap_toes(close_holes(repose(load_body())))
    progress("thinning the mesh", 0.25)
    body = thin(body, importance_of(body), VERTICES)
    dressed, lift = dress(body)
    progress("laying out the atlas", 0.40)
    corner_uvs = layout(body, dressed)
    progress("painting the texture", 0.60)
    texture = paint(body, dressed, corner_uvs)
    progress("building the skeleton and the graph", 0.80)
    skeleton, owner = build_rig(body, lift)
    skinning = build_skin(body.weights, body.bones, owner, skeleton)
    nodes, graph_faces = make_graph(dressed, body.faces)
    share = shares(body)
    hands = np.maximum(share["left_hand"], share["right_hand"]) > HAND
    progress("choreographing the motions", 0.85)
    motions = make_motions(skeleton, skinning, dressed)
    progress("done", 1.0)
    return Actor(
        dressed, body.faces, corner_uvs, texture, skeleton, skinning, nodes, graph_faces, hands,
        motions,
    )  # fmt: skip


def importance_of(body: Body) -> np.ndarray:
    """Return factors [V] on the vertices' costs in simplification: face and hands before cloth."""
    share, marks = shares(body), landmarks(body)
    hair = fields(body.vertices, share, marks)["hair"] > 0.01
    importance = np.ones(len(body.vertices))
    importance[np.maximum(share["left_hand"], share["right_hand"]) > 0.5] = 3.0
    importance[(share["head"] > 0.5) & ~hair & (share["ear"] == 0)] = 2.5
    eyes = [np.linalg.norm(body.vertices - centre, axis=1) for centre, _ in body.eyeballs.values()]
    importance[np.min(eyes, axis=0) < 0.035] = 8.0
    mouth = np.linalg.norm((body.vertices - body.mouth.mean(0)) * [1.0, 1.5, 1.0], axis=1)
    importance[mouth < 0.04] = 6.0
    return importance


def write_actor(out: Path, actor: Actor, name: str = "actor") -> CharacterFiles:
    """Write the published formats: millimetres, and a HOCON configuration that names all files."""
    files = CharacterFiles(
        skeleton=out / f"{name}.skeleton",
        mesh=out / f"{name}.obj",
        skin=out / f"{name}.skin",
        pose=out / f"{name}.motion",
    )
    write_skeleton(files.skeleton, actor.skeleton)
    write_skin(files.skin, actor.skinning)
    write_motion(files.pose, torch.zeros(1, len(actor.skeleton.dof_names), dtype=torch.float64))
    in_mm = np.round(actor.vertices * MM_PER_M, 3)
    template = ObjMesh(
        vertices=torch.from_numpy(in_mm),
        faces=torch.from_numpy(actor.faces),
        corner_uvs=torch.from_numpy(np.round(actor.corner_uvs, 6)),
    )
    write_obj(files.mesh, template, texture_name=f"{name}.png")
    graph = ObjMesh(
        vertices=torch.from_numpy(in_mm[actor.graph_nodes]),
        faces=torch.from_numpy(actor.graph_faces),
    )
    write_obj(out / f"{name}_graph.obj", graph)
    write_character(out / f"{name}.character", files)
    write_text(out / "hand_segmentation.txt", "".join(f"{int(h)}\n" for h in actor.hands))
    text = CONF if name == "actor" else conf(name, "Made by `ash-studio import`")
    if actor.name != "actor":
        text = text.replace(f"dataset_name = {name}", f"dataset_name = {actor.name}")
    write_text(out / f"{name}.conf", text)
    if actor.dressing is not None:
        save_dressing(out / FILE, actor.dressing)
    write_atomic(out / f"{name}.png", encode_png(torch.from_numpy(actor.texture)))
    for motion, dofs in actor.motions.items():
        write_motion(out / "motions" / f"{motion}.motion", torch.from_numpy(np.round(dofs, 6)))
    return files
