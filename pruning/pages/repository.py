"""A Sphinx extension: buttons that need a public repository, from one setting.

While `repository: url` in _config.yml is empty there are none. With an address, every page
gets buttons to edit it and to report a problem, and every chapter can be launched on Binder
and Colab.
"""

from urllib.parse import quote

from docutils import nodes
from sphinx.application import Sphinx


def links(url: str, branch: str, page: str, title: str) -> dict[str, str]:
    """Button text → address, for a page of the book; none without a repository's address."""
    if not url:
        return {}
    url = url.rstrip("/")
    chapter = page.startswith("chapters/")  # rendered from notebooks/, where the source lies
    path = (
        f"notebooks/{page.removeprefix('chapters/')}.ipynb" if chapter else f"book/{page}.md"
    )
    found = {
        "Edit this page": f"{url}/edit/{branch}/{path}",
        "Report a problem": f"{url}/issues/new?title={quote(f'On the page {title}')}",
        "The repository": url,
    }
    _, _, name = url.partition("github.com/")
    if chapter and name:
        found["Open in Binder"] = (
            f"https://mybinder.org/v2/gh/{name}/{branch}?urlpath=lab/tree/{path}"
        )
        found["Open in Colab"] = (
            f"https://colab.research.google.com/github/{name}/blob/{branch}/{path}"
        )
    return found


def _add(
    app: Sphinx, page: str, template: str, context: dict, doctree: nodes.document | None
) -> None:
    settings = app.config.html_theme_options
    if doctree is None or "header_buttons" not in context:
        return
    found = links(
        settings.get("repository_url", ""),
        settings.get("repository_branch", "main"),
        page,
        context["title"],
    )
    if found:
        buttons = [{"type": "link", "url": url, "text": text} for text, url in found.items()]
        group = {
            "type": "group",
            "tooltip": "Repository",
            "icon": "fas fa-code-branch",
            "buttons": buttons,
        }
        context["header_buttons"].append(group | {"label": "repository-buttons"})


def setup(app: Sphinx) -> dict:
    """Add the buttons after the theme has made its own."""
    app.connect("html-page-context", _add, priority=600)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
