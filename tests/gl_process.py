"""Tests inside an OpenGL context, in one process of their own for each file of tests.

PyOpenGL's platform is chosen once for a process, and other tests open windows.
"""

import functools
import importlib
import multiprocessing
import traceback
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import pytest

from ash_core.gl.context import GlError, OffscreenContext, offscreen_context


@functools.cache
def gl_process() -> ProcessPoolExecutor:
    return ProcessPoolExecutor(1, multiprocessing.get_context("spawn"))


def end_gl_process() -> None:
    if gl_process.cache_info().currsize:
        gl_process().shutdown()
        gl_process.cache_clear()


def with_gl(test: Callable[..., None]) -> Callable[..., None]:
    """Run a test in the process that has a current OpenGL context."""

    @functools.wraps(test)
    def run(**arguments: Any) -> None:
        job = gl_process().submit(inside, test.__module__, test.__name__, arguments)
        outcome, text = job.result(timeout=300)
        if outcome == "skipped":
            pytest.skip(text)
        if outcome == "failed":
            pytest.fail(text, pytrace=False)

    return run


def inside(module: str, name: str, arguments: dict[str, Any]) -> tuple[str, str]:
    """In that process: (outcome of a test, why)."""
    try:
        the_context()
    except GlError as error:
        return "skipped", str(error)
    try:
        getattr(importlib.import_module(module), name).__wrapped__(**arguments)
    except pytest.skip.Exception as skip:
        return "skipped", str(skip)
    except (Exception, pytest.fail.Exception):
        return "failed", traceback.format_exc()
    return "passed", ""


@functools.cache
def the_context() -> OffscreenContext:
    return offscreen_context(64, 48)
