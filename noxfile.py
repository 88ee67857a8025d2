"""The unit tests on the oldest and on the newest versions that pyproject.toml promises, and
what is known of the installed packages: vulnerabilities, licences.

    pip install nox
    nox --session oldest        # Python 3.11, versions of constraints-oldest.txt
    nox --session newest        # the newest Python found, newest versions
    nox --session audit

The tests of the book, its chapters and its pages belong to `make test`.
"""

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
    session.run("python", "-m", "pytest", *(session.posargs or UNIT))


@nox.session(python="3.11")
def audit(session: nox.Session) -> None:
    """Known vulnerabilities of the packages that `make` installs, and the licences of all."""
    session.install("--constraint", "constraints.txt", "--editable", ".[book,test]")
    session.install("pip-audit", "pip-licenses")
    session.run("pip-audit", "--skip-editable")
    session.run("pip-licenses", "--order", "license")
