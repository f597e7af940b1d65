"""Builds and runs the image without a container engine: the steps of the Dockerfile in fresh Debian roots.

`python -m tests.install.chroot_image FOLDER` builds it in FOLDER and leaves it there. It takes root,
debootstrap, 8 GB and some minutes. Namespaces of the kernel (`unshare`) keep mounts, processes and networks
apart, as an engine does; what an engine does beyond that (layers, users mapped, seccomp) is not tried here.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from tests.support.container_files import Stage, assignments, expanded, read_dockerfile, sent

SUITES = {"debian:bookworm-slim": "bookworm"}
"""Base images, as what debootstrap calls them."""

ENGINE_ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root"}


@dataclass
class Root:
    """A stage: its file system, and what its instructions set for a container."""

    folder: Path
    environment: dict[str, str] = field(default_factory=lambda: dict(ENGINE_ENVIRONMENT))
    workdir: str = "/"
    entrypoint: list[str] = field(default_factory=list)
    command: list[str] = field(default_factory=list)
    health: list[str] = field(default_factory=list)
    volumes: list[str] = field(default_factory=list)


def pip_settings() -> dict[str, str]:
    """This machine's own settings of pip, as build arguments: ``PIP_FIND_LINKS`` and the like."""
    listed = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=True
    ).stdout
    found = {}
    for line in listed.splitlines():
        name, _, value = line.partition("=")
        # An index that is a folder is left out: its links lead to further folders.
        words = [word for word in shlex.split(value)[0].split() if not word.startswith("file:")]
        if words:
            found["PIP_" + name.split(".")[-1].upper().replace("-", "_")] = " ".join(words)
    return found


def build(dockerfile: Path, context: Path, work: Path, arguments: Mapping[str, str]) -> Root:
    """Carry out a Dockerfile.

    Args:
        dockerfile: The file.
        context: Folder that is sent, less what .dockerignore names.
        work: Empty folder for the roots; the last stage's is what comes back.
        arguments: Build arguments; each stage sees those that it declares. Paths of this machine in them are
            mounted while a step runs.

    Raises:
        subprocess.CalledProcessError: A step failed.
        ValueError: The Dockerfile uses something that is not known here.
    """
    sent_to = work / "context"
    for path in sent(context):
        (sent_to / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(context / path, sent_to / path)
    roots: dict[str, Root] = {}
    root: Root | None = None
    for number, stage in enumerate(read_dockerfile(dockerfile)):
        root = Root(_base(stage.base, work, work / f"stage{number}"))
        _carry_out(stage, root, sent_to, roots, arguments)
        roots[stage.name or str(number)] = root
    assert root is not None
    return root


def _base(image: str, work: Path, folder: Path) -> Path:
    fresh = work / "base"
    if not fresh.exists():
        _call(["debootstrap", "--variant=minbase", SUITES[image], str(fresh)])
    _call(["cp", "-a", "--reflink=auto", str(fresh), str(folder)])
    return folder


def _carry_out(
    stage: Stage, root: Root, context: Path, roots: Mapping[str, Root], arguments: Mapping[str, str]
) -> None:
    declared: dict[str, str] = {}
    for step in stage.steps:
        print(f"{stage.name or 'image'}: {step.instruction} {step.text}"[:160], flush=True)
        began = time.monotonic()
        match step.instruction:
            case "ARG":
                for name, default in assignments(step.text).items():
                    if value := arguments.get(name, default):
                        declared[name] = value
            case "ENV":
                root.environment |= assignments(expanded(step.text, {**declared, **root.environment}))
            case "WORKDIR":
                root.workdir = str(PurePosixPath(root.workdir, step.text))
                _inside(root, root.workdir).mkdir(parents=True, exist_ok=True)
            case "RUN":
                _run(root, step.text, declared)
                print(f"  {time.monotonic() - began:.0f} s", flush=True)
            case "COPY":
                _copy(root, step.text, context, roots)
            case "VOLUME":
                root.volumes.append(step.text)
            case "EXPOSE":
                pass
            case "HEALTHCHECK":
                root.health = json.loads(step.text.partition("CMD")[2])
            case "ENTRYPOINT":
                root.entrypoint = step.listed()
            case "CMD":
                root.command = step.listed()
            case other:
                raise ValueError(f"{other} is not carried out here")


def _run(root: Root, command: str, declared: Mapping[str, str]) -> None:
    """One RUN: in the root, with its environment, and the network of this machine."""
    mounts = [
        "mount -t proc proc proc",
        "mount --rbind /dev dev",
        "mount -t tmpfs tmpfs run",
        "touch etc/resolv.conf etc/hosts",
        "mount --bind /etc/resolv.conf etc/resolv.conf",
        "mount --bind /etc/hosts etc/hosts",
    ]
    seen = {}
    for name, value in declared.items():
        words = []
        for word in value.split():
            if word.startswith("/") and Path(word).exists():
                place = f"/run/arguments/{len(mounts)}"
                make = "mkdir -p" if Path(word).is_dir() else "mkdir -p run/arguments && touch"
                mounts.append(f"{make} .{place} && mount --bind {shlex.quote(word)} .{place}")
                word = place
            words.append(word)
        seen[name] = " ".join(words)
    _in_namespaces(root, mounts, ["/bin/sh", "-c", command], {**root.environment, **seen}, ["--pid"])


def _copy(root: Root, text: str, context: Path, roots: Mapping[str, Root]) -> None:
    words = shlex.split(text)
    origin = context
    if words[0].startswith("--from="):
        origin = roots[words.pop(0).removeprefix("--from=")].folder
    if words[0].startswith("--"):
        raise ValueError(f"COPY {words[0]} is not known here")
    *sources, target = words
    to = _inside(root, str(PurePosixPath(root.workdir, target)))
    for source in sources:
        path = origin / source.lstrip("/")
        if path.is_dir():
            to.mkdir(parents=True, exist_ok=True)
            _call(["cp", "-a", "--reflink=auto", f"{path}/.", str(to)])
        else:
            into = to if target.endswith("/") or len(sources) > 1 else to.parent
            into.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, into / path.name if into == to else to)


def _inside(root: Root, path: str) -> Path:
    return root.folder / path.lstrip("/")


def _in_namespaces(
    root: Root,
    mounts: Sequence[str],
    command: Sequence[str],
    environment: Mapping[str, str],
    spaces: Sequence[str],
) -> None:
    _call(_unshared(root, mounts, command, environment, spaces))


def _unshared(
    root: Root,
    mounts: Sequence[str],
    command: Sequence[str],
    environment: Mapping[str, str],
    spaces: Sequence[str],
) -> list[str]:
    """A command line that runs another in a root; its mounts end with it."""
    given = [f"{name}={value}" for name, value in environment.items()]
    inner = ["chroot", ".", "/usr/bin/env", "-i", "-C", root.workdir, *given, *command]
    script = "\n".join(
        ["set -e", f"cd {shlex.quote(str(root.folder))}", *mounts, f"exec {shlex.join(inner)}"]
    )
    return ["unshare", "--mount", *spaces, "--fork", "--kill-child", "sh", "-c", script]


def _call(command: Sequence[str]) -> None:
    subprocess.run(command, check=True)


class Container:
    """A running image, as a service of a compose file describes it, with no network but its own loopback.

    Args:
        root: The image.
        service: The service; see ``tests.support.container_files.read_service``.
        volume: Folder that is mounted where the image declares its volume.
    """

    def __init__(self, root: Root, service: Mapping[str, Any], volume: Path) -> None:
        self.root = root
        self._environment = {
            **root.environment, **{name: str(value) for name, value in service["environment"].items()},
        }  # fmt: skip
        (place,) = root.volumes
        mounts = [
            "ip link set lo up",
            "mount --bind . .",
            f"cd {shlex.quote(str(root.folder))}",
            "mount -t proc proc proc",
            "mount --rbind /dev dev",
            *(f"mount -t tmpfs tmpfs .{folder}" for folder in service.get("tmpfs", [])),
            f"mount --bind {shlex.quote(str(volume))} .{place}",
        ]
        if service.get("read_only"):
            mounts.append("mount -o remount,bind,ro .")
        assert service["cap_drop"] == ["ALL"]
        kept = ",".join(f"+{name.lower()}" for name in service["cap_add"])
        bounded = ["setpriv", "--bounding-set", f"-all,{kept}", "--inh-caps=-all"]
        if "no-new-privileges:true" in service["security_opt"]:
            bounded.append("--no-new-privs")
        self._bounded = [*bounded, "--"]
        self._process = subprocess.Popen(
            _unshared(
                root, mounts, [*self._bounded, *root.entrypoint, *root.command], self._environment,
                ["--pid", "--net"],
            ),
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip

    @property
    def pid(self) -> int:
        """The first process inside, as this machine counts."""
        return int(
            Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split()[0]
        )

    def execute(self, *command: str, timeout: float = 300) -> subprocess.CompletedProcess[str]:
        """Run a command in it, as `docker exec` does, and return what it printed."""
        given = [f"{name}={value}" for name, value in self._environment.items()]
        inner = ["/usr/bin/env", "-i", *given, *self._bounded, *command]
        entered = [
            "nsenter",
            "--target",
            str(self.pid),
            "--mount",
            "--net",
            "--pid",
            f"--root={self.root.folder}",
        ]
        return subprocess.run([*entered, *inner], capture_output=True, text=True, timeout=timeout)

    def is_healthy(self) -> bool:
        """What the image's own health check says."""
        return self.execute(*self.root.health).returncode == 0

    def wait_until_healthy(self, seconds: float) -> None:
        """Wait for the first good answer of the health check.

        Raises:
            TimeoutError: None came; says what the container printed if it has ended.
        """
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if self._process.poll() is not None:
                raise TimeoutError(f"It ended: {self._process.communicate()[0]}")
            if self.is_healthy():
                return
            time.sleep(1)
        raise TimeoutError(f"Not healthy after {seconds:.0f} s.")

    def stop(self, grace: float) -> int:
        """End it like `docker stop`: SIGTERM, and SIGKILL after ``grace`` seconds; returns its exit code."""
        if self._process.poll() is None:
            os.kill(self.pid, 15)
            try:
                self._process.wait(grace)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        return self._process.returncode


if __name__ == "__main__":
    home = Path(__file__).resolve().parents[2]
    made = build(home / "Dockerfile", home, Path(sys.argv[1]).resolve(), pip_settings())
    print(made.folder)
