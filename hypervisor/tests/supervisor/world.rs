//! What every test needs: a run folder, an image, an identity, and a program that plays a given part.

use std::fs::File;
use std::io::{Cursor, Read, Seek, Write};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use attestation::certificate::Certificate;
use attestation::identity::EnclaveId;
use attestation::pki::RootAuthority;
use eif::header::{HEADER_LEN, Header, SECTION_HEADER_LEN, SectionHeader, SectionKind};
use eif::writer::Writer;
use enclave_hypervisor::client::{LaunchError, RunRoot, Supervisor};
use enclave_hypervisor::description::Description;
use enclave_hypervisor::launch::{
    ContainmentMode, LaunchEvent, LaunchFailure, LaunchSpec, PROTOCOL_VERSION, UserRange,
};
use enclave_hypervisor::messages::SecurityIdentity;
use getrandom::SysRng;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags};
use serde_bytes::ByteBuf;

/// Nothing here takes this long unless it hangs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// The shortest metadata that AWS's reader accepts.
const METADATA: &str = r#"{"ImageName":"n","ImageVersion":"v","BuildMetadata":{"BuildTime":"2026-01-01T00:00:00Z","BuildTool":"t","BuildToolVersion":"1","OperatingSystem":"Linux","KernelVersion":"6.6"},"DockerInfo":null,"CustomMetadata":null}"#;

const INSTANCE: &str = "i-0123456789abcdef0";

/// Makes EnclaveIDs distinct.
static NEXT: AtomicU64 = AtomicU64::new(1);

/// A run folder of its own and a program that plays one part.
pub(crate) struct World {
    folder: tempfile::TempDir,
    pub(crate) root: RunRoot,
    pub(crate) program: PathBuf,
    /// What documents are verified against.
    pub(crate) certificate: Certificate,
    authority: RootAuthority,
}

impl World {
    /// A world in which the machine is played by the stand-in `part`.
    pub(crate) fn new(part: &str) -> Self {
        // On the program's own file system: a hard link is a name of its own for the same program.
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let program = folder.path().join(part);
        std::fs::hard_link(std::env::current_exe().unwrap(), &program).unwrap();
        let authority = RootAuthority::generate(SystemTime::now(), &mut SysRng).unwrap();
        let certificate = authority.chain().first().unwrap().clone();
        let root = RunRoot::at(folder.path().join("run"));
        Self { folder, root, program, certificate, authority }
    }

    /// What the enclave of a request needs to sign.
    pub(crate) fn identity(&self, spec: &LaunchSpec) -> SecurityIdentity {
        let enclave: EnclaveId = spec.module_id.parse().unwrap();
        let now = SystemTime::now();
        let host = self.authority.issue_host(enclave.instance(), now, &mut SysRng).unwrap();
        let authority = host.issue_enclave(&enclave, now, &mut SysRng).unwrap();
        SecurityIdentity {
            module_id: enclave.module_id(),
            instance_id: INSTANCE.to_owned(),
            role: "test".to_owned(),
            ca_key: ByteBuf::from(authority.key().to_pkcs8_der().unwrap().to_vec()),
            ca_chain: authority.chain().iter().map(|level| ByteBuf::from(level.as_der().to_vec())).collect(),
        }
    }

    /// A request for one enclave, in debug mode and to be started.
    pub(crate) fn spec(&self) -> LaunchSpec {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let enclave: EnclaveId = format!("{INSTANCE}-enc{number:x}").parse().unwrap();
        LaunchSpec {
            version: PROTOCOL_VERSION,
            process_id: 0,
            containment: ContainmentMode::On,
            users: Some(UserRange { first: 1_999_000_000, last: 1_999_000_999 }),
            cgroup: None,
            enclave_id: enclave.to_string(),
            name: "tested".to_owned(),
            exact_name: false,
            run_root: self.root.path().to_owned(),
            image_path: PathBuf::from("image.eif"),
            cid: None,
            cpus: vec![0],
            memory_mib: 64,
            huge_page_size: None,
            debug: true,
            required_certificate: None,
            heartbeat_timeout_ms: Some(60_000),
            start: true,
            module_id: enclave.module_id(),
            role: "test".to_owned(),
        }
    }

    /// A file with these bytes.
    pub(crate) fn file(&self, bytes: &[u8]) -> File {
        let mut file = tempfile::tempfile_in(self.folder.path()).unwrap();
        file.write_all(bytes).unwrap();
        file.rewind().unwrap();
        file
    }

    /// Starts an enclave from a good image.
    pub(crate) fn launch(&self, spec: &LaunchSpec) -> Result<Description, LaunchError> {
        self.launch_events(spec, &mut |_| {})
    }

    /// As [`Self::launch`], with the events.
    pub(crate) fn launch_events(
        &self,
        spec: &LaunchSpec,
        on_event: &mut dyn FnMut(&LaunchEvent),
    ) -> Result<Description, LaunchError> {
        self.launch_from(spec, &self.file(&image()), on_event)
    }

    /// As [`Self::launch_events`], from another image.
    pub(crate) fn launch_from(
        &self,
        spec: &LaunchSpec,
        image: &File,
        on_event: &mut dyn FnMut(&LaunchEvent),
    ) -> Result<Description, LaunchError> {
        let identity = || Some(self.identity(spec));
        Supervisor::spawn(&self.program, spec.containment)?.launch(spec, image, identity, on_event)
    }

    /// Starts an enclave from a good image with this identity.
    pub(crate) fn launch_as(
        &self,
        spec: &LaunchSpec,
        identity: Option<SecurityIdentity>,
    ) -> Result<Description, LaunchError> {
        let supervisor = Supervisor::spawn(&self.program, spec.containment)?;
        supervisor.launch(spec, &self.file(&image()), || identity, &mut |_| {})
    }

    /// An enclave that must come up.
    pub(crate) fn running(&self, change: impl FnOnce(&mut LaunchSpec)) -> Description {
        let mut spec = self.spec();
        change(&mut spec);
        self.launch(&spec).unwrap()
    }

    /// An enclave that must not come up.
    pub(crate) fn failing(&self, change: impl FnOnce(&mut LaunchSpec)) -> LaunchFailure {
        let mut spec = self.spec();
        change(&mut spec);
        match self.launch(&spec) {
            Err(LaunchError::Failed(failure)) => failure,
            other => panic!("{other:?}"),
        }
    }
}

/// An image that passes every check: a kernel of one instruction, a command line, two ramdisks.
pub(crate) fn image() -> Vec<u8> {
    let mut writer = Writer::new(Cursor::new(Vec::new()), Header::default()).unwrap();
    writer.section(SectionKind::Kernel, kernel().as_slice()).unwrap();
    writer.section(SectionKind::Cmdline, b"quiet".as_slice()).unwrap();
    writer.section(SectionKind::Metadata, METADATA.as_bytes()).unwrap();
    writer.section(SectionKind::Ramdisk, b"first ramdisk".as_slice()).unwrap();
    writer.section(SectionKind::Ramdisk, b"second ramdisk".as_slice()).unwrap();
    writer.finish().unwrap().output.into_inner()
}

/// As [`image`], with a last ramdisk of this many bytes. The file takes no room on the disk for them, and its checksum is wrong.
pub(crate) fn image_with_ramdisk(bytes: u64, world: &World) -> File {
    let mut start = image();
    let header_bytes: &mut [u8; HEADER_LEN] = start.first_chunk_mut().unwrap();
    let mut header = Header::decode(header_bytes).unwrap();
    let last = usize::from(header.section_count) - 1;
    header.section_sizes[last] = bytes;
    *header_bytes = header.encode();
    let at = usize::try_from(header.section_offsets[last]).unwrap();
    let section: &mut [u8; SECTION_HEADER_LEN] = start[at..].first_chunk_mut().unwrap();
    *section = SectionHeader { size: bytes, ..SectionHeader::decode(section) }.encode();
    let file = world.file(&start);
    file.set_len(header.section_offsets[last] + SECTION_HEADER_LEN as u64 + bytes).unwrap();
    file
}

/// A 64-bit ELF file with one segment at 1 MiB, which holds `hlt`.
fn kernel() -> Vec<u8> {
    const HIGH_MEMORY: u64 = 1 << 20;
    let mut elf = b"\x7fELF\x02\x01\x01".to_vec();
    elf.resize(16, 0);
    for (value, bytes) in [
        (2, 2),           // e_type: executable
        (62, 2),          // e_machine: x86-64
        (1, 4),           // e_version
        (HIGH_MEMORY, 8), // e_entry
        (64, 8),          // e_phoff
        (0, 8),           // e_shoff
        (0, 4),           // e_flags
        (64, 2),          // e_ehsize
        (56, 2),          // e_phentsize
        (1, 2),           // e_phnum
        (0, 6),           // no sections
        (1, 4),           // p_type: load
        (5, 4),           // p_flags: read and execute
        (120, 8),         // p_offset
        (HIGH_MEMORY, 8), // p_vaddr
        (HIGH_MEMORY, 8), // p_paddr
        (1, 8),           // p_filesz
        (4096, 8),        // p_memsz
        (4096, 8),        // p_align
    ] {
        elf.extend_from_slice(&u64::to_le_bytes(value)[..bytes]);
    }
    elf.push(0xf4);
    elf
}

/// The child of a process's first thread whose second argument is `role`.
pub(crate) fn child(supervisor: u32, role: &str) -> Pid {
    child_of_thread(supervisor, supervisor, role)
}

/// The supervisor that this thread has started.
pub(crate) fn own_supervisor() -> Pid {
    let thread = rustix::thread::gettid().as_raw_pid();
    child_of_thread(std::process::id(), u32::try_from(thread).unwrap(), "supervisor")
}

fn child_of_thread(process: u32, thread: u32, role: &str) -> Pid {
    let children = std::fs::read_to_string(format!("/proc/{process}/task/{thread}/children")).unwrap();
    let found = children.split_whitespace().find(|child| {
        let command = std::fs::read(format!("/proc/{child}/cmdline")).unwrap();
        command.split(|byte| *byte == 0).nth(1) == Some(role.as_bytes())
    });
    Pid::from_raw(found.unwrap().parse().unwrap()).unwrap()
}

/// A process, to see it end.
pub(crate) struct Watched(std::os::fd::OwnedFd);

impl Watched {
    pub(crate) fn new(pid: Pid) -> Self {
        Self(rustix::process::pidfd_open(pid, PidfdFlags::empty()).unwrap())
    }

    /// Waits for its end.
    pub(crate) fn ends(&self) {
        let mut ended = [PollFd::new(&self.0, PollFlags::IN)];
        let timeout = rustix::event::Timespec { tv_sec: 30, tv_nsec: 0 };
        assert_eq!(poll(&mut ended, Some(&timeout)).unwrap(), 1, "the process goes on");
    }
}

/// The supervisor and its children, as long as all three run.
pub(crate) fn watch_all(enclave: &Description) -> Vec<Watched> {
    let supervisor = Pid::from_raw(i32::try_from(enclave.process_id).unwrap()).unwrap();
    let children = ["vm", "security-module"].map(|role| child(enclave.process_id, role));
    [supervisor].into_iter().chain(children).map(Watched::new).collect()
}

/// Everything until the end of a stream.
pub(crate) fn read_all(mut from: impl Read) -> String {
    let mut bytes = Vec::new();
    from.read_to_end(&mut bytes).unwrap();
    String::from_utf8(bytes).unwrap()
}
