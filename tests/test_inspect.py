"""`ash-studio inspect`: what it finds in a sound data set and in spoilt ones."""

import re
import shutil
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from small_dataset import FRAMES, HEIGHT, WIDTH, small_dataset, write_video
from toy import make_toy_character

from ash_core.cli import main
from ash_core.commands.inspect_ import Inspect
from ash_core.files.cameras.published import read_cameras, write_cameras
from ash_core.files.dataset import (
    CAMERAS,
    CAPTURE,
    POSES,
    image_path,
    mask_path,
    mask_video_path,
    open_dataset,
    read_picture,
    video_path,
)
from ash_core.files.released import import_ash
from ash_core.files.skeletool import read_motion, write_motion
from ash_core.footage.inspect import inspection
from ash_core.footage.inspect.findings import FINDINGS
from ash_core.footage.inspect.fit import judge_fit
from ash_core.footage.inspect.inspection import KEPT_PX, Inspection, _sample, inspect_dataset
from ash_core.footage.inspect.silhouette import silhouette
from ash_core.geometry.kinematics import joint_transforms
from ash_core.geometry.projected_lines import joint_lines
from ash_core.records import Camera


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return small_dataset(tmp_path / "subject")


def look(folder: Path) -> Inspection:
    return inspect_dataset(open_dataset(folder), 2, 1, lambda done, total: None)


def complaints(found: Inspection) -> list[str]:
    return [f"{f.where}: {f.text}" for f in found.findings if f.severity in ("error", "warning")]


def test_a_sound_data_set_has_no_complaints(data: Path) -> None:
    found = look(data)
    assert complaints(found) == []
    assert all(camera.middle("iou") > 0.75 for camera in found.cameras)


def test_images_that_are_cut_off_are_named(data: Path) -> None:
    assert main(["extract", str(data)]) == 0
    first = min(open_dataset(data).splits["training"].images.values())
    first.write_bytes(first.read_bytes()[:-100])
    assert any(
        f"1 images are cut off, {first.name} first" in text for text in complaints(look(data))
    )


def test_swapped_cameras_are_seen_in_the_pictures(data: Path) -> None:
    first, second, third = read_cameras(data / CAMERAS)
    turned = torch.diag(torch.tensor([-1.0, -1.0, 1.0, 1.0])) @ second.viewmat
    write_cameras(data / CAMERAS, [first, replace(second, viewmat=turned), third])
    assert any(
        re.match("training camera 1: .*its calibration is wrong", text)
        for text in complaints(look(data))
    )


def test_light_masks_and_missing_videos(data: Path) -> None:
    shape = (FRAMES, HEIGHT, WIDTH, 3)
    write_video(video_path(data, "training", 0), np.full(shape, 255, np.uint8))
    write_video(mask_video_path(data, "training", 1), np.zeros(shape, np.uint8))
    video_path(data, "training", 2).unlink()
    text = "\n".join(complaints(look(data)))
    assert re.search("camera 0: 100% of the person is all white", text)
    assert re.search("camera 1: the mask has no foreground", text)
    assert re.search(r"camera 2: .*stream002\.mp4: expected a video, found nothing", text)


def test_inverted_masks(data: Path) -> None:
    shape = (FRAMES, HEIGHT, WIDTH, 3)
    write_video(mask_video_path(data, "training", 1), np.full(shape, 255, np.uint8))
    assert any("is it inverted?" in text for text in complaints(look(data)))


def test_motion_that_jumps_and_ends_early(data: Path) -> None:
    path = data / "training" / POSES
    rows = [line.split() for line in path.read_text().splitlines()[1:]]
    for row in rows[4:]:
        row[1] = str(float(row[1]) + 2.0)
    text = "\n".join(["Skeletool Motion File V1.0", *map(" ".join, rows[:-1])]) + "\n"
    path.write_text(text)
    found = "\n".join(complaints(look(data)))
    assert re.search(r"training motion: jumps by [12]\.\d\d m from frame 3 to 4", found)
    assert "8 frames, but the motion has 7 poses" in found


def test_the_page_is_whole_and_alone(data: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(data), "-o", str(data / "page.html"), "--samples", "1"]) == 0
    page = (data / "page.html").read_text()
    assert page.count("data:image/jpeg;base64,") == 3
    assert not re.search(r'(src|href)="(?!data:)', page)
    open_tags: list[str] = []

    class Balance(HTMLParser):
        def handle_starttag(self, tag: str, attrs: object) -> None:
            if tag not in ("meta", "img"):
                open_tags.append(tag)

        def handle_startendtag(self, tag: str, attrs: object) -> None:
            pass

        def handle_endtag(self, tag: str) -> None:
            assert open_tags.pop() == tag

    Balance().feed(page)
    assert open_tags == []
    assert "good" in capfd.readouterr().out


def test_a_reader_that_leaves_early_stops_no_page(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Close the pipe early, as `inspect DATA | head -3` does."""

    def leave(_: str) -> None:
        raise BrokenPipeError

    monkeypatch.setattr("ash_core.commands.inspect_.say", leave)
    with pytest.raises(BrokenPipeError):
        Inspect(data, samples=1).run()
    assert (data / "inspection.html").read_text().endswith("</html>\n")


def test_cameras_of_two_splits_count_once(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(data / "training", data / "testing")
    assert main(["inspect", str(data), "--samples", "1"]) == 0
    assert "inspection.html: 3 cameras" in capsys.readouterr().out


def test_what_is_no_data_set(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(tmp_path)]) == 2
    said = capfd.readouterr().err
    assert "expected a folder with one .character" in said
    assert "looking at cameras" not in said, "no bar of a work that never began"


def test_an_error_is_the_exit_code(data: Path) -> None:
    video_path(data, "training", 2).unlink()
    assert main(["inspect", str(data), "--samples", "1"]) == 1
    assert (data / "inspection.html").is_file()


# ---- fit by camera and frame ----

GOOD = 0.9
SHAPE = (6, 5)


def blamed(ious: np.ndarray) -> list[tuple[str, int | None, int | None]]:
    cameras, frames = range(ious.shape[0]), [10 * n for n in range(ious.shape[1])]
    return [(b.kind, b.camera, b.frame) for b in judge_fit(ious, cameras, frames)]


def test_a_good_fit_blames_nobody() -> None:
    assert blamed(np.full(SHAPE, GOOD)) == []
    assert blamed(np.full(SHAPE, np.nan)) == []


def test_a_row_is_the_cameras_and_a_column_the_frames_fault() -> None:
    ious = np.full(SHAPE, GOOD)
    ious[2], ious[:, 3] = 0.3, 0.4
    assert blamed(ious) == [("fit of a camera", 2, None), ("fit of a frame", None, 30)]


def test_one_image_is_nobodys_fault() -> None:
    ious = np.full(SHAPE, GOOD)
    ious[1, 4], ious[0, 0] = 0.2, np.nan
    assert blamed(ious) == [("fit of an image", 1, 40)]


@pytest.mark.parametrize(("iou", "kind"), [(0.2, "fit of all"), (0.7, "fit is loose")])
def test_what_all_share_is_no_single_fault(iou: float, kind: str) -> None:
    assert blamed(np.full(SHAPE, iou)) == [(kind, None, None)]


def test_a_pose_that_is_off_is_found_by_its_frame(data: Path) -> None:
    skeleton = open_dataset(data).character.skeleton
    dofs = read_motion(data / "training" / POSES, skeleton).dofs.clone()
    dofs[4, 0] += 0.6
    write_motion(data / "training" / POSES, dofs)
    result = inspect_dataset(open_dataset(data), FRAMES, 1, lambda done, total: None)
    frames = {f.where for f in result.findings if f.kind == "fit of a frame"}
    assert frames == {"training frame 4"}


# ---- images without videos ----


def test_imported_captures_are_inspected_by_their_images(data: Path) -> None:
    assert main(["extract", str(data)]) == 0
    shutil.rmtree(data / "training" / "videos")
    (data / CAPTURE).write_text("{}")
    result = look(data)
    assert complaints(result) == []
    assert all(len(camera.samples) == 2 for camera in result.cameras)
    assert any("images of the capture are there" in f.text for f in result.findings)


def test_the_background_of_an_image_is_shown(tmp_path: Path) -> None:
    scene = np.full((40, 30, 3), 90, np.uint8)
    mask = np.zeros((40, 30), np.uint8)
    mask[10:20, 10:20] = 255
    path = image_path(tmp_path, "training", 0, 0, "jpg")
    path.parent.mkdir(parents=True)
    Image.fromarray(scene).save(path, quality=95)
    Image.fromarray(mask).save(mask_path(path))
    assert abs(int(read_picture(path)[0, 0, 0]) - 90) < 4


def test_lines_lie_on_the_person(data: Path) -> None:
    for camera in look(data).cameras:
        for sample in camera.samples:
            places = sample.bones.reshape(-1, 2)
            columns, rows = places.astype(int).T
            assert sample.mask[rows.clip(0, HEIGHT - 1), columns.clip(0, WIDTH - 1)].mean() > 0.7


def test_large_images_are_kept_reduced() -> None:
    picture, mask = np.zeros((2000, 1000, 3), np.uint8), np.zeros((2000, 1000), bool)
    mask[500:1500] = True
    bones = np.array([[[500.0, 1000.0], [1000.0, 2000.0]]])
    sample = _sample(0, 0, picture, mask, mask, bones)
    assert sample.picture.shape == (KEPT_PX, KEPT_PX // 2, 3)
    assert sample.iou == 1.0
    np.testing.assert_allclose(sample.bones[0, 1], [KEPT_PX / 2, KEPT_PX])


# ---- the list of findings ----


def test_every_kind_of_finding_is_raised_and_explained() -> None:
    folder = Path(inspection.__file__).parent
    source = "".join((folder / name).read_text() for name in ("inspection.py", "fit.py"))
    raised = set(re.findall(r'"([a-z ]+)"', source))
    assert set(FINDINGS) <= raised
    for kind in FINDINGS.values():
        assert kind.shown
        assert kind.meaning.endswith(".")


def test_silhouette_of_a_square() -> None:
    """A square of 1 m, 2 m ahead: its pixels are those whose centres it covers."""
    corners = torch.tensor([[-0.5, -0.5, 2.0], [0.5, -0.5, 2.0], [0.5, 0.5, 2.0], [-0.5, 0.5, 2.0]])
    K = torch.tensor([[20.0, 0.0, 10.0], [0.0, 20.0, 8.0], [0.0, 0.0, 1.0]])
    camera = Camera(torch.eye(4), K, 20, 16)
    got = silhouette(corners, torch.tensor([[0, 1, 2], [0, 2, 3]]), camera)
    want = torch.zeros(16, 20, dtype=torch.bool)
    want[3:13, 5:15] = True
    assert torch.equal(got, want)


def test_a_root_far_from_the_origin_adds_no_line(tmp_path: Path) -> None:
    skeleton = import_ash(make_toy_character(tmp_path).conf)[0].skeleton
    near = torch.zeros(1, len(skeleton.dof_names), dtype=torch.float64)
    far = near.clone()
    far[0, :3] = torch.tensor([3.0, 0.5, -2.0])
    first, second = (
        joint_lines(joint_transforms(skeleton, dofs)[0, :, :3, 3].numpy(), skeleton)
        for dofs in (near, far)
    )
    assert len(first) == 2
    lengths = [np.linalg.norm(lines[:, 0] - lines[:, 1], axis=1) for lines in (first, second)]
    np.testing.assert_allclose(*lengths, atol=1e-9)
