# SPDX-License-Identifier: Apache-2.0
"""The benchmark's arithmetic and what it writes; nothing is measured here."""

from pathlib import Path

import pytest

from bench.__main__ import DOCUMENT
from bench.aims import Aim, judge
from bench.groups import GROUPS, Table, table
from bench.guest.contender import Contender, Sample, run_rounds
from bench.guest.startup import BARE
from bench.report import BEGIN, END, aligned, as_json, markdown, rows, section, terminal, write_document
from bench.run import Measured
from bench.summary import Summary, duration

READ = {"C": [10], "vferry": [80], "ip -d -j": [800]}
ONE = {"C": [10], "vferry, armed": [50], "vferry": [51], "ip, one call": [5000]}


def flat(series: dict[str, list[int]], *, cpu: bool = False) -> dict[str, dict[str, list[int]]]:
    return {name: {"wall": samples, "cpu": samples} if cpu else {"wall": samples} for name, samples in series.items()}


def some_tables() -> dict[str, Table]:
    processes = flat({BARE: [100], "vferry --version": [250], "vferry save (igb)": [601]}, cpu=True)
    return {
        "read-64": table("read-64", "Read", "C", flat(READ)),
        "program-1": table("program-1", "One", "C", flat(ONE)),
        "program-64": table("program-64", "All", "C", flat(ONE)),
        "fence-1": table("fence-1", "Fence", None, flat({"fence": [1, 2, 3]})),
        "startup": table("startup", "Processes", BARE, processes),
        "startup-native": table("startup-native", "Processes", BARE, processes),
    }


def some_aims() -> list[Aim]:
    return judge(some_tables(), {"vferry save": {"forbidden": ["asyncio"]}})


def test_a_percentile_needs_a_hundred_samples() -> None:
    few, many = Summary.of([3, 1, 2]), Summary.of(range(1000, 0, -1))
    assert (few.median, few.high, few.lowest, few.samples, few.has_p99) == (2, 3, 1, 3, False)
    assert (many.median, many.high, many.lowest, many.samples, many.has_p99) == (500.5, 990, 1, 1000, True)


@pytest.mark.parametrize(
    ("nanoseconds", "text"),
    [(5, "0.01 us"), (9_994, "9.99 us"), (9_996, "10.0 us"), (123_456, "123 us"), (1.5e6, "1.50 ms"), (2e9, "2.00 s")],
)
def test_durations_have_three_digits(nanoseconds: float, text: str) -> None:
    assert duration(nanoseconds) == text


def test_aims_are_met_up_to_their_limit() -> None:
    met = {(aim.what, aim.aimed): aim.met for aim in some_aims()}
    assert [what for (what, _aimed), good in met.items() if not good] == [
        "program one VF (cold), against C",
        "program one VF (cold), against one `ip`",
        f"`vferry save (igb)`, lab, against `{BARE}`",
        "nothing slow is imported on the way of `--version`, `save` and `verify`",
    ]
    assert len(met) == 11


def test_contenders_take_turns_and_each_has_a_sample_in_every_round() -> None:
    order: list[str] = []

    def contender(name: str, wall: int) -> Contender:
        def turn(count: int) -> list[Sample]:
            order.append(name)
            return [Sample(name, wall, 7)] * count

        return Contender(name, turn, lambda: order.append(f"check {name}"))

    found = run_rounds([contender("slow", 10**12), contender("fast", 1)], rounds=3, seconds=0.001)
    assert order[:2] == ["check slow", "check fast"]
    assert order[6:] == ["slow", "fast", "fast"] * 3
    assert found["slow"] == {"wall": [10**12] * 3, "cpu": [7] * 3}
    assert len(found["fast"]["wall"]) == 150


def test_groups_have_keys_of_their_own() -> None:
    assert len({group.key for group in GROUPS}) == len(GROUPS)


def test_tables_for_the_terminal_and_for_the_page() -> None:
    cells = rows(some_tables()["startup"])
    assert cells[0] == ["", "median", "p99", "samples", f"x {BARE}", "processor", "x"]
    assert cells[2] == ["vferry --version", "0.25 us", "most 0.25 us", "1", "2.50", "0.25 us", "2.50"]
    assert len({len(line) for line in aligned(cells)}) == 1
    assert markdown([["", "a"], ["x", "1"]]) == ["|  | a |", "| --- | ---: |", "| x | 1 |"]


def test_everything_is_in_all_three_outputs() -> None:
    facts: dict[str, str] = dict.fromkeys(("date", "machine", "host", "python", "iproute2", "pyroute2", "rounds"), "x")
    imports = {"vferry save": {"modules": 3, "microseconds": 5, "forbidden": []}}
    measured = Measured(tables=some_tables(), imports=imports, facts=facts, samples={})
    page, screen = section(measured, some_aims()), terminal(measured, some_aims())
    for text in ("NOT met", "ip, one call", "fence"):
        assert text in page
        assert text in screen
    assert as_json(measured, some_aims())["tables"]["read-64"]["ratios"] == {"C": 1, "vferry": 8, "ip -d -j": 80}


def test_only_what_is_between_the_markers_is_written(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    for text in ("new", "newer"):
        write_document(page, text)
        assert page.read_text() == f"before\n{BEGIN}\n\n{text}\n\n{END}\nafter\n"
    page.write_text("nothing")
    with pytest.raises(ValueError, match="no markers"):
        write_document(page, "new")


def test_the_page_has_its_markers() -> None:
    assert DOCUMENT.read_text().count(BEGIN) == DOCUMENT.read_text().count(END) == 1
