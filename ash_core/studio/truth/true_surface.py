"""True surface of an actor in each frame, which cameras film.

It is finer than the template and adds to the skinning: wrinkles, cloth that swings, shade.

`TrueActor.load(conf).play(dofs)` gives a `TrueMotion`; its `frame(t)` a `TrueFrame`.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ash_core.conventions import FPS
from ash_core.files.released import import_ash
from ash_core.geometry import dual_quaternion as dq
from ash_core.geometry.kinematics import joint_transforms
from ash_core.records import AvatarData
from ash_core.studio.mesh.subdivide import subdivide
from ash_core.studio.truth.cloth import (
    GRAVITY,
    SPRINGS,
    ClothName,
    ClothPose,
    ClothSolver,
    Springs,
    Swing,
    weave,
)
from ash_core.studio.truth.dressing import FILE, Dressing, load_dressing, plain_dressing
from ash_core.studio.truth.folds import DEPTH, find_limbs, measure_squeeze, patterns
from ash_core.studio.truth.proxies import fit_proxies, shade
from ash_core.studio.truth.skinned import blend_bones, blend_matrices, normals_of

KEEP = 100
"""Number of frames between stored states of the cloth, for jumps back and forth."""
CHUNK = 50
LINEAR = 0.85
"""Share of linear blending in the posed surface."""
SHADE, VALLEY = 0.9, 0.45
"""Darkening by another limb, and at the bottom of a full fold."""


@dataclass(frozen=True)
class TrueSurface:
    """Constants of all frames."""

    faces: np.ndarray
    """[F, 3] int32, anticlockwise from outside."""
    corner_uvs: np.ndarray
    """[F, 3, 2] float32, v up, in [0, 1]."""
    materials: np.ndarray
    """[F] int32: `dressing.MATERIALS`."""
    texture: np.ndarray
    """[h, w, 3] uint8: colour without light, row 0 at the top (v = 1)."""
    gloss: np.ndarray
    """[h, w] uint8: 0 matt, 255 like a mirror; for a highlight that moves with the view."""
    relief: np.ndarray
    """[h, w] uint8: height of the paint in steps of `dressing.RELIEF_M`; `FLAT` is the surface."""


@dataclass(frozen=True)
class TrueFrame:
    """Surface in one frame. Body frame (Y up), m, float32."""

    vertices: np.ndarray
    """Vertices [V, 3], with the folds."""
    normals: np.ndarray
    """Unit normals [V, 3] of the folded surface."""
    occlusion: np.ndarray
    """Light that arrives from all sides [V], 0 to 1 (1: unoccluded)."""
    creases: np.ndarray
    """Height of each family's folds [V, 4], 0 to 1."""


class TrueActor:
    """Actor with everything that is constant over motions."""

    def __init__(
        self,
        data: AvatarData,
        dressing: Dressing | None = None,
        seed: int = 0,
        cloth: ClothName = SPRINGS,
    ) -> None:
        self.data, self.seed = data, seed
        self.dressing = dressing or plain_dressing(data)
        template, faces = data.template.vertices.numpy().astype(float), data.template.faces.numpy()
        uvs = data.template.corner_uvs.numpy()
        self.template, self.faces = template, faces
        rest = joint_transforms(data.skeleton, data.rest_dofs.double())
        self._unpose = torch.linalg.inv(rest)
        self._loose = np.where(self.dressing.partner >= 0, 0.0, self.dressing.loose)
        self.proxies = fit_proxies(
            data.skeleton, data.skinning, rest.numpy(), template, self.dressing.solid
        )
        swings = self.dressing.swings[faces].all(1)
        self.fabric = weave(
            template, faces[swings], self.dressing.materials[swings], self._loose, self.proxies
        )
        self._on_head = self._carried_by_head()
        self.solver = self._solver(cloth)
        # Refine the surface, and prepare its folds and its shade.
        limbs = find_limbs(data.skeleton, data.skinning, rest.numpy())
        self.squeeze = measure_squeeze(template, faces, limbs, self.dressing.folding)
        self.fine = subdivide(faces, uvs, len(template))
        self._matrix = self.fine.matrix.astype(np.float32)
        places = self.fine.matrix @ template
        self._patterns = 0.5 + 0.5 * patterns(
            places, self.fine.matrix @ limbs.shares, limbs, seed
        ).astype(np.float32)
        self._cover = self._shade(template.astype(np.float32), self.proxies.centres)
        self.surface = TrueSurface(
            faces=self.fine.faces.astype(np.int32),
            corner_uvs=self.fine.corner_uvs.astype(np.float32),
            materials=np.repeat(self.dressing.materials, 4).astype(np.int32),
            texture=data.template.texture.numpy(),
            gloss=self.dressing.gloss,
            relief=self.dressing.relief,
        )

    def _carried_by_head(self) -> np.ndarray:
        """Return the mask [P] of the fabric's points that hang from the head, not from the hips."""
        skin = self.data.skinning
        is_head = np.array([name == "Head" for name in skin.bone_names])
        share = (is_head[skin.bones.numpy()] * skin.weights.numpy()).sum(1)
        return share[self.fabric.points] > 0.5

    def pull(self, moves: np.ndarray) -> np.ndarray:
        """Return gravity relative to the rest pose [P, 3], m/s^2. moves [J, 4, 4]."""
        names = self.data.skeleton.joint_names
        down = np.array([0.0, -GRAVITY, 0.0])
        pull = np.tile(down - moves[names.index("Root_rx"), :3, :3] @ down, (len(self._on_head), 1))
        if self._on_head.any():
            pull[self._on_head] = down - moves[names.index("Head_rx"), :3, :3] @ down
        return pull

    def _solver(self, cloth: ClothName) -> ClothSolver:
        if cloth == SPRINGS:
            return Springs(self.fabric, self.proxies)
        from ash_core.studio.truth.newton_cloth import NewtonCloth

        body = self.faces[self.dressing.solid[self.faces].all(1)]
        return NewtonCloth(self.fabric, self.template, body)

    @classmethod
    def load(cls, conf: Path, seed: int = 0, cloth: ClothName = SPRINGS) -> "TrueActor":
        """Load an actor by its character's configuration, with a dressing beside it."""
        data, _ = import_ash(conf)
        return cls(data, load_dressing(conf.parent / FILE, data), seed, cloth)

    def play(self, dofs: np.ndarray, fps: float = FPS) -> "TrueMotion":
        """Start a motion. dofs [F, D]; the cloth is at rest in frame 0."""
        return TrueMotion(self, np.asarray(dofs, float), fps)

    def _shade(self, points: np.ndarray, centres: np.ndarray) -> np.ndarray:
        normals = normals_of(points, self.faces)
        return shade(points, normals, centres.astype(np.float32), self.proxies.radii)

    def moves(self, dofs: np.ndarray) -> torch.Tensor:
        """Return posed joints times the inverse of rest [..., J, 4, 4]."""
        return joint_transforms(self.data.skeleton, torch.from_numpy(dofs)) @ self._unpose

    def skinned(self, moves: torch.Tensor) -> np.ndarray:
        """Pose the template [V, 3]: between dual quaternions, as in an avatar, and linear blending.

        Dual quaternions bulge at raised shoulders, linear blending caves in.
        """
        skin = self.data.skinning
        bones = moves[skin.bone_joints]
        real, dual = dq.from_matrix(bones)
        shape = (self.template, skin.bones.numpy(), skin.weights.numpy())
        round_ = blend_bones(*shape, real.numpy(), dual.numpy())
        return round_ + LINEAR * (blend_matrices(*shape, bones.numpy()) - round_)

    def finish(self, skinned: np.ndarray, places: np.ndarray, centres: np.ndarray) -> TrueFrame:
        """Build the fine surface of one frame. places [P, 3]: the cloth's points."""
        coarse = skinned.astype(np.float32)
        coarse[self.fabric.points] = places
        normals = normals_of(coarse, self.faces)
        lining = np.flatnonzero(self.dressing.partner >= 0)
        outer = self.dressing.partner[lining]
        coarse[lining] = coarse[outer] - self.dressing.inset[lining, None] * normals[outer]
        cover = np.maximum(self._shade(coarse, centres) - self._cover, 0.0)
        light = self.dressing.open / (1.0 + SHADE * cover)
        creases = self._matrix @ self.squeeze.creases(coarse)
        points, light = self._matrix @ coarse, self._matrix @ light.astype(np.float32)
        heights = np.einsum("vk,vk->v", creases, self._patterns)
        points = points + (DEPTH * heights)[:, None] * normals_of(points, self.surface.faces)
        valley = np.minimum(np.einsum("vk->v", creases) - heights, 1.0)
        return TrueFrame(
            vertices=points,
            normals=normals_of(points, self.surface.faces),
            occlusion=np.clip(light * (1.0 - VALLEY * valley), 0.0, 1.0),
            creases=creases,
        )


class TrueMotion:
    """Motion played by an actor. Frames in any order; forward is fast."""

    def __init__(self, actor: TrueActor, dofs: np.ndarray, fps: float) -> None:
        self.actor, self.dofs, self.fps = actor, dofs, fps
        self._kept: dict[int, Swing] = {}
        self._chunk = (-1, torch.zeros(0))
        self._now = -1
        self._pose: ClothPose | None = None
        self._swing: Swing | None = None

    def __len__(self) -> int:
        return len(self.dofs)

    def frame(self, index: int) -> TrueFrame:
        """Return a frame, independent of the order of requests."""
        assert 0 <= index < len(self.dofs), index
        self._reach(index)
        assert self._pose is not None
        assert self._swing is not None
        return self.actor.finish(self._pose.skinned, self._swing.places, self._pose.spheres)

    def _reach(self, index: int) -> None:
        """Advance the cloth to a frame, from the nearest earlier stored state."""
        if self._now == index:
            return
        if not 0 <= self._now < index or any(self._now < k <= index for k in self._kept):
            start = max((k for k in self._kept if k <= index), default=None)
            if start is None:
                self._start()
            else:
                self._now, self._swing = start, self._kept[start].copy()
                self._pose = self._pose_at(start)
        while self._now < index:
            self._step()

    def _start(self) -> None:
        self._pose = self._pose_at(0)
        self._swing = self.actor.solver.settle(self._pose, self.fps)
        self._now = 0
        self._kept[0] = self._swing.copy()

    def _step(self) -> None:
        after = self._pose_at(self._now + 1)
        assert self._pose is not None
        assert self._swing is not None
        self.actor.solver.advance(self._swing, self._pose, after, 1.0 / self.fps)
        self._pose = after
        self._now += 1
        if self._now % KEEP == 0 and self._now not in self._kept:
            self._kept[self._now] = self._swing.copy()

    def _pose_at(self, index: int) -> ClothPose:
        number = index // CHUNK
        if self._chunk[0] != number:
            part = self.dofs[number * CHUNK : (number + 1) * CHUNK]
            self._chunk = (number, self.actor.moves(part))
        moves = self._chunk[1][index - number * CHUNK]
        return ClothPose(
            skinned=self.actor.skinned(moves),
            spheres=self.actor.proxies.posed(moves.numpy()),
            pull=self.actor.pull(moves.numpy()),
        )
