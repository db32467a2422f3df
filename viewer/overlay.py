"""Lines over the view, of skeleton and cameras."""

from typing import Final

import numpy as np

from ash_core.geometry.projected_lines import joint_lines
from ash_core.records import Camera
from viewer.session import Session

FRUSTUM_M: Final = 0.25


def bone_lines(session: Session) -> np.ndarray:
    """Return the lines [n, 2, 3] of the session's skeleton, world, m."""
    return joint_lines(session.joints().numpy(), session.character.skeleton)


def frustum_lines(camera: Camera, depth_m: float = FRUSTUM_M) -> np.ndarray:
    """Return the lines [8, 2, 3] of a camera's frustum: the eye to the corners, and the frame."""
    K, view = camera.K.double().numpy(), camera.viewmat.double().numpy()
    corners = np.array([[0, 0], [1, 0], [1, 1], [0, 1]]) * (camera.width, camera.height)
    rays = np.stack(
        (
            (corners[:, 0] - K[0, 2]) / K[0, 0],
            (corners[:, 1] - K[1, 2]) / K[1, 1],
            np.ones(4),
        ),
        1,
    )
    eye = -view[:3, :3].T @ view[:3, 3]
    places = (depth_m * rays - view[:3, 3]) @ view[:3, :3]
    sides = [(eye, place) for place in places]
    frame = [(places[n], places[(n + 1) % 4]) for n in range(4)]
    return np.array([*sides, *frame])
