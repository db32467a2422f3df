"""A scene in real time: manual posing, and loose cloth that somebody handles.

No toolkit here. Recordings show nothing of it, and no document changes by it but by the dofs that
are posed.
"""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

import torch
from jaxtyping import Float
from torch import Tensor

from ash_core.cloth.swing import Swing
from ash_core.geometry.motion import live_window
from ash_core.geometry.picking import place_beside
from ash_core.pose_windows import LiveWindows, pick_cloth, prepare_cloth
from ash_core.records import AvatarData, Camera, PoseWindow
from ash_core.scene.pose_edit import PoseEdit, edited_until
from ash_core.scene.revision import Drawn
from ash_core.scene.scene import Scene
from ash_core.variants import HistoryOffsets
from viewer.clock import Clock
from viewer.pose_history import PoseHistory

EASE_S: Final = 0.5
"""Duration in which what was live, and rests, turns into the motion's own poses and cloth."""
QUIET_S: Final = 0.3
"""Time without a change after which the motion's own cloth is simulated ahead."""
STEPS: Final = 8
"""Frames of it in each frame of the window."""
JUMP_S: Final = 0.5
"""Time of a motion that a playing clock passes at most beyond the time between two ticks."""
NOW_ALONE: Final = HistoryOffsets((0,))
"""History of what no pose moves."""


class LiveScene(Scene):
    """Scene that shows the poses and the cloth of the last moments instead of the motion's own.

    It does while somebody poses or handles the cloth, and a moment longer.
    """

    clock = Drawn[Clock]()
    live_cloth = Drawn[bool](by_value=True)
    """Cloth moves in real time, also while the motion rests."""
    now: Callable[[], float]
    """Clock of the window, s."""
    _posed: PoseHistory
    """Poses of manual posing that were shown."""
    _live: LiveWindows | None
    """Cloth in real time; None: there was none yet, or no cloth swings."""
    _pull: tuple[int, tuple[float, float, float]] | None
    """Point of the cloth that is pulled, and where to; m, world."""
    _handled_s: float
    """Time at which somebody handled the cloth last."""
    _place: tuple[str, int, float]
    """Motion, frame and time of the last tick."""
    _moved_s: float
    _moved: tuple[str, int, PoseEdit] | None
    """Motion, frame and edit that manual posing has made last, at `_moved_s`."""
    _was_live: bool

    def _forget_live(self) -> None:
        """Show the motion's own: another avatar is open."""
        data = self.data
        is_posed = isinstance(data, AvatarData)
        self._posed = PoseHistory(data.history_offsets if is_posed else NOW_ALONE)
        self._live, self._pull, self.live_cloth = None, None, False
        self._moved_s, self._moved, self._handled_s = -math.inf, None, -math.inf
        self._place, self._was_live = (self.document.motion, self.frame, self.now()), False

    # ---- edits ----

    def edit(self, label: str, merge: str | None = None, **changes: Any) -> None:
        """Change fields of the document; see `Scene.edit`."""
        swing = self.document.swing
        super().edit(label, merge, **changes)
        self._follow_swing(swing)

    def undo(self) -> str | None:
        """Take back the last edit; see `Scene.undo`."""
        swing = self.document.swing
        label = super().undo()
        self._follow_swing(swing)
        return label

    def redo(self) -> str | None:
        """Redo what was taken back; see `Scene.redo`."""
        swing = self.document.swing
        label = super().redo()
        self._follow_swing(swing)
        return label

    # ---- manual posing ----

    def show_dof(self, dof: int, value: float) -> None:
        """Pose manually: show a dof at a value, m or rad."""
        self._go_live(self.document.swing)
        name = self.character.skeleton.dof_names[dof]
        moving = float(self.motion.dofs[self.frame, dof])
        posed = self.document.edit.showing(dof, value, moving)
        self.edit(f"pose {name}", merge=name, edit=posed)
        self._moved_s, self._moved = self.now(), self._moment

    def advance(self) -> None:
        """Record the pose that is shown now; the window's loop calls it for every picture it asks.

        Nothing else records what was shown: requests have no side effect.
        """
        self._follow_place()
        if self.is_live:
            now, swing = self.now(), self.document.swing
            self._posed.push(self.dofs(), now)
            if self._live is not None:
                self._live.push(self._posed.poses(), now, swing, self._pull)

    @property
    def is_live(self) -> bool:
        """True while poses and cloth are, or just were, what was shown in real time."""
        return self._rested_s < EASE_S

    # ---- cloth ----

    @property
    def no_cloth(self) -> str | None:
        """Reason why no cloth can swing, for a person; None where some can."""
        if self.is_static:
            return "splats of a file have no cloth"
        return None if self.character.cloth is not None else "this avatar has no loose cloth"

    def let_live(self, is_live: bool) -> None:
        """Let the cloth move in real time, or return to the motion's own, softly."""
        if is_live and self._swings:
            self._go_live(self.document.swing)
            self.live_cloth = True
        elif self.live_cloth:
            self.live_cloth, self._handled_s = False, self.now() - self._posed.reach_s

    def settle_cloth(self) -> None:
        """Bring the cloth to rest under the present pose; it stays live."""
        self._live = LiveWindows.of(self.character, self.renderer.device) if self._swings else None
        if self._live is not None:
            self._posed.reset(self.dofs())
            self._live.settle(self._posed.poses(), self.now(), self.document.swing)
            self.live_cloth = True
            self.touch()

    @property
    def pulled(self) -> tuple[tuple[float, float, float], tuple[float, float, float]] | None:
        """Place of the cloth that is pulled, and where to; m, world. None: none is."""
        if self._pull is None or self._live is None:
            return None
        return self._live.place_of(self._pull[0]), self._pull[1]

    def grab_cloth(self, camera: Camera, x_px: float, y_px: float) -> None:
        """Grab the cloth under a pixel, if some is there. No document changes by it."""
        if self._swings:
            picked = pick_cloth(self.character, self._shown_window(), camera, x_px, y_px)
            if picked is not None:
                self._go_live(self.document.swing)
                self._pull = picked

    def pull_cloth(self, camera: Camera, x_px: float, y_px: float) -> None:
        """Pull what was grabbed to a pixel, at the depth at which it was grabbed."""
        if self._pull is not None:
            point, place = self._pull
            self._pull = point, place_beside(camera, place, x_px, y_px)

    def release_cloth(self) -> None:
        """Let go of the cloth, which swings back."""
        if self._pull is not None:
            self._pull, self._handled_s = None, self.now()

    # ---- in real time ----

    def _tick_live(self) -> None:
        """Bring up to now what is live, once a frame of the window."""
        self._follow_place()
        self._prepare_cloth()
        is_live = self.is_live
        if is_live or self._was_live:  # poses and cloth then change by themselves
            self.touch()
        self._was_live = is_live

    @property
    def _swings(self) -> bool:
        return self.no_cloth is None and self.document.swing.is_on

    def _go_live(self, swing: Swing) -> None:
        """Show poses and cloth in real time from now on, beginning with those just shown."""
        if self._rested_s >= 0.0:
            self._begin_live(self._earlier_poses(), swing)

    def _begin_live(self, poses: Float[Tensor, "P D"], swing: Swing) -> None:
        self._posed.begin(poses, self.now())
        self._live = LiveWindows.of(self.character, self.renderer.device) if swing.is_on else None
        if self._live is not None:
            is_paused = not self.clock.playing
            self._live.begin(self._edited_motion(), self.frame, self.now(), swing, is_paused)

    def _follow_swing(self, before: Swing) -> None:
        """Let cloth move by itself from how it was shown to how another swing has it."""
        swing = self.document.swing
        if swing == before or self.no_cloth is not None:
            return
        if swing.is_on and before.is_on:
            self._go_live(before)
            self._handled_s = self.now()
        else:
            self._live, self._pull, self.live_cloth = None, None, False
            self._moved, self._handled_s = None, -math.inf

    @property
    def _has_jumped(self) -> bool:
        """True if the playhead was put elsewhere since the last tick."""
        motion, frame, time_s = self._place
        clock, passed_s = self.clock, self.now() - time_s
        most = (passed_s + JUMP_S) * clock.fps * clock.speed if clock.playing else 0.0
        return motion != self.document.motion or abs(self.frame - frame) > most

    def _follow_place(self) -> None:
        """Begin anew where the playhead was put elsewhere: with the motion's own cloth."""
        has_jumped = self._has_jumped
        self._place = self.document.motion, self.frame, self.now()
        if has_jumped:
            self._pull, self._handled_s = None, -math.inf
            if self.live_cloth:
                self._begin_live(self._own_poses(), self.document.swing)

    def _prepare_cloth(self) -> None:
        """Simulate the motion's own cloth in small parts; until it is there, cloth stays live."""
        rested_s, reach_s = self._rested_s, self._posed.reach_s
        if self._live is None or not QUIET_S - reach_s <= rested_s < EASE_S:
            return
        motion, swing = self._edited_motion(), self.document.swing
        is_there = prepare_cloth(
            self.character, motion, self.frame, swing, STEPS, self.renderer.device
        )
        if not is_there and rested_s >= 0.0:
            self._handled_s = self.now() - reach_s

    @property
    def _moment(self) -> tuple[str, int, PoseEdit]:
        return self.document.motion, self.frame, self.document.edit

    @property
    def _rested_s(self) -> float:
        """Time since what was live counts no more; negative: it counts.

        Manual posing never does once the motion plays or anything else was chosen, sought or
        undone. Cloth that somebody handles plays on, but not elsewhere.
        """
        if self.live_cloth or self._pull is not None:
            return -math.inf
        handled_s = -math.inf if self._has_jumped else self._handled_s
        is_posed = not self.clock.playing and self._moved == self._moment
        moved_s = self._moved_s if is_posed else -math.inf
        return self.now() - max(handled_s, moved_s) - self._posed.reach_s

    @property
    def _eased(self) -> float:
        """Share of the motion's own in what is shown, 0 to 1."""
        rested = min(max(self._rested_s / EASE_S, 0.0), 1.0)
        return rested * rested * (3 - 2 * rested)

    def _earlier_poses(self) -> Float[Tensor, "P D"]:
        """List the poses until now, the newest last: live ones, the motion's, or between.

        The present pose counts as shown now, whether or not `advance` has pushed it.
        """
        share, now = self._eased, self.now()
        if share <= 0.0:
            return self._posed.poses_with(self.dofs(), now)
        own = self._own_poses()
        if share >= 1.0:
            return own
        return torch.lerp(self._posed.poses_with(self.dofs(), now), own, share)

    def _own_poses(self) -> Float[Tensor, "P D"]:
        """List the edited motion's poses until now, the newest last."""
        name, frame, edit = self._moment
        skeleton, offsets = self.character.skeleton, self.character.history_offsets
        return edited_until(self.motions[name], frame, edit, skeleton, offsets)

    def _shown_window(self) -> PoseWindow:
        if not self.is_live:
            return self._window(self.frame)
        skeleton, offsets = self.character.skeleton, self.character.history_offsets
        window = live_window(self._earlier_poses(), skeleton, offsets)
        return window if self._live is None else replace(window, cloth=self._swinging())

    def _swinging(self) -> Float[Tensor, "H W 3"]:
        """Return the live cloth, or on its way back to the motion's."""
        assert self._live is not None
        live, share = self._live.places(), self._eased
        own = self._window(self.frame).cloth if share > 0.0 else None
        return live if own is None else torch.lerp(live, own, share)
