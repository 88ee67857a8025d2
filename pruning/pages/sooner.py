"""Import this before nbformat or jupyter-book: a process begins two seconds sooner.

Both bring jsonschema, which compiles 38 grammars to check international web addresses, where
their package can be imported. No notebook has any, and jsonschema does without.
"""

import sys

sys.modules.setdefault("rfc3987_syntax", None)

# what the command jupyter-book does, for `python -c`
JUPYTER_BOOK = "import pruning.pages.sooner; from jupyter_book.cli.main import main; main()"
