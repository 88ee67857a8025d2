"""Networks that gradient descent prunes: the methods of three papers, and what is left
afterwards.

The public names stand in `__init__.pyi`, where type checkers find them too. Each is loaded
when it is first used, so `import pruning` costs little.
"""

import lazy_loader

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
