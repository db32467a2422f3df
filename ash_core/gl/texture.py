"""Images as OpenGL textures: row 0 is the top, as everywhere here."""

import ctypes
from contextlib import AbstractContextManager
from typing import Literal

import torch
from torch import Tensor

from ash_core.gl.context import GlError, opengl
from ash_core.gl.state import bound_texture, pixel_store, raw

Magnify = Literal["linear", "nearest"]


class Texture:
    """An RGBA8 texture. Its id stays when its size changes.

    mipmaps: made with every image, for surfaces that appear smaller than their texture.
    """

    def __init__(self, magnify: Magnify = "linear", mipmaps: bool = False) -> None:
        self._magnify, self._mipmaps = magnify, mipmaps
        self.id = 0
        self.size = (0, 0)

    def allocate(self, width: int, height: int) -> None:
        """Allocate new, empty storage."""
        gl = opengl()
        max_side = int(gl.glGetIntegerv(gl.GL_MAX_TEXTURE_SIZE))
        if max(width, height) > max_side:
            raise GlError(
                f"picture of {width}x{height}: expected at most {max_side} pixels a side, which is "
                "all that OpenGL takes here, make it smaller"
            )
        is_new = not self.id
        if is_new:
            self.id = int(gl.glGenTextures(1))
        with self.bound(), pixel_store("UNPACK", 0):
            if is_new:
                self._set_sampling()
            raw().glTexImage2D(
                gl.GL_TEXTURE_2D,
                0,
                gl.GL_RGBA8,
                width,
                height,
                0,
                gl.GL_RGBA,
                gl.GL_UNSIGNED_BYTE,
                None,
            )
        self.size = (width, height)

    def put(self, pixels: Tensor, row_length: int | None = None) -> None:
        """Upload an image of the CPU, uint8 [h, w, 3 or 4]; the storage is made to fit.

        row_length: pixels from row to row in memory, where rows are not contiguous.
        """
        gl = opengl()
        height, width, channels = pixels.shape
        if row_length is None:
            pixels, row_length = pixels.contiguous(), width
        if (width, height) != self.size:
            self.allocate(width, height)
        with self.bound(), pixel_store("UNPACK", row_length):
            raw().glTexSubImage2D(
                gl.GL_TEXTURE_2D,
                0,
                0,
                0,
                width,
                height,
                {3: gl.GL_RGB, 4: gl.GL_RGBA}[channels],
                gl.GL_UNSIGNED_BYTE,
                ctypes.c_void_p(pixels.data_ptr()),
            )
            if self._mipmaps:
                gl.glGenerateMipmap(gl.GL_TEXTURE_2D)

    def delete(self) -> None:
        """Free it, while the context exists; a second call does nothing."""
        if self.id:
            opengl().glDeleteTextures(1, [self.id])
        self.id, self.size = 0, (0, 0)

    def bound(self) -> AbstractContextManager[None]:
        """Bind it to the active unit meanwhile."""
        return bound_texture(self.id)

    def _set_sampling(self) -> None:
        gl = opengl()
        magnify = {"linear": gl.GL_LINEAR, "nearest": gl.GL_NEAREST}[self._magnify]
        minify = gl.GL_LINEAR_MIPMAP_LINEAR if self._mipmaps else gl.GL_LINEAR
        for name, value in (
            (gl.GL_TEXTURE_MIN_FILTER, minify),
            (gl.GL_TEXTURE_MAG_FILTER, magnify),
            (gl.GL_TEXTURE_WRAP_S, gl.GL_CLAMP_TO_EDGE),
            (gl.GL_TEXTURE_WRAP_T, gl.GL_CLAMP_TO_EDGE),
            (gl.GL_TEXTURE_MAX_LEVEL, 1000 if self._mipmaps else 0),
        ):
            gl.glTexParameteri(gl.GL_TEXTURE_2D, name, value)


def read_texture(texture: int, size: tuple[int, int]) -> Tensor:
    """Read the bytes of a texture, uint8 [h, w, 4], to the CPU."""
    gl = opengl()
    pixels = torch.empty(size[1], size[0], 4, dtype=torch.uint8)
    with bound_texture(texture), pixel_store("PACK", size[0]):
        raw().glGetTexImage(
            gl.GL_TEXTURE_2D,
            0,
            gl.GL_RGBA,
            gl.GL_UNSIGNED_BYTE,
            ctypes.c_void_p(pixels.data_ptr()),
        )
    return pixels
