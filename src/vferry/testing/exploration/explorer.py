# SPDX-License-Identifier: Apache-2.0
"""The search: every reachable state, by the faults it needs and then by its distance.

So the first broken state that is found has a trace with the fewest faults, and the shortest of those. Then backwards:
from which states can everything still come to a good end without another fault.
"""

from __future__ import annotations

import time
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from vferry.core.migration.phases import Act, Role
from vferry.core.migration.tables import TABLES, Order, Table
from vferry.testing.exploration.acts import ACTS, ActSteps
from vferry.testing.exploration.invariants import Invariants
from vferry.testing.exploration.sides import Between, OneSide, Recovery
from vferry.testing.exploration.world import SHARED, SHARED_END, Shared, Side, State, describe, describe_end, initial

__all__ = ["Report", "Violation", "explore"]

_LOOKS_AT_CLOCK_EVERY = 4096
_CHANGED = slice(SHARED, SHARED + 3)
"""Where both VMs and the registry's entry are in a state."""


class Violation(NamedTuple):
    """Something that does not hold, and a way there with the fewest faults, the shortest of those."""

    what: str
    trace: tuple[str, ...]

    def __str__(self) -> str:
        return "\n".join((f"{self.what}:", *(f"  {number:2}. {line}" for number, line in enumerate(self.trace))))


class Report(NamedTuple):
    """What an exploration found."""

    order: Order
    states: int
    transitions: int
    seconds: float
    complete: bool
    """Every reachable state was seen."""
    violation: Violation | None
    ends: Mapping[str, int]
    """How often each end was seen: the two phases."""

    def __str__(self) -> str:
        rate = self.states / self.seconds if self.seconds else 0
        extent = "complete" if self.complete else "not complete"
        return (
            f"{self.order.value}: {self.states} states, {self.transitions} transitions, {extent}, "
            f"{self.seconds:.1f} s, {rate:.0f} states/s"
        )


class _Successor(NamedTuple):
    label: int
    fault: bool
    wrong: bool
    part: State


class _Moves:
    """Everything that can happen, remembered for each distinct view of the world."""

    def __init__(self, source: OneSide, destination: OneSide, between: Between) -> None:
        self._source = source
        self._destination = destination
        self._between_them = between
        self.labels: list[str] = []
        self._numbers: dict[str, int] = {}
        self._of_a: dict[State, tuple[_Successor, ...]] = {}
        self._of_b: dict[State, tuple[_Successor, ...]] = {}
        self._between: dict[State, tuple[_Successor, ...]] = {}

    def after(self, state: State) -> Iterable[tuple[_Successor, State]]:
        """Yield what can happen, and the state then."""
        a, shared, b = state[:SHARED], state[SHARED:SHARED_END], state[SHARED_END:]
        view = a + shared
        found = self._of_a.get(view)
        for successor in self._remember_a(view) if found is None else found:
            yield successor, successor.part + b
        view = shared + b
        found = self._of_b.get(view)
        for successor in self._remember_b(view) if found is None else found:
            yield successor, a + successor.part
        found = self._between.get(shared)
        for successor in self._remember_between(shared) if found is None else found:
            yield successor, a + successor.part + b

    def _remember_a(self, view: State) -> tuple[_Successor, ...]:
        moves = self._source.next(Side(*view[:SHARED]), Shared(*view[SHARED:]))
        found = tuple(
            _Successor(self._number(f"A: {move.what}"), move.fault, move.wrong, (*move.side, *move.shared))
            for move in moves
        )
        return self._of_a.setdefault(view, found)

    def _remember_b(self, view: State) -> tuple[_Successor, ...]:
        cut = len(Shared._fields)
        moves = self._destination.next(Side(*view[cut:]), Shared(*view[:cut]))
        found = tuple(
            _Successor(self._number(f"B: {move.what}"), move.fault, move.wrong, (*move.shared, *move.side))
            for move in moves
        )
        return self._of_b.setdefault(view, found)

    def _remember_between(self, view: State) -> tuple[_Successor, ...]:
        moves = self._between_them.next(Shared(*view))
        found = tuple(_Successor(self._number(what), fault, False, tuple(after)) for what, after, fault in moves)
        return self._between.setdefault(view, found)

    def _number(self, what: str) -> int:
        if what not in self._numbers:
            self._numbers[what] = len(self.labels)
            self.labels.append(what)
        return self._numbers[what]


class _Graph:
    """What was seen so far."""

    def __init__(self, first: State) -> None:
        self.states: list[State] = [first]
        self.numbers: dict[State, int] = {first: 0}
        self.parents = array("i", [-1])
        self.labels = array("i", [-1])
        self.froms = array("i")
        self.tos = array("i")
        self.transitions = 0

    def add(self, state: State, parent: int, label: int) -> int:
        """Add a state; return its number."""
        number = self.numbers[state] = len(self.states)
        self.states.append(state)
        self.parents.append(parent)
        self.labels.append(label)
        return number

    def trace(self, number: int, names: list[str]) -> tuple[str, ...]:
        """Return the way from the first state, each step with the state after it."""
        lines: list[str] = []
        while number >= 0:
            label = names[self.labels[number]] if self.labels[number] >= 0 else "at the beginning"
            lines.append(f"{label}\n        {describe(self.states[number])}")
            number = self.parents[number]
        return tuple(reversed(lines))

    def cannot_reach(self, good: Callable[[State], bool], excused: Callable[[State], bool]) -> int | None:
        """Return the first state, not excused, from which no good one is reached without another fault; or None."""
        into: list[list[int]] = [[] for _ in self.states]
        for start, end in zip(self.froms, self.tos, strict=True):
            into[end].append(start)
        stack = [number for number, state in enumerate(self.states) if good(state)]
        reached = bytearray(len(self.states))
        for number in stack:
            reached[number] = 1
        while stack:
            for start in into[stack.pop()]:
                if not reached[start]:
                    reached[start] = 1
                    stack.append(start)
        return next(
            (number for number, state in enumerate(self.states) if not reached[number] and not excused(state)), None
        )


def explore(
    order: Order,
    *,
    source: Table | None = None,
    destination: Table | None = None,
    acts: Mapping[Act, ActSteps] = ACTS,
    between: Between | None = None,
    recovery: Recovery | None = None,
    vfs: int = 2,
    seconds: float | None = None,
) -> Report:
    """Search every state that is reachable in an order; stop at the first that is broken.

    :param source: the source's table; None: the real one.
    :param destination: the destination's.
    :param acts: what each act does.
    :param between: what happens between the two sides; None: what may happen to a hypervisor that keeps its word.
    :param recovery: how a process that starts again goes on; None: by the real truth table.
    :param vfs: how many the VM has.
    :param seconds: stop after this time; None: when everything was seen.
    """
    tables = {
        Role.SOURCE: source or TABLES[order, Role.SOURCE],
        Role.DESTINATION: destination or TABLES[order, Role.DESTINATION],
    }
    a, b = (OneSide(order, role, tables[role], acts=acts, vfs=vfs, recovery=recovery or Recovery()) for role in Role)
    moves = _Moves(a, b, between or Between())
    invariants = Invariants(order, vfs)
    graph = _Graph(initial(vfs))
    started = time.monotonic()
    deadline = None if seconds is None else started + seconds
    search = _Search(graph, moves, invariants, deadline)
    search.run()
    violation = search.violation if search.over else _stuck(graph, moves, invariants)
    return Report(
        order=order,
        states=len(graph.states),
        transitions=graph.transitions,
        seconds=time.monotonic() - started,
        complete=not search.over,
        violation=violation,
        ends=_ends(graph, invariants),
    )


class _Search:
    """Fills the graph: states that need no fault first, then those that need one, two and so on, each nearest first."""

    def __init__(self, graph: _Graph, moves: _Moves, invariants: Invariants, deadline: float | None) -> None:
        self._graph = graph
        self._moves = moves
        self._invariants = invariants
        self._deadline = deadline
        self._depth = 0
        self._later: dict[int, dict[State, tuple[int, int]]] = {}
        """One more fault, by depth: each state with whence and how it is reached."""
        self._found: list[int] = []
        self.violation: Violation | None = None
        self.out_of_time = False

    @property
    def over(self) -> bool:
        """Whether the search was ended before everything was seen."""
        return self.violation is not None or self.out_of_time

    def run(self) -> None:
        """Search until everything was seen, something is broken, or the time is up."""
        nearest = [0]
        self._spread(nearest, {})
        while self._later and not self.over:
            seeds, self._later = self._later, {}
            self._depth = min(seeds)
            self._spread([], seeds)

    def _spread(self, nearest: list[int], seeds: dict[int, dict[State, tuple[int, int]]]) -> None:
        """Go on without another fault."""
        while nearest or seeds:
            self._found = nearest
            for state, (parent, label) in seeds.pop(self._depth, {}).items():
                if state not in self._graph.numbers:
                    self._add(state, parent, label)
            nearest, self._found = self._found, []
            self._depth += 1
            for at in nearest:
                self._expand(at)
                if self.over:
                    return
            nearest = self._found

    def _add(self, state: State, parent: int, label: int, *, wrong: bool = False) -> int:
        number = self._graph.add(state, parent, label)
        self._found.append(number)
        what = "an outcome without a successor" if wrong else self._invariants.broken(state)
        if what is not None and self.violation is None:
            self.violation = Violation(what, self._graph.trace(number, self._moves.labels))
        if number % _LOOKS_AT_CLOCK_EVERY == 0 and self._deadline is not None:
            self.out_of_time = time.monotonic() > self._deadline
        return number

    def _expand(self, at: int) -> None:
        """Add what follows a state."""
        graph = self._graph
        state = graph.states[at]
        for successor, after in self._moves.after(state):
            graph.transitions += 1
            if state[_CHANGED] != after[_CHANGED] or (state[0], state[SHARED_END]) != (after[0], after[SHARED_END]):
                self._look_at_change(at, state, successor, after)
            number = graph.numbers.get(after)
            if successor.fault:
                if number is None:
                    self._later.setdefault(self._depth, {}).setdefault(after, (at, successor.label))
                continue
            if number is None or successor.wrong:
                number = self._add(after, at, successor.label, wrong=successor.wrong)
            graph.froms.append(at)
            graph.tos.append(number)

    def _look_at_change(self, at: int, state: State, successor: _Successor, after: State) -> None:
        what = self._invariants.broken_by(state, after)
        if what is None and not successor.fault:
            what = self._invariants.gives_up(state, after)
        if what is not None and self.violation is None:
            trace = (*self._graph.trace(at, self._moves.labels), _line(self._moves, successor, after))
            self.violation = Violation(what, trace)


def _line(moves: _Moves, successor: _Successor, after: State) -> str:
    return f"{moves.labels[successor.label]}\n        {describe(after)}"


def _stuck(graph: _Graph, moves: _Moves, invariants: Invariants) -> Violation | None:
    """Return a state that comes to no good end, or to no rest where a person is needed; None if there is none."""
    if not any(map(invariants.has_moved, graph.states)):
        return Violation("the VM never moves", ())
    lost = graph.cannot_reach(invariants.is_good, invariants.needs_person)
    if lost is not None:
        return Violation("no good end can be reached", graph.trace(lost, moves.labels))
    lost = graph.cannot_reach(lambda state: invariants.is_good(state) or invariants.is_at_rest(state), lambda _: False)
    if lost is not None:
        return Violation("no rest can be reached", graph.trace(lost, moves.labels))
    return None


def _ends(graph: _Graph, invariants: Invariants) -> Mapping[str, int]:
    return Counter(
        describe_end(state) for state in graph.states if invariants.is_good(state) or invariants.is_at_rest(state)
    )
