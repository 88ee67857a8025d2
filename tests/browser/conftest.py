import shutil
from functools import partial
from pathlib import Path

import pytest
from playwright.sync_api import sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


@pytest.fixture(scope="session")
def chromium():
    """A headless Chromium: the system's, or the one that `playwright install chromium`
    brought."""
    with sync_playwright() as playwright:
        own = playwright.chromium.executable_path
        found = next((path for path in map(shutil.which, NAMES) if path), own)
        if not Path(found).is_file():
            pytest.skip(
                f"no browser: none of {', '.join(NAMES)} is installed, nor Playwright's own"
            )
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield browser
        browser.close()


def themed(page, scheme):
    """Wait until the page has the colours of a scheme."""
    page.wait_for_function("s => document.documentElement.dataset.theme === s", arg=scheme)


@pytest.fixture
def look(chromium, html):
    """Open a page of the book at a width, in the place of an open `page` if one is given; what
    its console complains of is listed in `page.said`."""
    opened = []

    def open_page(name, width=1400, scheme="light", page=None, **options):
        if page is None:
            context = chromium.new_context(
                viewport={"width": width, "height": 900}, color_scheme=scheme, **options
            )
            context.set_default_timeout(120_000)  # a busy machine takes its time
            opened.append(context)
            page = context.new_page()
            page.said = []
            page.themed = partial(themed, page)
            page.on(
                "console",
                lambda m: page.said.append(m.text) if m.type in ("error", "warning") else None,
            )
            page.on("pageerror", lambda error: page.said.append(str(error)))
        page.said.clear()
        page.goto((html / f"{name}.html").as_uri(), wait_until="load")
        page.themed(scheme)
        return page

    yield open_page
    for context in opened:
        context.close()
