"""A headless Chromium of Debian's, and pages in it that tell what went wrong in them.

with chromium() as browser, visit(browser, width=360, dark=True) as visit:
    visit.open("https://127.0.0.1:8443/")
    assert visit.complaints == []
"""

import contextlib
import os
import shutil
from collections.abc import Iterator
from typing import Any

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Dialog, Page, sync_playwright

HEIGHT = 900


class Visit:
    """A page. ``complaints`` has what its console said, each dialog, and what it asked of others."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.complaints: list[str] = []
        self._origin = ""
        page.set_default_timeout(15_000)
        page.on("console", lambda line: self._heard(line.type, line.text))
        page.on("pageerror", lambda error: self._heard("error", str(error)))
        page.on("dialog", self._interrupted)
        page.on("request", lambda request: self._asked(request.url))

    def _heard(self, kind: str, text: str) -> None:
        if kind in {"error", "warning"}:
            self.complaints.append(f"{kind}: {text}")

    def _interrupted(self, dialog: Dialog) -> None:
        self._heard("error", dialog.message)
        dialog.dismiss()

    def _asked(self, url: str) -> None:
        if not url.startswith(self._origin):
            self.complaints.append(f"asked for {url}")

    def open(self, url: str) -> None:
        """Go there and wait until all is loaded."""
        self._origin = "/".join(url.split("/")[:3]) + "/"
        self.page.goto(url)

    def look(self, *, width: int, dark: bool) -> None:
        """Make the window as wide, and light or dark as the reader likes it."""
        self.page.set_viewport_size({"width": width, "height": HEIGHT})
        self.page.emulate_media(color_scheme="dark" if dark else "light")

    def unfold(self) -> None:
        """Open all that is folded."""
        self.page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")

    @property
    def overflow_pixels(self) -> int:
        """By how much the page is wider than the window."""
        found: int = self.page.evaluate(
            "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        )
        return found

    def violations(self) -> list[str]:
        """What axe-core finds wrong, its best practices included."""
        found: dict[str, Any] = Axe().run(self.page).response
        return [
            f"{one['id']}: {node['html']}" for one in found["violations"] for node in one["nodes"]
        ]


@contextlib.contextmanager
def chromium() -> Iterator[Browser]:
    """Yield a browser; it ends with the block. A root user's needs to go without a sandbox."""
    program = shutil.which("chromium")
    assert program, "chromium is missing"
    flags = ["--disable-gpu", *(["--no-sandbox"] if os.geteuid() == 0 else [])]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=flags)
        try:
            yield browser
        finally:
            browser.close()


@contextlib.contextmanager
def visit(
    browser: Browser, *, width: int = 1280, dark: bool = False, **context: Any
) -> Iterator[Visit]:
    """Yield a page of a fresh profile, as a phone or a desktop has it."""
    profile = browser.new_context(
        viewport={"width": width, "height": HEIGHT},
        color_scheme="dark" if dark else "light",
        ignore_https_errors=True,
        **context,
    )
    try:
        yield Visit(profile.new_page())
    finally:
        profile.close()
