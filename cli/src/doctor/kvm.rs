//! /dev/kvm: is it there, may it be used, can it do what is needed?

use std::io::{self, ErrorKind};
use std::path::Path;

use kvm_ioctls::{Cap, Kvm};

use super::Finding;
use crate::host;

const DEVICE: &str = "/dev/kvm";
/// The version of KVM's interface that has been the only one since Linux 2.6.22.
const API_VERSION: i32 = 12;

/// What the hypervisor asks of KVM.
const NEEDED: [(Cap, &str); 10] = [
    (Cap::UserMemory, "KVM_CAP_USER_MEMORY"),
    (Cap::Irqchip, "KVM_CAP_IRQCHIP"),
    (Cap::IrqRouting, "KVM_CAP_IRQ_ROUTING"),
    (Cap::SetTssAddr, "KVM_CAP_SET_TSS_ADDR"),
    (Cap::SetIdentityMapAddr, "KVM_CAP_SET_IDENTITY_MAP_ADDR"),
    (Cap::ExtCpuid, "KVM_CAP_EXT_CPUID"),
    (Cap::TscDeadlineTimer, "KVM_CAP_TSC_DEADLINE_TIMER"),
    (Cap::Irqfd, "KVM_CAP_IRQFD"),
    (Cap::Ioeventfd, "KVM_CAP_IOEVENTFD"),
    (Cap::X86MsrFilter, "KVM_CAP_X86_MSR_FILTER"),
];

/// May this user open the device?
pub(super) fn access() -> Finding {
    const CHECK: &str = "KVM access";
    const MEANING: &str = "every enclave is a KVM virtual machine";
    match open() {
        Ok(_) => Finding::ok(CHECK, format!("{DEVICE} can be opened"), MEANING),
        Err(error) if error.kind() == ErrorKind::NotFound => Finding::failure(
            CHECK,
            format!("there is no {DEVICE}"),
            MEANING,
            "load the module (modprobe kvm_intel or kvm_amd); turn virtualisation on in the firmware; on a virtual \
             machine, ask for nested virtualisation; in a container, pass --device /dev/kvm",
        ),
        Err(error) if error.kind() == ErrorKind::PermissionDenied => Finding::failure(
            CHECK,
            format!("{DEVICE} may not be opened by this user"),
            MEANING,
            "add the user to the group kvm (usermod -aG kvm USER) and log in again",
        ),
        Err(error) => {
            Finding::failure(CHECK, format!("{DEVICE}: {error}"), MEANING, "check the module kvm and dmesg")
        }
    }
}

/// Has it what the hypervisor uses?
pub(super) fn capabilities() -> Finding {
    const CHECK: &str = "KVM capabilities";
    const MEANING: &str =
        "interrupts and queue notifications go through the kernel, and MSRs through an allow list";
    const MEND: &str = "use a newer kernel (6.1 or later) on x86_64";
    let Ok(kvm) = open() else {
        return Finding::failure(CHECK, "not known without KVM", MEANING, "see KVM access");
    };
    let version = kvm.get_api_version();
    if version != API_VERSION {
        return Finding::failure(
            CHECK,
            format!("interface version {version}, not {API_VERSION}"),
            MEANING,
            MEND,
        );
    }
    let missing: Vec<&str> =
        NEEDED.iter().filter(|(cap, _)| !kvm.check_extension(*cap)).map(|(_, name)| *name).collect();
    if missing.is_empty() {
        return Finding::ok(CHECK, format!("all {} that are needed", NEEDED.len()), MEANING);
    }
    Finding::failure(CHECK, format!("missing: {}", missing.join(", ")), MEANING, MEND)
}

/// Does the processor itself virtualise? A paravirtual KVM without VMX or SVM opens and creates machines, and yet
/// cannot run a kernel.
pub(super) fn runs_kernels() -> Finding {
    const CHECK: &str = "Hardware virtualisation";
    const MEANING: &str = "guest kernels run on the processor's own virtualisation (VMX or SVM)";
    let flags = host::read("/proc/cpuinfo").unwrap_or_default();
    let has = |flag: &str| {
        flags
            .lines()
            .find(|line| line.starts_with("flags"))
            .is_some_and(|line| line.split_whitespace().any(|f| f == flag))
    };
    let loaded = |module: &str| Path::new("/sys/module").join(module).exists();
    if has("vmx") || has("svm") {
        let name = if has("vmx") { "VMX" } else { "SVM" };
        return Finding::ok(CHECK, name, MEANING);
    }
    let found = if loaded("kvm_intel") || loaded("kvm_amd") {
        "the processor shows neither VMX nor SVM"
    } else {
        "the processor shows neither VMX nor SVM: /dev/kvm, if there, is of a paravirtual kind"
    };
    Finding::warning(
        CHECK,
        found,
        "guest kernels will probably not boot here",
        "use a machine with virtualisation, or turn on nested virtualisation; to try enclaves on this one, \
         `make lab` emulates such a machine",
    )
}

fn open() -> io::Result<Kvm> {
    Kvm::new().map_err(|error| io::Error::from_raw_os_error(error.errno()))
}
