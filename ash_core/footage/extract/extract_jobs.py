"""Extracts many cameras at once: in processes of this machine, or as tasks of a Slurm cluster."""

import contextlib
import logging
import multiprocessing
import os
import queue
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from multiprocessing.connection import wait as wait_for_any
from pathlib import Path
from typing import Any, Final, Literal

from ash_core.errors import InputError
from ash_core.footage.extract.extract import CameraJob, CameraReport, extract_camera
from ash_core.footage.extract.journal import frames_done
from ash_core.install import install_command

POLL_SECONDS: Final = 0.1
SLURM_POLL_SECONDS: Final = 1.0
STOPPING: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
ORPHAN_SECONDS: Final = 60.0
"""Time that a worker has for the image at hand after its parent was killed."""


@dataclass
class Outcome:
    """What came of all cameras."""

    reports: list[CameraReport] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    """A line for each camera that could not be extracted."""


# ---- processes ----

_progress: Any = None
_stop: Any = None
_busy = threading.Lock()
"""Held while a job runs."""


def _start_worker(progress: Any, stop: Any) -> None:
    """Give a worker what it needs besides its jobs. Signals are for its parent alone."""
    global _progress, _stop
    _progress, _stop = progress, stop
    for number in STOPPING:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPPING)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """End this worker once its parent was killed: nobody would ever end it or give it a job."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait_for_any([parent.sentinel])
    # A job stops after the image at hand.
    _busy.acquire(timeout=ORPHAN_SECONDS)
    os._exit(1)


def _work(job: CameraJob) -> CameraReport:
    parent = multiprocessing.parent_process()

    def stopped() -> bool:
        # A parent that was killed sets no event.
        return _stop.is_set() or parent is None or not parent.is_alive()

    with _busy:
        if stopped():
            return CameraReport(job.camera, job.split, stopped=True)
        return extract_camera(job, _progress.put, stopped)


def run_in_processes(
    jobs: Sequence[CameraJob],
    workers: int,
    tell: Callable[[int], None],
    stopped: Callable[[], bool],
) -> Outcome:
    """Extract cameras, one a process at a time; a camera that fails stops no other."""
    outcome = Outcome()
    # Spawned: a fork of a process with threads (torch's, numba's) may never wake up.
    context = multiprocessing.get_context("spawn")
    with _signals_blocked():
        progress, stop = context.Queue(), context.Event()
    arguments = (progress, stop)
    count = max(1, min(workers, len(jobs)))
    with ProcessPoolExecutor(count, context, _start_worker, arguments) as pool:
        with _signals_blocked():
            waiting = {pool.submit(_work, job): job for job in jobs}
        while waiting:
            done, _ = wait(waiting, POLL_SECONDS, FIRST_COMPLETED)
            _drain(progress, tell)
            if stopped():
                stop.set()
            for future in done:
                _collect(outcome, waiting.pop(future), future)
    _drain(progress, tell)
    return outcome


@contextlib.contextmanager
def _signals_blocked() -> Iterator[None]:
    """Start processes deaf: a Ctrl-C or a closed terminal reaches all, and would kill new ones."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _drain(progress: Any, tell: Callable[[int], None]) -> None:
    while True:
        try:
            tell(progress.get_nowait())
        except queue.Empty:
            return


def _collect(outcome: Outcome, job: CameraJob, future: "Future[CameraReport]") -> None:
    try:
        outcome.reports.append(future.result())
    except InputError as error:
        outcome.errors.append(str(error))
    except BrokenProcessPool:
        text = "its process was killed (out of memory?); run it again, what is done is kept"
        outcome.errors.append(f"{job.split} camera {job.camera}: {text}")


# ---- Slurm ----


@dataclass(frozen=True)
class SlurmOptions:
    """How tasks are asked for."""

    logs: Path
    partition: str | None = None
    minutes: int = 240
    cpus: int = 1
    parallel: int = 64
    """Tasks of the array that may run at once."""
    executor: Literal["slurm", "local"] = "slurm"


def run_task(job: CameraJob) -> CameraReport:
    """One task of the array."""
    return extract_camera(job, lambda frames: None, lambda: False)


def run_on_slurm(
    jobs: Sequence[CameraJob],
    options: SlurmOptions,
    tell: Callable[[int], None],
    stopped: Callable[[], bool],
    say: Callable[[str], None],
) -> Outcome:
    """Submit a job array, a task a camera, and wait for it; a stop cancels what has not ended."""
    executor = _executor(options)
    try:
        with executor.batch():
            tasks = [executor.submit(run_task, job) for job in jobs]
    except Exception as error:  # submitit's and the system's, whatever sbatch refused
        raise InputError(f"--slurm: not accepted: {' '.join(str(error).split())}") from error
    say(f"job array {tasks[0].job_id.split('_')[0]}, {len(tasks)} tasks, logs in {options.logs}")
    outcome, told = Outcome(), 0
    waiting = dict(enumerate(tasks))
    while waiting:
        if stopped():
            for task in waiting.values():
                task.cancel()
            outcome.reports += [
                CameraReport(jobs[n].camera, jobs[n].split, stopped=True) for n in waiting
            ]
            break
        for number in [n for n, task in waiting.items() if task.done()]:
            _collect_task(outcome, jobs[number], waiting.pop(number))
        done = sum(min(_done(job), len(job.frames)) for job in jobs)
        tell(done - told)
        told = done
        if waiting:
            time.sleep(SLURM_POLL_SECONDS)
    return outcome


def _executor(options: SlurmOptions) -> Any:
    try:
        import submitit
    except ImportError as error:
        text = f"--slurm: needs submitit: {install_command('slurm')}"
        raise InputError(text) from error
    try:
        executor = submitit.AutoExecutor(folder=options.logs, cluster=options.executor)
    except RuntimeError as error:
        raise InputError(f"--slurm: no Slurm here: {error}") from error
    # Without Slurm's accounting it warns each second that it must look at files instead.
    logging.getLogger("submitit").setLevel(logging.ERROR)
    executor.update_parameters(
        name="ash-studio-extract",
        timeout_min=options.minutes,
        cpus_per_task=options.cpus,
        slurm_array_parallelism=options.parallel,
        **({"slurm_partition": options.partition} if options.partition else {}),
    )
    return executor


def _done(job: CameraJob) -> int:
    return frames_done(job.folder, job.split, job.camera, job.published)


def _collect_task(outcome: Outcome, job: CameraJob, task: Any) -> None:
    """A task's report, or why there is none."""
    try:
        error = task.exception()
        if error is None:
            outcome.reports.append(task.result())
            return
        # submitit gives the task's traceback as text; ours end in the error's one line.
        lines = [line for line in str(error).splitlines() if line.strip()] or [repr(error)]
        marked = [line for line in lines if "InputError: " in line]
        reason = marked[-1].partition("InputError: ")[2] if marked else lines[-1].strip()
        if marked:
            outcome.errors.append(reason)
            return
    except Exception as error:  # no result file, a node that vanished
        reason = " ".join(str(error).split())
    place = f"{job.split} camera {job.camera}"
    outcome.errors.append(f"{place}: task {task.job_id} failed: {reason[-300:]}")
