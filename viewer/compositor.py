"""Composition of the view by OpenGL: background, floor, mesh, splats.

Splats hide the layers under them, as they would in the room. The result is one opaque texture,
which Dear ImGui draws by its id.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np

from ash_core.gl.context import opengl
from ash_core.gl.mesh import GpuMesh, MeshPrograms, Style
from ash_core.gl.program import Program
from ash_core.gl.projection import floor_from_pixel
from ash_core.gl.target import Target
from ash_core.records import Camera
from ash_core.render import Colour
from viewer.engine import Posed

SAMPLES: Final = 4
"""Samples of the mesh in each pixel."""
NOWHERE: Final = (0.0, 0.0, 0.0, 0.0)
NO_FLOOR: Final = np.eye(3)


@dataclass(frozen=True)
class Layers:
    """Layers around the splats."""

    background: Colour | None
    """None: a checkerboard."""
    has_floor: bool = False
    mesh: Style | None = None
    mesh_over: bool = True
    mesh_opacity: float = 1.0


class Compositor:
    """Draws layers into a texture of its own, in the context that is current. Raises GlError."""

    def __init__(self) -> None:
        self._program = Program("screen.vert", "compose.frag")
        self._array = int(opengl().glGenVertexArrays(1))
        self._picture: Target | None = None
        self._layer: Target | None = None
        """The mesh alone, premultiplied."""
        self._programs: MeshPrograms | None = None
        self._mesh: GpuMesh | None = None
        self._posed: Posed | None = None

    @property
    def texture(self) -> int:
        """OpenGL's id of the composed image; 0 before the first."""
        return 0 if self._picture is None else self._picture.texture

    def draw(
        self, layers: Layers, splats: int, camera: Camera, posed: Posed | None, covers: bool = False
    ) -> None:
        """Compose an image of the camera's size.

        splats: texture of their premultiplied image, which is stretched to the size.
        camera: of that image, at this size.  posed: the mesh; None draws none.
        covers: the splats' image has the background already.
        """
        size = camera.width, camera.height
        if self._picture is None:
            self._picture = Target(*size, depth=False)
        self._picture.resize(*size)
        shows_mesh = layers.mesh is not None and posed is not None and layers.mesh_opacity > 0
        if shows_mesh:
            assert layers.mesh is not None
            assert posed is not None
            self._draw_mesh(layers.mesh, camera, posed)
        floor = floor_from_pixel(camera) if layers.has_floor else None
        with self._picture.drawing():
            self._compose(layers, splats, size, floor, shows_mesh, covers)

    def _compose(
        self,
        layers: Layers,
        splats: int,
        size: tuple[int, int],
        floor: np.ndarray | None,
        shows_mesh: bool,
        covers: bool,
    ) -> None:
        gl = opengl()
        for off in (gl.GL_BLEND, gl.GL_CULL_FACE, gl.GL_STENCIL_TEST):
            gl.glDisable(off)
        layer = self._layer.texture if shows_mesh and self._layer is not None else splats
        for unit, texture in ((gl.GL_TEXTURE1, layer), (gl.GL_TEXTURE0, splats)):
            gl.glActiveTexture(unit)
            gl.glBindTexture(gl.GL_TEXTURE_2D, texture)
        self._program.use(
            size=(float(size[0]), float(size[1])),
            background=NOWHERE if layers.background is None else (*layers.background, 1.0),
            has_floor=floor is not None,
            floor_from_pixel=NO_FLOOR if floor is None else floor,
            splats=0,
            splats_cover=covers,
            mesh=1,
            mesh_opacity=float(layers.mesh_opacity) if shows_mesh else 0.0,
            mesh_over=layers.mesh_over,
        )
        gl.glBindVertexArray(self._array)
        gl.glDrawArrays(gl.GL_TRIANGLES, 0, 3)

    def _draw_mesh(self, style: Style, camera: Camera, posed: Posed) -> None:
        if self._programs is None:
            self._programs = MeshPrograms()
        if self._mesh is None or self._mesh.template is not posed.template:
            if self._mesh is not None:
                self._mesh.delete()
            self._mesh, self._posed = GpuMesh(posed.template, self._programs), None
        if self._posed is not posed:
            surface = posed.surface
            self._mesh.update(surface.vertices.numpy(), surface.normals.numpy())
            self._posed = posed
        if self._layer is None:
            self._layer = Target(camera.width, camera.height, SAMPLES)
        self._layer.resize(camera.width, camera.height)
        with self._layer.drawing(NOWHERE):
            self._mesh.draw(camera, style)

    def close(self) -> None:
        """Release everything, while the context exists; a second time does nothing."""
        for part in (self._mesh, self._programs, self._layer, self._picture, self._program):
            if part is not None:
                part.delete()
        if self._array:
            opengl().glDeleteVertexArrays(1, [self._array])
        self._array = 0
        self._mesh = self._programs = self._layer = self._picture = None
