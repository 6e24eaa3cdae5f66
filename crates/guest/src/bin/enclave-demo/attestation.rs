//! Requests that go to the security module.

use std::time::Instant;

use guest::nsm::Nsm;
use serde_json::to_string;

use crate::error::DemoError;
use crate::service::Answer;

pub(crate) fn attest(
    nonce: Option<Vec<u8>>,
    user_data: Option<Vec<u8>>,
    public_key: Option<Vec<u8>>,
) -> Result<Answer, DemoError> {
    Ok(Answer::Text(hex::encode(Nsm::open()?.attest(nonce, user_data, public_key)?)))
}

/// For benchmarks: the time of one request in many, without the connection's.
pub(crate) fn attest_many(count: u32) -> Result<Answer, DemoError> {
    let nsm = Nsm::open()?;
    let began = Instant::now();
    for number in 0..count {
        nsm.attest(Some(number.to_be_bytes().to_vec()), None, None)?;
    }
    Ok(Answer::Text(began.elapsed().as_micros().to_string()))
}

pub(crate) fn describe() -> Result<Answer, DemoError> {
    let description = Nsm::open()?.describe()?;
    to_string(&description).map(Answer::Text).map_err(DemoError::system("cannot write JSON"))
}

pub(crate) fn raw(request: &[u8]) -> Result<Answer, DemoError> {
    Ok(Answer::Text(hex::encode(Nsm::open()?.raw_request(request)?)))
}
