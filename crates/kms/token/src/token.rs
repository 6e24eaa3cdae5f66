//! The token: its session, its key, and the two operations on it.

use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::error::{Error, RvError};
use cryptoki::mechanism::Mechanism;
use cryptoki::mechanism::aead::GcmParams;
use cryptoki::object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle};
use cryptoki::session::{Session, UserType};
use cryptoki::slot::Slot;
use cryptoki::types::AuthPin;
use kms_token::{Failure, MASTER_KEY_LEN, Question, Task, WRAPPED_LEN};
use rand_core::TryRng;
use zeroize::Zeroizing;

/// The first byte of a wrapped master key: this form of it.
const VERSION: u8 = 1;
/// Bytes of a nonce of AES-GCM.
const NONCE_LEN: usize = 12;
/// Bits of a tag of AES-GCM.
const TAG_BITS: u64 = 128;
/// Authenticated with a master key: nothing else that the token's key ever encrypted is taken for one.
const CONTEXT: &[u8] = b"enclave kms master key 1";
/// Bytes of the key that the token makes: AES-256.
const KEY_LEN: u64 = 32;

type Result<T> = core::result::Result<T, Failure>;

/// Does what is asked for.
pub(crate) fn answer(question: &Question) -> Result<Zeroizing<Vec<u8>>> {
    let session = open(question)?;
    match &question.task {
        Task::MakeKey => make_key(&session, &question.key).map(|()| Zeroizing::default()),
        Task::Wrap(master) => wrap(&session, find(&session, &question.key)?, &decode(master)?),
        Task::Unwrap(wrapped) => unwrap(&session, find(&session, &question.key)?, &decode(wrapped)?),
    }
}

fn open(question: &Question) -> Result<Session> {
    let module = |error: Error| Failure::Module(error.to_string());
    // A relative name would be looked for where the loader likes.
    if !question.module.is_absolute() {
        return Err(Failure::Module("its path is not absolute".to_owned()));
    }
    let library = Pkcs11::new(&question.module).map_err(module)?;
    library.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)).map_err(module)?;
    let slot = slot(&library, &question.token)?;
    let session = match &question.task {
        Task::MakeKey => library.open_rw_session(slot),
        Task::Wrap(_) | Task::Unwrap(_) => library.open_ro_session(slot),
    }
    .map_err(|error| failed(&error))?;
    // Once: most tokens lock after a few wrong ones.
    let pin = AuthPin::from(question.pin.clone());
    session.login(UserType::User, Some(&pin)).map_err(|error| match error {
        Error::Pkcs11(RvError::PinIncorrect | RvError::PinInvalid | RvError::PinLenRange, _) => {
            Failure::WrongPin
        }
        Error::Pkcs11(RvError::PinLocked, _) => Failure::PinLocked,
        other => failed(&other),
    })?;
    Ok(session)
}

fn slot(library: &Pkcs11, label: &str) -> Result<Slot> {
    let mut found = Vec::new();
    for slot in library.get_slots_with_token().map_err(|error| failed(&error))? {
        if library.get_token_info(slot).is_ok_and(|token| token.label() == label) {
            found.push(slot);
        }
    }
    match found.as_slice() {
        [] => Err(Failure::NoToken(label.to_owned())),
        [slot] => Ok(*slot),
        _ => Err(Failure::ManyTokens(label.to_owned())),
    }
}

fn keys(session: &Session, label: &str) -> Result<Vec<ObjectHandle>> {
    let template = [
        Attribute::Class(ObjectClass::SECRET_KEY),
        Attribute::KeyType(KeyType::AES),
        Attribute::Label(label.as_bytes().to_vec()),
    ];
    session.find_objects(&template).map_err(|error| failed(&error))
}

/// The one key of that label, which must be one that cannot leave the token.
fn find(session: &Session, label: &str) -> Result<ObjectHandle> {
    let key = match keys(session, label)?.as_slice() {
        [] => return Err(Failure::NoKey(label.to_owned())),
        [key] => *key,
        _ => return Err(Failure::ManyKeys(label.to_owned())),
    };
    let asked = [AttributeType::Sensitive, AttributeType::Extractable];
    let attributes = session.get_attributes(key, &asked).map_err(|error| failed(&error))?;
    let sensitive = attributes.iter().any(|attribute| matches!(attribute, Attribute::Sensitive(true)));
    let kept = attributes.iter().any(|attribute| matches!(attribute, Attribute::Extractable(false)));
    if sensitive && kept { Ok(key) } else { Err(Failure::KeyCanLeave(label.to_owned())) }
}

fn make_key(session: &Session, label: &str) -> Result<()> {
    if !keys(session, label)?.is_empty() {
        return find(session, label).map(|_| ());
    }
    let template = [
        Attribute::Class(ObjectClass::SECRET_KEY),
        Attribute::KeyType(KeyType::AES),
        Attribute::ValueLen(KEY_LEN.into()),
        Attribute::Label(label.as_bytes().to_vec()),
        Attribute::Token(true),
        Attribute::Private(true),
        Attribute::Sensitive(true),
        Attribute::Extractable(false),
        Attribute::Encrypt(true),
        Attribute::Decrypt(true),
        Attribute::Wrap(false),
        Attribute::Unwrap(false),
        Attribute::Sign(false),
        Attribute::Verify(false),
    ];
    session.generate_key(&Mechanism::AesKeyGen, &template).map_err(|error| failed(&error))?;
    Ok(())
}

fn wrap(session: &Session, key: ObjectHandle, master: &[u8]) -> Result<Zeroizing<Vec<u8>>> {
    if master.len() != MASTER_KEY_LEN {
        return Err(Failure::Question);
    }
    let mut nonce = [0; NONCE_LEN];
    getrandom::SysRng
        .try_fill_bytes(&mut nonce)
        .map_err(|_| Failure::Token("the system has no randomness to give".to_owned()))?;
    let mut wrapped = Zeroizing::new(vec![VERSION]);
    wrapped.extend(nonce);
    let parameters = parameters(&mut nonce)?;
    let ciphertext =
        session.encrypt(&Mechanism::AesGcm(parameters), key, master).map_err(|error| failed(&error))?;
    wrapped.extend(ciphertext);
    // What a token makes of it is not ours to believe: a master key that cannot be unwrapped again would be lost.
    let again = unwrap(session, key, &wrapped)?;
    if wrapped.len() == WRAPPED_LEN && again.as_slice() == master {
        Ok(wrapped)
    } else {
        Err(Failure::Token("it does not give back what it encrypted".to_owned()))
    }
}

fn unwrap(session: &Session, key: ObjectHandle, wrapped: &[u8]) -> Result<Zeroizing<Vec<u8>>> {
    let Some((&VERSION, rest)) = wrapped.split_first() else { return Err(Failure::NotOurs) };
    let Some((nonce, ciphertext)) = rest.split_first_chunk::<NONCE_LEN>() else {
        return Err(Failure::NotOurs);
    };
    let mut nonce = *nonce;
    let parameters = parameters(&mut nonce)?;
    let opened = session.decrypt(&Mechanism::AesGcm(parameters), key, ciphertext);
    match opened.map(Zeroizing::new) {
        Ok(master) if master.len() == MASTER_KEY_LEN => Ok(master),
        Ok(_) => Err(Failure::NotOurs),
        // A wrong tag has a return value of its own in PKCS#11, but not every token uses it.
        Err(Error::Pkcs11(
            RvError::EncryptedDataInvalid
            | RvError::EncryptedDataLenRange
            | RvError::GeneralError
            | RvError::FunctionFailed,
            _,
        )) => Err(Failure::NotOurs),
        Err(error) => Err(failed(&error)),
    }
}

fn parameters(nonce: &mut [u8; NONCE_LEN]) -> Result<GcmParams<'_>> {
    GcmParams::new(nonce, CONTEXT, TAG_BITS.into()).map_err(|error| failed(&error))
}

fn decode(text: &str) -> Result<Zeroizing<Vec<u8>>> {
    hex::decode(text).map(Zeroizing::new).map_err(|_| Failure::Question)
}

fn failed(error: &Error) -> Failure {
    Failure::Token(error.to_string())
}
