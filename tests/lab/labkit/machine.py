"""The emulated machine: QEMU without any acceleration, with a processor that has SVM, so that KVM works inside."""

import ctypes
import os
import signal
import socket
import subprocess

from tools.shared.debian import ToolError

# The machine's virtio-serial ports, in the order of their numbers, which start at 1.
PORTS = ["control", "stdin", "stdout", "stderr"]

# mitigations=off and the silenced watchdogs: emulation is slow, and nothing in the lab is worth protecting from itself.
KERNEL_COMMAND_LINE = (
    "console=ttyS0 quiet panic=-1 mitigations=off tsc=reliable no_timer_check nowatchdog "
    "rcupdate.rcu_cpu_stall_suppress=1 random.trust_cpu=on"
)
# Without xsave and what needs it: the emulator does not tell KVM of a guest's xsetbv, so KVM would load a wrong XCR0 and guests would
# lose registers (Linux notices: "XSAVE consistency problem").
CPU = "EPYC,+svm,+npt,-xsave,-xsavec,-xsaveopt,-xgetbv1,-avx,-avx2,-fma,-f16c"
PR_SET_PDEATHSIG = 1


class Machine:
    """A running emulated machine. `sockets` are our ends of its ports, by name; `log` that of its kernel console."""

    def __init__(self, emulator, vmlinux, initramfs, size, out_folder):
        ours, theirs = zip(*(socket.socketpair() for _ in [*PORTS, "log"]))
        self.sockets = dict(zip([*PORTS, "log"], ours))
        initrd = os.memfd_create("initramfs")
        with open(initrd, "wb", closefd=False) as file:
            file.write(initramfs)
        command = [
            *emulator, "-M", "q35,usb=off,vmport=off", "-accel", "tcg,thread=multi",
            "-cpu", CPU,
            "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
            *size.options(),
            "-kernel", str(vmlinux), "-initrd", f"/dev/fd/{initrd}", "-append", KERNEL_COMMAND_LINE,
            *share("host", "/", readonly=True),
            *(share("out", out_folder, readonly=False) if out_folder else []),
            *console(theirs[-1]),
            *serial_ports(theirs[:-1]),
        ]
        inherited = [initrd, *(end.fileno() for end in theirs)]
        libc = ctypes.CDLL(None)
        try:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                pass_fds=inherited, start_new_session=True,
                # However this process ends, the machine ends with it.
                preexec_fn=lambda: libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL),
            )
        except FileNotFoundError as error:
            raise ToolError(f"{emulator[0]} is missing: tools/setup installs it") from error
        os.close(initrd)
        for end in theirs:
            end.close()

    def wait(self):
        """Waits for the machine's end and returns what QEMU itself had to say."""
        said, _ = self.process.communicate()
        lines = said.decode(errors="replace").splitlines()
        # Once per CPU: EPYC names features that emulation lacks.
        return "\n".join(line for line in lines if "TCG doesn't support requested feature" not in line)

    def kill(self):
        """Ends the machine at once; it has nothing to save."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()


class Size:
    """How large the machine is: CPUs, memory in MiB and NUMA nodes."""

    def __init__(self, cpus, memory, nodes):
        if nodes > cpus or cpus % nodes:
            raise ToolError(f"LAB_CPUS={cpus} cannot be divided among LAB_NODES={nodes}: choose a multiple")
        self.cpus, self.memory, self.nodes = cpus, memory, nodes

    def options(self):
        """Sockets are nodes; cores have two threads where the number of CPUs allows."""
        if self.nodes == 1:
            return ["-smp", str(self.cpus), "-m", str(self.memory)]
        each = self.cpus // self.nodes
        threads = 2 if each % 2 == 0 else 1
        per_node = self.memory // self.nodes
        options = [
            "-smp", f"{self.cpus},sockets={self.nodes},cores={each // threads},threads={threads}",
            "-m", str(per_node * self.nodes),
        ]
        for node in range(self.nodes):
            first = node * each
            options += [
                "-object", f"memory-backend-ram,id=memory{node},size={per_node}M",
                "-numa", f"node,nodeid={node},memdev=memory{node},cpus={first}-{first + each - 1}",
            ]
        return options


def share(tag, folder, readonly):
    """A folder of this machine, shared over 9p under the name `tag`."""
    if "," in str(folder):
        raise ToolError(f"{folder}: a folder with a comma in its name cannot be shared with the lab")
    options = f"local,path={folder},mount_tag={tag},security_model=none,multidevs=remap"
    return ["-virtfs", options + (",readonly=on" if readonly else "")]


def console(end):
    """The kernel's console: the first serial port."""
    return ["-chardev", f"socket,id=log,fd={end.fileno()}", "-serial", "chardev:log"]


def serial_ports(ends):
    """The virtio-serial ports of the command's streams and of the session's control."""
    options = ["-device", "virtio-serial-pci"]
    for number, (name, end) in enumerate(zip(PORTS, ends), start=1):
        options += [
            "-chardev", f"socket,id={name},fd={end.fileno()}",
            "-device", f"virtserialport,nr={number},chardev={name},name=lab.{name}",
        ]
    return options
