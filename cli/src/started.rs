//! The object that starting an enclave prints, with either front.

use enclave_hypervisor::description::Description;
use serde::Serialize;

/// nitro-cli's object: what run-enclave prints, and what describe-enclaves begins with.
#[derive(Debug, Serialize)]
pub(crate) struct Started<'d> {
    #[serde(rename = "EnclaveName")]
    pub(crate) name: &'d str,
    #[serde(rename = "EnclaveID")]
    pub(crate) enclave_id: &'d str,
    #[serde(rename = "ProcessID")]
    pub(crate) process_id: u32,
    #[serde(rename = "EnclaveCID")]
    pub(crate) cid: u32,
    #[serde(rename = "NumberOfCPUs")]
    pub(crate) number_of_cpus: u32,
    #[serde(rename = "CPUIDs")]
    pub(crate) cpu_ids: &'d [u32],
    #[serde(rename = "MemoryMiB")]
    pub(crate) memory_mib: u64,
}

impl<'d> From<&'d Description> for Started<'d> {
    fn from(enclave: &'d Description) -> Self {
        Self {
            name: &enclave.name,
            enclave_id: &enclave.enclave_id,
            process_id: enclave.process_id,
            cid: enclave.cid,
            number_of_cpus: enclave.number_of_cpus,
            cpu_ids: &enclave.cpu_ids,
            memory_mib: enclave.memory_mib,
        }
    }
}
