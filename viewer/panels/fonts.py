"""Fonts for file names: the window's own has no Chinese, Japanese or Korean."""

import logging
import os
import subprocess
from pathlib import Path
from typing import Final

from imgui_bundle import hello_imgui, imgui

_log = logging.getLogger(__name__)

LANGUAGES: Final = ("ja", "zh-cn", "ko")
FORMATS: Final = (".ttf", ".ttc", ".otf")
PATIENCE_S: Final = 5.0


def load() -> None:
    """Load the window's font, and installed ones for characters that it lacks."""
    hello_imgui.imgui_default_settings.load_default_font_with_font_awesome_icons()
    for file in installed_fonts():
        config = imgui.ImFontConfig()
        config.merge_mode = True
        try:
            imgui.get_io().fonts.add_font_from_file_ttf(str(file), 0.0, config)
        except RuntimeError as error:
            _log.warning("%s: no font of it: %s", file, error)


def installed_fonts() -> list[Path]:
    """Find a font for each language by fontconfig; none where fontconfig is missing."""
    files: dict[Path, None] = {}
    for language in LANGUAGES:
        try:
            lines = subprocess.run(
                ["fc-list", f":lang={language}", "--format", "%{file}\n"],
                capture_output=True,
                text=True,
                timeout=PATIENCE_S,
            ).stdout.splitlines()
        except (OSError, subprocess.SubprocessError, UnicodeDecodeError):
            return []
        for line in sorted(lines):
            if line.lower().endswith(FORMATS) and os.access(line, os.R_OK):
                files.setdefault(Path(line))
                break
    return [*files]
