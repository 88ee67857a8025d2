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


# What depends on colours takes axe most of its time, and is the same wherever colours, size
# and weight are: of all text in the book one of each kind is looked at. What is of a kind that
# was seen is hidden and emptied meanwhile, since axe orders all elements by what covers what.
COLOURS = ["color-contrast", "link-in-text-block"]
ALIKE = """(known) => {
  const seen = new Set(known), grounds = new Map([[null, ""]]), found = [];
  const ground = (element) => {
    if (!grounds.has(element)) {
      const { backgroundColor, backgroundImage, opacity } = getComputedStyle(element);
      const own = [backgroundColor, backgroundImage, opacity].join();
      grounds.set(element, `${own};${ground(element.parentElement)}`);
    }
    return grounds.get(element);
  };
  const looks = (element) => {
    const { color, fontSize, fontWeight, textDecoration } = getComputedStyle(element);
    return [color, fontSize, fontWeight, textDecoration].join();
  };
  const speaks = (node) => node.nodeType === Node.TEXT_NODE && node.data.trim();
  const block = (element) => getComputedStyle(element).display.startsWith("inline")
    ? block(element.parentElement) : element;
  const isSeen = (element) => {
    const key = [looks(element), ground(element)], link = element.closest("a");
    if (link) {  // among other text or alone
      const around = block(link.parentElement).textContent.trim();
      key.push(looks(link.parentElement), around === link.textContent.trim());
    }
    const before = seen.size;
    return seen.add(key.join()).size === before;
  };
  // whether an element shows text, all of it of kinds that were seen before
  const mark = (element) => {
    if (!element.getClientRects().length) return null;
    const below = [...element.children].map(mark).filter((alike) => alike !== null);
    if ([...element.childNodes].some(speaks)) below.push(isSeen(element));
    const alike = below.length ? below.every(Boolean) : null;
    if (alike) found.push(element);
    return alike;
  };
  [...document.body.children].forEach(mark);
  window.emptied = found.map((element) => {
    const nodes = [...element.childNodes];
    element.toggleAttribute("data-alike", true);
    element.replaceChildren();
    return [element, nodes];
  });
  return [...seen];
}"""
SHOW = """() => {
  for (const [element, nodes] of (window.emptied ?? []).reverse()) {
    element.replaceChildren(...nodes);
    element.removeAttribute("data-alike");
  }
  window.emptied = [];
}"""
STYLE = """*, *::before, *::after { transition: none !important; }
[data-alike] { display: none !important; }"""


def serious(page, seen):
    """What axe finds that is serious: what depends on colours in the page's light ones and in
    its dark ones, and all other rules once, since the dark theme changes colours alone. `seen`
    has for each scheme the kinds of text that were looked at, and gets those of this page."""
    # a colour that is still on its way from one theme to the other is no finding
    page.add_style_tag(content=STYLE)
    page.evaluate(AXE_SCRIPT)
    colours = {"runOnly": COLOURS}
    # "region", all text within a landmark, is never serious, and takes long
    others = {"rules": {rule: {"enabled": False} for rule in (*COLOURS, "region")}}
    said = []
    for scheme, all_rules in {"light": [others, colours], "dark": [colours]}.items():
        page.emulate_media(color_scheme=scheme)
        page.themed(scheme)
        for rules in all_rules:
            if rules is colours:
                seen[scheme] = page.evaluate(ALIKE, seen.get(scheme, []))
            # of what passes, one element a rule is listed: listing all takes longer; style
            # sheets of a file cannot be loaded once more
            found = page.evaluate(
                "(options) => axe.run(document, options).then((all) => all.violations)",
                rules | {"resultTypes": ["violations"], "preload": False},
            )
            said += [
                (scheme, rule["id"], [node["html"][:160] for node in rule["nodes"][:4]])
                for rule in found
                if rule["impact"] in ("serious", "critical")
            ]
        page.evaluate(SHOW)
    page.emulate_media(color_scheme="light")
    return said


# two frames: scripts have seen the new width, and what they changed is laid out
SETTLED = (
    "() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"
)


def test_nothing_leaves_the_page_every_image_has_a_text_the_console_is_silent(look, html):
    """At the width of a phone, a tablet and a desk, where axe finds nothing serious either."""
    page, seen = None, {}
    for name in pages(html):
        if page is not None:
            page.set_viewport_size({"width": WIDTHS[0], "height": 900})
        page = look(name, WIDTHS[0], page=page)
        # what Jupyter shows in place of an empty text
        assert "<IPython" not in page.text_content("body"), name
        for width in WIDTHS:
            page.set_viewport_size({"width": width, "height": 900})
            page.evaluate(SETTLED)
            found = faults(page, width)
            assert found == [], (name, width, found)
        assert page.said == [], name
        assert serious(page, seen) == [], name


def faults(page, width):
    """What leaves the page to the right, and images without a text."""
    found = page.evaluate(OUTSIDE) + page.evaluate(
        "(s) => [...document.querySelectorAll(s)].map((e) => e.outerHTML.slice(0, 200))",
        NAMELESS,
    )
    scrolls = page.evaluate("document.documentElement.scrollWidth") > width
    return found[:5] + ["the page scrolls"] * scrolls


def test_what_leaves_the_page_at_one_width_alone_would_be_found(look):
    page = look("about", WIDTHS[0])
    page.evaluate(
        """() => document.querySelector("article").insertAdjacentHTML("afterbegin",
          `<p id=wide style="width: 600px">wide</p>`)"""
    )
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 900})
        page.evaluate(SETTLED)
        found = " ".join(faults(page, width))
        assert ('id="wide"' in found) == (width == 390), (width, found)
    page.evaluate("document.getElementById('wide').outerHTML = '<img src=x.png alt=\"\">'")
    assert "x.png" in " ".join(faults(page, WIDTHS[-1]))


def test_a_faint_text_and_an_image_without_a_text_would_be_found(look):
    seen = {}
    page = look("intro")
    text = page.inner_text("body")
    assert serious(page, seen) == []
    assert page.inner_text("body") == text
    assert serious(page, seen) == [], "with nothing left to look at"
    page = look("about", page=page)
    page.evaluate(
        """() => document.querySelector("article").insertAdjacentHTML("afterbegin", `<p
          style="color: #777; background: #888">faint</p><img src="x.png" width=20>
          <p>plain</p><p style="opacity: 0.3">pale</p>
          <p>words, <a href=# style="color: #555; text-decoration: none">bare</a></p>`)"""
    )
    found = {(scheme, rule): " ".join(nodes) for scheme, rule, nodes in serious(page, seen)}
    assert sorted(found) == [
        ("dark", "color-contrast"),
        ("light", "color-contrast"),
        ("light", "image-alt"),
        ("light", "link-in-text-block"),
    ]
    for scheme in ("light", "dark"):
        said = found[scheme, "color-contrast"]
        assert "faint" in said
        assert "pale" in said
        assert "plain" not in said
    assert "bare" in found["light", "link-in-text-block"]


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
