"""The view's picture is its layers, back to front; it is put together anew only when it changes."""

import itertools
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from gl_process import end_gl_process, with_gl
from test_gl import NOWHERE, odd_camera, pixels_of, square

from ash_core.geometry.camera import camera_from_fov, look_at
from ash_core.gl.mesh import GpuMesh, MeshPrograms
from ash_core.gl.projection import stretched
from ash_core.gl.target import Target
from ash_core.gl.texture import read_texture
from ash_core.look import Look
from ash_core.records import Camera, Surface
from ash_core.render import RenderRequest
from ash_core.scene.document import Document, Overlays
from viewer import composed_view
from viewer.composed_view import ComposedView, layers_of
from viewer.compositor import Compositor, Layers
from viewer.engine import Frame, Posed
from viewer.front_end import Message
from viewer.present import HostPresenter

pytest.importorskip("imgui_bundle", reason="the window is not installed")

GREY = (0.2, 0.4, 0.6)
CAMERA = camera_from_fov(look_at(torch.tensor([5.0, 2.0, 3.0]), torch.zeros(3)), 0.8, 120, 90)


@pytest.fixture(scope="module", autouse=True)
def _gl_process_ends() -> Iterator[None]:
    yield
    end_gl_process()


def splat_image(width: int = 120, height: int = 90) -> torch.Tensor:
    """Premultiplied splats: a covered left third, a half covered middle, nothing on the right."""
    pixels = torch.zeros(height, width, 4, dtype=torch.uint8)
    pixels[:, : width // 3] = torch.tensor([200, 20, 60, 255], dtype=torch.uint8)
    pixels[:, width // 3 : 2 * width // 3] = torch.tensor([50, 100, 10, 128], dtype=torch.uint8)
    return pixels


def posed() -> Posed:
    template = square()
    normals = torch.tensor([[1.0, 0.0, 0.0]]).expand(4, 3)
    return Posed(template, Surface(template.vertices, normals))


def composed(
    layers: Layers,
    pixels: torch.Tensor,
    camera: Camera = CAMERA,
    mesh: Posed | None = None,
    covers: bool = False,
) -> np.ndarray:
    presenter, compositor = HostPresenter(), Compositor()
    presenter.show(pixels)
    compositor.draw(layers, presenter.texture, camera, mesh, covers)
    size = camera.width, camera.height
    picture = read_texture(compositor.texture, size).numpy().astype(int)
    compositor.close()
    presenter.close()
    assert (picture[..., 3] == 255).all()  # Dear ImGui has nothing to blend
    return picture[..., :3]


def over(front: np.ndarray, back: np.ndarray) -> np.ndarray:
    """Premultiplied bytes [h, w, 4] over colours [h, w, 3], by the definition."""
    return front[..., :3] + (1 - front[..., 3:] / 255) * back


@with_gl
def test_splats_lie_over_the_background() -> None:
    want = over(splat_image().numpy().astype(float), 255 * np.array(GREY))
    assert np.abs(composed(Layers(GREY), splat_image()) - want).max() <= 1
    covering = composed(Layers(GREY), splat_image(), covers=True)
    assert np.array_equal(covering, splat_image()[..., :3].numpy())  # its background is in it


@with_gl
def test_transparency_is_shown_as_squares() -> None:
    picture = composed(Layers(None), torch.zeros(90, 120, 4, dtype=torch.uint8))
    rows, columns = np.indices((90, 120))
    want = np.where((rows // 12 + columns // 12) % 2 == 0, 102, 140)
    assert np.array_equal(picture, np.repeat(want[..., None], 3, 2))


@with_gl
def test_the_floor_is_behind_the_splats_and_where_it_should_be() -> None:
    plain, seen = np.array(GREY) * 255, {True: 0, False: 0}
    for camera in (stretched(odd_camera(seed), 480, 360) for seed in range(10)):
        empty = torch.zeros(camera.height, camera.width, 4, dtype=torch.uint8)
        floor = composed(Layers(GREY, has_floor=True), empty, camera)
        lit = np.abs(floor - plain).max(-1)
        for x, y in itertools.product((-1, -0.5, 0, 0.5, 1), (-1.5, -1, 0.5, 2)):
            place = np.array([[x, y, 0.0], [x + 0.2, y, 0.0], [x, y + 0.2, 0.0]])
            (column, row), *beside = pixels_of(camera, place)
            inside = 1 < column < camera.width - 1 and 1 < row < camera.height - 1
            view = camera.viewmat.double().numpy()
            before = (place @ view[2, :3] + view[2, 3]).min() > 0.1
            # Lines 0.2 m apart would be ten pixels apart: only lines are lit, and none is faded.
            (ax, ay), (bx, by) = np.array(beside) - (column, row)
            apart = abs(ax * by - ay * bx) / max(np.hypot(ax, ay), np.hypot(bx, by))
            if inside and before and apart > 10:
                is_line = x % 1 == 0 or y % 1 == 0
                seen[is_line] += 1
                assert (lit[int(row), int(column)] > 12) == is_line, (x, y)
    assert min(seen.values()) > 5, seen
    covered = splat_image()
    covered[..., 3] = 255
    hidden = composed(Layers(GREY, has_floor=True), covered)
    assert np.array_equal(hidden, covered[..., :3].numpy())  # nothing of it shines through


@with_gl
def test_axes_are_red_along_x_and_green_along_y_and_the_sky_is_empty() -> None:
    camera = camera_from_fov(look_at(torch.tensor([4.0, 4.0, 1.0]), torch.zeros(3)), 0.9, 200, 160)
    picture = composed(
        Layers(GREY, has_floor=True), torch.zeros(160, 200, 4, dtype=torch.uint8), camera
    )
    for place, strongest in ((np.array([[0.7, 0, 0]]), 0), (np.array([[0, 0.7, 0]]), 1)):
        column, row = pixels_of(camera, place)[0]
        assert picture[int(row), int(column)].argmax() == strongest
    horizon = pixels_of(camera, np.array([[-1e6, -1e6, 0.0]]))[0, 1]
    assert horizon > 20
    assert (picture[: int(horizon) - 1] == np.round(np.array(GREY) * 255)).all()


@with_gl
def test_a_mesh_lies_under_or_over_the_splats_as_much_as_is_wanted() -> None:
    mesh = posed()
    target, layer = Target(120, 90, samples=4), GpuMesh(mesh.template, MeshPrograms())
    layer.update(mesh.surface.vertices.numpy(), mesh.surface.normals.numpy())
    back, splats = 255 * np.array(GREY), splat_image().numpy().astype(float)
    for style in ("wire", "shaded", "textured"):
        with target.drawing(NOWHERE):
            layer.draw(CAMERA, style)
        for opacity in (1.0, 0.4):
            surface = opacity * target.read().numpy().astype(float)
            assert surface[..., 3].max() > 90
            layers = Layers(GREY, mesh=style, mesh_over=True, mesh_opacity=opacity)
            want = over(surface, over(splats, back))
            assert np.abs(composed(layers, splat_image(), mesh=mesh) - want).max() <= 1
            want = over(splats, over(surface, back))
            under = replace(layers, mesh_over=False)
            assert np.abs(composed(under, splat_image(), mesh=mesh) - want).max() <= 1
    none = composed(Layers(GREY, mesh="shaded", mesh_opacity=0.0), splat_image(), mesh=mesh)
    assert np.array_equal(none, composed(Layers(GREY), splat_image()))
    assert np.array_equal(none, composed(Layers(GREY, mesh="shaded"), splat_image(), mesh=None))


@with_gl
def test_a_smaller_picture_of_splats_is_stretched() -> None:
    picture = composed(Layers(GREY), splat_image(60, 45))
    assert np.abs(picture - composed(Layers(GREY), splat_image()))[:, 5:35].max() <= 1


# What the window does with it


class FakeSession:
    """A session's document, messages and revision: all that the composed view reads."""

    def __init__(self) -> None:
        self.revision = 0
        self.document = Document("dance", overlays=Overlays(grid=True))
        self.messages: list[Message] = []

    def say(self, text: str, severity: Any = "info") -> None:
        self.messages.append(Message(text, severity, 0.0))

    def touch(self) -> None:
        self.revision += 1


def frame(number: int, background: tuple[float, float, float] | None = None) -> Frame:
    nobody: Any = None
    request = RenderRequest(nobody, CAMERA, background)
    return Frame(request, splat_image(), number, 1.0, {}, posed())


@with_gl
def test_a_picture_is_put_together_only_when_something_changed() -> None:
    session: Any = FakeSession()
    view, drawn = ComposedView(session, HostPresenter()), []
    assert view._compositor is not None
    draw = view._compositor.draw
    view._compositor.draw = lambda *args: (drawn.append(args), draw(*args))[1]  # type: ignore
    assert view.show(frame(1), (120, 90))
    for _ in range(3):
        assert not view.show(frame(1), (120, 90))
    assert len(drawn) == 1
    session.document = replace(session.document, overlays=Overlays(mesh="wire"))
    assert not view.show(frame(1), (120, 90))  # no new frame, but a new picture
    assert len(drawn) == 2
    assert not view.show(frame(1), (240, 180))
    assert view.show(frame(2), (240, 180))
    assert len(drawn) == 4
    view.close()


@with_gl
def test_where_the_compositor_fails_the_avatar_is_still_shown() -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("no framebuffer\nand many lines")

    for place in ("at the start", "later"):
        session: Any = FakeSession()
        presenter = HostPresenter()
        made = composed_view.Compositor
        if place == "at the start":
            composed_view.Compositor = broken  # type: ignore[assignment]
        try:
            view = ComposedView(session, presenter)
        finally:
            composed_view.Compositor = made
        if view._compositor is not None:
            view._compositor.draw = broken  # type: ignore[method-assign]
        assert view.show(frame(1, GREY), (120, 90))
        assert not view.show(frame(1, GREY), (120, 90))
        picture = read_texture(view.texture, (120, 90))
        assert view.texture == presenter.texture
        assert torch.equal(picture[..., :3], splat_image()[..., :3])
        assert (picture[..., 3] == 255).all()
        assert [message.severity for message in session.messages] == ["error"]
        assert session.revision == 1
        assert session.messages[0].text.endswith("no framebuffer")
        # From here on frames bring their own background.
        asked = view.adapt(RenderRequest(*[None] * 2, GREY))  # type: ignore[arg-type]
        assert asked.background == GREY
        assert not view.shows_mesh
        view.close()


def test_frames_are_transparent_exactly_where_something_lies_under_them() -> None:
    plain = Overlays(grid=False)
    assert not Document("a", overlays=plain).lies_under
    assert Document("a", overlays=Overlays(grid=True)).lies_under
    assert Document("a", overlays=plain, background="transparent").lies_under
    assert Document("a", overlays=replace(plain, mesh="wire", mesh_place="under")).lies_under
    assert not Document("a", overlays=replace(plain, mesh="wire", mesh_place="over")).lies_under


def test_a_picture_of_alpha_has_black_under_it_as_when_recorded() -> None:
    document = Document("a", look=Look(mode="alpha"), background="white")
    assert layers_of(document).background == (0.0, 0.0, 0.0)
    assert layers_of(replace(document, look=Look())).background == (1.0, 1.0, 1.0)
    assert layers_of(replace(document, background="transparent")).background is None
