"""Cloth by Newton: a second truth, whose physics is not ours.

Needs the extra `newton` (newton and warp-lang: Apache-2.0). Membrane and bending energies, real
gravity, friction on the posed body's mesh and the floor. Tight points are held at their skinned
places or pulled there, loose ones are not. Of contacts between cloth and cloth, which would take
five times as long, one is kept: a layer that lies on another at rest is pushed out of it.
Source: Chen et al. 2024, "Vertex Block Descent".
"""

import math
from types import ModuleType
from typing import Any, Final

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import KDTree

from ash_core.errors import InputError
from ash_core.install import install_command
from ash_core.studio.truth.cloth import GRAVITY, ClothPose, Fabric, Swing
from ash_core.studio.truth.dressing import COTTON, DENIM, HAIR, LEATHER, WOOL
from ash_core.studio.truth.skinned import normals_of

SUBSTEPS: Final = 20
ITERATIONS: Final = 4
SETTLE_S: Final = 2.0
"""Duration for which frame 0 is held before the motion starts, s."""
CALM: Final = 0.8
"""Share of its velocity that the cloth keeps from frame to frame while it settles."""
NEAR_M: Final = 0.010
"""Clearance of cloth from the body; less where it is closer at rest."""
SEARCH_M: Final = 0.04
"""Depth under the body's surface from which cloth is still pushed out."""
HELD: Final = 0.02
"""Looseness up to which a point is held: a waistband, the root of hair."""
TIGHT: Final = 0.30
"""Looseness up to which a point is pulled to its skinned place: a yoke, the tail of a shirt."""
PULL: Final = 50.0
"""Angular frequency of that pull at looseness 0, 1/s; it fades to none at `TIGHT`."""
LAYER_M: Final = 0.006
"""Height of a layer of cloth over another, below which it is pushed out."""
REACH_M: Final = 0.03
"""Distance at rest of points whose layers lie on each other."""
PUSH: Final = 150.0
"""Angular frequency of that push, 1/s."""
AIR: Final = 3.0
"""Damping against the air, 1/s: that of wool across its surface at 1.2 m/s."""
FRICTION: Final = 0.25
CONTACT: Final = 1e3
CONTACT_FADE: Final = 1e-2
"""Stiffness, N/m, and damping, N s/m, of a contact."""
_FABRICS: Final = {
    # mass kg/m^2, stretch N/m, bending N m
    COTTON: (0.20, 1000.0, 2e-5),
    WOOL: (0.28, 1000.0, 5e-5),
    DENIM: (0.40, 2000.0, 2e-4),
    LEATHER: (0.60, 2000.0, 5e-4),
    HAIR: (0.80, 1000.0, 2e-3),  # a bundle of strands, simulated as its surface
}
FADE: Final = 0.1
"""Share of the bending stiffness that damps bending, s."""


def import_newton() -> tuple[ModuleType, ModuleType]:
    """Import the solver, which is optional: newton, and warp. Raises: InputError."""
    try:
        import warp  # pyright: ignore[reportMissingImports]

        warp.config.quiet = True  # before newton loads kernels
        import newton  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise InputError(
            f"--cloth newton: expected the package newton ({install_command('newton')}), found none"
        ) from error
    return newton, warp


class NewtonCloth:
    """Solver by vertex block descent, on the GPU that warp finds or one core."""

    def __init__(self, fabric: Fabric, rest: np.ndarray, body: np.ndarray) -> None:
        """rest [V, 3]: the template, m; body [_, 3]: its faces with which cloth collides."""
        self._newton, self._warp = import_newton()
        self._device = self._warp.get_preferred_device()
        self.identity = f"newton {self._newton.__version__} {self._device.alias.partition(':')[0]}"
        self.fabric = fabric
        self._points = fabric.points
        self._held = np.flatnonzero(fabric.loose <= HELD)
        self._body = np.unique(body)
        if len(self._points):
            self._build(rest, np.searchsorted(self._body, body))

    def settle(self, pose: ClothPose, fps: float) -> Swing:
        goal = pose.skinned[self._points]
        swing = Swing(goal.copy(), np.zeros_like(goal))
        for _ in range(round(SETTLE_S * fps)):
            self.advance(swing, pose, pose, 1.0 / fps)
            swing.velocities *= CALM
        swing.velocities[:] = 0.0
        return swing

    def advance(self, swing: Swing, before: ClothPose, after: ClothPose, seconds: float) -> None:
        if not len(self._points):
            return
        dt = seconds / SUBSTEPS
        held = self._points[self._held]
        speed = ((after.skinned - before.skinned) / seconds).astype(np.float32)
        places = swing.places.astype(np.float32)
        velocities = swing.velocities.astype(np.float32)
        self._mesh.velocities.assign(speed[self._body])
        for step in range(1, SUBSTEPS + 1):
            # Move what is not simulated: the held points and the body.
            skinned = before.skinned + step / SUBSTEPS * (after.skinned - before.skinned)
            places[self._held], velocities[self._held] = skinned[held], speed[held]
            velocities *= math.exp(-AIR * dt)
            force = self._stiffness * (skinned[self._points] - places)
            force += self._damping * (speed[self._points] - velocities)
            force += self._layered(places)
            self._now.particle_q.assign(places)
            self._now.particle_qd.assign(velocities)
            self._now.particle_f.assign(force.astype(np.float32))
            self._mesh.points.assign(skinned[self._body].astype(np.float32))
            self._mesh.refit()
            # Move the cloth.
            self._pipeline.collide(self._now, self._contacts)
            self._solver.step(self._now, self._next, self._control, self._contacts, dt)
            self._now, self._next = self._next, self._now
            places, velocities = self._now.particle_q.numpy(), self._now.particle_qd.numpy()
        swing.places[:], swing.velocities[:] = places, velocities

    def _build(self, rest: np.ndarray, body: np.ndarray) -> None:
        """Build the model: the cloth as it hangs in the template, the body, the floor."""
        newton, wp = self._newton, self._warp
        fabric = self.fabric
        places = rest[self._points]
        # Add the cloth with unit constants, the body as a mesh that will move, the floor.
        builder = newton.ModelBuilder(up_axis=newton.Axis.Y, gravity=(0.0, -GRAVITY, 0.0))
        builder.add_cloth_mesh(
            pos=wp.vec3(), rot=wp.quat_identity(), scale=1.0, vel=wp.vec3(),
            vertices=[wp.vec3(*place) for place in places],
            indices=fabric.faces.ravel().tolist(), density=1.0, tri_ke=1.0, tri_ka=1.0,
            tri_kd=0.0, edge_ke=1.0, edge_kd=1.0, particle_radius=0.0,
        )  # fmt: skip
        mesh = newton.Mesh(
            rest[self._body].astype(np.float32), body.ravel().astype(np.int32),
            compute_inertia=False,
        )  # fmt: skip
        builder.add_shape_mesh(-1, mesh=mesh)
        builder.add_ground_plane()
        builder.color()
        model = builder.finalize(device=self._device)
        assert model.tri_count == len(fabric.faces), (model.tri_count, len(fabric.faces))
        self._mesh: Any = mesh.mesh
        # The body leaves the box of its rest pose.
        model.shape_collision_aabb_lower.fill_(wp.vec3(-math.inf))
        model.shape_collision_aabb_upper.fill_(wp.vec3(math.inf))
        # Set the constants of each material.
        faces = np.array([_FABRICS.get(int(m), _FABRICS[COTTON]) for m in fabric.materials])
        corners = fabric.faces.ravel()
        areas = model.tri_areas.numpy()
        mass = np.bincount(corners, np.repeat(faces[:, 0] * areas / 3, 3), len(places))
        model.particle_mass.assign(mass.astype(np.float32))
        model.particle_inv_mass.assign((1.0 / mass).astype(np.float32))
        omega = PULL * np.clip(1.0 - fabric.loose / TIGHT, 0.0, 1.0) ** 2
        self._stiffness, self._damping = (mass * omega**2)[:, None], (mass * omega)[:, None]
        materials = model.tri_materials.numpy()
        materials[:, :2] *= faces[:, 1:2]
        model.tri_materials.assign(materials)
        model.edge_bending_properties.assign(self._bending(model, faces[:, 2], areas))
        # Hold the points without looseness.
        flags = model.particle_flags.numpy()
        flags[self._held] &= ~int(newton.ParticleFlags.ACTIVE)
        model.particle_flags.assign(flags)
        # Set the contacts; layers of cloth keep the order that they have at rest.
        model.soft_contact_ke, model.soft_contact_kd = CONTACT, CONTACT_FADE
        model.soft_contact_mu = FRICTION
        for values, value in (
            (model.shape_material_ke, CONTACT), (model.shape_material_kd, CONTACT_FADE),
            (model.shape_material_mu, FRICTION),
        ):  # fmt: skip
            values.fill_(value)
        self._now, self._next, self._control = model.state(), model.state(), model.control()
        free = self._free(model)
        model.particle_radius.assign(np.minimum(free - 0.001, NEAR_M))
        self._over, self._under = self._layers(places, free)
        self._push = (mass[self._over] * PUSH**2)[:, None]
        self._pipeline = newton.CollisionPipeline(model, soft_contact_gap=SEARCH_M)
        self._contacts = self._pipeline.contacts()
        self._solver = newton.solvers.SolverVBD(
            model, iterations=ITERATIONS, deterministic=wp.DeterministicMode.RUN_TO_RUN
        )  # fmt: skip

    def _layers(self, places: np.ndarray, free: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Pair points with the nearest one of another piece that is closer to the body [_], [_]."""
        count = len(places)
        links = coo_array((np.ones(3 * len(self.fabric.faces)), _sides(self.fabric.faces).T))
        links.resize((count, count))
        _, pieces = connected_components(links, directed=False)
        over, under = [], []
        for piece in np.unique(pieces):
            own, other = np.flatnonzero(pieces == piece), np.flatnonzero(pieces != piece)
            if not len(other):
                continue
            away, nearest = KDTree(places[other]).query(places[own])
            beneath = other[nearest]
            is_over = (away < REACH_M) & (free[own] > free[beneath])
            over.append(own[is_over])
            under.append(beneath[is_over])
        return np.concatenate(over or [[]]).astype(int), np.concatenate(under or [[]]).astype(int)

    def _layered(self, places: np.ndarray) -> np.ndarray:
        """Return the forces [P, 3] that push layers out of those under them."""
        forces = np.zeros((len(places), 3))
        if len(self._over):
            normals = normals_of(places, self.fabric.faces)[self._under]
            height = ((places[self._over] - places[self._under]) * normals).sum(1, keepdims=True)
            forces[self._over] = self._push * np.clip(LAYER_M - height, 0.0, LAYER_M) * normals
        return forces

    def _bending(self, model: Any, rigidity: np.ndarray, areas: np.ndarray) -> np.ndarray:
        """Return the stiffness and the damping [E, 2] of each edge.

        Energy of a hinge: 3/2 B L^2 / A angle^2. B: rigidity [F], N m; A: area of both faces.
        Source: Grinspun et al. 2003, "Discrete Shells".
        """
        edges = model.edge_indices.numpy()[:, 2:]
        keys = np.sort(_sides(self.fabric.faces), 1) @ [len(self._points), 1]
        order = np.argsort(keys, kind="stable")
        edge_keys = np.sort(edges, 1) @ [len(self._points), 1]
        first = np.searchsorted(keys[order], edge_keys)
        last = np.searchsorted(keys[order], edge_keys, "right") - 1
        one, other = order[first] // 3, order[last] // 3
        lengths = model.edge_rest_length.numpy()
        stiffness = 1.5 * (rigidity[one] + rigidity[other]) * lengths / (areas[one] + areas[other])
        return np.stack([stiffness, FADE * stiffness], 1).astype(np.float32)

    def _free(self, model: Any) -> np.ndarray:
        """Return the distance [P] of each point from the body at rest, m; negative inside."""
        pipeline = self._newton.CollisionPipeline(model, soft_contact_gap=SEARCH_M)
        contacts = pipeline.contacts()
        pipeline.collide(self._now, contacts)
        count = int(contacts.soft_contact_count.numpy()[0])
        points = contacts.soft_contact_particle.numpy()[:count]
        away = self._now.particle_q.numpy()[points] - contacts.soft_contact_body_pos.numpy()[:count]
        normals = contacts.soft_contact_normal.numpy()[:count]
        free = np.full(len(self._points), SEARCH_M, np.float32)
        np.minimum.at(free, points, (away * normals).sum(1))
        return free


def _sides(faces: np.ndarray) -> np.ndarray:
    """List the sides [3 F, 2] of faces, face by face."""
    return faces[:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2)
