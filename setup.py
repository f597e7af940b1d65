"""What pyproject.toml cannot say: a wheel holds the rooms with common names in a folder of their own.

An editable install is left as it is: the rooms are found in the checkout (docs/decisions/0012-wheel.md).
"""

import hashlib
import shutil
import zipfile
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

HERE = Path(__file__).resolve().parent
ROOMS = ("agent", "tools", "index", "web")
HOUSE = "moss_agent_rooms"
"""As in moss_agent.py."""

VOICES = HERE / "build" / "weights"
"""Where `make wheel` puts Resemblyzer's wheel; the rooms then get its weights, without its code."""
VOICES_SHA256 = "39373b86598fa3da9fcddee6142382efe09777e8d37dc9c0561f41f0070f134e"
"""As in index/diarization/voice_embeddings.py."""


class BuildRooms(build_py):
    """Copies the packages as always, and then puts the rooms together in one folder."""

    def run(self) -> None:
        """Build what a wheel holds; nothing is moved for an editable install."""
        if self.editable_mode:
            super().run()
            return
        built = Path(self.build_lib)
        # Setuptools never removes from it what was deleted from the sources.
        shutil.rmtree(built, ignore_errors=True)
        super().run()
        house = built / HOUSE
        house.mkdir()
        for room in ROOMS:
            (built / room).rename(house / room)
        for wheel in VOICES.glob("[Rr]esemblyzer-0.1.4-*.whl"):
            _unpack_voices(wheel, house / "resemblyzer")


def _unpack_voices(wheel: Path, folder: Path) -> None:
    """Resemblyzer's weights and its licence, where the program looks for that package's files."""
    with zipfile.ZipFile(wheel) as archive:
        weights = archive.read("resemblyzer/pretrained.pt")
        licence = archive.read("Resemblyzer-0.1.4.dist-info/LICENSE")
    if hashlib.sha256(weights).hexdigest() != VOICES_SHA256:
        raise SystemExit(f"The weights in {wheel} are not the published ones; delete it and build again.")
    folder.mkdir()
    (folder / "pretrained.pt").write_bytes(weights)
    (folder / "LICENSE").write_bytes(licence)


setup(cmdclass={"build_py": BuildRooms})
