//! Requests that go to the security module.

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

pub(crate) fn describe() -> Result<Answer, DemoError> {
    let description = Nsm::open()?.describe()?;
    to_string(&description).map(Answer::Text).map_err(DemoError::system("cannot write JSON"))
}

pub(crate) fn raw(request: &[u8]) -> Result<Answer, DemoError> {
    Ok(Answer::Text(hex::encode(Nsm::open()?.raw_request(request)?)))
}
