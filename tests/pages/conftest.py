import pruning.pages.sooner  # noqa: F401 - before the tests load nbformat
