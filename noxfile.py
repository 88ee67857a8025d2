"""The unit tests on the oldest and on the newest versions that pyproject.toml promises, the
wheel outside of a checkout, and what is known of the installed packages: vulnerabilities,
licences.

    pip install nox
    nox --session oldest        # Python 3.11, versions of constraints-oldest.txt
    nox --session newest        # Python 3.13 and 3.14, newest versions
    nox --session wheel
    nox --session audit

The tests of the book, its chapters and its pages belong to `make test`.
"""

from pathlib import Path

import nox

nox.options.sessions = ["oldest", "newest"]
UNIT = [
    "tests/data",
    "tests/evidence",
    "tests/figures",
    "tests/methods",
    "tests/networks",
    "tests/training",
    "tests/test_cli.py",
    "tests/test_imports.py",
    "tests/test_properties.py",
    "tests/test_versions.py",
]


@nox.session(python="3.11")
def oldest(session: nox.Session) -> None:
    """Lower bounds; what old packages deprecate of each other is no error here."""
    session.install("--constraint", "constraints-oldest.txt", "--editable", ".[test]")
    session.run("python", "-m", "pytest", "-W", "default", *(session.posargs or UNIT))


@nox.session(python=["3.13", "3.14"])
def newest(session: nox.Session) -> None:
    """The newest versions of everything, on the newest versions of Python."""
    session.install("--upgrade", "--upgrade-strategy", "eager", "--editable", ".[test]")
    # the extra `test` alone suffices to import all tests, but for those that it leaves out
    session.run("python", "-m", "pytest", "--collect-only", "-qq", "tests")
    session.run("python", "-m", "pytest", *(session.posargs or UNIT))


@nox.session(python="3.11")
def wheel(session: nox.Session) -> None:
    """The package as a user has it, without extras and without a checkout around it."""
    empty = Path(session.create_tmp()).resolve()
    built = empty.parent / "wheels"
    checkout = Path.cwd()
    session.run("python", "-m", "pip", "wheel", "--no-deps", "--wheel-dir", str(built), ".")
    session.install("--constraint", "constraints.txt", *map(str, built.glob("pruning-*.whl")))
    first = checkout.joinpath("README.md").read_text(encoding="utf-8").split("```python\n")[1]
    script = empty / "readme.py"
    script.write_text(first.partition("```")[0], encoding="utf-8")
    session.env["PYTHONPATH"] = None
    session.chdir(empty)
    session.run("pruning", "--help")
    session.run(
        "pruning", "claims", env={"PRUNING_RECORDS": str(checkout / "book" / "records")}
    )
    session.run("python", "-W", "error", script.name)


@nox.session(python="3.11")
def audit(session: nox.Session) -> None:
    """Known vulnerabilities of the packages that `make` installs, and the licences of all."""
    session.install("--constraint", "constraints.txt", "--editable", ".[book,test]")
    session.install("pip-audit", "pip-licenses")
    session.run("pip-audit", "--skip-editable")
    session.run("pip-licenses", "--order", "license")
