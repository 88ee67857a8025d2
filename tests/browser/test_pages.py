"""Every page of the book in a real browser, as a phone, a tablet and a desk see it."""

import pytest
from axe_playwright_python.base import AXE_SCRIPT

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


# what is wider than the page scrolls inside a box of its own, and nothing is cut off
OUTSIDE = """() => [...document.querySelectorAll("article *, .prev-next-footer *")]
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
NAMELESS = (
    "img:not([alt]), img[alt=''], "
    "svg[role=img]:not([aria-label], [aria-labelledby], [aria-hidden=true])"
)


# Contrast takes axe most of its time, and is the same wherever colours, size and weight are:
# of the elements that hold nothing but text, one of each kind is looked at.
ALIKE = """() => {
  const seen = new Set();
  for (const element of document.querySelectorAll("body *")) {
    if (element.childElementCount || !element.textContent.trim()) continue;
    if (!element.getClientRects().length) continue;
    const { color, fontSize, fontWeight } = getComputedStyle(element);
    const key = [color, fontSize, fontWeight];
    for (let above = element; above; above = above.parentElement) {
      const style = getComputedStyle(above);
      key.push(style.backgroundColor, style.backgroundImage, style.opacity);
    }
    element.toggleAttribute("data-alike", seen.has(key.join()));
    seen.add(key.join());
  }
}"""


def serious(page):
    """What axe finds that is serious: contrast in the page's light colours and in its dark
    ones, and all other rules once, since the dark theme changes colours alone."""
    # a colour that is still on its way from one theme to the other is no finding
    page.add_style_tag(content="*, *::before, *::after { transition: none !important; }")
    page.evaluate(AXE_SCRIPT)
    contrast = {"runOnly": ["color-contrast"]}
    others = {"rules": {"color-contrast": {"enabled": False}}}
    said = []
    for scheme, all_rules in {"light": [others, contrast], "dark": [contrast]}.items():
        page.emulate_media(color_scheme=scheme)
        page.themed(scheme)
        page.evaluate(ALIKE)
        for rules in all_rules:
            out = {"exclude": ["[data-alike]"]} if rules is contrast else {}
            # of what passes, one element a rule is listed: listing all takes longer
            found = page.evaluate(
                "([out, options]) => axe.run({ include: [document], ...out }, options)",
                [out, rules | {"resultTypes": ["violations"]}],
            )
            said += [
                (scheme, rule["id"], [node["html"][:160] for node in rule["nodes"][:4]])
                for rule in found["violations"]
                if rule["impact"] in ("serious", "critical")
            ]
    page.emulate_media(color_scheme="light")
    return said


@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_leaves_the_page_every_image_has_a_text_the_console_is_silent(
    look, html, width
):
    """And on the desk axe finds nothing serious."""
    page = None
    for name in pages(html):
        page = look(name, width, page=page)
        assert page.said == [], name
        assert page.evaluate("document.documentElement.scrollWidth") <= width, name
        # what Jupyter shows in place of an empty text
        assert "<IPython" not in page.inner_text("body"), name
        outside = page.evaluate(OUTSIDE)
        assert outside == [], (name, outside[:5])
        nameless = page.locator(NAMELESS)
        assert nameless.count() == 0, (
            name,
            nameless.first.evaluate("e => e.outerHTML.slice(0, 200)"),
        )
        if width == max(WIDTHS):
            assert serious(page) == [], name


def test_a_faint_text_and_an_image_without_a_text_would_be_found(look):
    page = look("about")
    page.evaluate(
        """() => document.querySelector("article").insertAdjacentHTML("afterbegin", `<p
          style="color: #777; background: #888">faint</p><img src="x.png" width=20>
          <p>plain</p><p style="opacity: 0.3">pale</p>`)"""
    )
    found = {(scheme, rule): " ".join(nodes) for scheme, rule, nodes in serious(page)}
    assert sorted(found) == [
        ("dark", "color-contrast"),
        ("light", "color-contrast"),
        ("light", "image-alt"),
    ]
    for scheme in ("light", "dark"):
        said = found[scheme, "color-contrast"]
        assert "faint" in said
        assert "pale" in said
        assert "plain" not in said


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
