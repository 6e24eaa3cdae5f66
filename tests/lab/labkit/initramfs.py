"""The lab host's initial file system: a cpio archive (format "newc", Documentation/driver-api/early-userspace/buffer-format.rst)."""

import shutil
import stat

from tools.shared.debian import ToolError


class Archive:
    """A cpio archive being written."""

    def __init__(self):
        self.parts = []
        self.inode = 0

    def add(self, name, mode, content=b"", device=(0, 0)):
        """Adds one file, folder or device node."""
        self.inode += 1
        path = name.encode() + b"\0"
        fields = [self.inode, mode, 0, 0, 1, 0, len(content), 0, 0, *device, len(path), 0]
        header = b"070701" + b"".join(b"%08X" % field for field in fields) + path
        self.parts += [header, padding(header), content, padding(content)]

    def folder(self, name):
        self.add(name, stat.S_IFDIR | 0o755)

    def program(self, name, content):
        self.add(name, stat.S_IFREG | 0o755, content)

    def finish(self):
        self.add("TRAILER!!!", 0)
        return b"".join(self.parts)


def padding(data):
    """Every part of the archive ends on a multiple of four bytes."""
    return b"\0" * (-len(data) % 4)


def host_archive(kernel, scripts):
    """The part that all sessions share: busybox, modules and our scripts. Assembling it takes no noticeable time."""
    busybox = shutil.which("busybox")
    if busybox is None:
        raise ToolError("busybox is missing: tools/setup installs it (package busybox-static)")
    archive = Archive()
    for name in ["bin", "dev", "modules", "newroot", "proc"]:
        archive.folder(name)
    archive.add("dev/console", stat.S_IFCHR | 0o600, device=(5, 1))
    own = [(name, f"{scripts}/{name}") for name in ("init", "session", "keep-kvm")]
    for name, path in [("bin/busybox", busybox), *own]:
        with open(path, "rb") as file:
            archive.program(name, file.read())
    for module in sorted((kernel / "modules").iterdir()):
        archive.program(f"modules/{module.name}", module.read_bytes())
    return archive.finish()


def job_archive(job_script):
    """The part of one session: the command to run."""
    archive = Archive()
    archive.program("job", job_script)
    return archive.finish()
