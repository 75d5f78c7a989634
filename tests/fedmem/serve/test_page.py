"""The page in a real browser: every view, nothing of another host, forget, and accessibility."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from fedmem.core.settings import Settings
from tests.helpers.browser import browser as browser
from tests.helpers.commands import free_port
from tests.helpers.small_world import NUM_ITEMS, SMALL

pytestmark = pytest.mark.slow
VIEWS = {
    "for-you": "For you",
    "memory": "What it remembers",
    "try": "Try",
    "left": "What left this device",
}
CHECKS = """() => {
    const found = [];
    const visible = element => element.checkVisibility({visibilityProperty: true});
    const nameOf = element => (element.getAttribute('aria-label')
        || (element.getAttribute('aria-labelledby') || '').split(' ').map(
            id => document.getElementById(id)?.textContent || '').join(' ').trim()
        || (element.labels?.length ? [...element.labels].map(l => l.textContent).join(' ') : '')
        || element.textContent || element.alt || '').trim();
    const act = 'a[href], button, input, select, textarea, summary, [role=option]';
    for (const element of document.querySelectorAll(act)) {
        if (!visible(element)) continue;
        if (!nameOf(element)) found.push('no name: ' + element.outerHTML.slice(0, 80));
        const box = element.getBoundingClientRect();
        if (box.height < 24 && element.matches('button, input, select'))
            found.push('too small: ' + element.outerHTML.slice(0, 80));
    }
    const ids = [...document.querySelectorAll('[id]')].map(element => element.id);
    for (const id of ids) if (ids.filter(each => each === id).length > 1) found.push('id ' + id);
    for (const image of document.querySelectorAll('img')) if (!image.hasAttribute('alt'))
        found.push('no alt');
    const levels = [...document.querySelectorAll('h1, h2, h3, h4')].filter(visible)
        .map(h => Number(h.tagName[1]));
    if (levels[0] !== 1 || levels.filter(level => level === 1).length !== 1) found.push('h1');
    levels.forEach((level, place) => {
        if (place && level > levels[place - 1] + 1) found.push('a level is left out');
    });
    for (const role of ['main', 'nav', 'header', 'footer'])
        if (document.querySelectorAll('body > ' + role).length !== 1) found.push('no ' + role);
    if (document.documentElement.lang !== 'en') found.push('no language');
    if (document.documentElement.scrollWidth > innerWidth) found.push('wider than the screen');

    const canvas = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
    const rgb = colour => {
        canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1);
        return [...canvas.getImageData(0, 0, 1, 1).data];
    };
    const light = c => c.slice(0, 3).map(v => v / 255).map(
        v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
        .reduce((sum, v, k) => sum + v * [0.2126, 0.7152, 0.0722][k], 0);
    const behind = element => {
        for (let at = element; at; at = at.parentElement) {
            const colour = rgb(getComputedStyle(at).backgroundColor);
            if (colour[3] === 255) return colour;
        }
        return [255, 255, 255, 255];
    };
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) {
        const element = walker.currentNode.parentElement;
        if (!walker.currentNode.textContent.trim() || !visible(element)) continue;
        if (element.closest('.visually-hidden, .skip, script, noscript, :disabled')) continue;
        const style = getComputedStyle(element);
        const [a, b] = [light(rgb(style.color)), light(behind(element))].sort((x, y) => y - x);
        const large = parseFloat(style.fontSize) >= 24
            || (parseFloat(style.fontSize) >= 18.66 && Number(style.fontWeight) >= 700);
        if ((a + 0.05) / (b + 0.05) < (large ? 3 : 4.5))
            found.push('contrast ' + ((a + 0.05) / (b + 0.05)).toFixed(2) + ': '
                + walker.currentNode.textContent.trim().slice(0, 40));
    }
    return [...new Set(found)];
}"""
"""What matters most of WCAG 2.2: names, labels, landmarks, headings, sizes and contrast."""
AXE = shutil.which("axe-core") or "node_modules/axe-core/axe.min.js"
"""Deque's checker, which is used beside ours where somebody has put it there."""

Start = Callable[..., str]


@pytest.fixture
def start(trained: Settings, data_dir: Path, tmp_path: Path) -> Iterator[Start]:
    """Starts the command, ends the one before, and gives its address."""
    titles = "".join(f"{item}::Title {item}::Drama\n" for item in range(1, NUM_ITEMS + 1))
    (data_dir / "movies.dat").write_text(titles)
    running: list[subprocess.Popen[bytes]] = []

    def end() -> None:
        while running:
            process = running.pop()
            process.terminate()
            process.wait(60)

    def begin(*options: str) -> str:
        end()
        port = free_port()
        own = [f"data.dir={data_dir}", f"checkpoint.dir={trained.checkpoint.dir}"]
        command = [
            sys.executable,
            "-m",
            "fedmem.serve",
            "--port",
            str(port),
            *options,
            *SMALL,
            *own,
        ]
        running.append(subprocess.Popen(command, cwd=tmp_path))
        address = f"http://127.0.0.1:{port}"
        deadline = time.monotonic() + 180
        while True:
            try:
                httpx.get(address)
                return address
            except httpx.TransportError:
                assert running[0].poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.2)

    yield begin
    end()


class Tab:
    """A tab that notes what goes wrong in it and which hosts it asks."""

    def __init__(self, browser: Any, address: str, **how: Any) -> None:
        self.context = browser.new_context(reduced_motion="reduce", **how)
        self.page = self.context.new_page()
        self.address, self.troubles = address, list[str]()
        self.page.on("console", lambda m: m.type in ("error", "warning") and self.note(m.text))
        self.page.on("pageerror", lambda error: self.note(str(error)))
        self.page.on("request", lambda r: r.url.startswith((address, "blob:")) or self.note(r.url))
        self.page.goto(address)

    def note(self, text: str) -> None:
        self.troubles.append(text)

    def show(self, view: str) -> None:
        self.page.evaluate(f"location.hash = '#{view}'")
        self.page.wait_for_selector(f"h1:text-is('{VIEWS[view]}')")
        self.page.wait_for_selector("main:not([aria-busy])")

    def texts(self, selector: str) -> list[str]:
        found: list[str] = self.page.locator(selector).all_inner_texts()
        return found


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [(1280, 900), (360, 740)], ids=["desktop", "phone"])
def test_every_view_is_whole_readable_and_asks_no_other_host(
    scheme: str, size: tuple[int, int], start: Start, browser: Any
) -> None:
    viewport = {"width": size[0], "height": size[1]}
    tab = Tab(browser, start(), color_scheme=scheme, viewport=viewport)
    for view in VIEWS:
        tab.show(view)
        tab.page.wait_for_timeout(400)
        assert tab.page.evaluate(CHECKS) == [], view
    tab.show("for-you")
    assert len(tab.texts(".card")) == 12
    tab.page.locator(".card button").first.click()
    tab.page.wait_for_selector("dialog[open] .effects li")
    assert tab.page.evaluate(CHECKS) == []
    tab.page.keyboard.press("Escape")
    assert tab.page.locator("dialog[open]").count() == 0
    tab.page.goto(f"{tab.address}/docs")
    tab.page.wait_for_selector("text=/recommend")
    assert tab.page.evaluate(CHECKS) == []
    assert tab.troubles == []


def test_axe_finds_nothing(start: Start, browser: Any) -> None:
    if not Path(AXE).is_file():
        pytest.skip("axe-core is not here: npm install axe-core where pytest is called")
    # The checker is put into the page, which the page's own policy would not let happen.
    tab = Tab(browser, start(), bypass_csp=True)
    for view in VIEWS:
        tab.show(view)
        tab.page.evaluate(Path(AXE).read_text())
        found = tab.page.evaluate("axe.run(document, {resultTypes: ['violations']})")
        assert [each["id"] for each in found["violations"]] == [], view


def test_it_is_worked_by_the_keyboard(start: Start, browser: Any) -> None:
    tab = Tab(browser, start())
    press = tab.page.keyboard.press
    tab.show("try")
    tab.page.wait_for_selector(".picks li")
    before = len(tab.texts("ol.history li"))
    tab.page.get_by_label("Add an item by its title").focus()
    taken = {text.split("\n")[0] for text in tab.texts("ol.history li")}
    free = next(n for n in range(1, NUM_ITEMS + 1) if f"Title {n}" not in taken)
    tab.page.keyboard.type(f"title {free}")
    tab.page.wait_for_selector("[role=option][aria-selected=true]")
    press("ArrowDown")
    press("ArrowUp")
    press("Enter")
    tab.page.wait_for_function(
        f"document.querySelectorAll('ol.history li').length === {before + 1}"
    )
    assert "1 added" in tab.page.locator(".panel").first.inner_text()
    tab.page.locator("ol.history li button").first.focus()
    press("Enter")
    tab.page.wait_for_function(f"document.querySelectorAll('ol.history li').length === {before}")
    assert tab.troubles == []


def test_forget_works_and_survives_a_restart(start: Start, browser: Any) -> None:
    tab = Tab(browser, start())
    tab.page.click("#who")
    tab.page.get_by_label("Find by id").fill("12")
    tab.page.click(".people button:has-text('User 12')")
    tab.page.wait_for_selector("#who-name:text-is('User 12')")
    tab.show("try")
    tab.page.wait_for_selector("ol.history li")
    before = tab.texts("ol.history li > span:not(:empty)")
    tab.page.locator("ol.history li button.warn").first.click()
    assert tab.page.locator("dialog h2").inner_text() == f"Forget {before[0]}?"
    assert "cannot be recalled" in tab.page.locator("dialog").inner_text()
    tab.page.click("text=Forget it for good")
    tab.page.wait_for_selector("dialog h2:text-is('Forgotten')")
    assert "is yours and was not changed" in tab.page.locator("dialog").inner_text()
    tab.page.click("dialog button:has-text('Good')")
    tab.page.wait_for_function(
        f"document.querySelectorAll('ol.history li').length === {len(before) - 1}"
    )
    assert tab.troubles == []
    again = Tab(browser, start())
    again.page.evaluate("sessionStorage.setItem('fedmem-user', '12')")
    again.page.reload()
    again.page.wait_for_selector("#who-name:text-is('User 12')")
    again.show("try")
    again.page.wait_for_selector("ol.history li")
    assert again.texts("ol.history li > span:not(:empty)") == before[1:]
    again.show("memory")
    held = again.page.locator("main").inner_text()
    assert re.search(rf"\b{before[0]}\b(?!\d)", held) is None


def test_a_token_is_asked_for_and_kept(start: Start, browser: Any, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("a-token-of-some-length\n")
    tab = Tab(browser, start("--token-file", str(tmp_path / "token")))
    tab.page.get_by_role("textbox", name="Token").fill("a-token-of-some-length")
    tab.page.click("text=Go on")
    tab.page.wait_for_selector(".card")
    tab.page.reload()
    tab.page.wait_for_selector(".card")
    assert all("401" in trouble for trouble in tab.troubles)
