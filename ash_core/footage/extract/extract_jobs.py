"""Extraction of many cameras at once: in processes of this machine, or as tasks of a Slurm
cluster."""

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
from typing import Any, Final, Literal, TypeVar

from ash_core.errors import InputError
from ash_core.footage.extract.extract import CameraJob, CameraReport, extract_camera
from ash_core.footage.extract.journal import frames_done
from ash_core.install import install_command

POLL_SECONDS: Final = 0.1
SLURM_POLL_SECONDS: Final = 1.0
STOPPING: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
ORPHAN_SECONDS: Final = 60.0
"""Time for a worker's current image after its parent was killed."""


@dataclass
class Outcome:
    """Results of all cameras."""

    reports: list[CameraReport] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    """Error lines of the cameras that could not be extracted."""


# ---- processes ----

Job = TypeVar("Job")
Report = TypeVar("Report")
Work = Callable[[Job, Callable[[int], None], Callable[[], bool]], Report]
"""Function that does one job; it takes progress, and asks whether to stop after each image."""

_progress: Any = None
_stop: Any = None
_busy = threading.Lock()
"""Lock that is held while a job runs."""


def _start_worker(progress: Any, stop: Any) -> None:
    """Initialise a worker. Only its parent reacts to signals."""
    global _progress, _stop
    _progress, _stop = progress, stop
    for number in STOPPING:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPPING)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """End this worker once its parent was killed: no process would end it or give it a job."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait_for_any([parent.sentinel])
    # A job stops after the current image.
    _busy.acquire(timeout=ORPHAN_SECONDS)
    os._exit(1)


def _do(work: "Work[Job, Report]", job: Job) -> Report:
    """Do one job in a worker."""
    parent = multiprocessing.parent_process()

    def stopped() -> bool:
        # A killed parent sets no event.
        return _stop.is_set() or parent is None or not parent.is_alive()

    with _busy:
        return work(job, _progress.put, stopped)


def _extract(
    job: CameraJob, progress: Callable[[int], None], stopped: Callable[[], bool]
) -> CameraReport:
    if stopped():
        return CameraReport(job.camera, job.split, stopped=True)
    return extract_camera(job, progress, stopped)


def run_in_processes(
    jobs: Sequence[CameraJob],
    workers: int,
    progress: Callable[[int], None],
    stopped: Callable[[], bool],
) -> Outcome:
    """Extract cameras, one a process at a time; a camera that fails does not stop the others."""
    outcome = Outcome()
    for job, future in do_in_processes(_extract, jobs, workers, progress, stopped):
        _collect(outcome, job, future)
    return outcome


def do_in_processes(
    work: "Work[Job, Report]",
    jobs: Sequence[Job],
    workers: int,
    progress: Callable[[int], None],
    stopped: Callable[[], bool],
) -> "Iterator[tuple[Job, Future[Report]]]":
    """Do jobs, one a process at a time; yield each with its result as it ends.

    work: a function of a module, which is sent to the processes by its name.
    """
    # Spawned: a fork of a process with threads (torch's, numba's) may deadlock.
    context = multiprocessing.get_context("spawn")
    with _signals_blocked():
        counts, stop = context.Queue(), context.Event()
    arguments = (counts, stop)
    count = max(1, min(workers, len(jobs)))
    with ProcessPoolExecutor(count, context, _start_worker, arguments) as pool:
        with _signals_blocked():
            waiting = {pool.submit(_do, work, job): job for job in jobs}
        while waiting:
            done, _ = wait(waiting, POLL_SECONDS, FIRST_COMPLETED)
            _drain(counts, progress)
            if stopped():
                stop.set()
            for future in done:
                yield waiting.pop(future), future
    _drain(counts, progress)


@contextlib.contextmanager
def _signals_blocked() -> Iterator[None]:
    """Block signals while processes start: a Ctrl-C or a closed terminal would kill new ones."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _drain(counts: Any, progress: Callable[[int], None]) -> None:
    while True:
        try:
            progress(counts.get_nowait())
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
    """Resources of the tasks."""

    logs: Path
    partition: str | None = None
    minutes: int = 240
    cpus: int = 1
    parallel: int = 64
    """Upper bound on tasks of the array that run at once."""
    executor: Literal["slurm", "local"] = "slurm"


def run_task(job: CameraJob) -> CameraReport:
    """Run one task of the array."""
    return extract_camera(job, lambda frames: None, lambda: False)


def run_on_slurm(
    jobs: Sequence[CameraJob],
    options: SlurmOptions,
    progress: Callable[[int], None],
    stopped: Callable[[], bool],
    report: Callable[[str], None],
) -> Outcome:
    """Submit a job array, a task a camera, and wait for it; a stop cancels the unfinished tasks."""
    executor = _executor(options)
    try:
        with executor.batch():
            tasks = [executor.submit(run_task, job) for job in jobs]
    except Exception as error:  # errors of submitit and the system, whatever sbatch refused
        raise InputError(f"--slurm: not accepted: {' '.join(str(error).split())}") from error
    report(f"job array {tasks[0].job_id.split('_')[0]}, {len(tasks)} tasks, logs in {options.logs}")
    outcome, previous = Outcome(), 0
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
        progress(done - previous)
        previous = done
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
    # Without Slurm's accounting it warns every second that it must read files instead.
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
    """Return a task's report, or the reason for its absence."""
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
    except Exception as error:  # no result file, a lost node
        reason = " ".join(str(error).split())
    place = f"{job.split} camera {job.camera}"
    outcome.errors.append(f"{place}: task {task.job_id} failed: {reason[-300:]}")
