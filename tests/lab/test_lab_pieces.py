# SPDX-License-Identifier: Apache-2.0
"""Parts of the lab that need neither QEMU nor a build."""

import multiprocessing
import stat
from pathlib import Path

import pytest

from lab.errors import BuildFailed
from lab.frames import LabFrame, decode, encode, marker
from lab.images import cache, cpio, mirror
from lab.images.kernel import module_dependencies
from lab.machine.nics import Igb, VirtioSriov, qemu_options
from lab.standard import host_mac, vf_mac


@pytest.fixture
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("VFERRY_LAB_CACHE", str(tmp_path / "cache"))
    return cache.cache_root()


@pytest.mark.parametrize("vlan", [None, 0, 1, 4095])
def test_numbered_frames_come_back(vlan: int | None) -> None:
    frame = LabFrame(
        sender="host-a", kind="probe", seq=2**32 - 1, dst="02:00:00:00:00:02", vlan=vlan, pcp=0 if vlan is None else 5
    )
    raw = encode(frame)
    assert decode(raw) == frame
    assert len(raw) == 60
    assert marker("host-a", "probe") in raw
    assert marker("host-a", "probe", 2**32 - 1) in raw
    assert marker("host-a", "probe", 1) not in raw


def test_the_outer_of_two_tags_counts() -> None:
    raw = encode(LabFrame(sender="a", kind="k", seq=1, vlan=200))
    double = raw[:12] + bytes.fromhex("88a86064") + raw[12:]
    frame = decode(double)
    assert frame is not None
    assert (frame.vlan, frame.pcp, frame.seq) == (100, 3, 1)


@pytest.mark.parametrize("cut", range(26))
def test_other_and_cut_frames_are_no_numbered_frames(cut: int) -> None:
    assert decode(encode(LabFrame(sender="a", kind="k", seq=1))[:cut]) is None
    assert decode(bytes(60)) is None


def test_the_size_of_a_frame_can_be_given() -> None:
    assert len(encode(LabFrame(sender="a", kind="k", seq=1), size=1500)) == 1500


def test_a_half_made_piece_is_not_taken_for_a_whole_one(empty_cache: Path) -> None:
    def fail(work: Path) -> None:
        (work / "half").touch()
        raise BuildFailed("no")

    with pytest.raises(BuildFailed):
        cache.make_piece("thing", ["recipe"], fail)
    assert not cache.piece_path("thing", ["recipe"]).exists()
    assert [path.name for path in empty_cache.iterdir()] == ["locks"]


def _count_makes(counter: Path) -> None:
    def make(work: Path) -> None:
        with counter.open("a") as file:
            file.write("made\n")
        (work / "whole").touch()

    cache.make_piece("thing", ["recipe"], make)


def test_builders_at_the_same_time_make_a_piece_once(empty_cache: Path, tmp_path: Path) -> None:
    counter = tmp_path / "counter"
    fork = multiprocessing.get_context("fork")
    builders = [fork.Process(target=_count_makes, args=(counter,)) for _ in range(4)]
    for builder in builders:
        builder.start()
    for builder in builders:
        builder.join()
        builder.close()
    assert counter.read_text() == "made\n"
    assert (cache.piece_path("thing", ["recipe"]) / "whole").exists()
    assert empty_cache.exists()


def test_recipes_are_told_apart() -> None:
    assert cache.digest(["ab", "c"]) != cache.digest(["a", "bc"])


def test_key_of_a_deb822_source(tmp_path: Path) -> None:
    source = tmp_path / "x.sources"
    source.write_text(
        "# a comment\nTypes: deb\nURIs: http://one.example/debian\nSigned-By: /one.gpg\n\n"
        "Types: deb\nURIs: http://two.example/debian/\nSuites: s\nSigned-By:\n -----BEGIN\n .\n mQ\n"
    )
    assert mirror._signed_by(source, "http://one.example/debian/") == "/one.gpg"
    assert mirror._signed_by(source, "http://two.example/debian/") == "\n -----BEGIN\n .\n mQ"
    assert mirror._signed_by(source, "http://three.example/debian/") is None


def test_key_of_a_one_line_source(tmp_path: Path) -> None:
    source = tmp_path / "x.list"
    source.write_text("deb [arch=amd64 signed-by=/one.gpg] http://one.example/debian bookworm main\n")
    assert mirror._signed_by(source, "http://one.example/debian/") == "/one.gpg"
    assert mirror._signed_by(tmp_path / "none.list", "http://one.example/debian/") is None


def test_the_address_can_be_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VFERRY_LAB_MIRROR", "http://other.example/debian")
    monkeypatch.setattr(mirror, "_debian_targets", lambda: [("http://one.example/debian", "bookworm", "/none:1")])
    assert mirror.find_mirror() == mirror.Mirror(uri="http://other.example/debian", signed_by=None)


def test_module_dependencies_are_read() -> None:
    assert module_dependencies(b"\0depends=dca,i2c-algo-bit\0retpoline=Y\0") == ["dca", "i2c_algo_bit"]
    assert module_dependencies(b"\0depends=\0") == []


def test_cpio_records_are_aligned() -> None:
    raw = cpio.archive({"a": cpio.directory(), "a/b": cpio.file(b"hello", executable=True)})
    assert len(raw) % 4 == 0
    assert raw.count(b"070701") == 3
    assert int(raw[14:22], 16) == stat.S_IFDIR | 0o755


def test_virtio_functions_are_given_pf_last() -> None:
    options = qemu_options((VirtioSriov(mac="52:54:00:cc:00:fe", ports=(None, None, None)),))
    devices = [word for word in options if word.startswith("virtio-net-pci")]
    assert ["addr=0x0.0x2" in devices[0], "addr=0x0.0x1" in devices[1], "addr=0x0.0x0" in devices[2]] == [True] * 3
    assert ["sriov-pf=nic0" in device for device in devices] == [True, True, False]


def test_every_nic_has_a_slot_of_its_own() -> None:
    options = qemu_options((Igb(mac="52:54:00:aa:00:01"), Igb(mac="52:54:00:aa:00:02")))
    assert "igb,bus=root0,netdev=net0,mac=52:54:00:aa:00:01,id=nic0" in options
    assert "igb,bus=root1,netdev=net1,mac=52:54:00:aa:00:02,id=nic1" in options


def test_addresses_follow_from_names() -> None:
    assert [host_mac(name) for name in "abc"] == [f"52:54:00:aa:00:0{number}" for number in (1, 2, 3)]
    assert host_mac("observer") != host_mac("other")
    assert vf_mac("b", 3) == "52:54:00:b3:00:02"
