"""nbval compares what the cells printed when the book executed them.

nbval asks a kernel to run each cell. Here a notebook that the book has
executed answers in its place, so that no notebook runs twice; one that
changed since is executed first.
"""

from collections import deque
from itertools import count
from pathlib import Path

import nbformat
from nbval.plugin import IPyNbFile

from pruning.files import CHECKOUT
from pruning.pages import book


class Executed:
    """What nbval asks of a kernel, answered from an executed notebook."""

    def __init__(self, notebook: Path):
        target = CHECKOUT / "book" / "chapters" / notebook.name
        book.execute(notebook, target, {"profile": "quick"})
        self.cells = deque(
            cell
            for cell in nbformat.read(target, as_version=4).cells
            if cell.cell_type == "code"
            and "injected-parameters" not in cell.metadata.get("tags", [])
        )
        self.messages, self.requests = deque(), count()

    def is_alive(self) -> bool:
        """Whether there are cells left to ask for."""
        return bool(self.cells or self.messages)

    def execute_cell_input(self, source: str, allow_stdin: bool = False) -> int:
        """Queue the outputs of the next cell, as a kernel publishes them."""
        cell, request = self.cells.popleft(), next(self.requests)
        assert cell.source == source
        done = {"output_type": "status", "execution_state": "idle"}
        self.messages.extend(
            {
                "msg_type": output["output_type"],
                "content": output,
                "parent_header": {"msg_id": request},
            }
            for output in [*cell.outputs, done]
        )
        return request

    def await_reply(self, request: int, timeout: float) -> None:
        """The outputs are there already."""

    def get_message(self, stream: str, timeout: float) -> dict:
        """The next output of the cell."""
        return self.messages.popleft()

    def stop(self) -> None:
        """No process runs."""


def setup(file: IPyNbFile) -> None:
    """In place of IPyNbFile.setup, which starts a kernel."""
    file.kernel = Executed(file.path)


IPyNbFile.setup = setup
