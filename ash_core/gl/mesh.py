"""A textured mesh on the GPU: faces, texture coordinates and image stay, vertices move."""

import ctypes
from typing import Final, Literal

import numpy as np
from jaxtyping import Float

from ash_core.geometry.camera import camera_position
from ash_core.gl.context import opengl
from ash_core.gl.program import Program
from ash_core.gl.projection import clip_from_world, depth_range
from ash_core.gl.state import drawing_state
from ash_core.gl.texture import Texture
from ash_core.records import Camera, Template

Style = Literal["shaded", "textured", "wire"]
Rgb = tuple[float, float, float]
SURFACE: Final[Rgb] = (0.80, 0.81, 0.83)
WIRE: Final[Rgb] = (0.30, 0.85, 1.0)
WIRE_PX: Final = 1.1
_STYLES: Final[dict[Style, int]] = {"shaded": 0, "textured": 1, "wire": 2}


class MeshPrograms:
    """The shaders that any number of meshes is drawn with. Raises GlError."""

    def __init__(self) -> None:
        self.surface = Program("mesh.vert", "mesh.frag")
        self.wire = Program("mesh.vert", "wire.geom", "mesh.frag")

    def delete(self) -> None:
        """Give them back."""
        self.surface.delete()
        self.wire.delete()


class GpuMesh:
    """One mesh: `update` moves it, `draw` draws it into the target that is bound."""

    def __init__(self, template: Template, programs: MeshPrograms) -> None:
        gl = opengl()
        self.template, self._programs = template, programs
        corners, uvs, faces = split_at_seams(
            template.faces.cpu().numpy(), template.corner_uvs.double().cpu().numpy()
        )
        self._corners = corners
        """The template's vertex of each of ours; along seams several are of one."""
        self._vertices = np.zeros((0, 3), np.float32)
        self._indices = faces.size
        self._image = Texture(mipmaps=True)
        self._image.put(template.texture.cpu())
        self._array = int(gl.glGenVertexArrays(1))
        self._buffers = [int(name) for name in gl.glGenBuffers(4)]
        with drawing_state():
            gl.glBindVertexArray(self._array)
            for place, width in enumerate((3, 3, 2)):
                gl.glBindBuffer(gl.GL_ARRAY_BUFFER, self._buffers[place])
                gl.glEnableVertexAttribArray(place)
                gl.glVertexAttribPointer(
                    place, width, gl.GL_FLOAT, False, 4 * width, ctypes.c_void_p(0)
                )
            fill_buffer(gl.GL_ARRAY_BUFFER, self._buffers[2], uvs, gl.GL_STATIC_DRAW)
            fill_buffer(gl.GL_ELEMENT_ARRAY_BUFFER, self._buffers[3], faces, gl.GL_STATIC_DRAW)

    def update(self, vertices: Float[np.ndarray, "V 3"], normals: Float[np.ndarray, "V 3"]) -> None:
        """Where the vertices are now, m, world, and their unit normals; float32."""
        gl = opengl()
        assert vertices.shape == self.template.vertices.shape, vertices.shape
        self._vertices = vertices
        with drawing_state():
            gl.glBindVertexArray(self._array)
            for buffer, values in zip(self._buffers, (vertices, normals), strict=False):
                moved = values[self._corners]
                fill_buffer(gl.GL_ARRAY_BUFFER, buffer, moved, gl.GL_STREAM_DRAW)

    def draw(
        self,
        camera: Camera,
        style: Style,
        colour: Rgb | None = None,
        wire_px: float = WIRE_PX,
        depth_m: tuple[float, float] | None = None,
    ) -> tuple[float, float]:
        """Draw it with a depth test, premultiplied; hidden lines of a wire are not there.

        colour: of the shaded surface or the wire.  wire_px: the lines' width.
        depth_m: near and far, m, where several things share one picture; by default the mesh's own.
        Returns (near, far), for reading depths back.
        """
        gl = opengl()
        near, far = depth_m or depth_range(camera, self._vertices)
        if not len(self._vertices):
            return near, far
        program = self._programs.wire if style == "wire" else self._programs.surface
        with drawing_state():
            for off in (gl.GL_BLEND, gl.GL_CULL_FACE, gl.GL_SCISSOR_TEST, gl.GL_STENCIL_TEST):
                gl.glDisable(off)
            gl.glEnable(gl.GL_DEPTH_TEST)
            gl.glDepthFunc(gl.GL_LESS)
            gl.glDepthMask(True)
            gl.glActiveTexture(gl.GL_TEXTURE0)
            gl.glBindTexture(gl.GL_TEXTURE_2D, self._image.id)
            program.use(
                clip_from_world=clip_from_world(camera, near, far),
                mode=_STYLES[style],
                eye=tuple(camera_position(camera.viewmat.double()).tolist()),
                colour=colour or (WIRE if style == "wire" else SURFACE),
                half_px=0.5 * wire_px,
                image=0,
            )
            gl.glBindVertexArray(self._array)
            gl.glDrawElements(
                gl.GL_TRIANGLES, self._indices, gl.GL_UNSIGNED_INT, ctypes.c_void_p(0)
            )
        return near, far

    def delete(self) -> None:
        """Give everything back, while the context is there; a second time does nothing."""
        if self._buffers:
            opengl().glDeleteBuffers(len(self._buffers), self._buffers)
            opengl().glDeleteVertexArrays(1, [self._array])
        self._buffers = []
        self._image.delete()


def split_at_seams(
    faces: np.ndarray, corner_uvs: np.ndarray, labels: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Vertices with one texture coordinate (and one label) each.

    faces [F, 3]; corner_uvs [F, 3, 2]; labels [F], of faces: those of different ones share nothing.
    Returns (the mesh's vertex of each [V'], its uv [V', 2], faces of them [F, 3]).
    """
    columns = [faces.reshape(-1, 1).astype(np.float64), corner_uvs.reshape(-1, 2)]
    if labels is not None:
        columns.append(np.repeat(labels, 3)[:, None].astype(np.float64))
    unique, index = np.unique(np.concatenate(columns, 1), axis=0, return_inverse=True)
    corners = unique[:, 0].astype(np.int64)
    return corners, unique[:, 1:3].astype(np.float32), index.reshape(-1, 3).astype(np.uint32)


def fill_buffer(kind: int, buffer: int, values: np.ndarray, use: int) -> None:
    """Put values into a buffer, which stays bound."""
    gl = opengl()
    gl.glBindBuffer(kind, buffer)
    gl.glBufferData(kind, values.nbytes, np.ascontiguousarray(values), use)
