"""An inspection as one HTML page that needs nothing beside it."""

import base64
import io
import math
from html import escape
from typing import Final

import numpy as np
from jaxtyping import Bool, UInt8
from PIL import Image as PillowImage

from ash_core.footage.inspect.inspection import (
    CLIPPED,
    IOU_LOOSE,
    IOU_WRONG,
    JUMP_M,
    JUMP_RAD,
    CameraLook,
    Finding,
    Inspection,
    MotionLook,
    Sample,
    worst,
)

PICTURE_PX: Final = 420
"""Longest side of an image in the page."""
MASK_ALONE: Final = (230, 60, 60)
TEMPLATE_ALONE: Final = (60, 130, 255)

_STYLE: Final = """
:root{color-scheme:light dark;--paper:#f6f6f4;--card:#fff;--ink:#1c1d20;--soft:#6a6d75;
--line:#e2e2de;--error:#c4314b;--warning:#b26a00;--note:#3c6ea8;--good:#2b8a4b}
@media (prefers-color-scheme:dark){:root{--paper:#15161a;--card:#1e2025;--ink:#e8e8ea;
--soft:#9a9da6;--line:#30333a;--error:#ff6b81;--warning:#f0a93b;--note:#7db0ec;--good:#63c987}}
*{box-sizing:border-box}body{margin:0;background:var(--paper);color:var(--ink);
font:15px/1.5 system-ui,sans-serif}main{max-width:1180px;margin:0 auto;padding:32px 20px 80px}
h1{font-size:26px;margin:0 0 4px}h2{font-size:18px;margin:40px 0 12px}
.soft{color:var(--soft)}.chips{display:flex;gap:8px;flex-wrap:wrap;margin:16px 0}
.chip{border-radius:99px;padding:3px 12px;font-weight:600;color:var(--card);
background:var(--soft)}.card{background:var(--card);border:1px solid var(--line);
border-radius:10px;overflow:hidden}.finding{display:grid;gap:12px;padding:9px 16px;
grid-template-columns:84px 190px 1fr;border-bottom:1px solid var(--line);overflow-wrap:anywhere}
.finding:last-child{border:0}.mark{font-weight:600}
.error{color:var(--error)}.warning{color:var(--warning)}.note{color:var(--note)}
.good{color:var(--good)}.chip.error{background:var(--error)}.chip.warning{background:var(--warning)}
.chip.note{background:var(--note)}.chip.good{background:var(--good)}.chip{color:var(--card)}
.wide{overflow-x:auto}table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}
th,td{padding:6px 14px;text-align:right;border-bottom:1px solid var(--line);white-space:nowrap}
th{font-weight:600;color:var(--soft)}th:first-child,td:first-child{text-align:left}
.grid{display:grid;gap:14px;grid-template-columns:repeat(auto-fill,minmax(260px,1fr))}
figure{margin:0}img{display:block;width:100%;height:auto}figcaption{padding:8px 12px}
figcaption .soft{white-space:nowrap}
.key i{display:inline-block;width:11px;height:11px;border-radius:3px;margin:0 5px 0 14px}
svg{display:block;width:100%;height:90px;padding:8px}polyline{fill:none;stroke:var(--note);
stroke-width:1.5;vector-effect:non-scaling-stroke}.bar{stroke:var(--error);stroke-width:1;
stroke-dasharray:4 4;vector-effect:non-scaling-stroke}
@media (max-width:700px){.finding{grid-template-columns:1fr;gap:0}}
"""


def inspection_page(inspection: Inspection) -> str:
    """Format an inspection as HTML."""
    findings = inspection.sorted_findings()
    name = escape(inspection.folder.resolve().name)
    chips = "".join(
        f'<span class="chip {severity}">{count} {severity if count == 1 else severity + "s"}</span>'
        for severity, count in worst(findings)
        if severity != "good"
    )
    chips += "".join(
        f'<span class="chip good">{count} fine</span>'
        for severity, count in worst(findings)
        if severity == "good"
    )
    parts = [
        f"<h1>{name}</h1><div class=soft>Inspection of a data set by ash-studio</div>",
        f'<div class="chips">{chips}</div>',
        '<div class="card">' + "".join(map(_finding, findings)) + "</div>",
        "<h2>Cameras</h2>" + _table(inspection.cameras),
        "<h2>Template over the pictures</h2>" + _key(),
        '<div class="grid">' + "".join(map(_figures, inspection.cameras)) + "</div>",
        *(_motion(motion) for motion in inspection.motions),
    ]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{name} inspected</title><style>{_STYLE}</style></head>"
        f"<body><main>{''.join(parts)}</main></body></html>\n"
    )


def _finding(finding: Finding) -> str:
    return (
        f'<div class="finding"><span class="mark {finding.severity}">{finding.severity}</span>'
        f"<span>{escape(finding.where)}</span><span>{escape(finding.text)}</span></div>"
    )


def _table(looks: list[CameraLook]) -> str:
    titles = ("camera", "size, px", "frames", "fps", "IoU", "mask", "brightness", "clipped")
    head = "".join(f"<th>{title}</th>" for title in titles)
    return f'<div class="card wide"><table><tr>{head}</tr>{"".join(map(_row, looks))}</table></div>'


def _row(look: CameraLook) -> str:
    name = f"{look.split} {look.camera}" + (f" ({look.name})" if look.name else "")
    if not look.samples:
        return f'<tr><td>{escape(name)}</td><td class="error" colspan="7">not readable</td></tr>'
    iou, clipped = look.middle("iou"), look.middle("clipped")
    fits = "error" if iou < IOU_WRONG else "warning" if iou < IOU_LOOSE else "good"
    cells = (
        ("", f"{look.size[0]}x{look.size[1]}"),
        ("", str(look.frames)),
        ("", f"{look.fps:.4g}"),
        (fits, f"{iou:.2f}"),
        ("", f"{look.cover:.1%}"),
        ("", f"{look.middle('brightness'):.2f}"),
        ("warning" if clipped > CLIPPED else "", f"{clipped:.1%}"),
    )
    row = "".join(f'<td class="{kind}">{text}</td>' for kind, text in cells)
    return f"<tr><td>{escape(name)}</td>{row}</tr>"


def _key() -> str:
    colours = (
        (MASK_ALONE, "mask without template (hair, loose clothes, or an error)"),
        (TEMPLATE_ALONE, "template without mask"),
    )
    items = "".join(f'<i style="background:rgb{colour}"></i>{text}' for colour, text in colours)
    return f'<p class="soft key">{items}</p>'


def _figures(look: CameraLook) -> str:
    return "".join(
        f'<figure class="card"><img alt="camera {look.camera}, frame {sample.frame}" '
        f'src="data:image/jpeg;base64,{_picture(sample)}"><figcaption>{look.split} camera '
        f'{look.camera}, frame {sample.frame} <span class="soft">IoU {sample.iou:.2f}</span>'
        "</figcaption></figure>"
        for sample in look.samples
    )


def _picture(sample: Sample) -> str:
    """Draw the frame with the disagreement of mask and template."""
    picture = _tinted(sample.picture, sample.mask & ~sample.outline, MASK_ALONE)
    picture = _tinted(picture, sample.outline & ~sample.mask, TEMPLATE_ALONE)
    image = PillowImage.fromarray(picture)
    # Small images grow by integer factors, so that their pixels stay pixels.
    grow = max(PICTURE_PX // max(image.size), 1)
    if grow > 1:
        image = image.resize((image.width * grow, image.height * grow), PillowImage.Resampling.BOX)
    image.thumbnail((PICTURE_PX, PICTURE_PX))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=85)
    return base64.b64encode(buffer.getvalue()).decode()


def _tinted(
    picture: UInt8[np.ndarray, "h w 3"],
    where: Bool[np.ndarray, "h w"],
    colour: tuple[int, int, int],
) -> UInt8[np.ndarray, "h w 3"]:
    mixed = 0.35 * picture + 0.65 * np.array(colour)
    return np.where(where[..., None], mixed, picture).astype(np.uint8)


def _motion(motion: MotionLook) -> str:
    if not len(motion.speed):
        return ""
    return (
        f"<h2>Motion, {motion.split}: {motion.frames} poses</h2>"
        '<div class="grid" style="grid-template-columns:repeat(auto-fill,minmax(420px,1fr))">'
        + _curve("way of the root from frame to frame, m", motion.speed, JUMP_M)
        + _curve("largest turn of a joint from frame to frame, rad", motion.turn, JUMP_RAD)
        + "</div>"
    )


def _curve(title: str, values: np.ndarray, limit: float) -> str:
    """Draw a curve; thousands of frames become the maximum of each of 600 stretches."""
    stretches = np.array_split(values, min(len(values), 600))
    tops = [float(stretch.max()) for stretch in stretches]
    most = max(*tops, limit * 0.2) * 1.1
    width = max(len(tops) - 1, 1)
    points = " ".join(
        f"{n / width * 600:.1f},{100 - v / most * 100:.1f}" for n, v in enumerate(tops)
    )
    bar = 100 - limit / most * 100
    line = f'<line class="bar" x1="0" x2="600" y1="{bar:.1f}" y2="{bar:.1f}"/>' if bar > 0 else ""
    top = max(tops)
    assert math.isfinite(top), top
    return (
        f'<figure class="card"><svg viewBox="0 0 600 100" preserveAspectRatio="none">{line}'
        f'<polyline points="{points}"/></svg><figcaption>{title} '
        f'<span class="soft">at most {top:.3g}</span></figcaption></figure>'
    )
