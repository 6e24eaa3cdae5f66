"""The lab host's kernel: Debian's stock 6.12 package, unpacked but not installed.

The non-cloud flavour, because the host's root file system comes over 9p. What is kept of it is what a start needs: the
kernel as an ELF file, so that no emulated instruction is spent on decompression, and the wanted modules, decompressed. The kernel's
original file and the modules that it needs as an enclave's kernel are kept too: a scenario boots it as one.
"""

import hashlib
import json
import lzma
import pathlib
import struct
import tempfile

from tools.shared import cache, debian
from tools.shared.debian import ToolError

# The package that always depends on the newest 6.12 kernel.
META_PACKAGE = "linux-image-6.12-amd64"

# What is inserted, by the folder it is kept in; what these depend on is found with depmod.
WANTED_MODULES = {
    "modules": [
        "9p", "9pnet_virtio", "overlay",  # the root file system
        "kvm-amd",  # what the lab is for
        "vhost_vsock", "vsock_loopback",  # sockets to and between virtual machines
    ],
    # As an enclave's kernel.
    "guest-modules": ["virtio_mmio", "vmw_vsock_virtio_transport", "nsm"],
}


def prepare(root):
    """Returns the folder of the host's kernel, downloading and unpacking the package if it is not there yet."""
    content = hashlib.sha256(json.dumps(WANTED_MODULES).encode()).hexdigest()[:8]
    default = root / "default"
    if default.exists() and default.resolve().name.endswith(content):
        return default.resolve()
    package = debian.newest(META_PACKAGE, "linux-image-6.12")
    folder = cache.make_once(root / f"{package}-{content}", lambda draft: unpack(package, draft))
    cache.point_to(default, folder.name)
    return folder


def unpack(package, draft):
    """Downloads `package` and keeps vmlinux and the wanted modules, in loading order, in the folder `draft`."""
    cache.say("lab", f"downloading {package} (about 100 MB, once)")
    with tempfile.TemporaryDirectory(prefix=".unpack-", dir=draft.parent) as scratch:
        tree = debian.unpack([package], pathlib.Path(scratch))
        (bzimage,) = (tree / "boot").glob("vmlinuz-*")
        (draft / "bzImage").write_bytes(bzimage.read_bytes())
        (draft / "vmlinux").write_bytes(extract_vmlinux(bzimage.read_bytes()))
        release = bzimage.name.removeprefix("vmlinuz-")
        debian.output_of(["depmod", "-b", tree, release])
        for name, wanted in WANTED_MODULES.items():
            keep_modules(tree / "lib/modules" / release, wanted, draft / name)


def extract_vmlinux(bzimage):
    """The ELF kernel inside a zstd-compressed bzImage (Documentation/arch/x86/boot.rst: payload_offset, payload_length)."""
    setup_sectors = bzimage[0x1F1] or 4
    offset, length = struct.unpack_from("<II", bzimage, 0x248)
    start = (setup_sectors + 1) * 512 + offset
    # The last four bytes are the decompressed size, for the kernel's own decompressor.
    return debian.output_of(["zstd", "-dc"], input=bzimage[start : start + length - 4])


def keep_modules(base, wanted_modules, kept):
    """Copies the wanted modules and what they depend on, decompressed; `kept`/order lists them in loading order."""
    dependencies = {}
    for line in (base / "modules.dep").read_text().splitlines():
        path, _, needs = line.partition(":")
        dependencies[path] = needs.split()
    by_name = {module_name(path): path for path in dependencies}
    order = []
    for wanted in wanted_modules:
        path = by_name.get(wanted.replace("-", "_"))
        if path is None:
            raise ToolError(f"the kernel package has no module {wanted}")
        # modules.dep lists the nearest dependency first.
        order += [needed for needed in [*reversed(dependencies[path]), path] if needed not in order]
    kept.mkdir()
    for path in order:
        (kept / f"{module_name(path)}.ko").write_bytes(lzma.decompress((base / path).read_bytes()))
    (kept / "order").write_text("".join(f"{module_name(path)}.ko\n" for path in order))


def module_name(path):
    """kernel/fs/9p/9p.ko.xz is the module 9p."""
    return pathlib.PurePath(path).name.split(".ko")[0].replace("-", "_")
