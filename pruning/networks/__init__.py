"""Networks, and what is left of them: structure, sparsity, importance, export."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, submodules=["export", "models"])
