# SPDX-License-Identifier: Apache-2.0
"""NICs of hosts: igb, netdevsim and virtio-net with VFs, the wire between them, and the wire's testimony."""

import json
import time

import pytest

from lab import Host, Images, LabError, VirtioSriov, Wire, running
from lab.frames import LabFrame, marker
from lab.machine.traffic import Receiver, send_frames, spawn_sender
from lab.standard import use_vf, vf_mac

pytestmark = pytest.mark.lab


def test_vfs_of_two_hosts_reach_each_other(two_hosts: tuple[Host, Host], wire: Wire) -> None:
    a, b = two_hosts
    seven = a.igb_vfs(7)
    assert [vf.address[-4:] for vf in seven] == ["10.0", "10.2", "10.4", "10.6", "11.0", "11.2", "11.4"]
    for host, number, vfs in ((a, 1, seven[:2]), (b, 2, b.igb_vfs(2))):
        for vf in vfs:
            use_vf(host, vf, f"10.0.{vf.index}.{number}/24")
    for index in (0, 1):
        assert "3 received" in a.run(f"ip netns exec g{index} ping -c3 -i0.2 -W2 10.0.{index}.2").out
    learned = wire.learned()
    for host in (a, b):
        assert [learned[(0, vf_mac(host.name, index))] for index in (0, 1)] == [host.name] * 2
    a.run(f"ip link set {a.pf()} vf 0 vlan 100")
    assert a.run("ip netns exec g0 ping -c1 -W1 10.0.0.2", check=False).rc == 1
    assert wire.matching(lambda seen: seen.vlan == 100 and seen.src == vf_mac("a", 0))


def test_vfio_gets_a_vf_and_gives_it_back(two_hosts: tuple[Host, Host]) -> None:
    a, _b = two_hosts
    vf = a.make_vfs(1)[0]
    group = a.bind_vfio(vf)
    assert a.vfs()[0].netdev is None
    assert a.run(f"ls /dev/vfio/{group}").out
    a.unbind(vf)
    a.bind(vf, "igbvf")
    assert a.vfs()[0].netdev is not None
    with pytest.raises(LabError, match="not with e1000e"):
        a.bind(vf, "e1000e")
    assert a.make_vfs(0) == ()


def test_frames_in_hosts_and_on_the_wire_are_the_same(three_hosts: tuple[Host, Host, Host], wire: Wire) -> None:
    a, b, c = three_hosts
    first = LabFrame(sender="a", kind="tagged", seq=5, src="02:00:00:00:00:0a", vlan=100, pcp=3)
    b.run(f"ip link add link {b.pf()} name tagged type vlan id 100 && ip link set tagged up")
    with Receiver(b, b.pf()) as at_b, Receiver(c, c.pf(), promiscuous=True) as at_c:
        send_frames(a, a.pf(), first, count=3)
        got = at_c.wait_for_count(3, 5.0)
        assert at_b.wait_for_count(3, 5.0) == got
    assert [frame.seq for frame in got] == [5, 6, 7]
    assert {(frame.sender, frame.kind, frame.vlan, frame.pcp) for frame in got} == {("a", "tagged", 100, 3)}
    on_wire = wire.wait_for_count(lambda seen: seen.lab is not None, 3, 5.0)
    assert [seen.lab for seen in on_wire] == got
    assert {(seen.port, seen.out) for seen in on_wire} == {("a", ("b", "c"))}


def test_the_wire_testifies_in_the_host(two_hosts: tuple[Host, Host], wire: Wire) -> None:
    a, b = two_hosts
    send_frames(a, a.pf(), LabFrame(sender="a", kind="probe", seq=0, src="02:00:00:00:00:0a"), count=4)
    flow = marker("a", "probe").hex()
    assert json.loads(a.run(["wire-witness", flow, "0.1"]).out) == {"received": 4}
    assert json.loads(b.run(["wire-witness", flow, "0.1"]).out) == {"received": 0}
    delivered = {"count": {"payload_contains_hex": flow}, "timeout": 10, "direction": "out", "at_least": 4}
    begin = time.monotonic()
    assert json.loads(b.run(["wire-witness", "-"], stdin=json.dumps(delivered)).out) == {"received": 4}
    assert time.monotonic() - begin < 5
    left_behind = a.spawn(["wire-witness", "ffff", "0.2"])
    left_behind.kill()
    time.sleep(0.5)
    assert json.loads(a.run(["wire-witness", flow, "0"]).out) == {"received": 4}
    wire.stop()
    refused = a.run(["wire-witness", flow, "0"], check=False)
    assert refused.rc == 1
    assert "records no frames" in refused.out


def test_a_pulled_cable_and_a_port_that_is_down(two_hosts: tuple[Host, Host], wire: Wire) -> None:
    a, b = two_hosts
    carrier = f"cat /sys/class/net/{a.pf()}/carrier"
    a.set_link(up=False)
    a.run(f"for i in $(seq 100); do [ $({carrier}) = 0 ] && exit 0; sleep 0.05; done; exit 1")
    a.set_link(up=True)
    a.run(f"for i in $(seq 100); do [ $({carrier}) = 1 ] && exit 0; sleep 0.05; done; exit 1")
    wire.set_link("b", up=False)
    send_frames(b, b.pf(), LabFrame(sender="b", kind="lost", seq=0))
    assert b.run(f"cat /sys/class/net/{b.pf()}/carrier").out == "1\n"
    assert not wire.matching(lambda seen: seen.port == "b" and seen.lab is not None)


def test_a_host_that_comes_back_is_on_the_wire_again(two_hosts: tuple[Host, Host], wire: Wire) -> None:
    a, _b = two_hosts
    a.kill()
    a.start()
    sender = spawn_sender(a, a.pf(), LabFrame(sender="a", kind="again", seq=0), interval=0.05)
    wire.wait_for(lambda seen: seen.lab is not None and seen.lab.kind == "again", 5.0)
    sender.kill()


def test_netdevsim_has_vfs_with_settings(netdevsim_host: Host) -> None:
    host = netdevsim_host
    name = host.netdevsim(1, vfs=4)
    host.run(f"ip link set {name} vf 3 mac 02:00:00:00:00:33 vlan 100 qos 3")
    shown = json.loads(host.run(f"ip -d -j link show {name}").out)[0]["vfinfo_list"]
    assert [vf["vf"] for vf in shown] == [0, 1, 2, 3]
    assert (shown[3]["address"], shown[3]["vlan_list"][0]["vlan"]) == ("02:00:00:00:00:33", 100)
    assert host.netdevsim(2, ports=2, vfs=9) != name
    assert "netdevsim/netdevsim2" in host.run("devlink dev").out


def test_virtio_vfs_carry_frames_and_have_no_settings(lab_images: Images, wire: Wire) -> None:
    ports = tuple(wire.port(f"v{function}") for function in range(4))
    nic = VirtioSriov(mac="52:54:00:cc:00:00", ports=ports)
    with running(Host("virtio", nics=(nic,), images=lab_images)) as (host,):
        vfs = host.make_vfs(3)
        assert [vf.index for vf in vfs] == [0, 1, 2]
        last = vfs[2].netdev
        assert last is not None
        host.run(f"ip link set {last} up")
        send_frames(host, last, LabFrame(sender="vf2", kind="k", seq=1, src="52:54:00:cc:00:03"))
        assert wire.wait_for(lambda seen: seen.lab is not None, 5.0).port == "v3"
        refused = host.run(f"ip link set {host.pf()} vf 0 mac 02:00:00:00:00:01", check=False)
        assert "Operation not supported" in refused.err


def test_a_restored_host_is_silent_until_it_is_told_to_speak(two_hosts: tuple[Host, Host], wire: Wire) -> None:
    a, b = two_hosts
    time.sleep(1.0)
    assert wire.frames() == []
    send_frames(b, b.pf(), LabFrame(sender="b", kind="first", seq=0))
    assert [seen.lab.kind for seen in wire.frames() if seen.lab] == ["first"]
    assert a.alive
