"""Mouse and keys over the view, and its overlays: skeleton, cameras, camera path."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from imgui_bundle import imgui

from ash_core.geometry.projected_lines import project, segments
from ash_core.records import Camera
from viewer.commands import run
from viewer.overlay import bone_lines, frustum_lines
from viewer.session import Session

ORBIT_RAD_PER_PX: Final = 0.008
LOOK_RAD_PER_PX: Final = 0.003
WHEEL_FACTOR: Final = 0.88
FLY_M_PER_S: Final = 1.5
FAST: Final = 4.0
CLICK_PX: Final = 4.0
PICK_PX: Final = 14.0
BONE_COLOUR: Final = (0.98, 0.72, 0.24, 0.95)
JOINT_COLOUR: Final = (0.99, 0.90, 0.62, 1.0)
PICKED_COLOUR: Final = (0.35, 0.75, 1.0, 1.0)
CAMERA_COLOUR: Final = (0.50, 0.78, 0.95, 0.8)
PLATE_COLOUR: Final = (0.08, 0.09, 0.10, 0.82)
RIM_COLOUR: Final = (0.05, 0.06, 0.07, 0.9)
RIM_PX: Final = tuple((x, y) for x in (-1, 0, 1) for y in (-1, 0, 1) if x or y)
KEY_SIZE: Final = (160, 90)
KEY_DEPTH_M: Final = 0.15
"""Depth of a camera key's frustum; KEY_SIZE is its aspect."""
NEAR_KEY_M: Final = 0.02
"""Distance to the eye within which a camera key is not drawn."""
MOST_CAMERAS: Final = 64


@dataclass
class Rectangle:
    """Place of the view, in the window's own units."""

    x: float
    y: float
    width: float
    height: float


def mouse_and_keys(session: Session, area: Rectangle, dt_s: float) -> bool:
    """Orbit, pan, zoom and fly. Returns True while the user moves the camera."""
    io = imgui.get_io()
    active, hovered = imgui.is_item_active(), imgui.is_item_hovered()
    moving = False
    height = max(area.height, 1.0)
    dx, dy = io.mouse_delta.x, io.mouse_delta.y
    if active and not imgui.is_item_activated() and (dx or dy):
        main, right, middle = (imgui.is_mouse_down(button) for button in (0, 1, 2))
        if middle or (main and io.key_shift):
            run(session, "camera.pan", dx_px=dx, dy_px=dy, height_px=height)
        elif right:
            angles = {"dx_rad": dx * LOOK_RAD_PER_PX, "dy_rad": dy * LOOK_RAD_PER_PX}
            run(session, "camera.look_around", **angles)
        elif main:
            angles = {"dx_rad": dx * ORBIT_RAD_PER_PX, "dy_rad": dy * ORBIT_RAD_PER_PX}
            run(session, "camera.orbit", **angles)
        moving = True
    if hovered and io.mouse_wheel:
        x, y = io.mouse_pos.x - area.x, io.mouse_pos.y - area.y
        factor = WHEEL_FACTOR**io.mouse_wheel
        size = {"width": area.width, "height": height}
        run(session, "camera.zoom_at", factor=factor, x_px=x, y_px=y, **size)
        moving = True
    if active and imgui.is_mouse_down(1):
        moving |= _fly(session, dt_s)
    return moving


def _fly(session: Session, dt_s: float) -> bool:
    keys = imgui.Key
    right = imgui.is_key_down(keys.d) - imgui.is_key_down(keys.a)
    up = imgui.is_key_down(keys.e) - imgui.is_key_down(keys.q)
    ahead = imgui.is_key_down(keys.w) - imgui.is_key_down(keys.s)
    if not (right or up or ahead):
        return False
    speed = FLY_M_PER_S * (FAST if imgui.get_io().key_shift else 1.0)
    direction = {"right": right, "up": up, "forward": ahead}
    run(session, "camera.fly", **direction, dt_s=dt_s, speed_m_s=speed)
    return True


def clicked(area: Rectangle) -> tuple[float, float] | None:
    """Return the place of a click without dragging, pixels from the view's corner, or None."""
    io = imgui.get_io()
    if not (imgui.is_item_deactivated() and imgui.is_mouse_released(0)):
        return None
    if io.mouse_drag_max_distance_sqr[0] > CLICK_PX**2:
        return None
    return io.mouse_pos.x - area.x, io.mouse_pos.y - area.y


def pick_joint(session: Session, camera: Camera, pixel: tuple[float, float]) -> None:
    """Select the joint nearest to a click, or none; only where joints are visible."""
    if session.is_static or not session.document.overlays.skeleton:
        run(session, "pose.select", joint=None)
        return
    points, in_front = project(camera, session.joints().numpy())
    distances = np.linalg.norm(points - np.array(pixel), axis=1)
    distances[~in_front] = np.inf
    nearest = int(distances.argmin())
    names = session.character.skeleton.joint_names
    joint = names[nearest] if distances[nearest] < PICK_PX else None
    run(session, "pose.select", joint=joint)


def draw_overlays(session: Session, camera: Camera, area: Rectangle) -> None:
    """Draw lines and names over the view. camera: at the view's size in window units."""
    shown, draw = session.document.overlays, imgui.get_window_draw_list()
    corner = (area.x, area.y)
    draw.push_clip_rect(corner, (area.x + area.width, area.y + area.height), True)
    if shown.cameras:
        for other in list(session.cameras.values())[:MOST_CAMERAS]:
            _lines(draw, corner, segments(camera, frustum_lines(other)), CAMERA_COLOUR, 1.0)
    if shown.camera_path:
        _draw_path(session, draw, corner, camera)
    has_joints = shown.skeleton or session.selected_joint is not None
    if has_joints and not session.is_static:
        _draw_skeleton(session, draw, corner, camera)
    draw.pop_clip_rect()


def write(
    session: Session,
    place: tuple[float, float],
    text: str,
    colour: tuple[float, float, float, float],
) -> None:
    """Write a line over the view; over the checkerboard it has a dark plate."""
    draw = imgui.get_window_draw_list()
    if session.document.background == "transparent":
        x, y = place
        size = imgui.calc_text_size(text)
        plate = imgui.get_color_u32(PLATE_COLOUR)
        draw.add_rect_filled((x - 4, y - 1), (x + size.x + 4, y + size.y + 1), plate, 3.0)
    draw.add_text(place, imgui.get_color_u32(colour), text)


def mark(
    camera: Camera, area: Rectangle, place: tuple[float, float, float], radius: float = 7.0
) -> None:
    """Draw a ring about a point of the world."""
    (pixel,), (in_front,) = project(camera, np.array([place]))
    if in_front:
        colour = imgui.get_color_u32(PICKED_COLOUR)
        middle = area.x + pixel[0], area.y + pixel[1]
        imgui.get_window_draw_list().add_circle(middle, radius, colour, 0, 2.0)


def _draw_path(session: Session, draw, corner: tuple[float, float], camera: Camera) -> None:
    path = session.document.path
    if not path.keys or session.along_path:
        return
    first, last = path.keys[0].frame, path.keys[-1].frame
    if last > first:
        views = [path.at(frame) for frame in np.linspace(first, last, 64)]
        eyes = np.array([view.eye for view in views if view is not None])
        track = segments(camera, np.stack((eyes[:-1], eyes[1:]), 1))
        _lines(draw, corner, track, CAMERA_COLOUR, 2.0)
    eye = np.linalg.inv(camera.viewmat.double().numpy())[:3, 3]
    for key in path.keys:
        if np.linalg.norm(np.array(key.view.eye) - eye) > NEAR_KEY_M:
            lines = frustum_lines(key.view.camera(*KEY_SIZE), KEY_DEPTH_M)
            _lines(draw, corner, segments(camera, lines), CAMERA_COLOUR, 1.0)
    keys, in_front = project(camera, np.array([key.view.eye for key in path.keys]))
    colour = imgui.get_color_u32(CAMERA_COLOUR)
    for place in keys[in_front]:
        draw.add_circle_filled((corner[0] + place[0], corner[1] + place[1]), 4.0, colour)


def _draw_skeleton(session: Session, draw, corner: tuple[float, float], camera: Camera) -> None:
    overlays, skeleton = session.document.overlays, session.character.skeleton
    points, in_front = project(camera, session.joints().numpy())
    if overlays.skeleton:
        _lines(draw, corner, segments(camera, bone_lines(session)), BONE_COLOUR, 2.0)
    dot, picked = imgui.get_color_u32(JOINT_COLOUR), imgui.get_color_u32(PICKED_COLOUR)
    labels: list[Label] = []
    for joint, name in enumerate(skeleton.joint_names):
        place = corner[0] + points[joint, 0], corner[1] + points[joint, 1]
        if in_front[joint] and name == session.selected_joint:
            draw.add_circle(place, 8.0, picked, 0, 2.0)
            label = Label.of(bone_of(session, name), place[0] + 11, place[1] - 8)
            labels.append(label)
            _write_name(session, label, PICKED_COLOUR)
        elif in_front[joint] and overlays.skeleton:
            draw.add_circle_filled(place, 2.5, dot)
    if not (overlays.skeleton and overlays.joint_names):
        return
    for node in session.tree:  # parents first: of names in one place the larger part's is read
        joint = node.joints[0]
        place_of_name = corner[0] + points[joint, 0] + 6, corner[1] + points[joint, 1] - 7
        label = Label.of(node.name, *place_of_name)
        if in_front[joint] and not any(label.overlaps(other) for other in labels):
            labels.append(label)
            _write_name(session, label, JOINT_COLOUR)


def _write_name(
    session: Session, label: "Label", colour: tuple[float, float, float, float]
) -> None:
    """Write a name with a dark rim, readable over white cloth and dark hair alike."""
    draw, rim = imgui.get_window_draw_list(), imgui.get_color_u32(RIM_COLOUR)
    for dx, dy in RIM_PX:
        draw.add_text((label.x + dx, label.y + dy), rim, label.text)
    write(session, (label.x, label.y), label.text, colour)


def bone_of(session: Session, joint: str) -> str:
    """Name a joint's bone: joints of one place belong to one bone."""
    node = next((node for node in session.tree if joint in node.joint_names), None)
    return joint if node is None else node.name


@dataclass(frozen=True)
class Label:
    """A name in the picture, in the window's units."""

    text: str
    x: float
    y: float
    width: float
    height: float

    @classmethod
    def of(cls, text: str, x: float, y: float) -> "Label":
        size = imgui.calc_text_size(text)
        return cls(text, x, y, size.x, size.y)

    def overlaps(self, other: "Label") -> bool:
        across = self.x < other.x + other.width and other.x < self.x + self.width
        return across and self.y < other.y + other.height and other.y < self.y + self.height


def _lines(draw, corner: tuple[float, float], pixels: np.ndarray, colour, width: float) -> None:
    packed = imgui.get_color_u32(colour)
    x, y = corner
    for (ax, ay), (bx, by) in pixels.tolist():
        draw.add_line((x + ax, y + ay), (x + bx, y + by), packed, width)
