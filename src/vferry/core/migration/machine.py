# SPDX-License-Identifier: Apache-2.0
"""Walks a table: pure, one side of one migration. It knows no clock, no wire, and no other side."""

from __future__ import annotations

from typing import NamedTuple

from vferry.core.errors import VferryError
from vferry.core.migration.phases import Act, Event, Phase, Role
from vferry.core.migration.tables import TABLES, Order, Table, first_phase

__all__ = ["IllegalEventError", "Machine"]


class IllegalEventError(VferryError):
    """An event that the phase does not know; nothing was changed.

    :param phase: where the machine is, and stays.
    :param event: what came.
    """

    def __init__(self, phase: Phase, event: Event) -> None:
        self.phase = phase
        self.event = event
        super().__init__(
            "go on with a migration",
            why=f"'{event.value}' means nothing in phase '{phase.value}'",
            next_step="this is a defect in vferry: please report it with the migration's journal",
        )


class Machine(NamedTuple):
    """One side of a migration; immutable."""

    order: Order
    role: Role
    phase: Phase

    @classmethod
    def begin(cls, order: Order, role: Role) -> Machine:
        """Return a machine in its first phase."""
        return cls(order, role, first_phase(role))

    @property
    def table(self) -> Table:
        """What follows what, for this order and role."""
        return TABLES[self.order, self.role]

    @property
    def act(self) -> Act | None:
        """What is to be done in this phase; None where everything is over."""
        step = self.table.get(self.phase)
        return None if step is None else step.act

    @property
    def over(self) -> bool:
        """Whether nothing more is done."""
        return self.phase not in self.table

    def knows(self, event: Event) -> bool:
        """Whether the phase has a successor for an event; messages that it does not know are late, and are dropped."""
        step = self.table.get(self.phase)
        return step is not None and event in step.on

    def after(self, event: Event) -> Machine:
        """Return the machine after an event.

        :raise IllegalEventError: the phase does not know it; the machine stays where it is.
        """
        step = self.table.get(self.phase)
        if step is None or event not in step.on:
            raise IllegalEventError(self.phase, event)
        return self._replace(phase=step.on[event])

    def reordered(self, order: Order) -> Machine:
        """Return the machine in another order that shares the phases so far: the answer to an offer decides it.

        :raise KeyError: the order does not know the phase.
        """
        TABLES[order, self.role][self.phase]
        return self._replace(order=order)
