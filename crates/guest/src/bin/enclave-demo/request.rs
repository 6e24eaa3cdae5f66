//! The requests, as words of a line.

use std::path::PathBuf;

use crate::error::DemoError;

/// Declares the usage line of each request beside its reading, so that the two cannot drift apart.
macro_rules! usage {
    ($($name:ident = $text:literal;)*) => { $(const $name: &str = $text;)* };
}

usage! {
    ATTEST = "attest NONCE-HEX|- [USER-DATA-HEX|- [PUBLIC-KEY-HEX|-]]";
    ATTEST_MANY = "attest-many COUNT";
    NSM = "nsm REQUEST-HEX";
    SINK = "sink BYTES";
    SOURCE = "source BYTES";
    CONNECT = "connect CID PORT";
    FLOOD = "flood PORT COUNT [CID]";
    CONSOLE = "console BYTES";
    EXIT = "exit STATUS";
    REBOOT = "reboot [kbd|acpi|triple|efi|pci|bios]";
    CPUID = "cpuid [CPU]";
    WRITE_FILE = "write-file PATH CONTENT-HEX";
    READ_FILE = "read-file PATH";
    ORPHANS = "fork-orphans COUNT";
    ALLOC = "alloc MIB";
    PHYSICAL = "physmem ADDRESS-HEX COUNT SEED";
    REBIND = "rebind VIRTIO-DRIVER";
    PLAIN = "a request without arguments";
}

/// A request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Request {
    /// Answers a fresh attestation document in hexadecimal.
    Attest { nonce: Option<Vec<u8>>, user_data: Option<Vec<u8>>, public_key: Option<Vec<u8>> },
    /// Asks for so many documents, one after the other, and answers how many microseconds that took.
    AttestMany(u32),
    /// Answers DescribeNSM as JSON.
    Describe,
    /// Passes these bytes to the security module and answers its response.
    Nsm(Vec<u8>),
    /// Sends back what comes, until the peer ends its direction. No other answer.
    Echo,
    /// Reads so many bytes, then answers their number.
    Sink(u64),
    /// Sends so many zero bytes. No other answer.
    Source(u64),
    /// Connects to the host, answers `ok`, and then relays both directions.
    Connect { cid: u32, port: u32 },
    /// Opens so many connections to the host at once, answers how many succeeded, and closes them.
    Flood { port: u32, count: u32, cid: u32 },
    /// Writes so many bytes to standard output.
    Console(u64),
    /// Exits with this status.
    Exit(u8),
    /// Ends by SIGABRT.
    Abort,
    /// Ends by SIGSEGV.
    Segfault,
    /// Makes the kernel panic.
    Panic,
    /// Switches the machine off.
    PowerOff,
    /// Restarts the machine, in one of the ways that the kernel knows, by default the one of its command line.
    Reboot(Option<String>),
    /// Answers nothing, for ever.
    Hang,
    /// Answers the processors as JSON.
    Cpus,
    /// Answers raw CPUID leaves as JSON, of one processor if that matters.
    Cpuid(Option<u32>),
    /// Answers the clock's source and time as JSON.
    Clock,
    /// Answers arguments, environment, folder and ids of this process as JSON.
    Environment,
    /// Answers the state of the loopback interface as JSON.
    Network,
    /// Answers the kernel's command line.
    CommandLine,
    /// Writes a file.
    WriteFile { path: PathBuf, content: Vec<u8> },
    /// Answers a file's content in hexadecimal (1 MiB at most).
    ReadFile(PathBuf),
    /// Answers the kernel's log in hexadecimal.
    KernelLog,
    /// Leaves so many orphans to init and answers how many of them it left as zombies.
    ForkOrphans(u32),
    /// Takes so much memory and touches each page of it.
    Alloc(u32),
    /// Writes random values to device registers by way of /dev/mem.
    Physical { address: u64, count: u32, seed: u64 },
    /// Takes the devices of a virtio driver away from it and gives them back: a device reset.
    Rebind(String),
}

impl Request {
    /// Reads a request line, without its line feed.
    pub(crate) fn parse(line: &str) -> Result<Self, DemoError> {
        let mut words = line.split_ascii_whitespace();
        let name = words.next().unwrap_or_default();
        let words: Vec<&str> = words.collect();
        if let Some(plain) = Self::parse_plain(name) {
            return if words.is_empty() { Ok(plain) } else { Err(DemoError::Usage(PLAIN)) };
        }
        Self::parse_with_words(name, &words)
    }

    fn parse_plain(name: &str) -> Option<Self> {
        Some(match name {
            "describe" => Self::Describe,
            "echo" => Self::Echo,
            "abort" => Self::Abort,
            "segfault" => Self::Segfault,
            "panic" => Self::Panic,
            "poweroff" => Self::PowerOff,
            "triple-fault" => Self::Reboot(Some("triple".to_owned())),
            "hang" => Self::Hang,
            "cpus" => Self::Cpus,
            "clock" => Self::Clock,
            "env" => Self::Environment,
            "net" => Self::Network,
            "cmdline" => Self::CommandLine,
            "kernel-log" => Self::KernelLog,
            _ => return None,
        })
    }

    fn parse_with_words(name: &str, words: &[&str]) -> Result<Self, DemoError> {
        match name {
            "attest" => Self::parse_attest(words).ok_or(DemoError::Usage(ATTEST)),
            "attest-many" => {
                one(words).and_then(number).map(Self::AttestMany).ok_or(DemoError::Usage(ATTEST_MANY))
            }
            "nsm" => one(words).and_then(bytes).map(Self::Nsm).ok_or(DemoError::Usage(NSM)),
            "sink" => one(words).and_then(number).map(Self::Sink).ok_or(DemoError::Usage(SINK)),
            "source" => one(words).and_then(number).map(Self::Source).ok_or(DemoError::Usage(SOURCE)),
            "connect" => Self::parse_connect(words).ok_or(DemoError::Usage(CONNECT)),
            "flood" => Self::parse_flood(words).ok_or(DemoError::Usage(FLOOD)),
            "console" => one(words).and_then(number).map(Self::Console).ok_or(DemoError::Usage(CONSOLE)),
            "exit" => one(words).and_then(number).map(Self::Exit).ok_or(DemoError::Usage(EXIT)),
            "reboot" => Self::parse_reboot(words).ok_or(DemoError::Usage(REBOOT)),
            "cpuid" => Self::parse_cpuid(words).ok_or(DemoError::Usage(CPUID)),
            "write-file" => Self::parse_write_file(words).ok_or(DemoError::Usage(WRITE_FILE)),
            "read-file" => {
                one(words).map(|path| Self::ReadFile(path.into())).ok_or(DemoError::Usage(READ_FILE))
            }
            "fork-orphans" => {
                one(words).and_then(number).map(Self::ForkOrphans).ok_or(DemoError::Usage(ORPHANS))
            }
            "alloc" => one(words).and_then(number).map(Self::Alloc).ok_or(DemoError::Usage(ALLOC)),
            "physmem" => Self::parse_physical(words).ok_or(DemoError::Usage(PHYSICAL)),
            "rebind" => Self::parse_rebind(words).ok_or(DemoError::Usage(REBIND)),
            _ => Err(DemoError::Unknown(name.chars().take(40).collect())),
        }
    }

    fn parse_attest(words: &[&str]) -> Option<Self> {
        let (&nonce, rest) = words.split_first()?;
        let (user_data, public_key) = match rest {
            [] => ("-", "-"),
            [user_data] => (*user_data, "-"),
            [user_data, public_key] => (*user_data, *public_key),
            _ => return None,
        };
        Some(Self::Attest {
            nonce: optional_bytes(nonce)?,
            user_data: optional_bytes(user_data)?,
            public_key: optional_bytes(public_key)?,
        })
    }

    fn parse_connect(words: &[&str]) -> Option<Self> {
        let [cid, port] = words else { return None };
        Some(Self::Connect { cid: number(cid)?, port: number(port)? })
    }

    fn parse_flood(words: &[&str]) -> Option<Self> {
        match words {
            [port, count] => Some(Self::Flood {
                port: number(port)?,
                count: number(count)?,
                cid: guest::vsock::CID_PARENT,
            }),
            [port, count, cid] => {
                Some(Self::Flood { port: number(port)?, count: number(count)?, cid: number(cid)? })
            }
            _ => None,
        }
    }

    fn parse_reboot(words: &[&str]) -> Option<Self> {
        match words {
            [] => Some(Self::Reboot(None)),
            [way @ ("kbd" | "acpi" | "triple" | "efi" | "pci" | "bios")] => {
                Some(Self::Reboot(Some((*way).to_owned())))
            }
            _ => None,
        }
    }

    fn parse_cpuid(words: &[&str]) -> Option<Self> {
        match words {
            [] => Some(Self::Cpuid(None)),
            [cpu] => Some(Self::Cpuid(Some(number(cpu)?))),
            _ => None,
        }
    }

    fn parse_write_file(words: &[&str]) -> Option<Self> {
        let [path, content] = words else { return None };
        Some(Self::WriteFile { path: path.into(), content: optional_bytes(content)?.unwrap_or_default() })
    }

    fn parse_physical(words: &[&str]) -> Option<Self> {
        let [address, count, seed] = words else { return None };
        let address = u64::from_str_radix(address.trim_start_matches("0x"), 16).ok()?;
        Some(Self::Physical { address, count: number(count)?, seed: number(seed)? })
    }

    /// A driver's name becomes part of a path, so it is a name and no path.
    fn parse_rebind(words: &[&str]) -> Option<Self> {
        let name = one(words)?;
        let is_name = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'));
        is_name.then(|| Self::Rebind(name.to_owned()))
    }
}

fn one<'a>(words: &[&'a str]) -> Option<&'a str> {
    let [word] = words else { return None };
    Some(word)
}

fn number<T: std::str::FromStr>(word: &str) -> Option<T> {
    word.parse().ok()
}

fn bytes(word: &str) -> Option<Vec<u8>> {
    hex::decode(word).ok()
}

/// `-` stands for nothing at all.
fn optional_bytes(word: &str) -> Option<Option<Vec<u8>>> {
    if word == "-" { Some(None) } else { bytes(word).map(Some) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parsed(line: &str) -> Request {
        Request::parse(line).unwrap()
    }

    fn refusal(line: &str) -> String {
        Request::parse(line).unwrap_err().to_string()
    }

    #[test]
    fn attest_takes_one_to_three_fields() {
        let attest = |nonce: &[u8], user_data: Option<&[u8]>, public_key: Option<&[u8]>| Request::Attest {
            nonce: Some(nonce.to_vec()),
            user_data: user_data.map(<[u8]>::to_vec),
            public_key: public_key.map(<[u8]>::to_vec),
        };
        assert_eq!(parsed("attest 0102"), attest(&[1, 2], None, None));
        assert_eq!(parsed("attest 0102 ff"), attest(&[1, 2], Some(&[0xff]), None));
        assert_eq!(parsed("attest 0102 - 03"), attest(&[1, 2], None, Some(&[3])));
        assert_eq!(parsed("attest -"), Request::Attest { nonce: None, user_data: None, public_key: None });
        for line in ["attest", "attest 1", "attest xx", "attest - - - -"] {
            assert_eq!(
                refusal(line),
                "usage: attest NONCE-HEX|- [USER-DATA-HEX|- [PUBLIC-KEY-HEX|-]]",
                "{line}"
            );
        }
    }

    #[test]
    fn numbers_stay_within_their_types() {
        assert_eq!(parsed("exit 255"), Request::Exit(255));
        assert_eq!(refusal("exit 256"), "usage: exit STATUS");
        assert_eq!(refusal("exit -1"), "usage: exit STATUS");
        assert_eq!(parsed("sink 18446744073709551615"), Request::Sink(u64::MAX));
        assert_eq!(refusal("sink 18446744073709551616"), "usage: sink BYTES");
        assert_eq!(parsed("connect 4294967295 0"), Request::Connect { cid: u32::MAX, port: 0 });
        assert_eq!(refusal("connect 4294967296 0"), "usage: connect CID PORT");
    }

    #[test]
    fn flood_goes_to_the_parent_unless_told_otherwise() {
        assert_eq!(parsed("flood 7 100"), Request::Flood { port: 7, count: 100, cid: 3 });
        assert_eq!(parsed("flood 7 100 2"), Request::Flood { port: 7, count: 100, cid: 2 });
    }

    #[test]
    fn reboots_are_of_the_kinds_that_the_kernel_knows() {
        assert_eq!(parsed("reboot"), Request::Reboot(None));
        assert_eq!(parsed("reboot acpi"), Request::Reboot(Some("acpi".into())));
        assert_eq!(parsed("triple-fault"), parsed("reboot triple"));
        assert!(Request::parse("reboot ../x").is_err());
    }

    #[test]
    fn a_driver_is_a_name_and_no_path() {
        assert_eq!(parsed("rebind nsm"), Request::Rebind("nsm".into()));
        for line in ["rebind ../../x", "rebind a/b", "rebind .", "rebind a b", "rebind"] {
            assert!(Request::parse(line).is_err(), "{line}");
        }
    }

    #[test]
    fn addresses_are_hexadecimal_with_or_without_prefix() {
        let expected = Request::Physical { address: 0xd000_0000, count: 5, seed: 1 };
        assert_eq!(parsed("physmem d0000000 5 1"), expected);
        assert_eq!(parsed("physmem 0xd0000000 5 1"), expected);
    }

    #[test]
    fn what_is_unknown_or_superfluous_is_refused() {
        assert_eq!(refusal(""), "unknown request \"\"");
        assert_eq!(refusal("make-coffee"), "unknown request \"make-coffee\"");
        assert_eq!(refusal("echo twice"), "usage: a request without arguments");
        assert!(refusal(&"x".repeat(5000)).len() < 100, "the answer does not repeat what was sent");
    }

    proptest! {
        #[test]
        fn no_line_makes_it_panic(line: String) {
            let _ = Request::parse(&line);
        }

        #[test]
        fn no_arguments_make_it_panic(index in 0..16_usize, rest: String) {
            let names = ["attest", "nsm", "sink", "source", "connect", "flood", "console", "exit", "reboot", "cpuid",
                "write-file", "read-file", "fork-orphans", "alloc", "physmem", "rebind"];
            let _ = Request::parse(&format!("{} {rest}", names[index]));
        }
    }
}
