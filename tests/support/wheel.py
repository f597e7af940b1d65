"""Builds the wheel and installs it into an environment of its own, outside the checkout."""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

from tests.conftest import ROOT
from tests.support.container_files import sent


def build_wheel(folder: Path, with_voices: bool = False) -> Path:
    """The wheel, built from a copy of what .dockerignore sends, with this environment's setuptools.

    Args:
        folder: Empty folder for the copy and the wheel.
        with_voices: Whether the wheel of Resemblyzer is fetched first, as `make wheel` does it.
    """
    for path in sent(ROOT):
        (folder / "source" / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / path, folder / "source" / path)
    pip = [sys.executable, "-m", "pip"]
    if with_voices:
        fetched = ["download", "--quiet", "--no-deps", "--dest", "build/weights", "Resemblyzer==0.1.4"]
        subprocess.run([*pip, *fetched], check=True, cwd=folder / "source")
    built = [
        "wheel",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "--wheel-dir",
        str(folder / "dist"),
        ".",
    ]
    subprocess.run([*pip, *built], check=True, cwd=folder / "source")
    (wheel,) = (folder / "dist").glob("*.whl")
    return wheel


def install_wheel(wheel: Path, folder: Path) -> Path:
    """Install it into a new environment, where this one's libraries are found too; returns its `bin`.

    Of this environment the checkout and Resemblyzer are left out.
    """
    venv.create(folder, with_pip=False)
    own = Path(sysconfig.get_path("purelib", vars={"base": str(folder), "platbase": str(folder)}))
    theirs = folder / "libraries"
    theirs.mkdir()
    for path in Path(sysconfig.get_path("purelib")).iterdir():
        if not any(name in path.name.lower() for name in ("moss_agent", "resemblyzer", ".pth")):
            (theirs / path.name).symlink_to(path)
    (own / "libraries.pth").write_text(str(theirs))
    arguments = ["install", "--quiet", "--no-deps", "--no-index", "--ignore-installed", str(wheel)]
    pip = [sys.executable, "-m", "pip", "--python", str(folder / "bin" / "python")]
    # What lies in the checkout may look installed to pip.
    subprocess.run([*pip, *arguments], check=True, cwd=folder)
    return folder / "bin"


def run_apart(command: list[str], folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a command in a folder outside the checkout, with no setting of this machine's user."""
    environment = {
        "PATH": "/usr/bin:/bin",
        "HOME": str(folder),
        "LANG": "C.UTF-8",
        "HF_HUB_OFFLINE": "1",
        **variables,
    }
    return subprocess.run(
        command, capture_output=True, text=True, cwd=folder, env=environment, timeout=280, check=False
    )
