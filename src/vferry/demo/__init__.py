# SPDX-License-Identifier: Apache-2.0
"""One VM moves three times on the same traffic: its state copied, programmed early, and by vferry.

``scene`` builds hosts with software NICs, ``runs`` has the three ways, ``account`` gives every frame its one fate,
``attributes`` compares the VFs, ``claims`` holds each run against what is said of it, ``terminal`` and
``html`` draw. Nothing is imported here: the simulation needs trio, which vferry itself does without.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vferry.core.errors import FailedError, UsageError

if TYPE_CHECKING:
    from vferry.demo.report import Report

__all__ = [
    "MODES",
    "RUNS",
    "DemoNotCleanError",
    "NoSuchRunError",
    "SimulationFailedError",
    "SimulationMissingError",
    "runs_of",
    "show",
]

RUNS = ("copied", "early", "vferry")
"""The three ways, in the order in which they are shown."""
MODES = ("device-state", "failover", "cold")


class SimulationMissingError(FailedError):
    """What the simulation is made with is not installed."""

    def __init__(self, module: str) -> None:
        super().__init__(
            "run the demo",
            why=f"the simulation needs {module}, which is not installed",
            next_step="pip install 'vferry[sim]'",
        )


class NoSuchRunError(UsageError):
    """The run makes no sense in the mode."""

    def __init__(self, run: str, mode: str) -> None:
        why = f"'{run}' copies the state of a VF that the VM keeps, and in mode {mode} no VF's state is moved"
        super().__init__("run the demo", why=why, next_step=f"choose one of {', '.join(runs_of(mode))}")


class SimulationFailedError(FailedError):
    """A run broke, or its books are not in order: a defect, of the demo or of what it plays with.

    :param error: what was raised inside; the next step says what to report.
    """

    def __init__(self, *, seed: int, mode: str, run: str, error: Exception) -> None:
        place = error.__traceback__
        while place is not None and place.tb_next is not None:
            place = place.tb_next
        where = "" if place is None else f" (line {place.tb_lineno} of {place.tb_frame.f_globals.get('__name__')})"
        super().__init__(
            f"run the demo: seed {seed}, mode {mode}, run {run}",
            why=f"{type(error).__name__}: {error}{where}",
            next_step="this is a defect: report this line, what 'vferry --version' says, and the command "
            f"'vferry demo --seed {seed} --mode {mode} --run {run}', which does it again",
        )
        self.seed, self.mode, self.run = seed, mode, run

    def to_dict(self) -> dict[str, object]:
        """Return the error as JSON-ready data."""
        return {**super().to_dict(), "seed": self.seed, "mode": self.mode, "run": self.run}


class DemoNotCleanError(FailedError):
    """What is said of a run did not hold in the demo: of vferry's own, or of what a naive one has to show.

    :param report: everything that was seen.
    """

    def __init__(self, report: Report) -> None:
        super().__init__("run the demo", why="claims do not hold: " + "; ".join(report.broken))
        self.report = report

    def to_dict(self) -> dict[str, object]:
        """Return the error as JSON-ready data, with the report."""
        return {**super().to_dict(), **self.report.to_dict()}


def runs_of(mode: str) -> tuple[str, ...]:
    """Return the runs that make sense in a mode: a VF's state is copied only where there is one to move."""
    return RUNS if mode == MODES[0] else RUNS[1:]


def show(*, seed: int = 1, mode: str = MODES[0], run: str = "all") -> Report:
    """Do the runs and return what became of them.

    :param seed: decides when each talker sends, and how long the copy of the memory takes.
    :param run: one of :data:`RUNS`, or ``all`` of the mode's.
    :raise NoSuchRunError: the run makes no sense in the mode.
    :raise SimulationFailedError: a run did not get to its end, or its books are not in order.
    :raise SimulationMissingError: trio is not installed.
    """
    chosen = runs_of(mode) if run == "all" else (run,)
    if not set(chosen) <= set(runs_of(mode)):
        raise NoSuchRunError(run, mode)
    try:
        from vferry.demo.play import play  # noqa: PLC0415 -- it needs trio, and takes its time
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] == "vferry":
            raise
        raise SimulationMissingError(error.name) from error
    return play(seed=seed, mode=mode, runs=chosen)
