"""Close-ups of an actor's face as the film's own renderer sees it, and texels per cm by part.

    python tests/bench/closeup.py DIR -o face.jpg [--dofs jaw_open=0.2,left_blink=1] [--from 28,3]

DIR is an actor's folder (`ash-studio actor --name ida -o DIR`). `--dofs` pose it, rad; `--from` is
the camera's azimuth and elevation about the face, degrees, several apart by `/`.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from ash_core.conventions import R_WORLD_BODY
from ash_core.geometry.camera import look_at
from ash_core.gl.context import offscreen_context
from ash_core.records import Camera
from ash_core.studio.film.film_pass import FilmPass
from ash_core.studio.film.film_stage import read_actor
from ash_core.studio.film.studio_light import BACKDROP
from ash_core.studio.mesh.surface import face_normals
from ash_core.studio.truth.dressing import EYE
from ash_core.studio.truth.true_surface import TrueActor

SIZE = (1285, 940)
AWAY_M, TALL_M = 1.2, 0.30
"""Distance of the camera, and height of its view at the face."""
REACH_M = 1.2
ATLAS = 256
"""Side of the atlas whose texels are counted."""
FACE_M = 0.075
"""Radius of the face about its middle."""
PARTS = {"face": ("Head", "Jaw"), "eyes": ("Head", "Eye"), "trunk": ("Spine", "Chest", "Root"),
         "hands": ("Hand", "Thumb", "Index", "Middle", "Ring", "Pinky")}  # fmt: skip
"""Beginnings of the bones' names of each part, without the side."""


def texels_per_cm(actor: TrueActor, atlas: int = ATLAS) -> dict[str, float]:
    """Return texels per cm by part: the root of texels per area."""
    data = actor.data
    faces, uvs = data.template.faces.numpy(), data.template.corner_uvs.numpy().astype(float)
    area = np.linalg.norm(face_normals(actor.template, faces), axis=1) / 2
    e, f = uvs[:, 1] - uvs[:, 0], uvs[:, 2] - uvs[:, 0]
    flat = np.abs(e[:, 0] * f[:, 1] - e[:, 1] * f[:, 0]) / 2
    bones = [name.removeprefix("Left").removeprefix("Right") for name in data.skinning.bone_names]
    owner = data.skinning.bones[:, 0].numpy()[faces[:, 0]]
    away = np.linalg.norm(actor.template[faces].mean(1) - face_place(actor), axis=1)
    is_eye = actor.dressing.materials == EYE
    table = {}
    for part, names in PARTS.items():
        chosen = np.array([bone.startswith(names) for bone in bones])[owner]
        chosen &= is_eye == (part == "eyes")
        chosen &= (away < FACE_M) | (part != "face")
        if chosen.any():
            table[part] = atlas * float(np.sqrt(flat[chosen].sum() / area[chosen].sum())) / 100
    return table


def face_place(actor: TrueActor) -> np.ndarray:
    """Return the place between the eyes at rest, body frame, m."""
    eyes = np.unique(actor.faces[actor.dressing.materials == EYE])
    assert len(eyes), "an actor of the wardrobe has eyes"
    return actor.template[eyes].mean(0)


def shoot(actor: TrueActor, dofs: np.ndarray, views: Sequence[Sequence[float]]) -> list[np.ndarray]:
    """Film the face in one pose: an image [940, 1285, 3] for each (azimuth, elevation), degrees."""
    target = np.array(R_WORLD_BODY) @ (face_place(actor) - [0.0, 0.02, 0.03])
    width, height = SIZE
    focal = height * AWAY_M / TALL_M
    K = torch.tensor([[focal, 0.0, width / 2], [0.0, focal, height / 2], [0.0, 0.0, 1.0]])
    images = []
    with offscreen_context(64, 64):
        film = FilmPass(actor.surface, width, height, REACH_M)
        film.update(actor.play(dofs[None]).frame(0))
        for azimuth, elevation in views:
            a, e = np.radians((azimuth, elevation))
            way = np.array([np.cos(e) * np.cos(a), np.cos(e) * np.sin(a), np.sin(e)])
            view = look_at(torch.from_numpy(target + AWAY_M * way), torch.from_numpy(target))
            shot = film.shoot(Camera(view, K, width, height, "closeup"))
            image = np.broadcast_to(np.array(BACKDROP, np.uint8), (height, width, 3)).copy()
            rows, columns = shot.rgba.shape[:2]
            image[shot.top : shot.top + rows, shot.left : shot.left + columns] = shot.rgba[..., :3]
            images.append(image)
    return images


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("actor", type=Path)
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--dofs", default="")
    parser.add_argument("--from", dest="views", default="0,0")
    options = parser.parse_args()
    actor = read_actor(options.actor, 0)
    names = actor.data.skeleton.dof_names
    dofs = np.zeros(len(names))
    for pair in filter(None, options.dofs.split(",")):
        name, value = pair.split("=")
        dofs[names.index(name)] = float(value)
    views = [[float(value) for value in view.split(",")] for view in options.views.split("/")]
    Image.fromarray(np.concatenate(shoot(actor, dofs, views), 1)).save(options.out, quality=88)
    for part, density in texels_per_cm(actor).items():
        print(f"{part:<10} {density:5.2f} texels/cm in an atlas of {ATLAS}")


if __name__ == "__main__":
    main()
