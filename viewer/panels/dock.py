"""Panels around the view, hidden by one key and restored."""

from collections.abc import Sequence

from imgui_bundle import hello_imgui


class Dock:
    """Visibility of the docked panels, and the ones to restore.

    `RunnerParams` copies its input: only the window's own parameters hold the drawn panels.
    """

    def __init__(self, labels: Sequence[str]) -> None:
        self._labels = tuple(labels)
        self._shown: bool | None = None
        self._hidden: tuple[str, ...] = self._labels

    @property
    def visible(self) -> tuple[str, ...]:
        """Panels that are drawn now."""
        return tuple(label for label in self._labels if self._panel(label).is_visible)

    def follow(self, shown: bool) -> None:
        """Hide or restore all when `shown` changes; panels that the user closed stay closed."""
        if shown == self._shown:
            return
        visible = self.visible
        if not shown:
            self._hidden = visible
            self._show(visible, False)
        elif not visible:  # also at a start after an end with hidden panels
            self._show(self._hidden or self._labels, True)
        self._shown = shown

    def _show(self, labels: Sequence[str], shown: bool) -> None:
        for label in labels:
            self._panel(label).is_visible = shown

    def _panel(self, label: str) -> hello_imgui.DockableWindow:
        panel = hello_imgui.get_runner_params().docking_params.dockable_window_of_name(label)
        assert panel is not None, label
        return panel
