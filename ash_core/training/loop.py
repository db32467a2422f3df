"""The steps of a training, with everything that happens between them."""

import json
import math
import time

import torch
import torch.distributed as dist

from ash_core.errors import InputError
from ash_core.files.io import drop_leftovers, write_text
from ash_core.training.checkpoints import drop_newest, newest_checkpoint, write_checkpoint
from ash_core.training.log import Record
from ash_core.training.metrics import Scores
from ash_core.training.model import learning_rate
from ash_core.training.setup import PICTURES, Stop, TrainingSetup
from ash_core.training.trainer import DivergedError

LOOK_CPU, LOOK_GPU = 1, 20
"""Steps between two looks at whether to stop and whether numbers are finite."""


class Loop:
    """The steps of a training, with everything that happens between them."""

    def __init__(self, setup: TrainingSetup) -> None:
        self.setup, self.config = setup, setup.config
        self.trainer, self.reporter = setup.trainer, setup.reporter
        self.is_first = setup.world.rank == 0
        self.before = 0.0
        """Seconds of earlier runs."""
        self._resume()
        self.record = None
        if self.is_first:
            self.record = Record(self.config.folder, self.trainer.step, self.reporter.note)
        self.look_every = LOOK_CPU if setup.device.type == "cpu" else LOOK_GPU
        self._line = self._validated = ""
        self.scores: dict[str, Scores] = {}
        """Scores of the last validation, by its kinds of images."""

    def _resume(self) -> None:
        folder = self.config.folder / "checkpoints"
        newest = newest_checkpoint(folder)
        if not self.config.resume:
            if newest is not None:
                text = "--resume goes on from it; or name another folder"
                raise InputError(
                    f"{self.config.folder}: holds a training, {newest[0].name}: {text}"
                )
        elif newest is None:
            self.reporter.note(f"{folder}: no whole checkpoint, beginning anew")
        else:
            self.trainer.load(newest[1], str(newest[0]))
            self.before = newest[1].seconds
            if self.is_first:
                for place in (folder, self.config.folder, self.config.folder / PICTURES):
                    drop_leftovers(place)
            step, last = newest[1].step, self.config.steps
            more = f": no more than {last} were asked for" if last and step >= last else ""
            self.reporter.note(f"going on after step {step}{more}")

    @property
    def seconds(self) -> float:
        """Seconds of all runs."""
        return self.before + time.perf_counter() - self._started

    @property
    def done(self) -> float:
        """The part of the training that is done, 0 to 1."""
        far, whole = self._furthest()
        return far / whole

    def _furthest(self) -> tuple[float, float]:
        """Return (done, whole), in steps or in seconds, whichever ends first."""
        steps, minutes, ends = self.config.steps, self.config.minutes, []
        if steps is not None:
            ends.append((float(self.trainer.step), float(steps)))
        if minutes is not None:
            ends.append((self.seconds, 60 * minutes))
        return max(ends, key=lambda end: end[0] / end[1])

    def run(self) -> Stop:
        """Run all steps that are left; returns who stopped it before its end, or "no".

        An error or a signal leaves what was done in a checkpoint.
        """
        # Report the training, and start its batches.
        self._started = self._looked = time.perf_counter()
        config, trainer = self.config, self.trainer
        self._describe()
        if trainer.is_warming_up:
            self.setup.prepare_warm_up()
        batches = self.setup.batches(trainer.step)
        poses = range(trainer.local_poses)
        stop: Stop = "no"
        # Steps, with checks, logs, checkpoints and validations when they are due.
        try:
            while self._go_on() and stop == "no":
                trainer.rate = learning_rate(config, self.done, trainer.step)
                trainer.run_step(next(batches) for _ in poses)
                if trainer.step % self.look_every == 0:
                    trainer.check()
                    stop = self._agreed_stop()
                if trainer.step % config.log_every == 0:
                    self._log()
                if config.checkpoint_every and trainer.step % config.checkpoint_every == 0:
                    trainer.refresh_frames()
                    self._save()
                if config.validate_every and trainer.step % config.validate_every == 0:
                    self._validate()
            trainer.check()
        except DivergedError as error:
            raise InputError(f"{error}; {self._fall_back(error.step)}") from None
        except Exception:
            self._save()
            raise
        finally:
            batches.close()  # type: ignore[attr-defined]
        # Last checkpoint, and a validation unless the last step had one.
        self.setup.name_unusable()
        self._save(must=True)
        if stop == "no":
            if config.validate_every and trainer.step % config.validate_every:
                self._validate()
        elif self.is_first:
            self.reporter.note(f"stopped after step {trainer.step}; --resume goes on from there")
        return stop

    def _go_on(self) -> bool:
        """Tell whether there is another step; with --minutes the first process decides for all."""
        if self.config.minutes is None or self.setup.world.size == 1:
            return self.done < 1
        decision = torch.tensor([float(self.done < 1)], device=self.setup.device)
        self.setup.world.broadcast(decision)
        return bool(decision)

    def _agreed_stop(self) -> Stop:
        """Agree on a stop that any process was asked for."""
        names: tuple[Stop, ...] = ("no", "terminate", "interrupt")
        if self.setup.world.size == 1:
            return self.reporter.stop()
        level = torch.tensor([names.index(self.reporter.stop())], device=self.setup.device)
        self.setup.world.all_reduce(level, dist.ReduceOp.MAX)
        return names[int(level)]

    # ---- between steps ----

    def _describe(self) -> None:
        if not self.is_first:
            return
        config, footage = self.config, self.setup.footage
        write_text(config.folder / "config.json", json.dumps(config.as_json(), indent=2) + "\n")
        pictures = footage.pictures
        texels = len(self.setup.model.avatar.atlas.faces)
        held = ",".join(map(str, self.setup.test_cameras)) or "none"
        self.reporter.note(
            f"{len(footage.frames)} poses, {len(footage.views)} pictures in {pictures.place}, "
            f"windows of {footage.size[0]}x{footage.size[1]}, test cameras {held}, "
            f"{texels} Gaussians on {self.setup.device}"
        )

    def _log(self) -> None:
        self.setup.name_unusable()
        means = self.trainer.look()
        now = time.perf_counter()
        views = means.pop("views") / (now - self._looked)
        self._looked = now
        if self.record is None:
            return
        if "mse" in means:
            means["psnr"] = -10 * math.log10(max(means.pop("mse"), 1e-10))
        step, seconds = self.trainer.step, self.seconds
        self.record.log(
            step, {**means, "views_per_second": views, "rate": self.trainer.rate}, seconds
        )
        remaining_s = seconds * (1 - self.done) / max(self.done, 1e-9)
        loss = means.get("loss", means.get("warm_up", 0.0))
        quality = f" · {means['psnr']:.2f} dB" if "psnr" in means else " · warm-up"
        self._line = f"loss {loss:.4f}{quality} · {views:,.0f} views/s · {_span(remaining_s)} left"
        far, whole = self._furthest()
        self.reporter.training(int(far), int(whole), self._line + self._validated)

    def _save(self, must: bool = False) -> None:
        """A checkpoint and the avatar; the first process writes.

        On a full disk the training goes on and tries again later; at its end it must be saved.
        """
        if not self.is_first:
            return
        trainer, failure = self.trainer, None
        for save in (self._save_state, self._save_avatar):  # the one may fit where the other fails
            try:
                save()
            except InputError as error:
                failure = failure or error
        if failure is None:
            if self.record is not None:
                self.record.disk_has_room()
        elif must:
            raise failure
        else:
            self.reporter.note(f"not saved at step {trainer.step}, training goes on: {failure}")

    def _save_state(self) -> None:
        write_checkpoint(self.config.folder / "checkpoints", self.trainer.state(self.seconds))

    def _save_avatar(self) -> None:
        cameras, trainer = self.setup.footage.cameras, self.trainer
        self.setup.model.save(self.config.folder, trainer.ema, cameras, trainer.step)

    def _fall_back(self, step: int) -> str:
        """The avatar is again that of the newest checkpoint whose steps gave numbers; what goes on
        from there. step: the one that did not.
        """
        folder = self.config.folder / "checkpoints"
        if not self.is_first:
            return "no process goes on"
        drop_newest(folder, step)
        newest = newest_checkpoint(folder)
        if newest is None:
            return "nothing was saved before: begin anew with a lower --learning-rate"
        self.trainer.load(newest[1], str(newest[0]))
        self._save_avatar()
        return f"--resume with a lower --learning-rate goes on from step {newest[1].step}"

    def _validate(self) -> None:
        """Measure the averaged weights on what is never trained on."""
        if self.record is None or not self.setup.validation.shots:
            return
        began = time.perf_counter()
        trainer = self.trainer
        trained_values = {name: flat.values.clone() for name, flat in trainer.flats.items()}
        for name, flat in trainer.flats.items():
            flat.values.copy_(trainer.ema[name])
        self.scores = scores = self.setup.validation.run(trainer.step)
        for name, flat in trainer.flats.items():
            flat.values.copy_(trained_values[name])
        if self.setup.validation.problem is not None:
            self.reporter.note(f"training goes on: {self.setup.validation.problem}")
        self.record.validation(trainer.step, scores, self.seconds)
        self.record.pictures(trainer.step, self.config.folder / PICTURES)
        self.record.weights(trainer.step, trainer.flats)
        self._validated = "".join(f" · {kind} {one.psnr:.2f} dB" for kind, one in scores.items())
        self._looked += time.perf_counter() - began  # no time of the steps'

    def close(self) -> None:
        """Write what waits."""
        if self.record is not None:
            self.record.close()


def _span(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
