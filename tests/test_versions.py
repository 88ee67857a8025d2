"""constraints-oldest.txt, which nox installs, names the lower bounds of pyproject.toml."""

import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
USED = ("export", "cluster")  # extras that the library imports; the rest are tools
RUNTIME = "onnxruntime"  # runs the exported models where it is installed


def only_version(requirement, operator):
    (found,) = (s.version for s in requirement.specifier if s.operator == operator)
    return Version(found)


def bounds(lines):
    """{package: lowest version}."""
    parsed = [Requirement(line) for line in lines]
    return {canonicalize_name(each.name): only_version(each, ">=") for each in parsed}


def test_the_oldest_versions_that_are_tested_are_the_lower_bounds():
    promised = bounds([*PROJECT["dependencies"], *(d for e in USED for d in EXTRAS[e])])
    promised[RUNTIME] = bounds(EXTRAS["test"])[RUNTIME]
    lines = (ROOT / "constraints-oldest.txt").read_text(encoding="utf-8").splitlines()
    tested = [Requirement(line) for line in lines if not line.startswith("#")]
    assert {canonicalize_name(t.name): only_version(t, "==") for t in tested} == promised


def test_extras_that_name_a_package_twice_agree():
    found = {}
    for extra in EXTRAS.values():
        for line in extra:
            found.setdefault(canonicalize_name(Requirement(line).name), set()).add(line)
    assert {name: lines for name, lines in found.items() if len(lines) > 1} == {}
