"""A textured mesh on the GPU: faces, texture coordinates and image are fixed, vertices move."""

import ctypes
from typing import Final, Literal

import numpy as np
from jaxtyping import Float

from ash_core.geometry.camera import camera_position
from ash_core.gl.buffer import fill_buffer
from ash_core.gl.context import opengl
from ash_core.gl.cover import find_cover
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
COVERED: Final = 0.07
"""Shift of covered vertices away from the eye, in depth alone, as a share of the template's size.

It is 12 cm for an adult: as far as a thigh comes through a skirt.
"""
BACK: Final = 0.03
"""Shift of faces seen from behind."""
BEYOND_M: Final = 1e4
"""Shift of covered faces seen from behind, m: beyond the far plane, which clips them."""
_STYLES: Final[dict[Style, int]] = {"shaded": 0, "textured": 1, "wire": 2}


class MeshPrograms:
    """Shaders that any number of meshes share. Raises GlError."""

    def __init__(self) -> None:
        self.surface = Program("mesh.vert", "mesh.frag")
        self.wire = Program("mesh.vert", "wire.geom", "mesh.frag")

    def delete(self) -> None:
        """Free them."""
        self.surface.delete()
        self.wire.delete()


class GpuMesh:
    """One mesh: `update` moves it, `draw` draws it into the bound target."""

    def __init__(self, template: Template, programs: MeshPrograms) -> None:
        gl = opengl()
        self.template, self._programs = template, programs
        rest = template.vertices.cpu()
        self._size_m = float((rest.amax(0) - rest.amin(0)).max()) if len(rest) else 0.0
        cover = find_cover(template)
        corner_uvs = template.corner_uvs.double().cpu().numpy()
        is_turned = (cover.faces != template.faces.cpu().numpy()).any(1)
        corner_uvs = np.where(is_turned[:, None, None], corner_uvs[:, [0, 2, 1]], corner_uvs)
        corners, uvs, faces = split_at_seams(cover.faces, corner_uvs)
        self._corners = corners
        """Template vertex of each of ours; vertices are split along seams."""
        self._vertices = np.zeros((0, 3), np.float32)
        self._indices = faces.size
        self._image = Texture(mipmaps=True)
        self._image.put(template.texture.cpu())
        self._array = int(gl.glGenVertexArrays(1))
        self._buffers = [int(name) for name in gl.glGenBuffers(5)]
        with drawing_state():
            gl.glBindVertexArray(self._array)
            for place, width in enumerate((3, 3, 2, 1)):
                gl.glBindBuffer(gl.GL_ARRAY_BUFFER, self._buffers[place])
                gl.glEnableVertexAttribArray(place)
                gl.glVertexAttribPointer(
                    place, width, gl.GL_FLOAT, False, 4 * width, ctypes.c_void_p(0)
                )
            fill_buffer(gl.GL_ARRAY_BUFFER, self._buffers[2], uvs, gl.GL_STATIC_DRAW)
            covered = cover.vertices[corners].astype(np.float32)
            fill_buffer(gl.GL_ARRAY_BUFFER, self._buffers[3], covered, gl.GL_STATIC_DRAW)
            fill_buffer(gl.GL_ELEMENT_ARRAY_BUFFER, self._buffers[4], faces, gl.GL_STATIC_DRAW)

    def update(self, vertices: Float[np.ndarray, "V 3"], normals: Float[np.ndarray, "V 3"]) -> None:
        """Upload the vertices, m, world, and their unit normals; float32."""
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
        """Draw it with a depth test, premultiplied; a wire has no hidden lines.

        colour: of the shaded surface or the wire. wire_px: width of the lines.
        depth_m: near and far, m, where several things share one image; by default the mesh's own.
        Returns (near, far), for reading depths back.
        """
        # Depth range.
        gl = opengl()
        near, far = depth_m or depth_range(camera, self._vertices)
        covered_m, back_m = COVERED * self._size_m, BACK * self._size_m
        far = far if depth_m else far + covered_m + back_m
        if not len(self._vertices):
            return near, far
        # State, camera and colours.
        program = self._programs.wire if style == "wire" else self._programs.surface
        with drawing_state():
            for feature in (gl.GL_BLEND, gl.GL_SCISSOR_TEST, gl.GL_STENCIL_TEST):
                gl.glDisable(feature)
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
            gl.glEnable(gl.GL_CULL_FACE)
            # Row 0 of the image is the top: front for OpenGL is the inside.
            passes = ((gl.GL_FRONT, covered_m, 0.0), (gl.GL_BACK, BEYOND_M, back_m))
            for culled, cover_m, behind_m in passes:
                gl.glCullFace(culled)
                program.use(covered_m=cover_m, behind_m=behind_m)
                gl.glDrawElements(
                    gl.GL_TRIANGLES, self._indices, gl.GL_UNSIGNED_INT, ctypes.c_void_p(0)
                )
            gl.glDisable(gl.GL_CULL_FACE)
        return near, far

    def delete(self) -> None:
        """Free everything, while the context exists; a second call does nothing."""
        if self._buffers:
            opengl().glDeleteBuffers(len(self._buffers), self._buffers)
            opengl().glDeleteVertexArrays(1, [self._array])
        self._buffers = []
        self._image.delete()


def split_at_seams(
    faces: np.ndarray, corner_uvs: np.ndarray, labels: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Split vertices so that each has one texture coordinate (and one label).

    faces [F, 3]; corner_uvs [F, 3, 2]; labels [F], of faces: different ones share no vertex.
    Returns (mesh vertex of each [V'], its uv [V', 2], faces of them [F, 3]).
    """
    columns = [faces.reshape(-1, 1).astype(np.float64), corner_uvs.reshape(-1, 2)]
    if labels is not None:
        columns.append(np.repeat(labels, 3)[:, None].astype(np.float64))
    unique, index = np.unique(np.concatenate(columns, 1), axis=0, return_inverse=True)
    corners = unique[:, 0].astype(np.int64)
    return corners, unique[:, 1:3].astype(np.float32), index.reshape(-1, 3).astype(np.uint32)
