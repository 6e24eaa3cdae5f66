//! nitro-cli's error numbers: the exit status of a failed command, and what `nitro-cli explain` says of each.
//!
//! Numbers, names and the first sentences are nitro-cli's (`src/common/document_errors.rs` of its release 1.5): scripts match on
//! them. What follows says what the number means here. A number that stands for something that this hypervisor does not have, such
//! as the driver's system calls, is explained and never raised.

/// One of nitro-cli's error numbers, known to be in the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Code(u8);

impl Code {
    pub(super) const MISSING_ARGUMENT: Self = Self(1);
    pub(super) const CONFLICTING_ARGUMENT: Self = Self(2);
    pub(super) const INVALID_ARGUMENT: Self = Self(3);
    pub(super) const PROCESS_SPAWN: Self = Self(5);
    pub(super) const READ_FROM_DISK: Self = Self(7);
    pub(super) const SOCKET: Self = Self(11);
    pub(super) const SERDE: Self = Self(17);
    pub(super) const FILE_OPERATION: Self = Self(19);
    pub(super) const INVALID_CPU_CONFIGURATION: Self = Self(20);
    pub(super) const NO_SUCH_CPU_IN_POOL: Self = Self(21);
    pub(super) const INSUFFICIENT_CPUS: Self = Self(22);
    pub(super) const CPU: Self = Self(24);
    pub(super) const INSUFFICIENT_MEMORY_REQUESTED: Self = Self(26);
    pub(super) const INSUFFICIENT_MEMORY_AVAILABLE: Self = Self(27);
    pub(super) const IOCTL: Self = Self(29);
    pub(super) const EIF_PARSING: Self = Self(35);
    pub(super) const ENCLAVE_BOOT: Self = Self(36);
    pub(super) const ENCLAVE_PROCESS_CONNECTION: Self = Self(39);
    pub(super) const CONSOLE_CONNECTION: Self = Self(44);
    pub(super) const CONSOLE_READ: Self = Self(45);
    pub(super) const WRITE_OUTPUT: Self = Self(46);
    pub(super) const EIF_BUILDING: Self = Self(48);
    pub(super) const DOCKER_IMAGE_BUILD: Self = Self(49);
    pub(super) const DOCKER_IMAGE_PULL: Self = Self(50);
    pub(super) const HASHER: Self = Self(57);
    pub(super) const ENCLAVE_NAMING: Self = Self(58);
    pub(super) const SIGNATURE_CHECKER: Self = Self(59);
    pub(super) const EIF_SIGNING: Self = Self(60);

    /// The code that a text such as "E26" names.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let digits = text.strip_prefix('E').filter(|digits| digits.len() == 2)?;
        let number = digits.parse().ok().filter(|_| digits.bytes().all(|digit| digit.is_ascii_digit()))?;
        (usize::from(number) < TABLE.len()).then_some(Self(number))
    }

    /// The exit status.
    pub(super) const fn number(self) -> u8 {
        self.0
    }

    /// "E26".
    pub(super) fn text(self) -> String {
        format!("E{:02}", self.0)
    }

    /// What it is called, as in nitro-cli's source, and what it means.
    pub(super) fn meaning(self) -> (&'static str, &'static str) {
        TABLE.get(usize::from(self.0)).copied().unwrap_or(("", ""))
    }
}

/// Name and explanation of E00, E01 and so on. The first sentence is what an error message begins with.
const TABLE: [(&str, &str); 61] = [
    (
        "UnspecifiedError",
        "Unspecified error. Stands for errors without a number of their own; never raised here.",
    ),
    (
        "MissingArgument",
        "Missing mandatory argument. Something that the command cannot do without was not given, neither as an option nor in the \
         file that --config names.\n\tExample: a configuration file with neither `cpu_count` nor `cpu_ids`.",
    ),
    (
        "ConflictingArgument",
        "Conflicting arguments. Two settings exclude each other.\n\tExample: a configuration file with both `cpu_count` and `cpu_ids`.",
    ),
    (
        "InvalidArgument",
        "Invalid argument provided. A value is not a number where one is expected, or not one that can be used.\n\tExample: \
         `--memory 80K` (units are M, G and T), or `--enclave-cid 2`, which is the host's own.",
    ),
    (
        "SocketPairCreationFailure",
        "Socket pair creation failure. The command and a new enclave's process could not be connected.",
    ),
    (
        "ProcessSpawnFailure",
        "Process spawn failure. The enclave's process could not be started: the program enclave-hypervisor is missing beside this \
         one, or the system has no room for another process.",
    ),
    (
        "DaemonizeProcessFailure",
        "Daemonize process failure. The enclave's process could not leave the command that started it.",
    ),
    (
        "ReadFromDiskFailure",
        "Read from disk failure. The folder of running enclaves could not be read: check $ENCLAVE_RUN_DIR, its owner and its mode.",
    ),
    (
        "UnusableConnectionError",
        "Unusable connection error. A connection to an enclave was used after its end.",
    ),
    ("SocketCloseError", "Socket close error. A connection could not be closed."),
    (
        "SocketConnectTimeoutError",
        "Socket connect set timeout error. A connection's time limit could not be set.",
    ),
    (
        "SocketError",
        "Socket error. No running enclave of this user has the EnclaveID that was given, or the connection to it failed.",
    ),
    ("EpollError", "Epoll error. Waiting for several events at once failed."),
    ("InotifyError", "Inotify error. Watching a socket's file failed."),
    ("InvalidCommand", "Invalid command. An enclave's process was sent a request that it does not know."),
    ("LockAcquireFailure", "Lock acquire failure. A lock could not be taken."),
    ("ThreadJoinFailure", "Thread join failure. A thread could not be waited for."),
    (
        "SerdeError",
        "Serde error. What was read is not the JSON that it should be, for example the file that --config names.",
    ),
    ("FilePermissionsError", "File permissions error. The permissions of a log file could not be set."),
    (
        "FileOperationFailure",
        "File operation failure. A file could not be opened, read or written: the enclave image file (EIF), the file that --config \
         names, a certificate, or this host's configuration.",
    ),
    (
        "InvalidCpuConfiguration",
        "Invalid CPU configuration. A CPU is named more than once.\n\tExample: `--cpu-ids 1 1`.",
    ),
    (
        "NoSuchCpuAvailableInPool",
        "No such CPU available in the pool. A CPU was named that enclaves may not run on. The pool is what this user's processes \
         may use, limited by `cpu_pool` in this host's configuration (/etc/enclave/enclave.toml).",
    ),
    (
        "InsufficientCpus",
        "Insufficient CPUs available in the pool. More CPUs were asked for than the pool has. The pool is what this user's \
         processes may use, limited by `cpu_pool` in this host's configuration (/etc/enclave/enclave.toml).",
    ),
    ("MalformedCpuId", "Malformed CPU ID error. The system's list of CPUs could not be understood."),
    (
        "CpuError",
        "CPU error. `cpu_pool` in this host's configuration is not a list of CPUs such as \"2-7,10\".",
    ),
    (
        "NoSuchHugepageFlag",
        "No such hugepage flag error. A size of huge pages was asked for that does not exist.",
    ),
    (
        "InsufficientMemoryRequested",
        "Insufficient memory requested. An enclave gets at least four times the size of its image file, as nitro-cli demands, and \
         what the image's kernel needs to boot.\n\tExample: `--memory 40` with an image of 11 MiB, which needs 44.",
    ),
    (
        "InsufficientMemoryAvailable",
        "Insufficient memory available. More memory was asked for than this host has free; free huge pages, if its configuration \
         names a `huge_page_size_mib`.",
    ),
    (
        "InvalidEnclaveFd",
        "Invalid enclave descriptor. Stands for a failure of the Nitro driver; never raised here.",
    ),
    (
        "IoctlFailure",
        "Ioctl failure. The enclave could not be set up on this host: no CPU was asked for, its vsock address is taken, or KVM \
         cannot be used. `enclave doctor` checks the host.",
    ),
    (
        "IoctlImageLoadInfoFailure",
        "Ioctl image get load info failure. Stands for a failure of the Nitro driver; never raised here.",
    ),
    (
        "IoctlSetMemoryRegionFailure",
        "Ioctl set memory region failure. Stands for a failure of the Nitro driver; never raised here.",
    ),
    (
        "IoctlAddVcpuFailure",
        "Ioctl add vCPU failure. Stands for a failure of the Nitro driver; never raised here.",
    ),
    (
        "IoctlEnclaveStartFailure",
        "Ioctl start enclave failure. Stands for a failure of the Nitro driver; never raised here.",
    ),
    ("MemoryOverflow", "Memory overflow. The image would end beyond the largest address; never raised here."),
    (
        "EifParsingError",
        "EIF file parsing error. The file is no enclave image (EIF), is truncated, or its signature cannot be read. `enclave eif \
         verify` looks closer.",
    ),
    (
        "EnclaveBootFailure",
        "Enclave boot failure. The image was refused when it was measured (a wrong checksum, a signature over another image), or \
         the guest ended or was silent before its first sign of life. Run it with --debug-mode and --attach-console to see its \
         console.",
    ),
    ("EnclaveEventWaitError", "Enclave event wait error. An enclave's end could not be waited for."),
    (
        "EnclaveProcessCommandNotExecuted",
        "Enclave process command not executed error. An enclave's process refused a request.",
    ),
    (
        "EnclaveProcessConnectionFailure",
        "Enclave process connection failure. At least one enclave's process could not be reached, or what it recorded could not be \
         read.",
    ),
    ("SocketPathNotFound", "Socket path not found. An enclave has no socket."),
    (
        "EnclaveProcessSendReplyFailure",
        "Enclave process send reply failure. An enclave's process could not answer.",
    ),
    ("EnclaveMmapError", "Enclave mmap error. An enclave's memory could not be mapped."),
    ("EnclaveMunmapError", "Enclave munmap error. An enclave's memory could not be unmapped."),
    (
        "EnclaveConsoleConnectionFailure",
        "Enclave console connection failure. The enclave has no console because it does not run in debug mode, or its console \
         could not be reached.",
    ),
    (
        "EnclaveConsoleReadError",
        "Enclave console read error. The connection to an enclave's console broke off.",
    ),
    (
        "EnclaveConsoleWriteOutputError",
        "Enclave console write output error. What a command prints could not be written to standard output.",
    ),
    ("IntegerParsingError", "Integer parsing error. An enclave's vsock address is not a number."),
    (
        "EifBuildingError",
        "EIF building error. An enclave image file (EIF) could not be built; the message says what failed.",
    ),
    (
        "DockerImageBuildError",
        "Docker image build error. The container image could not be built from its Dockerfile.",
    ),
    (
        "DockerImagePullError",
        "Docker image pull error. The container image could not be got from its registry.",
    ),
    (
        "ArtifactsPathNotSet",
        "Artifacts path environment variable not set. Never raised here: no such folder is needed.",
    ),
    (
        "BlobsPathNotSet",
        "Blobs path environment variable not set. Never raised here: there are blobs of our own.",
    ),
    ("ClockSkewError", "Clock skew error. The time between two reads of a console could not be measured."),
    (
        "SignalMaskingError",
        "Signal masking error. Signals could not be held back while an enclave's process was started.",
    ),
    ("SignalUnmaskingError", "Signal unmasking error. Signals could not be let through again."),
    (
        "LoggerError",
        "Logger error. The log could not be opened; never raised here: a command works without its log.",
    ),
    (
        "HasherError",
        "Hasher error. What should be measured could not be, for example a certificate that is none.",
    ),
    (
        "EnclaveNamingError",
        "Naming error. No running enclave of this user has the name that was given, or no enclave can be called so.",
    ),
    (
        "EIFSignatureCheckerError",
        "EIF signature checker error. The image is signed, but its signature does not hold, or its certificate is not valid now.",
    ),
    (
        "EIFSigningError",
        "Signing error. The image could not be signed: the key, the certificate or the image cannot be used.",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_has_a_name_and_a_meaning_of_its_own() {
        let names: std::collections::BTreeSet<_> = TABLE.iter().map(|(name, _)| name).collect();
        assert_eq!(names.len(), TABLE.len());
        assert!(TABLE.iter().all(|(_, meaning)| meaning.contains(". ") && meaning.ends_with('.')));
    }

    #[test]
    fn codes_are_read_as_they_are_written() {
        for number in 0..61 {
            assert_eq!(Code::parse(&Code(number).text()), Some(Code(number)));
        }
        for text in ["E61", "E1", "E001", "26", "e26", "", "E", "E+1", "E٢٦"] {
            assert_eq!(Code::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn constants_stand_for_the_numbers_of_their_names() {
        for (code, name) in [
            (Code::MISSING_ARGUMENT, "MissingArgument"),
            (Code::CONFLICTING_ARGUMENT, "ConflictingArgument"),
            (Code::INVALID_ARGUMENT, "InvalidArgument"),
            (Code::PROCESS_SPAWN, "ProcessSpawnFailure"),
            (Code::READ_FROM_DISK, "ReadFromDiskFailure"),
            (Code::SOCKET, "SocketError"),
            (Code::SERDE, "SerdeError"),
            (Code::FILE_OPERATION, "FileOperationFailure"),
            (Code::INVALID_CPU_CONFIGURATION, "InvalidCpuConfiguration"),
            (Code::NO_SUCH_CPU_IN_POOL, "NoSuchCpuAvailableInPool"),
            (Code::INSUFFICIENT_CPUS, "InsufficientCpus"),
            (Code::CPU, "CpuError"),
            (Code::INSUFFICIENT_MEMORY_REQUESTED, "InsufficientMemoryRequested"),
            (Code::INSUFFICIENT_MEMORY_AVAILABLE, "InsufficientMemoryAvailable"),
            (Code::IOCTL, "IoctlFailure"),
            (Code::EIF_PARSING, "EifParsingError"),
            (Code::ENCLAVE_BOOT, "EnclaveBootFailure"),
            (Code::ENCLAVE_PROCESS_CONNECTION, "EnclaveProcessConnectionFailure"),
            (Code::CONSOLE_CONNECTION, "EnclaveConsoleConnectionFailure"),
            (Code::CONSOLE_READ, "EnclaveConsoleReadError"),
            (Code::WRITE_OUTPUT, "EnclaveConsoleWriteOutputError"),
            (Code::EIF_BUILDING, "EifBuildingError"),
            (Code::HASHER, "HasherError"),
            (Code::ENCLAVE_NAMING, "EnclaveNamingError"),
            (Code::SIGNATURE_CHECKER, "EIFSignatureCheckerError"),
            (Code::EIF_SIGNING, "EIFSigningError"),
        ] {
            assert_eq!(code.meaning().0, name);
        }
    }
}
