# SPDX-License-Identifier: Apache-2.0
"""The adapter against real QEMUs: two processes on this machine, emulated."""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import pytest

from lab import Images
from tests.hypervisor.qemu_rig import VM, Side, two_sides
from vferry.hypervisor.qemu import (
    LaunchError,
    MigrationBlockedError,
    QemuHypervisor,
    QemuTimes,
    UnsafeCapabilityError,
    VmBusyError,
)
from vferry.hypervisor.qemu_devices import UnplugError
from vferry.hypervisor.qemu_guard import NODES
from vferry.hypervisor.qmp import NoAnswerError
from vferry.ports.hypervisor import HypervisorError, StreamFailedError, VmAbsentError, VmState

pytestmark = [pytest.mark.lab, pytest.mark.anyio]


@pytest.fixture
async def sides(lab_images: Images, tmp_path: Path) -> AsyncIterator[tuple[Side, Side]]:
    async with two_sides(lab_images, tmp_path) as both:
        yield both


async def stopped(sides: tuple[Side, Side], *, rest: bool = False) -> tuple[Side, Side]:
    """Bring a migration to the switch-over.

    :param rest: nearly all memory is still to be sent: more than any socket holds.
    """
    a, b = sides
    uri = await b.hypervisor.receive(VM, [])
    if rest:
        parameters = {"downtime-limit": 100000, "max-bandwidth": 4 << 20}
        await a.test.run("migrate-set-parameters", parameters)
    await a.hypervisor.send(VM, uri)
    await a.hypervisor.wait_stopped(VM)
    assert await a.hypervisor.state(VM) is VmState.PAUSED
    return a, b


async def nodes(side: Side) -> set[object]:
    found = await side.test.ask("query-named-block-nodes", list[dict[str, object]], {"flat": True})
    return {node.get("node-name") for node in found}


async def disks_are_active(side: Side) -> bool:
    found = await side.test.ask("query-named-block-nodes", list[dict[str, object]], {"flat": True})
    states = {bool(node["active"]) for node in found}
    assert len(states) == 1, found
    return states.pop()


async def over(side: Side) -> str:
    """Wait until the migration is over, and return how it ended."""
    while True:
        found = await side.test.ask("query-migrate", dict[str, object])
        if found.get("status") in ("completed", "failed", "cancelled"):
            return str(found["status"])
        await anyio.sleep(0.01)


async def test_a_vm_moves_and_is_held_until_it_is_resumed(sides: tuple[Side, Side]) -> None:
    a, b = await stopped(sides)
    count = await a.counter()
    assert await b.hypervisor.state(VM) is VmState.INCOMING
    await a.hypervisor.switch(VM)
    await b.hypervisor.wait_held(VM)
    assert await over(a) == "completed"
    assert [await side.hypervisor.state(VM) for side in (a, b)] == [VmState.MIGRATED, VmState.PAUSED]
    assert await b.stands()
    assert await b.counter() == count
    assert not await disks_are_active(b), "the VM is held, and takes the disks' locks when it runs"
    await a.hypervisor.switch(VM)
    await a.hypervisor.wait_stopped(VM)
    progress = await a.hypervisor.progress(VM)
    assert progress is not None
    assert progress.remaining == 0
    assert progress.transferred > 24 << 20
    await a.hypervisor.destroy(VM)
    await a.hypervisor.destroy(VM)
    assert await a.hypervisor.state(VM) is VmState.ABSENT
    await b.hypervisor.resume(VM)
    await b.hypervisor.resume(VM)
    assert await b.counts()
    assert await disks_are_active(b)
    assert not list(b.directory.glob("*.guard"))


async def test_a_source_whose_stream_dies_after_the_switch_stays_stopped(sides: tuple[Side, Side]) -> None:
    a, b = await stopped(sides, rest=True)
    count = await a.counter()
    b.stop_process()
    async with anyio.create_task_group() as group:
        group.start_soon(a.hypervisor.switch, VM)
        await anyio.sleep(0.3)
        b.kill()
    assert await over(a) == "failed"
    assert await a.stands()
    assert await a.counter() == count
    assert await a.hypervisor.state(VM) is VmState.PAUSED
    with pytest.raises(StreamFailedError, match="failed"):
        await a.hypervisor.switch(VM)
    another = a.adapter()  # vferry has crashed meanwhile
    await a.hypervisor.close()
    try:
        await another.resume(VM)
        assert await another.state(VM) is VmState.RUNNING
        assert await a.counts()
        assert await disks_are_active(a)
        assert set(NODES) & await nodes(a) == set()
        await a.test.run("stop")
        await another.resume(VM)
        assert await a.counts()
    finally:
        await another.close()


async def test_without_the_guard_qemu_lets_it_run_on(sides: tuple[Side, Side]) -> None:
    """What the guard is for: where a later QEMU passes this no more, the guard can go."""
    a, b = await stopped(sides, rest=True)
    for node in reversed(NODES):
        await a.test.run("blockdev-del", {"node-name": node})
    b.stop_process()
    async with anyio.create_task_group() as group:
        group.start_soon(a.test.run, "migrate-continue", {"state": "pre-switchover"})
        await anyio.sleep(0.3)
        b.kill()
    assert await over(a) == "failed"
    assert await a.counts()


async def test_a_destination_that_reads_no_more_is_cut_off(sides: tuple[Side, Side]) -> None:
    a, b = await stopped(sides, rest=True)
    b.stop_process()
    impatient = a.adapter(QemuTimes(command=1.0, end=10.0))
    await a.hypervisor.close()
    try:
        async with anyio.create_task_group() as group:
            group.start_soon(suppressed_switch, impatient)
            await anyio.sleep(0.3)
        await impatient.cancel(VM)
        assert await a.stands()
        await impatient.resume(VM)
        assert await a.counts()
    finally:
        await impatient.close()


async def suppressed_switch(hypervisor: QemuHypervisor) -> None:
    with contextlib.suppress(NoAnswerError):  # its main loop is blocked
        await hypervisor.switch(VM)


@pytest.mark.parametrize("act", ["cancel, resume", "resume"])
async def test_a_vm_that_is_stopped_for_the_switch_over_comes_back(sides: tuple[Side, Side], act: str) -> None:
    a, b = await stopped(sides)
    if act == "cancel, resume":
        await a.hypervisor.cancel(VM)
        await a.hypervisor.cancel(VM)
        assert await a.stands()
        assert await a.hypervisor.state(VM) is VmState.PAUSED
        with pytest.raises(StreamFailedError, match="is gone"):
            await b.hypervisor.wait_held(VM)
    await a.hypervisor.resume(VM)
    assert await a.counts()
    a_second_time = await again(a, b)
    assert a_second_time == [VmState.MIGRATED, VmState.PAUSED]


async def again(a: Side, b: Side) -> list[VmState]:
    await b.hypervisor.destroy(VM)
    await stopped((a, b))
    await a.hypervisor.switch(VM)
    await b.hypervisor.wait_held(VM)
    await over(a)
    return [await side.hypervisor.state(VM) for side in (a, b)]


async def test_a_vm_that_was_sent_completely_comes_back(sides: tuple[Side, Side]) -> None:
    a, b = await stopped(sides)
    await a.hypervisor.switch(VM)
    await b.hypervisor.wait_held(VM)
    await over(a)
    await b.hypervisor.destroy(VM)
    await a.hypervisor.resume(VM)
    assert await a.counts()


async def test_a_stream_that_dies_while_memory_is_copied_leaves_the_vm_running(sides: tuple[Side, Side]) -> None:
    a, b = sides
    await a.test.run("migrate-set-parameters", {"max-bandwidth": 1 << 20})
    await a.hypervisor.send(VM, await b.hypervisor.receive(VM, []))
    await a.hypervisor.send(VM, "unix:/nowhere")  # it is under way already
    assert await a.hypervisor.state(VM) is VmState.RUNNING
    async with anyio.create_task_group() as group:
        group.start_soon(expect_stream_failed, a)
        await anyio.sleep(0.1)
        b.kill()
    assert await a.counts()
    await a.hypervisor.cancel(VM)
    with pytest.raises(StreamFailedError):
        await b.hypervisor.wait_held(VM)


async def expect_stream_failed(side: Side) -> None:
    with pytest.raises(StreamFailedError, match="failed"):
        await side.hypervisor.wait_stopped(VM)


async def test_nobody_listens_and_what_is_unsafe_is_refused(sides: tuple[Side, Side]) -> None:
    a, _ = sides
    with pytest.raises(StreamFailedError):
        await a.hypervisor.wait_stopped(VM)
    for name in ("postcopy-ram", "background-snapshot"):
        await a.test.run("migrate-set-capabilities", {"capabilities": [{"capability": name, "state": True}]})
        with pytest.raises(UnsafeCapabilityError, match=name) as refused:
            await a.hypervisor.send(VM, "unix:/nowhere")
        assert refused.value.capabilities == (name,)
        await a.test.run("migrate-set-capabilities", {"capabilities": [{"capability": name, "state": False}]})
    with pytest.raises(StreamFailedError):
        await sent_to_nobody(a)
    assert await a.counts()


async def sent_to_nobody(side: Side) -> None:
    await side.hypervisor.send(VM, f"unix:{side.directory}/nobody")
    await side.hypervisor.wait_stopped(VM)


async def test_why_qemu_would_refuse(lab_images: Images, tmp_path: Path) -> None:
    async with two_sides(
        lab_images,
        tmp_path,
        "-cpu",
        "qemu64,+invtsc",
        "-device",
        "ivshmem-plain,memdev=m,master=off",
        "-object",
        "memory-backend-ram,id=m,size=1M,share=on",
    ) as (a, _):
        with pytest.raises(MigrationBlockedError, match="QEMU says: ") as refused:
            await a.hypervisor.send(VM, "unix:/nowhere")
        assert any("ivshmem" in reason or "invtsc" in reason for reason in refused.value.reasons)
        assert refused.value.host == "a"
        assert VM in str(refused.value)


async def test_a_vm_that_never_ran(lab_images: Images, tmp_path: Path) -> None:
    async with two_sides(lab_images, tmp_path, "-S", runs=False) as (a, b):
        await stopped((a, b))
        await a.hypervisor.cancel(VM)
        assert await a.hypervisor.state(VM) is VmState.PAUSED
        assert await a.counter() == 0
        await a.hypervisor.resume(VM)
        assert await a.counts()


async def test_devices_come_and_go(sides: tuple[Side, Side]) -> None:
    a, _ = sides
    impatient = a.adapter(QemuTimes(unplug=0.2))
    await a.hypervisor.close()
    try:
        for _ in range(2):
            await impatient.plug(VM, [("eth0", 0), ("eth0", 1)])
        for _ in range(2):
            await impatient.unplug(VM, [("eth0", 0)])
        await impatient.plug(VM, [("slow", 0)])
        for _ in range(2):
            with pytest.raises(UnplugError, match=r"vf-slow-0 from VM tiny \(a\)"):
                await impatient.unplug(VM, [("slow", 0)])
    finally:
        await impatient.close()


async def test_what_is_there_and_what_is_not(sides: tuple[Side, Side]) -> None:
    a, b = sides
    assert await b.hypervisor.state(VM) is VmState.ABSENT
    await b.hypervisor.destroy(VM)
    await b.hypervisor.shut_down(VM)
    for act in (b.hypervisor.resume, b.hypervisor.cancel, b.hypervisor.switch):
        with pytest.raises(VmAbsentError):
            await act(VM)
    with pytest.raises(VmBusyError, match="running"):
        await a.hypervisor.receive(VM, [])
    tcp = b.adapter(listen="tcp:127.0.0.1:0")
    first = await tcp.receive(VM, [("eth0", 0)])
    assert first.startswith("tcp:127.0.0.1:")
    assert await tcp.receive(VM, []) == first
    with pytest.raises(VmBusyError):
        await tcp.start(VM)
    with pytest.raises(HypervisorError):
        await tcp.resume(VM)
    await tcp.close()
    b.kill()
    assert await b.hypervisor.state(VM) is VmState.ABSENT
    await a.hypervisor.start(VM)
    a.kill()
    assert await a.hypervisor.state(VM) is VmState.ABSENT


async def test_a_command_line_that_qemu_refuses(lab_images: Images, tmp_path: Path) -> None:
    (tmp_path / "disk").touch()
    (tmp_path / "memory").write_bytes(b"x")
    side = Side("c", tmp_path, lab_images, "-device", "no-such-device")
    try:
        with pytest.raises(LaunchError, match="no-such-device"):
            await side.hypervisor.start(VM)
    finally:
        await side.close()


async def test_a_qemu_that_hangs_is_not_absent(sides: tuple[Side, Side]) -> None:
    a, _ = sides
    a.stop_process()
    hasty = a.adapter(QemuTimes(command=0.2))
    await a.hypervisor.close()
    with pytest.raises(NoAnswerError, match="tiny"):
        await hasty.state(VM)
    await hasty.close()
