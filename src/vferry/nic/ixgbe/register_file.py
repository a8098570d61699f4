# SPDX-License-Identifier: Apache-2.0
"""The storage behind an address map: ordinary accesses with their side effects, and peeks without any.

An ordinary access first looks into a table by offset for the place of the word in the storage. Where nothing but
storing is to be done, that is all: the plain path costs one look-up more than bare storage. An offset that no bus would
use is not in the table, so it need not be tested for. Where there is more to do (clear on read, write 1 to clear,
hooks), the table has the complement of the place, a negative number, and the access goes by the bit masks that the
declared access types make.

Behaviour beyond the access types is given as hooks:

* a *view* computes what is read instead of the stored word; it has no side effect, so a peek uses it too, and a
  register that a read clears cannot have one;
* a *guard* decides what a write stores, in place of the access types; it has no other effect;
* an *effect* runs after a write has been stored.

There is no hook for a read: what a read may change is declared by its access type and nothing else, so
:meth:`RegisterFile.reads_with_effect` cannot be incomplete.

Two files may share storage: a VF's BAR shows words of the PF's. The code has no dynamic attribute and nothing that
mypyc does not compile.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Final

from vferry.core.errors import UsageError
from vferry.nic.ixgbe.registers.declare import FULL, Access, AddressMap, Register, Reset

__all__ = ["ABSENT", "AccessError", "Effect", "Guard", "RegisterFile", "View"]

ABSENT: Final = -1
"""In place of a storage index: this word is not there now (a queue that the VF does not have)."""

View = Callable[[int], int]
"""``view(index)`` -> the word that a read or a peek of element `index` sees."""
Guard = Callable[[int, int, int], int]
"""``guard(index, stored, written)`` -> the word to store."""
Effect = Callable[[int, int], None]
"""``effect(index, written)``: what a write does besides storing."""


class AccessError(UsageError):
    """An access that no bus would make: not on a word boundary, or outside the BAR."""

    def __init__(self, bar: str, offset: int) -> None:
        self.bar = bar
        self.offset = offset
        super().__init__(
            f"access {bar} at {offset:#x}",
            why="the offset is not on a word boundary, or outside the BAR",
            next_step="access whole 32-bit words inside the BAR",
        )


class Rule:
    """What an access to one word does, as bit masks; the hooks, if any.

    :param index: the element of its register.
    :param clears: bits that a read clears.
    :param seen: bits that a read shows; the others read 0.
    :param keep: bits that a write leaves as they are, but for what `sets` and `w1c` say.
    :param sets: bits that are 1 after 1 was written.
    :param w1c: bits that are 0 after 1 was written.
    """

    __slots__ = (
        *("clears", "effect", "guard", "index", "keep", "left", "plain_read", "plain_write"),
        *("seen", "sets", "view", "w1c"),
    )

    def __init__(self, index: int, *, clears: int, seen: int, keep: int, sets: int, w1c: int) -> None:
        self.index: int = index
        self.clears: int = clears
        self.left: int = ~clears & FULL
        self.seen: int = seen
        self.keep: int = keep
        self.sets: int = sets
        self.w1c: int = w1c
        self.view: View | None = None
        self.guard: Guard | None = None
        self.effect: Effect | None = None
        self.plain_read: bool = clears == 0 and seen == FULL
        """Whether a read just returns the stored word."""
        self.plain_write: bool = keep == 0
        """Whether a write just stores all 32 bits."""

    def again(self, index: int) -> Rule:
        """Return a copy without hooks, for another element."""
        return Rule(index, clears=self.clears, seen=self.seen, keep=self.keep, sets=self.sets, w1c=self.w1c)

    def hooked(self, view: View | None, guard: Guard | None, effect: Effect | None) -> Rule:
        """Return a copy with these hooks, and its own where none is given."""
        rule = self.again(self.index)
        rule.view = view or self.view
        rule.guard = guard or self.guard
        rule.effect = effect or self.effect
        rule.plain_read = rule.plain_read and rule.view is None
        rule.plain_write = rule.plain_write and rule.guard is None and rule.effect is None
        return rule


def _rule_of(register: Register) -> Rule:
    """Return what the access types say, for element 0."""
    writable = register.mask(Access.RW, Access.RC_W)
    return Rule(
        0,
        clears=register.read_clears,
        seen=~register.mask(Access.WO, Access.SC) & FULL,
        keep=~writable & FULL,
        sets=writable | register.mask(Access.W1S),
        w1c=register.mask(Access.W1C, Access.RC_W1C),
    )


class Layout:
    """What all files of one address map have in common."""

    def __init__(self, address_map: AddressMap) -> None:
        self.rules: Final[dict[int, Rule]] = {}
        """By offset, as everything here."""
        self.aliases: Final[dict[int, int]] = {}
        """Words that have no storage of their own, and the word that has it."""
        self.home: Final[dict[int, int]] = {}
        """Where each word is in a storage of the file's own; :attr:`readable` and :attr:`writable` go with it."""
        self.readable: Final[dict[int, int]] = {}
        self.writable: Final[dict[int, int]] = {}
        self._resets: Final[list[tuple[Reset, int, tuple[int, ...]]]] = []
        for register in (*address_map.registers, *address_map.hidden):
            rule = _rule_of(register)
            for index, offset in enumerate(register.addresses):
                self.rules[offset] = rule.again(index)
                if register.alias is not None:
                    self.aliases[offset] = register.alias.register.addresses[register.alias.first + index]
            if register.alias is None:
                self._resets.append((register.resets, register.reset, register.addresses))
        self._by_kind: Final[dict[Reset, list[tuple[int, int]]]] = {}
        self._runs: Final[dict[Reset, list[tuple[int, list[int]]]]] = {}
        for offset, rule in self.rules.items():
            slot = self.aliases.get(offset, offset) >> 2
            self.home[offset] = slot
            if offset < address_map.size:
                self.readable[offset] = slot if rule.plain_read else ~slot
                self.writable[offset] = slot if rule.plain_write else ~slot

    def resets(self, kind: Reset) -> list[tuple[int, int]]:
        """Return the offsets of the words that a kind of reset concerns, with their reset values."""
        if kind not in self._by_kind:
            concerned = [(value, offsets) for kinds, value, offsets in self._resets if kinds & kind]
            self._by_kind[kind] = [(offset, value) for value, offsets in concerned for offset in offsets]
        return self._by_kind[kind]

    def runs(self, kind: Reset) -> list[tuple[int, list[int]]]:
        """Return the same for a storage of the file's own: where neighbouring words begin, and their values."""
        if kind not in self._runs:
            runs: list[tuple[int, list[int]]] = []
            for offset, value in sorted(self.resets(kind)):
                if not runs or offset >> 2 != runs[-1][0] + len(runs[-1][1]):
                    runs.append((offset >> 2, []))
                runs[-1][1].append(value)
            self._runs[kind] = runs
        return self._runs[kind]


@functools.cache
def layout_of(address_map: AddressMap) -> Layout:
    """Return the layout of a map, made once."""
    return Layout(address_map)


class RegisterFile:
    """A BAR that software reads and writes.

    :param address_map: what is where.
    :param words: storage to share. Without it the file has its own, in which the word at offset ``o`` of the BAR (or
        of what is hidden behind it) stands at index ``o / 4``, and begins as after power-on.
    :param shared: with `words`: offsets whose word is already there, and its index, or :data:`ABSENT`. All other
        declared words are appended.
    """

    def __init__(
        self, address_map: AddressMap, *, words: list[int] | None = None, shared: dict[int, int] | None = None
    ) -> None:
        self.map: Final = address_map
        self.words: Final[list[int]] = [0] * address_map.words if words is None else words
        self.stray_reads: int = 0
        """How often something was read where nothing is declared."""
        self.stray_writes: int = 0
        self._end: Final[int] = 4 * address_map.words
        self._layout: Final = layout_of(address_map)
        self._rules: Final[dict[int, Rule]] = dict(self._layout.rules)
        self._owns: bool = words is None
        """Whether every word is where its offset says."""
        self._home: Final[dict[int, int]] = {}
        """By offset: where each declared word is stored."""
        self._readable: Final[dict[int, int]] = {}
        """The same of what can be read: within the BAR, and not absent. Where a read is not plain: the complement."""
        self._writable: Final[dict[int, int]] = {}
        """The same of what can be written."""
        if words is None:
            self._home.update(self._layout.home)
            self._readable.update(self._layout.readable)
            self._writable.update(self._layout.writable)
            self.reset(Reset.POWER_ON)
        else:
            self._share_some(shared or {})

    def _share_some(self, shared: dict[int, int]) -> None:
        """Give every declared word its place in a storage that others use too."""
        aliases = self._layout.aliases
        for offset in self._rules:
            if offset in aliases:
                continue
            slot = shared.get(offset)
            if slot is None:
                slot = len(self.words)
                self.words.append(0)
            self._settle(offset, slot)
        for offset, target in aliases.items():
            self._settle(offset, self._home[target])

    def _settle(self, offset: int, slot: int) -> None:
        """Enter where a word is stored, and whether its accesses are plain."""
        rule = self._rules[offset]
        self._home[offset] = slot
        if slot < 0:
            self._readable.pop(offset, None)
            self._writable.pop(offset, None)
        elif offset < self.map.size:
            self._readable[offset] = slot if rule.plain_read else ~slot
            self._writable[offset] = slot if rule.plain_write else ~slot

    def read(self, offset: int) -> int:
        """Return the 32-bit word at `offset`, with whatever reading it does. Where nothing is declared: 0.

        :raises AccessError: `offset` is no word of the BAR.
        """
        try:
            slot = self._readable[offset]
        except KeyError:
            return self._stray_read(offset)
        if slot >= 0:
            return self.words[slot]
        rule = self._rules[offset]
        view = rule.view
        if view is not None:
            return view(rule.index)
        value = self.words[~slot]
        if value & rule.clears:
            self.words[~slot] = value & rule.left
        return value & rule.seen

    def write(self, offset: int, value: int) -> None:
        """Write the low 32 bits of `value` at `offset`. Where nothing is declared: no effect.

        :raises AccessError: `offset` is no word of the BAR.
        """
        try:
            slot = self._writable[offset]
        except KeyError:
            self._stray_write(offset)
            return
        if slot >= 0:
            self.words[slot] = value & 0xFFFFFFFF
            return
        slot, value = ~slot, value & 0xFFFFFFFF
        words, rule = self.words, self._rules[offset]
        guard, effect = rule.guard, rule.effect
        if guard is not None:
            words[slot] = guard(rule.index, words[slot], value)
        elif rule.keep == 0:
            words[slot] = value
        else:
            words[slot] = ((words[slot] & rule.keep) | (value & rule.sets)) & ~(value & rule.w1c)
        if effect is not None:
            effect(rule.index, value)

    def _stray_read(self, offset: int) -> int:
        """Read where nothing is."""
        self._check(offset, self.map.size)
        self.stray_reads += 1
        return 0

    def _stray_write(self, offset: int) -> None:
        """Write where nothing is."""
        self._check(offset, self.map.size)
        self.stray_writes += 1

    def _check(self, offset: int, end: int) -> None:
        """Refuse an offset that is no word before `end`."""
        if offset & 3 or not 0 <= offset < end:
            raise AccessError(self.map.name, offset) from None

    def peek(self, offset: int) -> int:
        """Return what a read at `offset` would, and change nothing. Reaches what is hidden behind the BAR too.

        :raises AccessError: `offset` is no word of the map.
        """
        slot = self._home.get(offset, ABSENT)
        if slot < 0:
            self._check(offset, self._end)
            return 0
        rule = self._rules[offset]
        return self.words[slot] & rule.seen if rule.view is None else rule.view(rule.index)

    def poke(self, offset: int, value: int) -> None:
        """Store a word at `offset` as hardware does: no access type, no hook. Where nothing is declared: no effect.

        :raises AccessError: `offset` is no word of the map.
        """
        slot = self.slot(offset)
        if slot >= 0:
            self.words[slot] = value & FULL

    def slot(self, offset: int) -> int:
        """Return the index in `words` of the word at `offset`, or :data:`ABSENT`.

        :raises AccessError: `offset` is no word of the map.
        """
        slot = self._home.get(offset)
        if slot is None:
            self._check(offset, self._end)
            return ABSENT
        return slot

    def share(self, slots: dict[int, int]) -> None:
        """Let the words at some offsets be elsewhere in the storage from now on; :data:`ABSENT`: nowhere."""
        self._owns = False
        for offset, slot in slots.items():
            self._settle(offset, slot)

    def hook(
        self,
        register: Register,
        *,
        view: View | None = None,
        guard: Guard | None = None,
        effect: Effect | None = None,
    ) -> None:
        """Give all elements of a register behaviour; a hook that is left out stays as it was.

        :raises ValueError: a view for a register that a read clears.
        """
        if view is not None and self._rules[register.offset].clears:
            raise ValueError(f"{register.name} is cleared by a read and so cannot be computed")
        for offset in register.addresses:
            self._rules[offset] = self._rules[offset].hooked(view, guard, effect)
            self._settle(offset, self._home[offset])

    def reset(self, kind: Reset) -> None:
        """Return the registers that this kind of reset concerns to their reset values, as stored, without hooks."""
        words, home = self.words, self._home
        if self._owns:
            for first, values in self._layout.runs(kind):
                words[first : first + len(values)] = values
            return
        for offset, value in self._layout.resets(kind):
            slot = home[offset]
            if slot >= 0:
                words[slot] = value

    def reads_with_effect(self) -> tuple[str, ...]:
        """Return the names of the registers whose ordinary read changes what they hold."""
        return tuple(register.name for register in self.map.registers if register.read_clears)
