//! The system calls that each kind of thread may make, and why. Any other ends its process: see [`SystemCalls::enforce`].
//!
//! One function for each kind of thread. A thread's list is narrowed by that of its process, from which it inherits.

use containment::{Argument, SystemCalls};
use kvm_bindings::{
    KVMIO, kvm_cpuid2, kvm_enable_cap, kvm_fpu, kvm_ioeventfd, kvm_irq_routing, kvm_irqfd, kvm_msr_filter,
    kvm_msrs, kvm_regs, kvm_sregs, kvm_userspace_memory_region,
};
use rustix::io::Errno;
use vmm_sys_util::ioctl::{_IOC_NONE, _IOC_READ, _IOC_WRITE, ioctl_expr};

/// The supervisor's threads, once its children run: the event loop, and those that read and measure the image.
pub fn supervisor() -> SystemCalls {
    let calls = requests(threads(events(messages(runtime()))), STREAMS);
    calls
        // Files of its folder, the only one within reach: state, log, console.
        .allow(&[libc::SYS_open, libc::SYS_openat, libc::SYS_unlinkat, libc::SYS_renameat, libc::SYS_flock])
        .allow(&[
            libc::SYS_fstat,
            libc::SYS_statx,
            libc::SYS_newfstatat,
            libc::SYS_getdents64,
            libc::SYS_lseek,
        ])
        // Host programs and commands: taken, reached, told apart.
        .allow_if(libc::SYS_socket, &[Argument::Is(0, unsigned(libc::AF_UNIX))])
        .allow_if(libc::SYS_socketpair, &[Argument::Is(0, unsigned(libc::AF_UNIX))])
        .allow(&[libc::SYS_accept4, libc::SYS_connect, libc::SYS_getsockopt])
        // Guest memory: locked as it is touched, overwritten, given back.
        .allow(&[libc::SYS_mlock2, libc::SYS_mlock, libc::SYS_fallocate, libc::SYS_pwrite64])
        .allow_if(libc::SYS_fcntl, &[Argument::Is(1, unsigned(libc::F_DUPFD_CLOEXEC))])
        .allow_if(libc::SYS_fcntl, &[Argument::Is(1, unsigned(libc::F_SETFL))])
        .allow_if(libc::SYS_fcntl, &[Argument::Is(1, unsigned(libc::F_GETFL))])
        // The console's pipe, the loading thread's news.
        .allow(&[libc::SYS_pipe2, libc::SYS_eventfd2, libc::SYS_epoll_create1])
        // Its children end, or are ended.
        .allow(&[libc::SYS_waitid, libc::SYS_pidfd_send_signal])
}

/// The security module's only thread: packets in, packets out.
pub fn security_module() -> SystemCalls {
    messages(without_files(runtime()))
}

/// The virtual machine process while it makes its machine, and at most what each of its threads may do.
pub fn machine() -> SystemCalls {
    let calls = devices(messages(without_files(runtime())));
    let calls = requests(calls, &[MAKING_ONE, RUNNING_ONE, STREAMS].concat());
    // A thread may narrow its own list, never widen it.
    let filter = Argument::Is(0, libc::SECCOMP_SET_MODE_FILTER);
    threads(calls)
        .allow_if(libc::SYS_seccomp, &[filter])
        .allow_if(libc::SYS_prctl, &[Argument::Is(0, unsigned(libc::PR_SET_NO_NEW_PRIVS))])
        // What a received descriptor is: its size, its seals, whether reading from it waits.
        .allow(&[libc::SYS_fstat, libc::SYS_statx, libc::SYS_newfstatat, libc::SYS_fstatfs])
        .allow_if(libc::SYS_fcntl, &[Argument::Is(1, unsigned(libc::F_GETFL))])
        .allow_if(libc::SYS_fcntl, &[Argument::Is(1, unsigned(libc::F_SETFL))])
        .allow_if(libc::SYS_fcntl, &[Argument::Is(1, unsigned(libc::F_DUPFD_CLOEXEC))])
        .allow_if(libc::SYS_fcntl, &[Argument::Is(1, unsigned(libc::F_GET_SEALS))])
        // Guest memory is locked as it is touched.
        .allow(&[libc::SYS_mlock2, libc::SYS_mlock])
        // Events for interrupts, notifications and the machine's end; the vsock device's poller and timers.
        .allow(&[libc::SYS_eventfd2, libc::SYS_epoll_create1, libc::SYS_timerfd_create])
}

/// The first thread of that process once the guest runs: it hears the supervisor, hands on descriptors, and takes the machine
/// apart at its end.
pub fn attendant() -> SystemCalls {
    devices(messages(fails_already(runtime())))
}

/// A virtual CPU: it runs the guest and serves its accesses to device registers.
pub fn virtual_cpu() -> SystemCalls {
    requests(devices(messages(fails_already(runtime()))), &[RUNNING_ONE, STREAMS].concat())
}

/// A virtio device's thread: between the guest's queues and the sockets that it was given.
pub fn device() -> SystemCalls {
    requests(devices(messages(fails_already(runtime()))), STREAMS)
}

/// What the C library and Rust's need in any thread: memory that is never executable, locks, time, random numbers, and an
/// orderly end, a panic's included.
fn runtime() -> SystemCalls {
    let not_executable = Argument::Bits { index: 2, mask: unsigned(libc::PROT_EXEC), are: 0 };
    SystemCalls::none()
        .allow(&[libc::SYS_brk, libc::SYS_munmap, libc::SYS_mremap, libc::SYS_madvise])
        .allow_if(libc::SYS_mmap, &[not_executable])
        .allow_if(libc::SYS_mprotect, &[not_executable])
        .allow(&[libc::SYS_futex, libc::SYS_sched_yield])
        // Without a usable time stamp counter the time is asked of the kernel.
        .allow(&[libc::SYS_clock_gettime, libc::SYS_gettimeofday])
        .allow(&[libc::SYS_getrandom])
        // What is written are messages of a panic on standard error, and events.
        .allow(&[libc::SYS_write, libc::SYS_close])
        // A debug build looks at a descriptor before it closes it.
        .allow_if(libc::SYS_fcntl, &[Argument::Is(1, unsigned(libc::F_GETFD))])
        .allow(&[libc::SYS_exit, libc::SYS_exit_group])
        // abort(3) raises SIGABRT in its own thread.
        .allow(&[libc::SYS_rt_sigprocmask, libc::SYS_rt_sigreturn, libc::SYS_sigaltstack])
        .allow(&[libc::SYS_gettid, libc::SYS_getpid, libc::SYS_restart_syscall])
        .allow_if(libc::SYS_tgkill, &[Argument::Is(0, std::process::id())])
}

/// Before it gives memory back, the C library asks a file in /proc for the host's policy. It goes on without. (The error is that of
/// the other call that fails: each error is a filter of its own, and takes its time at each system call.)
fn without_files(calls: SystemCalls) -> SystemCalls {
    calls.fail(libc::SYS_openat, Errno::NOSYS)
}

/// What fails by the list of the process fails for its threads, too, whatever their own lists say.
fn fails_already(calls: SystemCalls) -> SystemCalls {
    calls.allow(&[libc::SYS_openat])
}

/// Packets on the sockets that the process was given.
fn messages(calls: SystemCalls) -> SystemCalls {
    calls.allow(&[
        libc::SYS_poll,
        libc::SYS_ppoll,
        libc::SYS_recvmsg,
        libc::SYS_sendmsg,
        libc::SYS_recvfrom,
        libc::SYS_sendto,
    ])
}

/// Events are waited for and read.
fn events(calls: SystemCalls) -> SystemCalls {
    calls.allow(&[
        libc::SYS_read,
        libc::SYS_epoll_ctl,
        libc::SYS_epoll_wait,
        libc::SYS_epoll_pwait,
        libc::SYS_epoll_pwait2,
    ])
}

/// What devices do besides: timers are armed, streams shut down.
fn devices(calls: SystemCalls) -> SystemCalls {
    events(calls).allow(&[libc::SYS_timerfd_settime, libc::SYS_shutdown])
}

/// Threads are started, named and pinned, and nothing else is: no process, no program.
fn threads(calls: SystemCalls) -> SystemCalls {
    let flags = unsigned(libc::CLONE_THREAD | libc::CLONE_VM | libc::CLONE_SIGHAND);
    calls
        // Its flags lie in memory, where no filter can look; the C library then takes clone(2).
        .fail(libc::SYS_clone3, Errno::NOSYS)
        .allow_if(libc::SYS_clone, &[Argument::Bits { index: 0, mask: flags, are: flags }])
        .allow(&[libc::SYS_set_robust_list, libc::SYS_rseq])
        // A new thread's guard against an overflow of its stack; the signal that interrupts virtual CPUs.
        .allow(&[libc::SYS_rt_sigaction])
        .allow_if(libc::SYS_prctl, &[Argument::Is(0, unsigned(libc::PR_SET_NAME))])
        .allow(&[libc::SYS_sched_setaffinity, libc::SYS_sched_getaffinity])
}

/// These ioctls and no others, on whatever descriptor.
fn requests(calls: SystemCalls, allowed: &[Ioctl]) -> SystemCalls {
    allowed
        .iter()
        .fold(calls, |calls, ioctl| calls.allow_if(libc::SYS_ioctl, &[Argument::Is(1, ioctl.number())]))
}

/// An ioctl by what its number is made of (linux/ioctl.h).
#[derive(Debug, Clone, Copy)]
struct Ioctl {
    direction: u32,
    family: u32,
    index: u32,
    /// Bytes of its argument.
    size: usize,
}

impl Ioctl {
    const fn kvm(direction: u32, index: u32, size: usize) -> Self {
        Self { direction, family: KVMIO, index, size }
    }

    fn number(self) -> u32 {
        let size = u32::try_from(self.size).unwrap_or_default();
        let number = ioctl_expr(self.direction, self.family, self.index, size);
        u32::try_from(number).unwrap_or_default()
    }
}

/// What a running virtual CPU asks of KVM (linux/kvm.h): to run, and for its registers, at its entry and to describe its end.
const RUNNING_ONE: &[Ioctl] = &[
    Ioctl::kvm(_IOC_NONE, 0x80, 0),                       // KVM_RUN
    Ioctl::kvm(_IOC_READ, 0x81, size_of::<kvm_regs>()),   // KVM_GET_REGS
    Ioctl::kvm(_IOC_WRITE, 0x82, size_of::<kvm_regs>()),  // KVM_SET_REGS
    Ioctl::kvm(_IOC_READ, 0x83, size_of::<kvm_sregs>()),  // KVM_GET_SREGS
    Ioctl::kvm(_IOC_WRITE, 0x84, size_of::<kvm_sregs>()), // KVM_SET_SREGS
    Ioctl::kvm(_IOC_WRITE, 0x8d, size_of::<kvm_fpu>()),   // KVM_SET_FPU
];

/// What making a virtual machine takes besides (linux/kvm.h).
const MAKING_ONE: &[Ioctl] = &[
    Ioctl::kvm(_IOC_NONE, 0x00, 0), // KVM_GET_API_VERSION
    Ioctl::kvm(_IOC_NONE, 0x01, 0), // KVM_CREATE_VM
    Ioctl::kvm(_IOC_NONE, 0x03, 0), // KVM_CHECK_EXTENSION
    Ioctl::kvm(_IOC_NONE, 0x04, 0), // KVM_GET_VCPU_MMAP_SIZE
    Ioctl::kvm(_IOC_READ | _IOC_WRITE, 0x05, size_of::<kvm_cpuid2>()), // KVM_GET_SUPPORTED_CPUID
    Ioctl::kvm(_IOC_NONE, 0x41, 0), // KVM_CREATE_VCPU
    Ioctl::kvm(_IOC_WRITE, 0x46, size_of::<kvm_userspace_memory_region>()), // KVM_SET_USER_MEMORY_REGION
    Ioctl::kvm(_IOC_NONE, 0x47, 0), // KVM_SET_TSS_ADDR
    Ioctl::kvm(_IOC_WRITE, 0x48, size_of::<u64>()), // KVM_SET_IDENTITY_MAP_ADDR
    Ioctl::kvm(_IOC_NONE, 0x60, 0), // KVM_CREATE_IRQCHIP
    Ioctl::kvm(_IOC_WRITE, 0x6a, size_of::<kvm_irq_routing>()), // KVM_SET_GSI_ROUTING
    Ioctl::kvm(_IOC_WRITE, 0x76, size_of::<kvm_irqfd>()), // KVM_IRQFD
    Ioctl::kvm(_IOC_WRITE, 0x79, size_of::<kvm_ioeventfd>()), // KVM_IOEVENTFD
    Ioctl::kvm(_IOC_WRITE, 0x89, size_of::<kvm_msrs>()), // KVM_SET_MSRS
    Ioctl::kvm(_IOC_WRITE, 0x90, size_of::<kvm_cpuid2>()), // KVM_SET_CPUID2
    Ioctl::kvm(_IOC_WRITE, 0xa3, size_of::<kvm_enable_cap>()), // KVM_ENABLE_CAP
    Ioctl::kvm(_IOC_WRITE, 0xc6, size_of::<kvm_msr_filter>()), // KVM_X86_SET_MSR_FILTER
];

/// FIONBIO, 0x5421 (asm-generic/ioctls.h): events and streams never wait.
const STREAMS: &[Ioctl] = &[Ioctl { direction: _IOC_NONE, family: 0x54, index: 0x21, size: 0 }];

/// The bits of a C constant.
fn unsigned(constant: i32) -> u32 {
    constant.cast_unsigned()
}
