"""An inspection as one HTML page that needs nothing beside it."""

import base64
import io
import math
from html import escape
from typing import Final

import numpy as np
from jaxtyping import Bool, Float, UInt8
from PIL import Image as PillowImage
from PIL import ImageDraw

from ash_core.files.dataset import Split
from ash_core.footage.inspect.fit import IOU_LOOSE, IOU_WRONG, middles
from ash_core.footage.inspect.inspection import (
    CLIPPED,
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
MOST_PICTURES: Final = 48
"""Images in the page: those with the lowest IoU."""
# Colours that colour-blind people tell apart. Source: Okabe and Ito, "Color Universal Design".
MASK_ALONE: Final = (213, 94, 0)
TEMPLATE_ALONE: Final = (86, 180, 233)
BONE: Final = (240, 228, 66)
JOINT: Final = (255, 255, 255)
CASING: Final = (0, 0, 0, 150)
"""Dark rim of lines and dots, so that they show on any image."""
LINE_PX, DOT_PX, RIM_PX = 1.5, 1.8, 0.8
LEAST_BONE_PX: Final = 6.0
"""Length from which a bone has dots at its ends."""
FINER: Final = 3
"""Factor by which lines are drawn larger, then reduced: Pillow's own have no smooth edges."""
LOW, MIDDLE, HIGH = (213, 94, 0), (245, 245, 240), (0, 114, 178)
"""Colours of an IoU of `IOU_WRONG` and less, of `IOU_LOOSE`, and of 1."""

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
.finding:last-child{border:0}.mark{font-weight:600}.finding .soft{display:block}
.heat td{text-align:center;padding:4px 8px;color:#1c1d20;border:1px solid var(--card)}
.heat th,.heat td:first-child{color:var(--soft)}.heat .all{font-weight:600}
.heat .none{color:var(--soft)}.heat .worst{outline:2px solid var(--ink);outline-offset:-2px;
font-weight:700}.heat th{text-align:center}
.heat th:first-child,.heat td:first-child{text-align:left}
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
        *(_heat(inspection, split) for split in inspection.frames),
        "<h2>Template and skeleton over the pictures</h2>" + _key() + _figures(inspection),
        *(_motion(motion) for motion in inspection.motions),
    ]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{name} inspected</title><style>{_STYLE}</style></head>"
        f"<body><main>{''.join(parts)}</main></body></html>\n"
    )


def _finding(finding: Finding) -> str:
    meaning = ""
    if finding.severity in ("error", "warning"):
        meaning = f'<span class="soft">{escape(finding.meaning.replace("`", ""))}</span>'
    return (
        f'<div class="finding"><span class="mark {finding.severity}">{finding.severity}</span>'
        f"<span>{escape(finding.where)}</span><span>{escape(finding.text)}{meaning}</span></div>"
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


def _heat(inspection: Inspection, split: Split) -> str:
    """Draw a table of IoU, a row a camera and a column a frame, with the medians of both."""
    looks, ious = inspection.ious(split)
    if not np.isfinite(ious).any():
        return ""
    by_camera, by_frame = middles(ious)
    usual = float(np.nanmedian(ious))
    # Head and rows.
    head = "".join(f"<th>{frame}</th>" for frame in inspection.frames[split])
    rows = [f"<tr><th>camera \\ frame</th>{head}<th>all</th></tr>"]
    worst_camera, worst_frame = np.nanmin(by_camera), np.nanmin(by_frame)
    for look, row, iou in zip(looks, ious, by_camera, strict=True):
        name = f"{look.camera}" + (f" ({look.name})" if look.name else "")
        frames = {sample.column: sample.frame for sample in look.samples}
        cells = "".join(
            _heat_cell(value, is_worst=value == np.nanmin(ious), frame=frames.get(column))
            for column, value in enumerate(row.tolist())
        )
        cells += _heat_cell(float(iou), is_worst=iou == worst_camera, is_median=True)
        rows.append(f"<tr><td>{escape(name)}</td>{cells}</tr>")
    # Last row: medians of the frames.
    cells = "".join(
        _heat_cell(value, is_worst=value == worst_frame, is_median=True)
        for value in by_frame.tolist()
    )
    rows.append(f"<tr><td>all</td>{cells}{_heat_cell(usual, is_median=True)}</tr>")
    text = (
        "Overlap of posed template and mask. The worst image, camera and frame are outlined. A low "
        "row is a camera's calibration, a low column the fit of a pose, a low table what all share."
    )
    return (
        f"<h2>Fit by camera and frame, {split}</h2><p class=soft>{text}</p>"
        f'<div class="card wide"><table class="heat">{"".join(rows)}</table></div>'
    )


def _heat_cell(
    iou: float, is_worst: bool = False, is_median: bool = False, frame: int | None = None
) -> str:
    """Format one IoU on its colour. frame: the inspected one, which may be a neighbour."""
    if not math.isfinite(iou):
        return '<td class="none">-</td>'
    kinds = " ".join(name for name, on in (("worst", is_worst), ("all", is_median)) if on)
    title = "" if frame is None else f' title="frame {frame}"'
    colour = "#{:02x}{:02x}{:02x}".format(*_heat_colour(iou))
    return f'<td class="{kinds}" style="background:{colour}"{title}>{iou:.2f}</td>'


def _heat_colour(iou: float) -> tuple[int, int, int]:
    """Mix a cell's colour; text on it stays readable."""
    if iou < IOU_LOOSE:
        share, ends = (iou - IOU_WRONG) / (IOU_LOOSE - IOU_WRONG), (LOW, MIDDLE)
    else:
        share, ends = 0.6 * (iou - IOU_LOOSE) / (1 - IOU_LOOSE), (MIDDLE, HIGH)
    share = min(max(share, 0.0), 1.0)
    mixed = [round((1 - share) * low + share * high) for low, high in zip(*ends, strict=True)]
    return mixed[0], mixed[1], mixed[2]


def _key() -> str:
    colours = (
        (MASK_ALONE, "mask without template (hair, loose clothes, or an error)"),
        (TEMPLATE_ALONE, "template without mask"),
        (BONE, "bones, with a dot at each joint"),
    )
    items = "".join(f'<i style="background:rgb{colour}"></i>{text}' for colour, text in colours)
    return f'<p class="soft key">{items}</p>'


def _figures(inspection: Inspection) -> str:
    """Lay out the images, those with the lowest IoU first."""
    every = [(look, sample) for look in inspection.cameras for sample in look.samples]
    every.sort(key=lambda one: one[1].iou)
    figures = "".join(
        f'<figure class="card"><img alt="camera {look.camera}, frame {sample.frame}" '
        f'src="data:image/jpeg;base64,{_picture(sample)}"><figcaption>{look.split} camera '
        f'{look.camera}, frame {sample.frame} <span class="soft">IoU {sample.iou:.2f}</span>'
        "</figcaption></figure>"
        for look, sample in every[:MOST_PICTURES]
    )
    count = len(every)
    shown = f"{MOST_PICTURES} of {count} pictures, " if count > MOST_PICTURES else ""
    return f'<p class="soft">{shown}the worst first</p><div class="grid">{figures}</div>'


def _picture(sample: Sample) -> str:
    """Draw the frame with the disagreement of mask and template, and the skeleton."""
    picture = _tinted(sample.picture, sample.mask & ~sample.outline, MASK_ALONE)
    picture = _tinted(picture, sample.outline & ~sample.mask, TEMPLATE_ALONE)
    image = PillowImage.fromarray(picture)
    # Small images grow by integer factors, so that their pixels stay pixels.
    grow = max(PICTURE_PX // max(image.size), 1)
    if grow > 1:
        image = image.resize((image.width * grow, image.height * grow), PillowImage.Resampling.BOX)
    image.thumbnail((PICTURE_PX, PICTURE_PX))
    skeleton = _skeleton(image.size, sample.bones * (image.width / sample.mask.shape[1]))
    image = PillowImage.alpha_composite(image.convert("RGBA"), skeleton).convert("RGB")
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=85)
    return base64.b64encode(buffer.getvalue()).decode()


def _skeleton(size: tuple[int, int], bones: Float[np.ndarray, "n 2 2"]) -> PillowImage.Image:
    """Draw lines and dots on a transparent layer. bones: px of an image of that size."""
    width, height = size
    layer = PillowImage.new("RGBA", (FINER * width, FINER * height))
    draw = ImageDraw.Draw(layer)
    # Far outside, lines would only cost time.
    near = (np.abs(bones - np.array(size) / 2) < 2 * max(size)).all((1, 2))
    lines = (FINER * bones[near]).reshape(-1, 4)
    # Fingers of a few pixels have lines alone.
    is_long = np.linalg.norm(lines[:, 2:] - lines[:, :2], axis=1) > FINER * LEAST_BONE_PX
    dots = np.unique(lines[is_long].reshape(-1, 2).round(), axis=0)
    # The dark rims of all first, then the colours over them.
    for rim, line_colour, dot_colour in ((RIM_PX, CASING, CASING), (0.0, BONE, JOINT)):
        for line in lines.tolist():
            draw.line(line, line_colour, round(FINER * (LINE_PX + 2 * rim)))
        reach = FINER * (DOT_PX + rim)
        for x, y in dots.tolist():
            draw.ellipse((x - reach, y - reach, x + reach, y + reach), dot_colour)
    return layer.resize(size, PillowImage.Resampling.LANCZOS)


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
