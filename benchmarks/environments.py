"""The peers, each installed once in an environment of its own.

    python benchmarks/environments.py [--envs FOLDER] [PEER ...]

installs what is missing and prints the interpreter of each peer. They are no dependencies of
Tongwen and do not fit into one environment. The exact packages are in peers/requirements; torch is
the build that pip finds for this machine (`2.13.0+cpu` where the index has it).

LLaMA-Factory imports torchaudio, whose builds fit one build of torch each; nothing of it is used
for text, so an empty package stands in for it. torchvision is left out.
"""

from __future__ import annotations

import argparse
import ctypes.util
import shutil
import subprocess
import sys
import venv
from pathlib import Path
from typing import Final

REQUIREMENTS: Final = Path(__file__).parent / "peers" / "requirements"
ENVIRONMENTS: Final = Path.home() / ".cache" / "tongwen" / "peers"
TORCH: Final = "torch==2.13.0"
STAND_INS: Final = {"llamafactory": ("torchaudio",)}
JEMALLOC: Final = "libjemalloc2"
"""Debian's package."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    names = sorted(path.stem for path in REQUIREMENTS.glob("*.txt"))
    parser.add_argument("peers", nargs="*", default=names, metavar="PEER")
    parser.add_argument("--envs", type=Path, default=ENVIRONMENTS)
    arguments = parser.parse_args()
    for peer in arguments.peers:
        print(interpreter(peer, arguments.envs))


def interpreter(peer: str, environments: Path) -> Path:
    """The interpreter that has a peer, which is installed if it is not there yet.

    Where that fails, it is said, and whatever is started with the interpreter will fail.
    """
    folder = environments / peer
    python = folder / "bin" / "python"
    installed = folder / "installed.txt"
    wanted = (REQUIREMENTS / f"{peer}.txt").read_text(encoding="utf-8")
    if installed.is_file() and installed.read_text(encoding="utf-8") == wanted:
        return python
    print(f"installing {peer} into {folder}", file=sys.stderr)
    venv.create(folder, clear=True, with_pip=True)
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    try:
        _run([*pip, TORCH])
        # Resolved anew, the peers would bring their own builds of torch.
        _run([*pip, "--no-deps", "--requirement", str(REQUIREMENTS / f"{peer}.txt")])
    except subprocess.CalledProcessError as error:
        print(f"{peer} cannot be installed: {error}", file=sys.stderr)
        return python
    [packages] = folder.glob("lib/python*/site-packages")
    for name in STAND_INS.get(peer, ()):
        (packages / name).mkdir()
        (packages / name / "__init__.py").touch()
    installed.write_text(wanted, encoding="utf-8")
    return python


def jemalloc(environments: Path) -> Path | None:
    """The jemalloc library: the system's, or Debian's package unpacked; None without either."""
    if found := ctypes.util.find_library("jemalloc"):
        return Path(found)
    folder = environments / "jemalloc"
    if shutil.which("apt-get") and not list(folder.rglob("libjemalloc.so.2")):
        folder.mkdir(parents=True, exist_ok=True)
        try:
            _run(["apt-get", "download", JEMALLOC], folder)
            [package] = folder.glob("*.deb")
            _run(["dpkg-deb", "--extract", str(package), str(folder)])
        except subprocess.CalledProcessError as error:
            print(f"jemalloc cannot be had: {error}", file=sys.stderr)
    return next(folder.rglob("libjemalloc.so.2"), None)


def _run(command: list[str], folder: Path | None = None) -> None:
    subprocess.run(command, check=True, cwd=folder, stdout=sys.stderr)


if __name__ == "__main__":
    main()
