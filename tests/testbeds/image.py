"""Container images as sites have them: Debian with Python and torch, without mlnb; and the same without torch.

``python tests/testbeds/image.py build`` makes both, as folders for Charliecloud and in a store of its own for podman,
under ``MLNB_IMAGE_CACHE`` (/var/tmp/mlnb-images), and does nothing if they are there. torch is copied from the Python
that runs this, so nothing is downloaded but Debian's base packages, from the mirror that apt is configured for.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import time
from importlib import metadata
from pathlib import Path

if __package__:
    from tests.testbeds.machine import CANNOT, fail, install, run
else:
    from machine import CANNOT, fail, install, run

PACKAGES = ("debootstrap", "charliecloud-runtime", "podman", "runc", "catatonit", "uidmap")
PROGRAMS = ("/usr/sbin/debootstrap", "/usr/bin/ch-run", "/usr/bin/podman", "/usr/sbin/runc", "/usr/bin/catatonit")
TORCH, BARE = "mlnb-test/torch:latest", "mlnb-test/bare:latest"
VERSION = 1
# torch and what it imports
DISTRIBUTIONS = (
    *("torch", "filelock", "fsspec", "jinja2", "markupsafe", "mpmath"),
    *("networkx", "numpy", "setuptools", "sympy", "typing_extensions"),
)
# a quarter of torch that only building extensions and testing torch need
LEFT_OUT = ("torch/include/", "torch/test/", "torch/bin/test_", "torch/bin/protoc")

# cgroup v1 and a machine without systemd: what Debian's podman would choose does not run there
CONTAINERS = """[containers]
default_ulimits = ["nofile=20000:20000", "nproc=4096:4096"]
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "none"
"""
STORAGE = """[storage]
driver = "overlay"
graphroot = "{cache}/store"
runroot = "{cache}/run"
"""


def cache() -> Path:
    return Path(os.environ.get("MLNB_IMAGE_CACHE", "/var/tmp/mlnb-images"))


def folder(torch: bool = True) -> Path:
    """The root file system, which Charliecloud takes as it is."""
    return cache() / ("torch" if torch else "bare")


def podman_environment() -> dict[str, str]:
    """Variables with which podman finds these images, and configuration that works on this machine."""
    return {
        "CONTAINERS_CONF": str(cache() / "containers.conf"),
        "CONTAINERS_STORAGE_CONF": str(cache() / "storage.conf"),
    }


def recipe() -> dict[str, object]:
    """What the images are made from; others are made anew."""
    return {
        "version": VERSION,
        "python": sysconfig.get_python_version(),
        "torch": metadata.version("torch"),
    }


def built() -> bool:
    """Whether the images are there, made from what is here now."""
    try:
        return json.loads((cache() / "made.json").read_text()) == recipe()
    except (OSError, ValueError):
        return False


def why_not() -> str | None:
    """Why this machine can't have them; None if it can."""
    if os.geteuid() != 0:
        return "images are built and podman is run as root here"
    if not Path("/etc/debian_version").exists():
        return "images are made from Debian's packages, on Debian"
    return None


def build() -> None:
    """Make what is missing."""
    if built():
        return
    if (reason := why_not()) is not None:
        fail(reason, CANNOT)
    install(PACKAGES, PROGRAMS)
    remove()
    cache().mkdir(parents=True)
    (cache() / "containers.conf").write_text(CONTAINERS)
    (cache() / "storage.conf").write_text(STORAGE.format(cache=cache()))
    for what, make in (("Debian", debian), ("torch", with_torch), ("podman", imported)):
        began = time.monotonic()
        make()
        print(f"{what}: {time.monotonic() - began:.0f} s", file=sys.stderr)
    (cache() / "made.json").write_text(json.dumps(recipe()))


def debian() -> None:
    release = os.environ.get("MLNB_IMAGE_RELEASE") or _release()
    index = ["apt-get", "indextargets", "--format", "$(REPO_URI) $(RELEASE)", "Created-By: Packages"]
    mirrors = [line.split() for line in run(*index).splitlines()]
    mirror = next((uri for uri, name in mirrors if name == release), None)
    if mirror is None:
        fail(f"apt knows no mirror of {release}", CANNOT)
    packages = "--include=python3,libstdc++6"
    run("debootstrap", "--variant=minbase", packages, release, folder(torch=False), mirror, patience=600)
    for part in ("var/cache/apt/archives", "var/lib/apt/lists", "usr/share/doc", "usr/share/locale"):
        shutil.rmtree(folder(torch=False) / part, ignore_errors=True)
    ask = "import sysconfig; print(sysconfig.get_python_version())"
    theirs = run("chroot", folder(torch=False), "python3", "-c", ask).strip()
    if theirs != sysconfig.get_python_version():
        fail(f"{release} has Python {theirs}; torch here is for {sysconfig.get_python_version()}", CANNOT)


def _release() -> str:
    lines = Path("/etc/os-release").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if "=" in line)["VERSION_CODENAME"].strip('"')


def with_torch() -> None:
    run("cp", "--archive", folder(torch=False), folder(), patience=300)
    packages = folder() / f"usr/local/lib/python{sysconfig.get_python_version()}/dist-packages"
    for name in DISTRIBUTIONS:
        distribution = metadata.distribution(name)
        for file in distribution.files or ():
            if ".." in file.parts or str(file).startswith(LEFT_OUT):
                continue
            source, target = Path(str(distribution.locate_file(file))), packages / file
            if source.is_file():
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(source, target)


def imported() -> None:
    for name, root in ((TORCH, folder()), (BARE, folder(torch=False))):
        tar = subprocess.Popen(["tar", "-C", str(root), "-c", "."], stdout=subprocess.PIPE)
        command = ["podman", "import", "--quiet", "-", name]
        done = subprocess.run(
            command, stdin=tar.stdout, env={**os.environ, **podman_environment()}, capture_output=True
        )
        if tar.wait() or done.returncode:
            fail(f"podman import failed: {done.stderr.decode()[-500:]}")


def remove() -> None:
    """Take away what a build has left."""
    if not cache().exists():
        return
    if shutil.which("podman") and (cache() / "storage.conf").exists():
        run("podman", "rm", "--all", "--force", env=podman_environment(), patience=120)
    mounted = cache() / "store" / "overlay"  # podman leaves it so
    if mounted.is_mount():
        run("umount", mounted)
    shutil.rmtree(cache())


def main() -> None:
    parser = argparse.ArgumentParser(description="Container images for tests.")
    parser.add_argument("what", choices=("build", "remove"))
    {"build": build, "remove": remove}[parser.parse_args().what]()


if __name__ == "__main__":
    main()
