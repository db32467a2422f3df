"""Handles of joints: what a drag does is what the skeleton does."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch

from ash_core.geometry.framing import joint_positions
from ash_core.geometry.projected_lines import project
from ash_core.scene.joint_tree import joint_tree, node_of
from viewer.gizmo import RADIUS_PX, Grip, Handle, drag, handles, under
from viewer.session import Session


@pytest.fixture(scope="module")
def session() -> Session:
    return Session("actor", device="cpu", preset="cpu")


def found(session: Session, joint: str) -> tuple[Handle, ...]:
    skeleton = session.data.skeleton
    node = node_of(joint_tree(skeleton), joint)
    assert node is not None
    return handles(skeleton, session.dofs(), node, session.camera(800, 600))


def test_every_handle_moves_what_hangs_on_it_as_it_says(session: Session) -> None:
    skeleton, dofs, step = session.data.skeleton, session.dofs(), 1e-6
    camera, seen = session.camera(800, 600), set()
    for node in joint_tree(skeleton):
        for handle in handles(skeleton, dofs, node, camera):
            seen.add(handle.dof)
            more = dofs.clone()
            more[handle.dof] += step
            places = joint_positions(skeleton, dofs).numpy()
            speeds = (joint_positions(skeleton, more).numpy() - places) / step
            below = descendants(skeleton.parents.tolist(), node.joints[-1])
            arms = places[below] - handle.centre
            told = handle.axis * np.ones((len(below), 1))
            if not handle.slides:
                told = np.cross(handle.axis, arms)
            told = handle.gain * told
            if int((skeleton.dof_matrix[:, handle.dof] != 0).sum()) == 1:
                np.testing.assert_allclose(speeds[below], told, atol=1e-4)
            else:  # a spine whose joints share a dof: each adds to the turn
                assert float((speeds[below] * told).sum()) >= float((told * told).sum()) / 2 - 1e-9
    moving = skeleton.dof_matrix.abs().amax(0) > 0
    assert seen == set(moving.nonzero().flatten().tolist())


def descendants(parents: list[int], joint: int) -> list[int]:
    found = [joint]
    for child, parent in enumerate(parents):
        if parent in found:
            found.append(child)
    return found


def test_the_point_that_is_held_follows_the_mouse(session: Session) -> None:
    camera = session.camera(800, 600)
    handle = max(any_ring(session), key=faces(camera))
    pixels, _ = project(camera, handle.points)
    grip = under((handle,), camera, tuple(pixels[0]))
    assert grip is not None
    grip = replace(grip, value=0.25)
    for here, there in pairwise(pixels):
        for _ in range(8):
            grip = drag(grip, handle, camera, *((there - here) / 8))
    (held,), _ = project(camera, (handle.centre + grip.offset)[None])
    assert np.linalg.norm(held - pixels[0]) < 3.0
    assert grip.value * handle.gain == pytest.approx(0.25 * handle.gain + 2 * np.pi, abs=0.05)


def any_ring(session: Session) -> tuple[Handle, ...]:
    names = (node.name for node in joint_tree(session.data.skeleton) if node.dofs)
    rings = [handle for name in names for handle in found(session, name) if not handle.slides]
    return tuple(rings)


def faces(camera):
    """How much of a ring's face is seen."""
    ahead = camera.viewmat[2, :3].double().numpy()
    return lambda handle: abs(float(handle.axis @ ahead)) if not handle.slides else -1.0


def test_a_ring_seen_from_its_edge_does_not_run_away(session: Session) -> None:
    camera = session.camera(800, 600)
    handle = min(any_ring(session), key=faces(camera))
    for point in handle.points:
        moved = drag(Grip(handle.dof, 0.0, point - handle.centre), handle, camera, 1.0, 1.0)
        assert abs(moved.value * handle.gain) < 0.2


def test_handles_have_one_size_and_nothing_is_taken_away_from_them(session: Session) -> None:
    near, far = session.camera(800, 600), replace(session.view, distance=9.0).camera(800, 600)
    skeleton, dofs = session.data.skeleton, session.dofs()
    node = next(node for node in joint_tree(skeleton) if node.dofs)
    for camera in (near, far):
        made = handles(skeleton, dofs, node, camera)
        for handle in made:
            pixels, _ = project(camera, handle.points)
            (centre,), _ = project(camera, handle.centre[None])
            reach = np.linalg.norm(pixels - centre, axis=1).max()
            assert reach < 2 * RADIUS_PX
        assert under(made, camera, (-500.0, -500.0)) is None
        assert torch.isfinite(torch.tensor([handle.gain for handle in made])).all()
