"""``make audit``: licences, known vulnerabilities, a bill of materials, a wheel that is the same when built twice."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

TOOLS, PYTHON = Path(".venv/audit/bin"), Path(".venv/bin/python")
BILL = Path("build/sbom.cdx.json")
# licences that a program under Apache-2.0 may be installed beside; LGPL and MPL bind changes of these packages alone
_ALLOWED = re.compile(
    r"Apache|MIT|BSD|ISC|PSF|Python Software|MPL|Mozilla|Zlib|CC0|Unlicense|Public Domain|LGPL|HPND|CNRI|0BSD",
    re.IGNORECASE,
)
# what names no licence where the tool looks has it in its files
_IN_FILES = {"axe-playwright-python": "MIT", "skops": "MIT"}
# LangServe's forbids to offer it to others as a hosted service; PyTorch's wheels need NVIDIA's libraries on Linux
_OWN = frozenset({"langserve"})
_NVIDIA = re.compile(r"nvidia-|cuda-")


def main() -> int:
    """Print what is found; the exit code: 1 if anything is wrong, 3 if something could not be checked."""
    wrong = licences() + wheel()
    bill_of_materials()
    unchecked = vulnerabilities(wrong)
    for line in wrong:
        print(f"wrong: {line}")
    return 1 if wrong else 3 if unchecked else 0


def licences() -> list[str]:
    """Packages whose licence is not known, or not one of those allowed."""
    listed = _run(TOOLS / "pip-licenses", "--python", PYTHON, "--format=json")
    packages = json.loads(listed.stdout)
    names = {package["Name"].lower(): package["License"] for package in packages} | _IN_FILES
    nvidia = {name for name in names if _NVIDIA.match(name)}
    wrong = [
        f"{name} has the licence {licence}"
        for name, licence in names.items()
        if name not in nvidia | _OWN and not _ALLOWED.search(licence)
    ]
    print(f"licences: {len(names)} packages, {len(wrong)} not allowed; {len(nvidia)} of NVIDIA that PyTorch needs")
    print(f"licences of their own, to be read: {', '.join(sorted(_OWN & names.keys()))}")
    return wrong


def wheel() -> list[str]:
    """Whether two builds of the wheel, in two folders, are the same bytes."""
    hashes = []
    stamp = _run("git", "log", "-1", "--format=%ct").stdout.strip()
    for _ in range(2):
        with tempfile.TemporaryDirectory() as folder:
            archive = Path(folder, "source.tar")
            _run("git", "archive", "-o", archive, "HEAD")
            _run("tar", "-xf", archive, "-C", folder)
            build = [
                TOOLS / "python",
                "-m",
                "build",
                "--wheel",
                "--no-isolation",
                "--outdir",
                Path(folder, "dist"),
                folder,
            ]
            _run(*build, SOURCE_DATE_EPOCH=stamp)
            (made,) = Path(folder, "dist").glob("*.whl")
            hashes.append(hashlib.sha256(made.read_bytes()).hexdigest())
    print(f"wheel: SHA-256 {hashes[0]}, built twice")
    return [] if hashes[0] == hashes[1] else ["two builds of the wheel differ"]


def bill_of_materials() -> None:
    """Write the packages of the environment in the CycloneDX format."""
    BILL.parent.mkdir(exist_ok=True)
    _run(TOOLS / "cyclonedx-py", "environment", PYTHON, "--output-file", BILL, "--of", "JSON", "--validate")
    count = len(json.loads(BILL.read_text(encoding="utf-8"))["components"])
    print(f"bill of materials: {count} components in {BILL}")


def vulnerabilities(wrong: list[str]) -> bool:
    """Add known vulnerabilities of the pinned packages to ``wrong``; whether some could not be looked up."""
    command = [TOOLS / "pip-audit", "--no-deps", "--disable-pip", "--progress-spinner=off", "--format=json"]
    found = _run(*command, "-r", "requirements/runtime.txt", check=False)
    try:
        packages = json.loads(found.stdout)["dependencies"]
    except ValueError:
        print(f"vulnerabilities: not checked: {found.stderr.strip().splitlines()[-1:]}")
        return True
    wrong += [f"{package['name']}: {flaw['id']}" for package in packages for flaw in package.get("vulns", ())]
    skipped = sum("skip_reason" in package for package in packages)
    print(f"vulnerabilities: {len(packages) - skipped} packages checked, {skipped} could not be looked up")
    return bool(skipped)


def _run(*command: object, check: bool = True, **variables: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        list(map(str, command)), env={**os.environ, **variables}, capture_output=True, text=True, check=False
    )
    if check and done.returncode:
        raise SystemExit(f"{command[0]} failed: {done.stderr or done.stdout}")
    return done


if __name__ == "__main__":
    sys.exit(main())
