"""A texel as a Gaussian: its directions, size and colour on the template."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image as PILImage
from torch import Tensor

from ash_core.geometry.rotations import length, matrix_to_quat
from ash_core.records import Atlas, Template

SIGMA_TEXELS = 0.7
"""Standard deviation along the surface, in texels: neighbours overlap without gaps."""
NORMAL_SIGMA = 0.15
"""Standard deviation across the surface, as a part of the smaller one along it."""
FACE_EDGE = 0.5
TYPICAL = 1.0
"""Bounds on the length of a texel: share of its face's longest edge, number of median texels."""
SHARPEN = 0.8
"""Amount of unsharp masking of colours, against the blur of overlapping Gaussians."""
STRETCH = (0.5, 2.0)
"""Bounds on the stretch of Gaussians by their posed triangle."""


@dataclass(frozen=True)
class TexelFrames:
    """Gaussians of the undeformed template. Body frame, m."""

    quats: Float[Tensor, "N 4"]
    """Axes: the two main directions of the texel's cell on the surface, then the normal."""
    scales: Float[Tensor, "N 3"]
    face_axes: Float[Tensor, "F 2 2"]
    """The two main directions of each face as combinations of its edges (v1 - v0, v2 - v0)."""
    face_lengths: Float[Tensor, "F 2"]
    """Their lengths on the template: a posed length over these is the stretch."""


def texel_frames(template: Template, atlas: Atlas) -> TexelFrames:
    """Compute main directions and sizes of each face's texels, by an SVD of d(position)/d(uv)."""
    points = template.vertices.double()[template.faces]
    edges = torch.stack((points[:, 1] - points[:, 0], points[:, 2] - points[:, 0]), -1)  # [F, 3, 2]
    uv = template.corner_uvs.double() * atlas.resolution
    uv_edges = torch.stack((uv[:, 1] - uv[:, 0], uv[:, 2] - uv[:, 0]), -1)
    degenerate = torch.linalg.det(uv_edges).abs() < 1e-12
    uv_edges[degenerate] = torch.eye(2, dtype=torch.float64)
    # Columns of `axes` are unit directions in the atlas: edges @ axes are their images in space.
    jacobian = edges @ torch.linalg.inv(uv_edges)
    _, sizes, vh = torch.linalg.svd(jacobian, full_matrices=False)
    axes = torch.linalg.inv(uv_edges) @ vh.transpose(-1, -2)
    tangents = torch.nn.functional.normalize(edges @ axes, dim=-2)
    normal = torch.linalg.cross(tangents[..., 0], tangents[..., 1])
    frame = torch.cat((tangents, normal[..., None]), -1)
    flat = torch.linalg.det(frame) < 0.5  # a face without area has no frame
    frame[flat] = torch.eye(3, dtype=torch.float64)

    # A sliver in the atlas has texels far longer than itself: bound them to the face.
    longest = torch.stack((edges[..., 0], edges[..., 1], edges[..., 1] - edges[..., 0])).norm(
        dim=-1
    )
    usual = TYPICAL * sizes[atlas.faces].median()
    bound = torch.maximum(FACE_EDGE * longest.amax(0), usual)
    along = SIGMA_TEXELS * torch.minimum(sizes, bound[:, None])
    scales = torch.cat((along, NORMAL_SIGMA * along[:, 1:]), -1).clamp(min=1e-6)
    return TexelFrames(
        matrix_to_quat(frame)[atlas.faces].float(),
        scales[atlas.faces].float(),
        axes.float(),
        sizes.clamp(min=1e-9).float(),
    )


def posed_stretch(
    frames: TexelFrames, vertices: Float[Tensor, "V 3"], template_faces: Tensor, atlas: Atlas
) -> Float[Tensor, "N 3"]:
    """Compute factors on each texel's scales by the stretch of its posed triangle."""
    v0, v1, v2 = (vertices.index_select(0, template_faces[:, i]) for i in range(3))
    # Written out: a batched product of 3x2 matrices costs a call for each face.
    a, b = v1 - v0, v2 - v0
    along, across = frames.face_axes.unbind(1)
    posed = [length(a * along[:, i : i + 1] + b * across[:, i : i + 1]) for i in range(2)]
    stretch = (torch.cat(posed, -1) / frames.face_lengths).clamp(*STRETCH)
    return torch.cat((stretch, torch.ones_like(stretch[:, :1])), -1).index_select(0, atlas.faces)


def texel_colours(texture: UInt8[Tensor, "h w 3"], atlas: Atlas) -> Float[Tensor, "N 3"]:
    """Average the texture over each texel's cell, RGB in [0, 1]; its rows run against v."""
    r = atlas.resolution
    h, w = texture.shape[:2]
    image = PILImage.fromarray(texture.numpy())
    method = PILImage.Resampling.BOX if min(h, w) >= r else PILImage.Resampling.BILINEAR
    small = torch.from_numpy(np.array(image.resize((r, r), method))).float() / 255
    padded = torch.nn.functional.pad(small.permute(2, 0, 1)[None], (1, 1, 1, 1), mode="replicate")
    blurred = torch.nn.functional.avg_pool2d(padded, 3, 1)[0].permute(1, 2, 0)
    small = (small + SHARPEN * (small - blurred)).clamp(0, 1)
    return small[r - 1 - atlas.texels[:, 1], atlas.texels[:, 0]]
