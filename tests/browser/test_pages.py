"""Every page of the book in a real browser, as a phone, a tablet and a desk see it."""

import pytest
from axe_playwright_python.sync_playwright import Axe

WIDTHS = [390, 768, 1400]


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("which", ["primary", "secondary"])
def test_menus_open(look, width, which):
    page = look("chapters/compression_curves", width)
    menu = page.locator(f"#pst-{which}-sidebar, #pst-{which}-sidebar-modal")
    links = menu.locator("nav a")
    button = page.locator(f".{which}-toggle").locator("visible=true")
    if width < 1000:
        assert not links.first.is_visible()
        button.click()
    links.first.wait_for(state="visible")
    box = links.nth(1).bounding_box()
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= width
    before = page.url
    links.nth(1).click()
    page.wait_for_function("before => location.href !== before", arg=before)


def test_the_chapters_can_be_put_away_on_a_wide_screen(look):
    page = look("chapters/compression_curves", 1400)
    chapters = page.locator("#pst-primary-sidebar nav a").first
    page.locator(".primary-toggle").click()
    chapters.wait_for(state="hidden")
    page.locator(".primary-toggle").click()
    chapters.wait_for(state="visible")


def pages(html):
    """Every page of the book by name, as the table of contents and Sphinx list them."""
    found = sorted(path for path in html.rglob("*.html") if "_static" not in path.parts)
    return [path.relative_to(html).with_suffix("").as_posix() for path in found]


@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_leaves_the_page_every_image_has_a_text_the_console_is_silent(
    look, html, width
):
    for name in pages(html):
        page = look(name, width)
        assert page.said == [], name
        assert page.evaluate("document.documentElement.scrollWidth") <= width, name
        # what is wider than the page scrolls inside a box of its own, and nothing is cut off
        outside = page.evaluate(
            """() => [...document.querySelectorAll("article *, .prev-next-footer *")]
              .filter((element) => {
                const box = element.getBoundingClientRect();
                if (box.width === 0 || box.right <= innerWidth + 1) return false;
                for (let above = element; above; above = above.parentElement) {
                    const style = getComputedStyle(above);
                    if (["auto", "scroll"].includes(style.overflowX)) return false;
                    if (above.tagName === "svg" && above !== element) return false;
                }
                const hidden = ".dropdown-menu, .sr-only, .visually-hidden, svg.icon";
                return !element.closest(hidden);
            }).map((element) => element.outerHTML.slice(0, 100))"""
        )
        assert outside == [], (name, outside[:5])
        nameless = page.locator(
            "img:not([alt]), img[alt=''], "
            "svg[role=img]:not([aria-label], [aria-labelledby], [aria-hidden=true])"
        )
        assert nameless.count() == 0, (
            name,
            nameless.first.evaluate("e => e.outerHTML.slice(0, 200)"),
        )
        page.context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(look, html, scheme):
    # the dark theme changes colours alone, so there one rule is enough
    asked = {"runOnly": ["color-contrast"]} if scheme == "dark" else {}
    axe = Axe()
    for name in pages(html):
        page = look(name, 1400, scheme)
        # a colour that is still on its way from one theme to the other is no finding
        page.add_style_tag(content="*, *::before, *::after { transition: none !important; }")
        page.wait_for_timeout(200)
        found = axe.run(page, options=asked).response["violations"]
        serious = [
            (name, rule["id"], [node["html"][:160] for node in rule["nodes"][:4]])
            for rule in found
            if rule["impact"] in ("serious", "critical")
        ]
        assert serious == []
        page.context.close()


def test_code_can_be_copied_and_a_chapter_downloaded(look, html):
    page = look("about")
    assert "@software{pruning" in page.locator(".highlight-bibtex pre").text_content()
    assert page.locator(".highlight-bibtex button.copybtn").count() == 1
    page = look("chapters/smallest")
    notebook = page.locator("a.btn-download-source-button[href$='.ipynb']").get_attribute(
        "href"
    )
    assert (html / "chapters" / notebook).resolve().suffix == ".ipynb"
    assert (html / "chapters" / notebook).resolve().is_file()
