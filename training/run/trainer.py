"""The training loop: teacher forcing and truncated back-propagation over parallel streams."""

import time
from collections.abc import Callable
from dataclasses import replace
from enum import Enum

from torch import nn
from torch.nn import functional as F

from training.data.prepared import TrainingData
from training.data.streams import Position
from training.log.progress import Reporter
from training.model.model import CharRNN, State, detach
from training.model.optimizer import build_optimizer, set_rate
from training.run.folder import RunFolder
from training.run.interrupt import StopRequest
from training.run.parallel import Group
from training.run.recorder import Recorder
from training.run.recovery import KEEP_EVERY, Recovery
from training.run.schedule import Length, Pace, Schedule
from training.run.state import Progress, TrainingState, capture, random_state, restore
from training.settings import TrainingSettings
from unroll.errors import ExplosionError

SECONDS_BETWEEN_SAVES = 30.0  # what a power cut costs; a save costs a part of a second


class Outcome(Enum):
    """Why a training ended."""

    FINISHED = "finished"
    EARLY = "stopped early"
    INTERRUPTED = "interrupted"


class Trainer:
    """One training, from wherever it stands to its end.

    Args:
        settings: validated settings.
        model: with its initial weights, on its device; trained in place.
        data: the text, on the same device.
        folder: an existing folder for the run's files.
        reporter: is told what happens.
        state: where to go on; None starts at the beginning.
        stop: asked between updates whether to stop.
        clock: seconds, monotonic.
        group: the processes that train together, entered; by default this one alone.
        begun: what the clock showed when the training's time began; by default it begins now.

    Raises:
        SettingsError: the streams cannot be shared among the processes.
        CheckpointError: the state is that of another number of processes.
    """

    def __init__(
        self,
        settings: TrainingSettings,
        model: CharRNN,
        data: TrainingData,
        folder: RunFolder,
        reporter: Reporter,
        *,
        state: TrainingState | None = None,
        stop: StopRequest | None = None,
        clock: Callable[[], float] = time.monotonic,
        group: Group | None = None,
        begun: float | None = None,
    ) -> None:
        self.settings, self.model, self.data = settings, model, data
        self.reporter, self.stop = reporter, stop or StopRequest()
        self.group = group or Group()
        self.group.require_divisible(settings.streams)
        self.group.seed(settings.seed)
        self._learner = self.group.wrap(model)
        self.optimizer = build_optimizer(model, settings)
        self.streams = data.streams
        self.schedule = Schedule(kind=settings.schedule, warmup_fraction=settings.warmup_fraction)
        self.length = Length.of(settings, self.streams)
        self.progress = Progress()
        self.recurrent = self._zero_state(self.progress.position)
        self._clock, self._begun = clock, clock() if begun is None else begun
        if state is not None:
            own = self.group.own_part(state)
            self.progress, self.recurrent = restore(own, model, self.optimizer)
            self._begun -= self.progress.elapsed
        self._now = self._saved = self.progress.elapsed
        self.recorder = Recorder(
            settings,
            model,
            data,
            folder,
            reporter,
            clock=clock,
            seconds=self.length.validation_seconds,
            logs=self.group.first,
        )
        self.recorder.log.rewind(self.progress.update)
        self.recovery = Recovery(len(data.vocabulary), self.capture())
        self._random = self.recovery.good.random  # before the update that is being made
        self._is_stepping = False  # while weights are of no update
        self._pace = Pace(self.progress, settings.streams * settings.window)

    def run(self) -> Outcome:
        """Train until the length is reached, patience ends or a stop is requested.

        Raises:
            ExplosionError: it exploded too often.
        """
        self.model.train()
        with self.recorder:
            if self.progress.update == 0:
                self._let_first(self.recorder.untrained)
            try:
                outcome = self._loop()
            except ExplosionError:
                raise  # what was good is saved
            except Exception as error:
                self._rescue(error)
                raise
            self._save()
        # Freed after the group, torch's wrapper would be the last to hold gloo's threads, and would
        # wait for one of them that waits for Python: seen to hang, once in a few runs.
        self._learner = self.model
        return outcome

    def _loop(self) -> Outcome:
        patience = self.settings.patience
        while True:
            if self._now - self._saved >= SECONDS_BETWEEN_SAVES:  # the same in all processes
                self._save()
            self._now, stop = self.group.agree(self._elapsed(), self.stop.requested)
            if self.length.over(self.progress.update, self._now, self.progress.reserve):
                break
            if stop:
                return Outcome.INTERRUPTED
            if patience and self.progress.since_best >= patience:
                return Outcome.EARLY
            if not self.update():
                continue
            if self._is_due():
                self._milestone()
        if self.progress.loss_count:
            self._milestone()
        return Outcome.FINISHED

    def _is_due(self) -> bool:
        """Whether a milestone is due, and the time allows it."""
        done, every = self.progress, self.settings.validate_every
        due = done.update % every == 0 if every else done.position.window == 0
        return due and self.length.affords(done.measuring, done.reserve, self._now)

    def update(self) -> bool:
        """Learn from one window; False where the training had to go back instead.

        Raises:
            ExplosionError: it exploded too often.
        """
        self._random = random_state(self.model.decoder.weight.device)
        columns = self._columns(self.progress.position)
        inputs, targets = (  # (T, N) both; of several processes, each reads its part of the N
            ids[:, columns] for ids in self.streams.batch(self.progress.position)
        )
        rate = self._rate()
        set_rate(self.optimizer, rate)
        logits, state = self._learner(inputs, self.recurrent)  # (T, M * N, V)
        of_all = targets.repeat(1, self.settings.members)
        loss = F.cross_entropy(logits.flatten(0, 1), of_all.flatten())
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        value, norm = self.group.mean(loss.item(), self._clip())
        if self.recovery.exploded(value, norm):
            self._roll_back(value, norm)
            return False
        self._is_stepping = True
        self.optimizer.step()
        self._advance(value, detach(state))
        self._random, self._is_stepping = random_state(self.model.decoder.weight.device), False
        self.recorder.log.update(self.progress.update, value, rate, norm)
        self._report(value, rate)
        if self.progress.update % KEEP_EVERY == 0:
            self.recovery.keep(self.capture())
        return True

    def _clip(self) -> float:
        """Return the gradient's norm, after which it is no longer than the settings allow."""
        weights = list(self.model.parameters())
        norm = nn.utils.get_total_norm([w.grad for w in weights if w.grad is not None])
        if self.settings.gradient_clip:
            nn.utils.clip_grads_with_norm_(weights, self.settings.gradient_clip, norm)
        return float(norm)

    def _advance(self, loss: float, state: State) -> None:
        position = self.streams.after(self.progress.position)
        self.recurrent = state if self.streams.carries(position) else self._zero_state(position)
        self.progress = replace(
            self.progress,
            update=self.progress.update + 1,
            position=position,
            loss_sum=self.progress.loss_sum + loss,
            loss_count=self.progress.loss_count + 1,
        )

    def _roll_back(self, loss: float, norm: float) -> None:
        try:
            state = self.recovery.roll_back(replace(self.progress, elapsed=self._elapsed()))
        except ExplosionError:
            self.recorder.log.give_up(self.progress.update)
            self._save(self.recovery.good)
            raise
        self.progress, self.recurrent = restore(state, self.model, self.optimizer)
        scale = self.progress.rate_scale
        self.recorder.log.rewind(
            self.progress.update, loss=str(loss), gradient_norm=str(norm), rate_scale=scale
        )
        self.reporter.say(
            f"explosion: loss {loss:.4g}, gradient norm {norm:.4g}; back to update "
            f"{self.progress.update}, learning rate halved to {scale:g} of the configured one"
        )

    def _milestone(self) -> None:
        self.progress = replace(self.progress, elapsed=self._elapsed())
        self._let_first(self.recorder.milestone)

    def _let_first(self, measure: Callable[[Progress], Progress]) -> None:
        """Let the first process do what one is enough for; all go on with its progress."""
        measured = measure(self.progress) if self.group.first else self.progress
        self.progress = self.group.share_progress(measured)

    def _save(self, state: TrainingState | None = None) -> None:
        """Save a state to be resumed, by default the present one."""
        self._saved = self._now
        whole = self.group.gather(state or self.capture())
        if self.group.first:
            self.recorder.save_last(whole)

    def _rescue(self, error: Exception) -> None:
        """Save the last completed update after an error that nobody foresaw, if that is possible.

        Several processes cannot: the others know nothing of it and would not take part.
        """
        finite = all(bool(weight.isfinite().all()) for weight in self.model.parameters())
        if self._is_stepping or self.group.size > 1 or not finite:
            return
        try:
            self._save(replace(self.capture(), random=self._random))
        except Exception as failed:
            error.add_note(f"the run's state cannot be saved either: {failed}")

    def _columns(self, position: Position) -> slice:
        """Return which of the rows of a window are this process's."""
        return self.group.columns(self.streams.rows(position))

    def _zero_state(self, position: Position) -> State:
        columns = self._columns(position)
        return self.model.zero_state(columns.stop - columns.start)

    def _rate(self) -> float:
        done = self.length.progress(self.progress.update, self._now, self.progress.reserve)
        factor = self.schedule.factor(done)
        if self.settings.warmup_fraction:
            factor = min(factor, self.length.warmup(self.progress.update))
        return self.settings.learning_rate * self.progress.rate_scale * factor

    def _report(self, loss: float, rate: float) -> None:
        elapsed = self._elapsed()
        speed, left = self._pace.now(self.progress.update, elapsed, self.length)
        done = self.length.progress(self.progress.update, elapsed, self.progress.reserve)
        self.reporter.update(done, loss, rate, speed, left)

    def _elapsed(self) -> float:
        return self._clock() - self._begun

    def capture(self) -> TrainingState:
        """Copy everything that the rest of the training depends on, this process's part of it."""
        progress = replace(self.progress, elapsed=self._elapsed())
        return capture(progress, self.model, self.optimizer, self.recurrent)
