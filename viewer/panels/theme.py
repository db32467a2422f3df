"""Themes, dark and light: colours and sizes of Dear ImGui and of our own drawing."""

from typing import Any, Final, NamedTuple

from imgui_bundle import hello_imgui, imgui

from ash_core.scene.preferences import Preferences, Theme

Colour = tuple[float, float, float, float]
SURFACES: Final = (
    imgui.Col_.window_bg,
    imgui.Col_.popup_bg,
    imgui.Col_.title_bg,
    imgui.Col_.title_bg_active,
)
"""Backgrounds of floating windows, which must hide the text under them."""


class Palette(NamedTuple):
    """Colours of one theme, over a panel's background."""

    base: hello_imgui.ImGuiTheme_
    error: Colour
    good: Colour
    edited: Colour
    track: Colour
    range: Colour
    head: Colour
    tick: Colour
    label: Colour


PALETTES: Final[dict[Theme, Palette]] = {
    "dark": Palette(
        base=hello_imgui.ImGuiTheme_.darcula_darker,
        error=(1.0, 0.45, 0.40, 1.0),
        good=(0.80, 0.90, 0.80, 1.0),
        edited=(0.98, 0.72, 0.24, 1.0),
        track=(0.20, 0.22, 0.25, 1.0),
        range=(0.24, 0.42, 0.62, 1.0),
        head=(0.95, 0.96, 0.98, 1.0),
        tick=(0.55, 0.58, 0.62, 0.8),
        label=(0.86, 0.89, 0.93, 0.9),
    ),
    "light": Palette(
        base=hello_imgui.ImGuiTheme_.light_rounded,
        error=(0.75, 0.10, 0.08, 1.0),
        good=(0.10, 0.38, 0.16, 1.0),
        edited=(0.66, 0.36, 0.00, 1.0),
        track=(0.80, 0.82, 0.84, 1.0),
        range=(0.55, 0.72, 0.91, 1.0),
        head=(0.12, 0.14, 0.18, 1.0),
        tick=(0.35, 0.38, 0.42, 0.8),
        label=(0.16, 0.19, 0.24, 1.0),
    ),
}


class Dress:
    """Theme and scale that Dear ImGui has now."""

    def __init__(self) -> None:
        self.colours = PALETTES["dark"]
        self._worn: tuple[Theme, float] | None = None
        self._sizes: dict[str, Any] = {}
        """Sizes of the dark theme, for both themes: each scaling starts from them."""

    def wear(self, preferences: Preferences) -> None:
        """Apply changed preferences, between two frames."""
        choice = preferences.theme, preferences.scale
        if choice == self._worn:
            return
        self._worn, self.colours = choice, PALETTES[preferences.theme]
        style = imgui.get_style()
        if not self._sizes:
            _apply(PALETTES["dark"])
            self._sizes = _sizes_of(style)
        _apply(self.colours)
        for name, size in self._sizes.items():
            setattr(style, name, imgui.ImVec2(*size) if isinstance(size, tuple) else size)
        for surface in SURFACES:
            background = style.color_(surface)
            background.w = 0.98
            style.set_color_(surface, background)
        style.scale_all_sizes(preferences.scale)
        style.font_scale_main = self._sizes["font_scale_main"] * preferences.scale


def _apply(palette: Palette) -> None:
    hello_imgui.apply_tweaked_theme(hello_imgui.ImGuiTweakedTheme(palette.base))


def _sizes_of(style: imgui.Style) -> dict[str, Any]:
    sizes: dict[str, Any] = {}
    for name in dir(style):
        value = getattr(style, name)
        if isinstance(value, imgui.ImVec2):
            sizes[name] = value.x, value.y
        elif isinstance(value, float) and not name.startswith("_"):
            sizes[name] = value
    return sizes


DRESS: Final = Dress()
"""Theme of Dear ImGui's one style."""


def colours() -> Palette:
    """Return the colours of the theme in force."""
    return DRESS.colours
