"""The emulator that the lab runs in: this machine's QEMU, or a newer one where that has a known fault.

QEMU before 8.1 can translate a page of code while another of its processors changes it, and keep the stale translation. A kernel
that patches itself, which Linux does at every start, then now and then dies of an `int3` that it has long removed: the lab's own or a
guest's, most easily on a busy machine. Debian 12 has QEMU 7.2; its backports have a newer one that needs no other libraries. It is
unpacked into the cache, not installed.
"""

import pathlib
import re
import subprocess
import tempfile

from tools.shared import cache, debian
from tools.shared.debian import ToolError

PROGRAM = "qemu-system-x86_64"
# "accel/tcg: Always lock pages before translation" is in this version.
SOUND_VERSION = (8, 1)
BACKPORTED_PACKAGES = ["qemu-system-x86", "qemu-system-data"]
# Where the installed packages of the same names have the firmware that these do not bring.
FIRMWARE = "/usr/share/seabios"


def prepare(root):
    """The emulator's command and its first arguments; downloads it to `root` if need be."""
    installed = version([PROGRAM])
    if installed is None:
        raise ToolError(f"{PROGRAM} is missing: tools/setup installs it")
    if installed >= SOUND_VERSION:
        return [PROGRAM]
    try:
        return backported(root)
    except ToolError as error:
        shown = ".".join(map(str, installed))
        cache.say("lab", f"QEMU {shown} may lose a guest on a busy machine, and a newer one could not be had ({error}); going on with it")
        return [PROGRAM]


def backported(root):
    """The command of the release's backported QEMU."""
    suite = f"{debian.release()}-backports"
    folder = cache.make_once(root / f"qemu-{suite}", lambda draft: unpack(suite, draft))
    tree = folder / "tree/usr"
    command = [str(tree / "bin" / PROGRAM), "-L", str(tree / "share/qemu"), "-L", FIRMWARE]
    found = version(command)
    if found is None or found < SOUND_VERSION:
        raise ToolError(f"{command[0]} does not run or is too old: remove {folder}, then try again")
    return command


def unpack(suite, draft):
    """Downloads the packages from `suite` and unpacks them to `draft`/tree."""
    cache.say("lab", f"downloading QEMU from {suite} (about 12 MB, once)")
    with tempfile.TemporaryDirectory(prefix=".lists-", dir=draft.parent) as scratch:
        debian.unpack_from_suite(suite, BACKPORTED_PACKAGES, pathlib.Path(scratch), draft / "tree")


def version(command):
    """The version as numbers, or None if the command does not run."""
    try:
        said = subprocess.run([*command, "--version"], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return None
    found = re.search(r"version (\d+)\.(\d+)", said)
    return (int(found[1]), int(found[2])) if found else None
