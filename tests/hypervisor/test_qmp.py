# SPDX-License-Identifier: Apache-2.0
"""Connections and acts against a peer that speaks the protocol: what a real QEMU does too rarely."""

from pathlib import Path

import anyio
import pytest

from tests.hypervisor.fake_qmp import DROP, SILENT, FakeQmp, RefusedByPeerError
from vferry.hypervisor.qemu import MigrationBlockedError, NotDefinedError, QemuHypervisor, QemuTimes, VmBusyError
from vferry.hypervisor.qemu_launch import QemuVm
from vferry.hypervisor.qmp import (
    AnswerLostError,
    CommandRefusedError,
    NoAnswerError,
    QmpConnection,
    UnreadableAnswerError,
    WrongVmError,
)
from vferry.ports.hypervisor import HypervisorError, StreamFailedError, VmAbsentError, VmState

pytestmark = pytest.mark.anyio


def adapter(path: Path, seconds: float = 5.0) -> QemuHypervisor:
    times = QemuTimes(command=seconds, end=seconds, poll=0.001)
    return QemuHypervisor("a", [QemuVm(name="tiny", qmp=f"{path}/qmp")], times=times)


class Script:
    """Answers from a table; the last answer of a list stays."""

    def __init__(self, **answers: object) -> None:
        self.answers = {name.replace("_", "-"): found for name, found in answers.items()}

    def __call__(self, command: str, arguments: dict[str, object]) -> object:
        found = self.answers.get(command, {})
        if isinstance(found, list) and found and command != "query-named-block-nodes":
            found = found.pop(0) if len(found) > 1 else found[0]
        if isinstance(found, Exception):
            raise found
        return found


async def test_a_connection_that_dropped_is_made_again(tmp_path: Path) -> None:
    async with FakeQmp(f"{tmp_path}/qmp", Script(query_status={"status": "running"})) as peer:
        hypervisor = adapter(tmp_path)
        assert await hypervisor.state("tiny") is VmState.RUNNING
        peer.drop()
        await anyio.sleep(0.01)
        assert await hypervisor.state("tiny") is VmState.RUNNING
        assert peer.connections == 2
        await peer.end()
        assert await hypervisor.state("tiny") is VmState.ABSENT
        await hypervisor.close()


async def test_a_question_is_asked_again_once_and_then_given_up(tmp_path: Path) -> None:
    script = Script(query_status=[DROP, {"status": "paused"}])
    async with FakeQmp(f"{tmp_path}/qmp", script) as peer:
        hypervisor = adapter(tmp_path)
        assert await hypervisor.state("tiny") is VmState.PAUSED
        script.answers["query-status"] = DROP
        with pytest.raises(AnswerLostError, match=r"query-status.*tiny \(a\).*Next: try again"):
            await hypervisor.state("tiny")
        assert peer.commands == ["query-status"] * 4
        await hypervisor.close()


async def test_a_change_is_never_sent_twice(tmp_path: Path) -> None:
    async with FakeQmp(f"{tmp_path}/qmp", Script(cont=DROP)) as peer:
        connection = QmpConnection("a", "tiny", peer.path, seconds=5)
        with pytest.raises(AnswerLostError):
            await connection.run("cont")
        assert peer.commands == ["cont"]
        await connection.close()


async def test_no_answer_in_time(tmp_path: Path) -> None:
    script = Script(query_status=[SILENT, {"status": "running"}])
    async with FakeQmp(f"{tmp_path}/qmp", script):
        hypervisor = adapter(tmp_path, 0.05)
        with pytest.raises(NoAnswerError, match=r"did not answer in 0\.05 s"):
            await hypervisor.state("tiny")
        assert await hypervisor.state("tiny") is VmState.RUNNING
        await hypervisor.close()


async def test_another_vm_answers(tmp_path: Path) -> None:
    async with FakeQmp(f"{tmp_path}/qmp", Script(), name="other"):
        hypervisor = adapter(tmp_path)
        with pytest.raises(WrongVmError, match="VM 'other' answers"):
            await hypervisor.state("tiny")
        await hypervisor.close()


@pytest.mark.parametrize("answer", [{"status": "made-up"}, {"running": True}, [], {"status": 3}])
async def test_an_answer_that_is_not_understood_is_no_state(tmp_path: Path, answer: object) -> None:
    async with FakeQmp(f"{tmp_path}/qmp", lambda *_: answer):
        hypervisor = adapter(tmp_path)
        with pytest.raises(UnreadableAnswerError):
            await hypervisor.state("tiny")
        await hypervisor.close()


async def test_a_refusal_has_qemus_words(tmp_path: Path) -> None:
    async with FakeQmp(f"{tmp_path}/qmp", Script(cont=RefusedByPeerError("Resetting is required"))) as peer:
        connection = QmpConnection("a", "tiny", peer.path, seconds=5)
        with pytest.raises(CommandRefusedError, match="Resetting is required") as refused:
            await connection.run("cont")
        assert refused.value.kind == "GenericError"
        assert refused.value.host == "a"
        await connection.close()


async def test_blocked_reasons_are_told(tmp_path: Path) -> None:
    reasons = ["0000:01:10.0: VFIO migration is not supported in kernel"]
    script = Script(query_migrate={"blocked-reasons": reasons}, query_migrate_capabilities=[[]])
    async with FakeQmp(f"{tmp_path}/qmp", script) as peer:
        hypervisor = adapter(tmp_path)
        with pytest.raises(MigrationBlockedError, match="not supported in kernel") as blocked:
            await hypervisor.send("tiny", "unix:/x")
        assert blocked.value.reasons == tuple(reasons)
        assert "migrate" not in peer.commands
        await hypervisor.close()


async def test_a_post_copy_that_somebody_began_is_left_alone(tmp_path: Path) -> None:
    script = Script(query_migrate={"status": "postcopy-active"})
    async with FakeQmp(f"{tmp_path}/qmp", script) as peer:
        hypervisor = adapter(tmp_path)
        for act in (hypervisor.cancel, hypervisor.switch, hypervisor.wait_stopped):
            with pytest.raises(VmBusyError, match="postcopy-active"):
                await act("tiny")
        assert set(peer.commands) == {"query-migrate"}
        await hypervisor.close()


async def test_the_guard_is_in_before_the_rest_is_sent(tmp_path: Path) -> None:
    script = Script(query_migrate={"status": "pre-switchover"}, query_named_block_nodes=[])
    async with FakeQmp(f"{tmp_path}/qmp", script) as peer:
        hypervisor = adapter(tmp_path)
        await hypervisor.switch("tiny")
        assert peer.commands[-3:] == ["blockdev-add", "blockdev-add", "migrate-continue"]
        script.answers["blockdev-add"] = RefusedByPeerError("no such driver")
        peer.commands.clear()
        for act in (hypervisor.switch, hypervisor.wait_stopped):
            with pytest.raises(HypervisorError, match="no such driver"):
                await act("tiny")
        assert "migrate-continue" not in peer.commands
        await hypervisor.close()


async def test_a_stream_that_dies_before_the_guard_is_in_is_told(tmp_path: Path) -> None:
    found = [{"status": "active"}, {"status": "pre-switchover"}, {"status": "failed", "error-desc": "Broken pipe"}]
    script = Script(query_migrate=found, query_named_block_nodes=[])
    async with FakeQmp(f"{tmp_path}/qmp", script):
        hypervisor = adapter(tmp_path)
        with pytest.raises(StreamFailedError, match="Broken pipe"):
            await hypervisor.wait_stopped("tiny")
        await hypervisor.close()


async def test_nobody_is_there(tmp_path: Path) -> None:
    hypervisor = adapter(tmp_path)
    assert await hypervisor.state("tiny") is VmState.ABSENT
    with pytest.raises(VmAbsentError):
        await hypervisor.wait_stopped("tiny")
    with pytest.raises(NotDefinedError, match="says how to start it"):
        await hypervisor.start("tiny")
    with pytest.raises(NotDefinedError, match="not defined"):
        await hypervisor.state("unheard-of")


async def test_a_guest_that_shut_down_is_ended_where_qemu_was_told_to_stay(tmp_path: Path) -> None:
    states = [{"status": "running"}, {"status": "running"}, {"status": "shutdown"}]
    script = Script(query_status=states)
    async with FakeQmp(f"{tmp_path}/qmp", script) as peer:

        def answer(command: str, arguments: dict[str, object]) -> object:
            if command != "quit":
                return script(command, arguments)
            peer.stop_listening()
            return DROP

        peer.answer = answer
        hypervisor = adapter(tmp_path)
        await hypervisor.shut_down("tiny")
        assert peer.commands.count("system_powerdown") == 1
        assert "quit" in peer.commands
        assert await hypervisor.state("tiny") is VmState.ABSENT
        await hypervisor.shut_down("tiny")
        await hypervisor.close()


async def test_a_guest_that_does_not_shut_down(tmp_path: Path) -> None:
    async with FakeQmp(f"{tmp_path}/qmp", Script(query_status={"status": "running"})) as peer:
        hypervisor = QemuHypervisor(
            "a", [QemuVm(name="tiny", qmp=peer.path)], times=QemuTimes(shut_down=0.05, poll=0.001)
        )
        with pytest.raises(VmBusyError, match="has not shut down"):
            await hypervisor.shut_down("tiny")
        assert "quit" not in peer.commands
        await hypervisor.close()


async def test_the_guard_is_in_before_a_stopped_migration_is_cancelled(tmp_path: Path) -> None:
    script = Script(query_migrate={"status": "pre-switchover"}, query_named_block_nodes=[])

    def answer(command: str, arguments: dict[str, object]) -> object:
        if command == "migrate_cancel":
            script.answers["query-migrate"] = {"status": "cancelled"}
        return script(command, arguments)

    async with FakeQmp(f"{tmp_path}/qmp", answer) as peer:
        hypervisor = adapter(tmp_path)
        await hypervisor.cancel("tiny")
        changes = [command for command in peer.commands if not command.startswith("query")]
        assert changes == ["blockdev-add", "blockdev-add", "migrate_cancel"]
        await hypervisor.close()
