# SPDX-License-Identifier: Apache-2.0
"""The words in which a register is declared, and the address map that checks the declarations when it is built.

A :class:`Register` is one register or an array of equal ones (``RAL[0..127]``). An :class:`AddressMap` is built at
import, so an overlap, an unaligned address or two fields on one bit is an error before anything runs.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator
from typing import Final

import msgspec

from vferry.core.errors import UsageError

__all__ = [
    "ALL_RESETS",
    "FULL",
    "PF_RESETS",
    "Access",
    "AddressMap",
    "Alias",
    "DeclarationError",
    "Field",
    "Register",
    "RegisterIndexError",
    "Reset",
    "register",
]

WORD: Final = 4  # octets; every 82599 register is 32 bits wide (ixgbe_type.h reads them with readl only)
FULL: Final = 0xFFFFFFFF


class Access(enum.Enum):
    """What an ordinary read and an ordinary write of a bit do, in the datasheet's words."""

    RO = "read only: a write is ignored"
    RW = "read and write"
    RC = "read only, and the read clears it"
    RC_W = "read and write, and the read clears it"
    RC_W1C = "the read clears it, and so does writing 1"
    W1C = "writing 1 clears it"
    W1S = "writing 1 sets it, writing 0 does nothing"
    WO = "write only: reads 0"
    SC = "writing 1 acts once and the bit clears itself: reads 0"

    @property
    def read_clears(self) -> bool:
        """True if an ordinary read changes what the register holds."""
        return self in (Access.RC, Access.RC_W, Access.RC_W1C)


class Reset(enum.Flag):
    """A kind of reset."""

    POWER_ON = enum.auto()  # the whole device, all functions
    PF_SOFTWARE = enum.auto()  # CTRL.RST written by the PF driver: the whole device
    FLR = enum.auto()  # function level reset of the VF that owns the register (VFLR)
    VF_SOFTWARE = enum.auto()  # VFCTRL.RST written by the VF driver


PF_RESETS: Final = Reset.POWER_ON | Reset.PF_SOFTWARE
ALL_RESETS: Final = PF_RESETS | Reset.FLR | Reset.VF_SOFTWARE


class DeclarationError(UsageError):
    """A register or a map is declared wrong: overlap, alignment, range, or fields that share a bit."""

    def __init__(self, name: str, why: str) -> None:
        self.name = name
        super().__init__(f"declare {name}", why=why, next_step="correct the declaration")


class RegisterIndexError(UsageError, IndexError):
    """An array of registers has no such element."""

    def __init__(self, name: str, index: int, count: int) -> None:
        self.name = name
        self.index = index
        super().__init__(f"find {name}[{index}]", why=f"{name} has elements 0 to {count - 1}")


class Field(msgspec.Struct, frozen=True):
    """Some neighbouring bits of a register.

    :param low: the lowest bit, 0 to 31.
    :param width: how many bits, 1 to 32.
    :param access: where it differs from its register's.
    """

    name: str
    low: int
    width: int = 1
    access: Access | None = None
    doc: str = ""

    @property
    def mask(self) -> int:
        """The field's bits, in place."""
        return ((1 << self.width) - 1) << self.low

    def get(self, word: int) -> int:
        """Return the field's value out of `word`."""
        return (word & self.mask) >> self.low

    def insert(self, word: int, value: int) -> int:
        """Return `word` with the field replaced by `value`, cut to the field's width."""
        return (word & ~self.mask & FULL) | ((value << self.low) & self.mask)


class Alias(msgspec.Struct, frozen=True):
    """Another address of the same storage: element ``i`` here is element ``first + i`` of `register`."""

    register: Register
    first: int = 0


class Register(msgspec.Struct, frozen=True, kw_only=True):
    """One register, or an array of equal ones. Build it with :func:`register`.

    :param addresses: the offset in the BAR of each element, in octets.
    :param reset: the value after one of `resets`.
    :param resets: the kinds of reset that return it to `reset`.
    :param source: where address and bits were read.
    :param alias: set where it has no storage of its own.
    """

    name: str
    addresses: tuple[int, ...]
    access: Access
    fields: tuple[Field, ...]
    reset: int
    resets: Reset
    source: str
    alias: Alias | None = None

    @property
    def count(self) -> int:
        """How many elements the array has; 1 for a single register."""
        return len(self.addresses)

    @property
    def offset(self) -> int:
        """The address of element 0."""
        return self.addresses[0]

    def address(self, index: int = 0) -> int:
        """Return the offset of element `index` in the BAR, in octets.

        :raises RegisterIndexError: there is no such element.
        """
        if not 0 <= index < len(self.addresses):
            raise RegisterIndexError(self.name, index, len(self.addresses))
        return self.addresses[index]

    def field(self, name: str) -> Field:
        """Return the field of that name.

        :raises KeyError: the register has no such field.
        """
        for field in self.fields:
            if field.name == name:
                return field
        raise KeyError(f"{self.name}.{name}")

    def mask(self, *accesses: Access) -> int:
        """Return the bits whose access is one of `accesses`: a field's own where given, else the register's."""
        bits = FULL if self.access in accesses else 0
        for field in self.fields:
            if field.access is not None:
                bits = bits | field.mask if field.access in accesses else bits & ~field.mask
        return bits

    @property
    def read_clears(self) -> int:
        """The bits that an ordinary read clears."""
        return self.mask(*(access for access in Access if access.read_clears))


def register(
    name: str,
    offset: int,
    *,
    count: int = 1,
    stride: int = WORD,
    then: tuple[tuple[int, int], ...] = (),
    access: Access = Access.RW,
    fields: tuple[Field, ...] = (),
    reset: int = 0,
    resets: Reset = PF_RESETS,
    source: str,
    alias: Alias | None = None,
) -> Register:
    """Declare a register: `count` elements from `offset` every `stride` octets.

    :param then: further elements elsewhere, each run as ``(offset, count)`` with the same stride.
    :raises DeclarationError: an address or the reset value is impossible, or two fields share a bit.
    """
    addresses = tuple(start + stride * index for start, length in ((offset, count), *then) for index in range(length))
    made = Register(
        name=name,
        addresses=addresses,
        access=access,
        fields=fields,
        reset=reset,
        resets=resets,
        source=source,
        alias=alias,
    )
    _check_addresses(made)
    _check_fields(made)
    return made


def _check_addresses(made: Register) -> None:
    """Refuse a register without elements, off a word boundary, or aliasing what is not there."""
    if not made.addresses:
        raise DeclarationError(made.name, "it has no elements")
    if any(address % WORD or address < 0 for address in made.addresses):
        raise DeclarationError(made.name, "an address is not on a word boundary")
    if made.alias is not None and made.alias.first + made.count > made.alias.register.count:
        raise DeclarationError(made.name, f"it has more elements than {made.alias.register.name} from there on")


def _check_fields(made: Register) -> None:
    """Refuse fields outside the word or on each other's bits, and a reset value beyond 32 bits."""
    if not 0 <= made.reset <= FULL:
        raise DeclarationError(made.name, f"reset value {made.reset:#x} does not fit 32 bits")
    taken = 0
    for field in made.fields:
        if field.width < 1 or field.low < 0 or field.low + field.width > 32:
            raise DeclarationError(made.name, f"field {field.name} does not fit 32 bits")
        if taken & field.mask:
            raise DeclarationError(made.name, f"field {field.name} overlaps another one")
        taken |= field.mask


class AddressMap:
    """A BAR: which register is at which offset.

    :param size: octets of the BAR, a power of two.
    :param registers: what software reaches through the BAR.
    :param hidden: storage behind the BAR (tables reached through a select register), declared at offsets from `size`
        on: software cannot address it, a peek can.
    :raises DeclarationError: two registers share a word, one lies outside, a name is used twice, or an alias is to a
        register that is not of this map.
    """

    def __init__(
        self, name: str, size: int, registers: tuple[Register, ...], hidden: tuple[Register, ...] = ()
    ) -> None:
        if size < WORD or size & (size - 1):
            raise DeclarationError(name, f"size {size:#x} is not a power of two")
        self.name: Final = name
        self.size: Final = size
        self.registers: Final = registers
        self.hidden: Final = hidden
        self._at: dict[int, tuple[Register, int]] = {}
        self._by_name: dict[str, Register] = {}
        for item in registers:
            self._place(item, 0, size)
        for item in hidden:
            self._place(item, size, FULL + 1)

    def _place(self, item: Register, low: int, high: int) -> None:
        """Enter each element, refusing what is outside [low, high) or taken."""
        if self._by_name.setdefault(item.name, item) is not item:
            raise DeclarationError(item.name, f"the name is used twice in {self.name}")
        for index, address in enumerate(item.addresses):
            if not low <= address < high:
                raise DeclarationError(item.name, f"address {address:#x} is outside {self.name}")
            there, _ = self._at.setdefault(address, (item, index))
            if there is not item or self._at[address][1] != index:
                raise DeclarationError(item.name, f"address {address:#x} overlaps {there.name}")

    @property
    def words(self) -> int:
        """How many words of storage hold the BAR and what is hidden behind it."""
        return max([self.size, *(max(item.addresses) + WORD for item in self.hidden)]) // WORD

    def at(self, offset: int) -> tuple[Register, int] | None:
        """Return the register and the element at `offset`, or None where nothing is declared."""
        return self._at.get(offset)

    def named(self, name: str) -> Register:
        """Return the register of that name.

        :raises KeyError: there is none.
        """
        return self._by_name[name]

    def __iter__(self) -> Iterator[Register]:
        return iter(self.registers)
