"""A report in a real browser: quiet, offline, sortable, on a phone, without script, on paper."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from report_browser import Browser, find_chromium

PHONE, DESKTOP = 390, 1200
CHROMIUM = find_chromium()

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium or chrome on the PATH")


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    assert CHROMIUM is not None
    browser = Browser(CHROMIUM, tmp_path_factory.mktemp("profile"))
    yield browser
    browser.close()


@pytest.fixture(scope="module", params=["run", "grid"])
def report(
    request: pytest.FixtureRequest, report_page: Callable[[str], str], tmp_path_factory
) -> Path:
    path = tmp_path_factory.mktemp("report") / "report.html"
    path.write_text(report_page(request.param), encoding="utf-8")
    return path


def test_the_browser_would_tell(browser: Browser, tmp_path: Path) -> None:
    """Errors and requests are seen where there are any, so that their absence means something."""
    bad = tmp_path / "bad.html"
    bad.write_text(
        '<body style="width:2000px"><img src="absent.png"><script>console.error("e"); x.y</script>'
    )
    browser.open(bad, PHONE)
    assert len(browser.requests()) == 2
    assert len(browser.complaints()) >= 2
    assert overflow(browser) > 0


def overflow(browser: Browser) -> object:
    root = "document.documentElement"
    return browser.evaluate(f"{root}.scrollWidth - {root}.clientWidth")


@pytest.mark.parametrize("width", [PHONE, DESKTOP])
def test_it_is_quiet_offline_and_fits(browser: Browser, report: Path, width: int) -> None:
    browser.open(report, width)
    assert browser.complaints() == []
    assert browser.requests() == [report.absolute().as_uri()]
    assert overflow(browser) == 0
    outside = browser.evaluate(
        "[...document.body.querySelectorAll('*')].filter(e => !e.closest('.scroller') && "
        "e.getBoundingClientRect().right > innerWidth + 1).map(e => e.outerHTML.slice(0, 80))"
    )
    assert outside == []
    pictures = browser.evaluate(
        "[...document.images].map(i => [i.complete && i.naturalWidth > 0, i.currentSrc.length, "
        "i.naturalWidth / i.naturalHeight, i.alt.length])"
    )
    assert isinstance(pictures, list)
    assert len(pictures) >= 9
    assert all(loaded and alt for loaded, _, _, alt in pictures)


def test_a_phone_gets_the_narrow_figures_and_readable_text(browser: Browser, report: Path) -> None:
    shape = "[...document.images].map(i => i.naturalWidth)"
    browser.open(report, PHONE)
    narrow = browser.evaluate(shape)
    smallest = browser.evaluate(
        "Math.min(...[...document.querySelectorAll('p,dd,dt,td,th,li,a,pre')]"
        ".map(e => parseFloat(getComputedStyle(e).fontSize)))"
    )
    browser.open(report, DESKTOP)
    wide = browser.evaluate(shape)
    assert all(one < other for one, other in zip(narrow, wide, strict=True))
    assert smallest >= 12


def column(browser: Browser, index: int) -> list[str]:
    rows = "[...document.querySelectorAll('#tables table')[0].tBodies[0].rows]"
    values = browser.evaluate(f"{rows}.map(r => r.cells[{index}].textContent)")
    assert isinstance(values, list)
    return values


def as_numbers(values: list[str]) -> list[float]:
    """Return the numbers, of an interval its lower end."""
    lows = [value.split(" to ")[0] for value in values if value != "\N{EN DASH}"]
    return [float(low.replace("\N{MINUS SIGN}", "-")) for low in lows]


def test_every_column_sorts_both_ways_with_the_absent_last(browser: Browser, report: Path) -> None:
    browser.open(report, DESKTOP)
    heads = browser.evaluate(
        "[...document.querySelectorAll('#tables table')[0].tHead.rows[0].cells]"
        ".map(h => h.classList.contains('n'))"
    )
    assert isinstance(heads, list)
    assert any(heads)
    for index, numeric in enumerate(heads):
        before = sorted(column(browser, index))
        click = f"document.querySelectorAll('#tables table')[0].tHead.rows[0].cells[{index}]"
        for direction in ("ascending", "descending"):
            browser.evaluate(f"{click}.querySelector('button').click()")
            assert browser.evaluate(f"{click}.getAttribute('aria-sort')") == direction
            values = column(browser, index)
            assert sorted(values) == before
            known = [value for value in values if value != "\N{EN DASH}"]
            assert values[: len(known)] == known
            if numeric:
                expected = sorted(as_numbers(values), reverse=direction == "descending")
                assert as_numbers(values) == expected
        others = browser.evaluate("document.querySelectorAll('#tables [aria-sort]').length")
        assert others == 1


def test_it_says_the_same_without_script(browser: Browser, report: Path) -> None:
    text = "document.body.innerText.replace(/\\s+/g, ' ')"
    browser.open(report, DESKTOP)
    with_script = browser.evaluate(text)
    browser.open(report, DESKTOP, script=False)
    assert browser.evaluate(text) == with_script
    assert browser.evaluate("document.querySelectorAll('th button').length") == 0
    assert browser.evaluate("document.querySelectorAll('#tables tbody tr').length") > 5


def test_it_prints_whole_tables_on_paper(browser: Browser, report: Path) -> None:
    browser.open(report, DESKTOP)
    pdf = browser.print_pdf()
    assert pdf.startswith(b"%PDF")
    pages = max(int(count) for count in re.findall(rb"/Count (\d+)", pdf))
    assert 4 <= pages <= 20
    browser.call("Emulation.setEmulatedMedia", media="print")
    try:
        browser.open(report, 680)  # A4 less the margins, in CSS pixels
        hidden = browser.evaluate(
            "[...document.querySelectorAll('.scroller')].filter(e => e.offsetParent && "
            "(e.scrollHeight > e.clientHeight + 1 || e.scrollWidth > e.clientWidth + 1)).length"
        )
        assert hidden == 0
        assert browser.evaluate("getComputedStyle(document.querySelector('nav')).display") == "none"
    finally:
        browser.call("Emulation.setEmulatedMedia", media="")
