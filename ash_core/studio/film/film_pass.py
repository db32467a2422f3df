"""Renderer of the true surface for a stage's cameras: one upload a pose, any number of cameras.

Only the box around the person is cleared, drawn, resolved and read back: most of an image is
backdrop.
"""

import ctypes
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from jaxtyping import Float, Float32, UInt8
from scipy.ndimage import gaussian_filter

from ash_core.conventions import R_WORLD_BODY
from ash_core.errors import InputError
from ash_core.geometry.camera import camera_position
from ash_core.gl.buffer import fill_buffer
from ash_core.gl.context import GlError, opengl
from ash_core.gl.mesh import split_at_seams
from ash_core.gl.program import Program
from ash_core.gl.projection import clip_from_world
from ash_core.gl.state import raw
from ash_core.gl.texture import Texture
from ash_core.records import Camera
from ash_core.studio.film.studio_light import (
    BACKDROP,
    DISC,
    LAMPS,
    LIFT_M,
    SHADOW_BLUR_M,
    SHADOW_SIZE,
    SLACK,
    arriving_light,
    light_uniforms,
    reached_by,
    shadow_from_world,
)
from ash_core.studio.truth.dressing import RELIEF_M
from ash_core.studio.truth.true_surface import TrueFrame, TrueSurface

SAMPLES: Final = 4
NEAREST_M: Final = 0.05
SLOPE_M: Final = 4e-6
"""Step of a relief's stored slope, m per texel."""
BORDER_PX: Final = 2
"""Border around the person's box."""
_MOVING: Final = ((0, 3), (1, 3), (2, 3), (3, 3))
_STILL: Final = ((4, 2), (5, 1))
"""(location, numbers) of the vertex shader's inputs."""


@dataclass(frozen=True)
class Shot:
    """Image of a pose by one camera: the box around the person."""

    rgba: UInt8[np.ndarray, "h w 4"]
    """Image over the backdrop; alpha is the share of each pixel that the person covers."""
    left: int
    top: int
    touches_border: bool
    """True if the person may be cut off by the image's border."""


class FilmPass:
    """Surface of one actor on the GPU. Its context must be current. Raises: GlError."""

    def __init__(self, surface: TrueSurface, width: int, height: int, reach_m: float) -> None:
        """Create the targets. width, height: of the largest image.  reach_m: of the actor about its
        middle."""
        gl = opengl()
        if int(gl.glGetIntegerv(gl.GL_MAX_SAMPLES)) < SAMPLES:
            raise GlError(f"OpenGL takes no {SAMPLES} samples a pixel here: update the driver")
        self._size, self._reach_m = (width, height), reach_m
        self._program = Program("film.vert", "film.frag")
        self._depth_program = Program("film_depth.vert", "film_depth.frag")
        self._image = Texture(mipmaps=True)
        self._image.put(torch.from_numpy(surface.texture))
        self._finish = Texture(mipmaps=True)
        self._finish.put(torch.from_numpy(_finish(surface.gloss, surface.relief)))
        self._fill_arrays(surface)
        self._shadow = _framebuffer(SHADOW_SIZE, SHADOW_SIZE, 0)
        self._smooth = _framebuffer(width, height, SAMPLES)
        self._plain = _framebuffer(width, height, 0)
        self._places: Float32[np.ndarray, "V 3"] = np.zeros((0, 3), np.float32)
        self._program.use(
            **light_uniforms(), image=0, finish=1, slope_m=255 * SLOPE_M * surface.relief.shape[0],
        )  # fmt: skip
        for unit, name in enumerate((self._image.id, self._finish.id)):
            gl.glActiveTexture(gl.GL_TEXTURE0 + unit)
            gl.glBindTexture(gl.GL_TEXTURE_2D, name)
        gl.glEnable(gl.GL_DEPTH_TEST)
        gl.glCullFace(gl.GL_FRONT)  # row 0 at the top flips the winding: this culls the inside
        gl.glPixelStorei(gl.GL_PACK_ALIGNMENT, 1)

    def update(self, frame: TrueFrame) -> None:
        """Upload the next pose: its vertices, and its shadows."""
        gl = opengl()
        world_from_body = np.array(R_WORLD_BODY, np.float32).T
        corners = self._corners
        self._places = frame.vertices @ world_from_body
        normals = frame.normals @ world_from_body
        # Positions come first: the shadows are drawn from them.
        moving = np.empty((len(corners), 12), np.float32)
        moving[:, 0:3], moving[:, 3:6] = self._places[corners], normals[corners]
        gl.glBindVertexArray(self._array)
        fill_buffer(gl.GL_ARRAY_BUFFER, self._buffers[0], moving, gl.GL_STREAM_DRAW)
        reached = self._shadows(self._places + np.float32(LIFT_M) * normals)[corners]
        open_ = frame.occlusion.astype(np.float32)[corners]
        moving[:, 6:9] = arriving_light(moving[:, 3:6], open_, reached, self._kinds)
        moving[:, 9:11], moving[:, 11] = reached, open_
        fill_buffer(gl.GL_ARRAY_BUFFER, self._buffers[0], moving, gl.GL_STREAM_DRAW)

    def _shadows(self, points: Float32[np.ndarray, "V 3"]) -> Float32[np.ndarray, "V 2"]:
        """Measure the share of each lamp's light that reaches the points."""
        gl = opengl()
        middle = (self._places.min(0) + self._places.max(0)).astype(np.float64) / 2
        gl.glDisable(gl.GL_SCISSOR_TEST)
        gl.glViewport(0, 0, SHADOW_SIZE, SHADOW_SIZE)
        depth = np.empty((SHADOW_SIZE, SHADOW_SIZE), np.float32)
        clip = np.diag([2.0, 2.0, 2.0, 1.0])
        clip[:3, 3] = -1.0
        shares = []
        for lamp in LAMPS[:2]:
            matrix = shadow_from_world(lamp, middle, self._reach_m)
            gl.glBindFramebuffer(gl.GL_FRAMEBUFFER, self._shadow)
            gl.glClearBufferfv(gl.GL_DEPTH, 0, (1.0,))
            self._depth_program.use(clip_from_world=clip @ matrix)
            self._draw()
            _read(self._shadow, depth, gl.GL_DEPTH_COMPONENT, gl.GL_FLOAT)
            blur = SHADOW_BLUR_M / (2 * self._reach_m)
            shares.append(reached_by(points, depth + np.float32(SLACK), matrix, blur, DISC))
        return np.stack(shares, 1)

    def shoot(self, camera: Camera) -> Shot:
        """Draw the pose for a camera."""
        gl = opengl()
        box, near_m, far_m, touches = self._frame(camera)
        left, top, width, height = box
        if not width or not height:
            return Shot(np.zeros((0, 0, 4), np.uint8), 0, 0, True)
        self._aim(camera, box, self._smooth, self._program, near_m, far_m)
        backdrop = tuple(value / 255 for value in BACKDROP)
        gl.glClearBufferfv(gl.GL_COLOR, 0, (*backdrop, 0.0))
        gl.glClearBufferfv(gl.GL_DEPTH, 0, (1.0,))
        eye = tuple(camera_position(camera.viewmat.double()).tolist())
        self._program.use(eye=eye)
        gl.glEnable(gl.GL_CULL_FACE)
        self._draw()
        gl.glDisable(gl.GL_CULL_FACE)
        gl.glBindFramebuffer(gl.GL_READ_FRAMEBUFFER, self._smooth)
        gl.glBindFramebuffer(gl.GL_DRAW_FRAMEBUFFER, self._plain)
        whole = 0, 0, width, height
        gl.glBlitFramebuffer(*whole, *whole, gl.GL_COLOR_BUFFER_BIT, gl.GL_NEAREST)
        pixels = np.empty((height, width, 4), np.uint8)
        _read(self._plain, pixels, gl.GL_RGBA, gl.GL_UNSIGNED_BYTE)
        return Shot(pixels, left, top, touches)

    def shoot_depth(self, camera: Camera) -> Float[np.ndarray, "h w"]:
        """Draw view depth at the pixels' centres, m; 0 outside the person."""
        gl = opengl()
        box, near_m, far_m, _ = self._frame(camera)
        left, top, width, height = box
        depth = np.zeros((camera.height, camera.width))
        if not width or not height:
            return depth
        self._aim(camera, box, self._plain, self._depth_program, near_m, far_m)
        gl.glClearBufferfv(gl.GL_DEPTH, 0, (1.0,))
        self._draw()
        stored = np.empty((height, width), np.float32)
        _read(self._plain, stored, gl.GL_DEPTH_COMPONENT, gl.GL_FLOAT)
        distances = near_m * far_m / (far_m - stored.astype(np.float64) * (far_m - near_m))
        depth[top : top + height, left : left + width] = np.where(stored < 1.0, distances, 0.0)
        return depth

    def _frame(self, camera: Camera) -> tuple[tuple[int, int, int, int], float, float, bool]:
        """Return (left, top, width, height of the person's box; near, far in m; touches the
        border)."""
        view = camera.viewmat.double().numpy().astype(np.float32)
        K = camera.K.numpy()
        local = self._places @ view[:3, :3].T + view[:3, 3]
        depth = local[:, 2]
        if not depth.min() > NEAREST_M:
            text = "the motion leads the actor into it or past it: film it into a folder of its own"
            raise InputError(f"camera '{camera.name}': {text}, whose cameras stand around it")
        x, y = (K[n, n] * local[:, n] / depth + K[n, 2] for n in (0, 1))
        low = np.floor((x.min(), y.min())).astype(int) - BORDER_PX
        high = np.ceil((x.max(), y.max())).astype(int) + BORDER_PX
        size = np.array([camera.width, camera.height])
        touches = bool((low < 0).any() or (high > size).any())
        low, high = low.clip(0, size), high.clip(0, size)
        box = (int(low[0]), int(low[1]), int(high[0] - low[0]), int(high[1] - low[1]))
        return box, float(depth.min()) - 0.01, float(depth.max()) + 0.01, touches

    def _aim(
        self,
        camera: Camera,
        box: tuple[int, int, int, int],
        framebuffer: int,
        program: Program,
        near_m: float,
        far_m: float,
    ) -> None:
        """Draw into the box alone, which is in the framebuffer's corner."""
        gl = opengl()
        left, top, width, height = box
        gl.glBindFramebuffer(gl.GL_FRAMEBUFFER, framebuffer)
        gl.glViewport(0, 0, width, height)
        gl.glEnable(gl.GL_SCISSOR_TEST)
        gl.glScissor(0, 0, width, height)
        # The camera of the box: its pixels are exactly those of the whole image.
        clip = clip_from_world(_part(camera, left, top, width, height), near_m, far_m)
        program.use(clip_from_world=clip)

    def _draw(self) -> None:
        gl = opengl()
        gl.glBindVertexArray(self._array)
        gl.glDrawElements(gl.GL_TRIANGLES, self._indices, gl.GL_UNSIGNED_INT, ctypes.c_void_p(0))

    def _fill_arrays(self, surface: TrueSurface) -> None:
        gl = opengl()
        corners, uvs, faces = split_at_seams(surface.faces, surface.corner_uvs, surface.materials)
        self._corners, self._indices = corners, faces.size
        self._kinds = np.zeros(len(corners), np.int64)
        self._kinds[faces.reshape(-1)] = np.repeat(surface.materials, 3)
        self._array = int(gl.glGenVertexArrays(1))
        self._buffers = [int(name) for name in gl.glGenBuffers(3)]
        gl.glBindVertexArray(self._array)
        still = np.concatenate((uvs, self._kinds[:, None].astype(np.float32)), 1)
        fill_buffer(gl.GL_ARRAY_BUFFER, self._buffers[1], still, gl.GL_STATIC_DRAW)
        fill_buffer(gl.GL_ELEMENT_ARRAY_BUFFER, self._buffers[2], faces, gl.GL_STATIC_DRAW)
        for buffer, inputs in ((0, _MOVING), (1, _STILL)):
            gl.glBindBuffer(gl.GL_ARRAY_BUFFER, self._buffers[buffer])
            stride, offset = 4 * sum(width for _, width in inputs), 0
            for place, width in inputs:
                gl.glEnableVertexAttribArray(place)
                gl.glVertexAttribPointer(
                    place, width, gl.GL_FLOAT, False, stride, ctypes.c_void_p(offset)
                )
                offset += 4 * width


def _finish(
    gloss: UInt8[np.ndarray, "h w"], relief: UInt8[np.ndarray, "k k"]
) -> UInt8[np.ndarray, "m n 3"]:
    """Join gloss (red) and the relief's slopes to the right and down (green, blue) in one image.

    Slopes, not heights, since their filtered values are smooth.
    """
    heights = gaussian_filter(relief.astype(np.float32), 0.7, mode="nearest") * RELIEF_M
    slopes = np.gradient(heights) if heights.size > 1 else [np.zeros_like(heights)] * 2
    down, right = (np.asarray(slope) / SLOPE_M for slope in slopes)
    size = np.maximum(gloss.shape, relief.shape)
    image = np.zeros((*size, 3), np.uint8)
    for channel, values in enumerate((gloss, 128.5 + right, 128.5 + down)):
        rows, columns = (
            np.arange(n) * have // n for n, have in zip(size, values.shape, strict=True)
        )
        image[..., channel] = np.clip(values, 0, 255).astype(np.uint8)[np.ix_(rows, columns)]
    return image


def _framebuffer(width: int, height: int, samples: int) -> int:
    """Create an RGBA8 image with depth, of renderbuffers."""
    gl = opengl()
    framebuffer = int(gl.glGenFramebuffers(1))
    gl.glBindFramebuffer(gl.GL_FRAMEBUFFER, framebuffer)
    for place, kind in (
        (gl.GL_COLOR_ATTACHMENT0, gl.GL_RGBA8),
        (gl.GL_DEPTH_ATTACHMENT, gl.GL_DEPTH_COMPONENT24),
    ):
        buffer = int(gl.glGenRenderbuffers(1))
        gl.glBindRenderbuffer(gl.GL_RENDERBUFFER, buffer)
        gl.glRenderbufferStorageMultisample(gl.GL_RENDERBUFFER, samples, kind, width, height)
        gl.glFramebufferRenderbuffer(gl.GL_FRAMEBUFFER, place, gl.GL_RENDERBUFFER, buffer)
    _check()
    return framebuffer


def _read(framebuffer: int, out: np.ndarray, layout: Any, kind: Any) -> None:
    """Read the framebuffer's corner of the array's size."""
    gl = opengl()
    gl.glBindFramebuffer(gl.GL_READ_FRAMEBUFFER, framebuffer)
    place = ctypes.c_void_p(out.ctypes.data)
    raw().glReadPixels(0, 0, out.shape[1], out.shape[0], layout, kind, place)


def _check() -> None:
    gl = opengl()
    status = gl.glCheckFramebufferStatus(gl.GL_FRAMEBUFFER)
    if status != gl.GL_FRAMEBUFFER_COMPLETE:
        raise GlError(f"no framebuffer to film into ({int(status):#x}): update the graphics driver")


def _part(camera: Camera, left: int, top: int, width: int, height: int) -> Camera:
    """Return the camera of a box of its image."""
    K = camera.K.clone()
    K[0, 2] -= left
    K[1, 2] -= top
    return Camera(camera.viewmat, K, width, height, camera.name)
