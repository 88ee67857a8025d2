import functools
import gc
import importlib.util
import os
import signal
import sys
import types
from pathlib import Path

import pytest

# torch is loaded by what needs it: under pytest-xdist this file is read once more, by the
# process that runs no test

# CI and a checkout beside a data mirror run the tests on real data without being told
MIRROR = Path(__file__).resolve().parents[2] / "shared" / "data"
if "PRUNING_DATA_MIRROR" not in os.environ and MIRROR.is_dir():
    os.environ["PRUNING_DATA_MIRROR"] = str(MIRROR)


# files whose tests read the rendered book
BOOK = ("tests/browser/", "tests/pages/test_book.py", "tests/pages/test_extensions.py")
# of the other files those that take longest
LONG = (
    "tests/networks/test_models_of_others.py",
    "tests/networks/test_graph.py",
    "tests/chapters/",
    "tests/test_contributing.py",
    "tests/pages/test_readme.py",
    "tests/data/test_images.py",
    "tests/evidence/test_sweep.py",
    "tests/methods/test_methods.py",
)

# the extra `test` brings no Sphinx: what needs that of the extra `book` too is left out then
LEFT_OUT = (
    []
    if importlib.util.find_spec("sphinx")
    else ["browser", "pages/test_book.py", "pages/test_extensions.py", "pages/test_readme.py"]
)
collect_ignore = LEFT_OUT

# the networks here are small: a second thread gains little, and loses much where another
# process has its core. The same goes for the programs that tests start.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# SHAP's loops run for a moment here, and compiling them takes 8 s
NO_COMPILING = "NUMBA_DISABLE_JIT"
os.environ.setdefault(NO_COMPILING, "1")

# modules and traced networks are many objects and hardly any garbage: looking for it takes a
# tenth of the time
gc.set_threshold(100_000, 20, 20)

# a shell that starts `make test` in the background makes it and all that it starts deaf to
# Ctrl-C, which some tests send to the programs that they start
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_terminal_summary(terminalreporter):
    if LEFT_OUT:
        names = ", ".join(LEFT_OUT)
        terminalreporter.write_line(f"left out, since they need the extra `book`: {names}")


def pytest_collection_modifyitems(items):
    """What takes longest begins, so that no process has it left when the others are done."""
    for item in items:
        if "html" in item.fixturenames and not item.nodeid.startswith(BOOK):
            raise pytest.UsageError(f"{item.nodeid} reads the book: name its file in BOOK")
    first = (BOOK, *LONG)
    items.sort(
        key=lambda item: next(
            (k for k, names in enumerate(first) if item.nodeid.startswith(names)), len(first)
        )
    )


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """In parallel, the tests of a file run in one process, so that its fixtures are made once;
    the files of BOOK share one process. (pytest-xdist 3.8 has marks for this, which pytest 9.2
    no longer lets it write into the names of tests.)"""
    from xdist.scheduler import LoadScopeScheduling

    class ByFile(LoadScopeScheduling):
        def _split_scope(self, nodeid):
            return "book" if nodeid.startswith(BOOK) else nodeid.partition("::")[0]

    return ByFile(config, log)


# mutmut wraps the functions that it changes: its frames are no lines of a user's code
if mutmut := sys.modules.get("mutmut"):
    from pruning.networks import notices

    notices.INSIDE += (f"{Path(mutmut.__file__).parent}{os.sep}",)


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    import torch

    torch.set_num_threads(1)


def pytest_runtest_setup(item):
    """torch's exporter reads its 500 operators anew for each network, which takes half of the
    time of a small one: once it is loaded, it keeps them."""
    exporter = sys.modules.get("torch.onnx._internal.exporter._registration")
    library = getattr(exporter, "onnxscript_apis", None)
    if library and not isinstance(library, types.SimpleNamespace):
        read = functools.cache(library.get_torchlib_ops)
        exporter.onnxscript_apis = types.SimpleNamespace(get_torchlib_ops=read)


@pytest.fixture(autouse=True)
def fixed_seed():
    import torch

    torch.manual_seed(0)


def _need_real(name: str) -> None:
    """Skip the test where the files of a data set are not on this machine."""
    from pruning.data import datasets

    entry = datasets.registry()[name]
    absent = [f["path"] for f in entry["files"] if datasets.locate(f) is None]
    if absent and not datasets.unpacked(entry):
        pytest.skip(f"{name}: {absent} neither in the cache nor in $PRUNING_DATA_MIRROR")


def _real(name: str):
    from pruning.data import datasets

    _need_real(name)
    return datasets.load(name)


@pytest.fixture(scope="session")
def html():
    """The folder of the rendered book; building it fails on any warning of Sphinx."""
    from pruning.files import CHECKOUT
    from pruning.pages import book

    with pytest.MonkeyPatch.context() as patch:
        patch.delenv(NO_COMPILING)  # notebooks run as in `make book`
        assert book.build(profile="quick") == 0
    return CHECKOUT / "book" / "_build" / "html"


@pytest.fixture(scope="session")
def need_real():
    return _need_real


@pytest.fixture(scope="session")
def mnist():
    return _real("mnist")


@pytest.fixture(scope="session")
def income():
    return _real("income")


@pytest.fixture(scope="session")
def digits():
    from pruning.data import datasets

    return datasets.load("digits")


@pytest.fixture(scope="session")
def cifar10():
    return _real("cifar10")


@pytest.fixture(scope="session")
def fashion_mnist():
    return _real("fashion_mnist")
