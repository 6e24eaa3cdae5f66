"""The lab host's kernel: Debian's stock 6.12 package, unpacked but not installed.

The non-cloud flavour, because the host's root file system comes over 9p. What is kept of it is what a start needs: the
kernel as an ELF file, so that no emulated instruction is spent on decompression, and the wanted modules, decompressed.
"""

import lzma
import pathlib
import struct
import tempfile

from tools.shared import cache, debian
from tools.shared.debian import ToolError

# The package that always depends on the newest 6.12 kernel.
META_PACKAGE = "linux-image-6.12-amd64"

# Modules the lab host needs; what these depend on is found with depmod.
WANTED_MODULES = [
    "9p", "9pnet_virtio", "overlay",  # the root file system
    "kvm-amd",  # what the lab is for
    "vhost_vsock", "vsock_loopback",  # sockets to and between virtual machines
]


def prepare(root):
    """Returns the folder of the host's kernel, downloading and unpacking the package if it is not there yet."""
    default = root / "default"
    if (default / "vmlinux").exists():
        return default.resolve()
    package = debian.newest(META_PACKAGE, "linux-image-6.12")
    folder = cache.make_once(root / package, lambda draft: unpack(package, draft))
    cache.point_to(default, folder.name)
    return folder


def unpack(package, draft):
    """Downloads `package` and keeps vmlinux and the wanted modules, in loading order, in the folder `draft`."""
    cache.say("lab", f"downloading {package} (about 100 MB, once)")
    with tempfile.TemporaryDirectory(prefix=".unpack-", dir=draft.parent) as scratch:
        tree = debian.unpack(package, pathlib.Path(scratch))
        (bzimage,) = (tree / "boot").glob("vmlinuz-*")
        (draft / "vmlinux").write_bytes(extract_vmlinux(bzimage.read_bytes()))
        keep_modules(tree, bzimage.name.removeprefix("vmlinuz-"), draft)


def extract_vmlinux(bzimage):
    """The ELF kernel inside a zstd-compressed bzImage (Documentation/arch/x86/boot.rst: payload_offset, payload_length)."""
    setup_sectors = bzimage[0x1F1] or 4
    offset, length = struct.unpack_from("<II", bzimage, 0x248)
    start = (setup_sectors + 1) * 512 + offset
    # The last four bytes are the decompressed size, for the kernel's own decompressor.
    return debian.output_of(["zstd", "-dc"], input=bzimage[start : start + length - 4])


def keep_modules(tree, release, draft):
    """Copies the wanted modules and what they depend on, decompressed; `modules/order` lists them in loading order."""
    debian.output_of(["depmod", "-b", tree, release])
    base = tree / "lib/modules" / release
    dependencies = {}
    for line in (base / "modules.dep").read_text().splitlines():
        path, _, needs = line.partition(":")
        dependencies[path] = needs.split()
    by_name = {module_name(path): path for path in dependencies}
    order = []
    for wanted in WANTED_MODULES:
        path = by_name.get(wanted.replace("-", "_"))
        if path is None:
            raise ToolError(f"the kernel package has no module {wanted}")
        # modules.dep lists the nearest dependency first.
        order += [needed for needed in [*reversed(dependencies[path]), path] if needed not in order]
    (draft / "modules").mkdir()
    for path in order:
        (draft / "modules" / f"{module_name(path)}.ko").write_bytes(lzma.decompress((base / path).read_bytes()))
    (draft / "modules/order").write_text("".join(f"{module_name(path)}.ko\n" for path in order))


def module_name(path):
    """kernel/fs/9p/9p.ko.xz is the module 9p."""
    return pathlib.PurePath(path).name.split(".ko")[0].replace("-", "_")
