# SPDX-License-Identifier: Apache-2.0
"""Read all VFs of a PF."""

from __future__ import annotations

import json
import socket
from functools import partial
from typing import Any

from bench.guest.contender import Contender, Sample, loop
from bench.guest.processes import Floor, find, output
from bench.guest.values import mac, state
from vferry.nic.linux import LinuxNic

MASK = 9
"""``RTEXT_FILTER_VF | RTEXT_FILTER_SKIP_STATS``."""


class Readers:
    """The contenders.

    :param everything: whether the driver has all seven attributes.
    """

    def __init__(self, pf: str, vfs: int, floor: str, *, everything: bool) -> None:
        self._pf = pf
        self._vfs = vfs
        self._nic = LinuxNic()
        self._ifindex = socket.if_nametoindex(pf)
        self._floor = Floor(floor)
        self._ip = [find("ip"), "-d", "-j", "link", "show", "dev", pf]
        outcomes = self._nic.program(pf, {vf: state(vf, 1, everything=everything) for vf in range(vfs)})
        assert not any(outcomes.values()), outcomes

    def contenders(self) -> list[Contender]:
        from pyroute2 import IPRoute  # noqa: PLC0415 -- most groups do without it

        route = IPRoute()
        return [
            Contender("C", self._turn_c, self._check_c),
            Contender("vferry", loop("vferry", partial(self._nic.read, self._pf)), self._check_vferry),
            Contender(
                "pyroute2", loop("pyroute2", partial(self._pyroute2, route)), lambda: self._check(self._pyroute2(route))
            ),
            Contender("ip -d -j", loop("ip -d -j", self._run_ip), lambda: self._check(self._run_ip())),
        ]

    def _turn_c(self, count: int) -> list[Sample]:
        return [Sample("C", sample) for sample in self._floor.ask(f"read {self._ifindex} {count}")[1]]

    def _check_c(self) -> None:
        assert self._floor.ask(f"read {self._ifindex} 1")[0] == self._vfs

    def _check_vferry(self) -> None:
        reading = self._nic.read(self._pf)
        self._check([{"mac": vf.admin.mac, "trust": vf.admin.trust} for vf in reading.vfs])

    def _pyroute2(self, route: Any) -> list[dict[str, Any]]:
        """Read with the VF filter and take the value of each attribute, as its documentation does by get_attr()."""
        link = route.link("get", index=self._ifindex, ext_mask=MASK)[0]
        return [_values(info) for info in link.get_attr("IFLA_VFINFO_LIST").get_attrs("IFLA_VF_INFO")]

    def _run_ip(self) -> list[dict[str, Any]]:
        vfs: list[dict[str, Any]] = json.loads(output(self._ip))[0]["vfinfo_list"]
        return vfs

    def _check(self, found: list[dict[str, Any]]) -> None:
        last = self._vfs - 1
        assert len(found) == self._vfs
        assert found[last].get("mac", found[last].get("address")) == mac(last, 1)
        assert found[last]["trust"]


def _values(info: Any) -> dict[str, Any]:
    vlan = info.get_attr("IFLA_VF_VLAN_LIST").get_attr("IFLA_VF_VLAN_INFO")
    rate = info.get_attr("IFLA_VF_RATE")
    return {
        "mac": info.get_attr("IFLA_VF_MAC")["mac"],
        "vlan": (vlan["vlan"], vlan["qos"], vlan["proto"]),
        "rate": (rate["min_tx_rate"], rate["max_tx_rate"]),
        "spoofchk": info.get_attr("IFLA_VF_SPOOFCHK")["spoofchk"],
        "link_state": info.get_attr("IFLA_VF_LINK_STATE")["link_state"],
        "rss_query": info.get_attr("IFLA_VF_RSS_QUERY_EN")["rss_query_en"],
        "trust": info.get_attr("IFLA_VF_TRUST")["trust"],
    }
