# SPDX-License-Identifier: Apache-2.0
"""Mailbox interrupts: resets, messages and acknowledgements of all VFs, and who may ask what.

``drivers/net/ethernet/intel/ixgbe/ixgbe_sriov.c``, ``ixgbe_msg_task()`` and ``ixgbe_rcv_msg_from_vf()``
(Linux 6.12).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from vferry.nic.ixgbe.messages import ACK, CTS, NACK, Id, message_id
from vferry.nic.ixgbe.pf_driver import requests
from vferry.nic.ixgbe.pf_driver.adapter import Adapter
from vferry.nic.ixgbe.pf_driver.errors import DriverError
from vferry.nic.ixgbe.pf_driver.reset import reset_event, reset_message

__all__ = ["Handler", "message_task"]

Handler = Callable[[Adapter, int, list[int]], None]

HANDLERS: Final[Mapping[int, Handler]] = {
    Id.SET_MAC_ADDR: requests.set_mac_addr,
    Id.SET_MULTICAST: requests.set_multicast,
    Id.SET_VLAN: requests.set_vlan,
    Id.SET_LPE: requests.set_lpe,
    Id.SET_MACVLAN: requests.set_macvlan,
    Id.API_NEGOTIATE: requests.negotiate_api,
    Id.GET_QUEUES: requests.get_queues,
    Id.GET_RETA: requests.get_reta,
    Id.GET_RSS_KEY: requests.get_rss_key,
    Id.UPDATE_XCAST_MODE: requests.update_xcast_mode,
    Id.GET_LINK_STATE: requests.get_link_state,
    Id.IPSEC_ADD: requests.ipsec,
    Id.IPSEC_DEL: requests.ipsec,
}
"""All others are refused: among them GET_PF_LINK_STATE and FEATURES_NEGOTIATE, which came after Linux 6.12."""


def message_task(adapter: Adapter, resume: Handler | None) -> None:
    """Handle what is pending of every VF: first its reset, then its message, then its acknowledgement.

    :param resume: handles RESUME, which is taken before the VF is clear to send; None where RESUME is not known.
    """
    for vf in range(adapter.num_vfs):
        if adapter.mailbox.check_for_rst(vf):
            reset_event(adapter, vf)
        if adapter.mailbox.check_for_msg(vf):
            _receive_message(adapter, vf, resume)
        if adapter.mailbox.check_for_ack(vf):
            _receive_ack(adapter, vf)


def _receive_message(adapter: Adapter, vf: int, resume: Handler | None) -> None:
    words = adapter.mailbox.read(vf)
    if words is None or words[0] & (ACK | NACK):  # an answer of ours, which the VF sent back
        return
    if words[0] == Id.RESET:  # the whole word: with MSGINFO it is no RESET
        reset_message(adapter, vf)
    elif resume is not None and words[0] == Id.RESUME:
        _answer(adapter, vf, words, resume)
    elif not adapter.vfinfo[vf].clear_to_send:
        adapter.mailbox.write(vf, [words[0] | NACK])
    else:
        _answer(adapter, vf, words, HANDLERS.get(message_id(words[0])))


def _answer(adapter: Adapter, vf: int, words: list[int], handler: Handler | None) -> None:
    """Send the request back with what came of it, all 16 words; CTS says that the session is whole."""
    try:
        if handler is not None:
            handler(adapter, vf, words)
        done = handler is not None
    except DriverError:
        done = False
    words[0] |= ACK if done else NACK
    if adapter.vfinfo[vf].clear_to_send:
        words[0] |= CTS
    adapter.mailbox.write(vf, words)


def _receive_ack(adapter: Adapter, vf: int) -> None:
    """A VF without a session has nothing to read: tell it that it lost its session."""
    if not adapter.vfinfo[vf].clear_to_send:
        adapter.mailbox.write(vf, [NACK])
