//! A small reader of BER (X.690, section 8): elements of definite and indefinite length, strings in one piece and in
//! several. It allocates for strings in pieces only, and never reads past what it was given.

use std::borrow::Cow;

use super::CmsError;
use super::tag::{CONSTRUCTED, OCTET_STRING};

/// How deep elements of indefinite length, and pieces within pieces, may lie in each other. An envelope has seven levels.
pub(super) const MAX_DEPTH: usize = 16;

/// The length octet that announces an end-of-contents mark (X.690, section 8.1.3.6).
const INDEFINITE: u8 = 0x80;
/// Bits of an identifier octet that say that the tag's number follows (X.690, section 8.1.2.4): no type of ours has one.
const LONG_TAG: u8 = 0x1f;
/// Length octets of an element: enough for what is longer than any input.
const MAX_LENGTH_OCTETS: u8 = 4;

/// What ends the content of an element.
#[derive(Clone, Copy)]
enum Length {
    Definite(usize),
    Indefinite,
}

/// An element: its identifier octet and its content, without end-of-contents mark.
#[derive(Clone, Copy)]
pub(super) struct Element<'a> {
    tag: u8,
    content: &'a [u8],
}

/// Elements one after the other.
#[derive(Clone, Copy)]
pub(super) struct Reader<'a> {
    input: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) const fn new(input: &'a [u8]) -> Self {
        Self { input }
    }

    /// The elements within the next one, which must have this tag.
    pub(super) fn within(&mut self, tag: u8, what: &'static str) -> Result<Self, CmsError> {
        self.content(tag, what).map(Self::new)
    }

    /// The content of the next element, which must have this tag.
    pub(super) fn content(&mut self, tag: u8, what: &'static str) -> Result<&'a [u8], CmsError> {
        let element = self.next(what)?;
        if element.tag == tag { Ok(element.content) } else { Err(CmsError::Structure(what)) }
    }

    /// The next element, a string of this tag, in one piece or in several (X.690, section 8.7).
    pub(super) fn string(&mut self, tag: u8, what: &'static str) -> Result<Cow<'a, [u8]>, CmsError> {
        let element = self.next(what)?;
        if element.tag == tag {
            return Ok(Cow::Borrowed(element.content));
        }
        if element.tag != tag | CONSTRUCTED {
            return Err(CmsError::Structure(what));
        }
        let mut whole = Vec::with_capacity(element.content.len());
        append_pieces(Self::new(element.content), &mut whole, MAX_DEPTH)?;
        Ok(Cow::Owned(whole))
    }

    /// Nothing may follow.
    pub(super) fn end(&self, what: &'static str) -> Result<(), CmsError> {
        if self.is_empty() { Ok(()) } else { Err(CmsError::Structure(what)) }
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.input.is_empty()
    }

    /// The next element, where there is one.
    fn next(&mut self, what: &'static str) -> Result<Element<'a>, CmsError> {
        if self.is_empty() { Err(CmsError::Structure(what)) } else { self.element() }
    }

    fn element(&mut self) -> Result<Element<'a>, CmsError> {
        let (tag, length) = self.header()?;
        if tag == 0 {
            return Err(CmsError::Structure("an end-of-contents mark where none belongs"));
        }
        let content = match length {
            Length::Definite(length) => self.take(length)?,
            Length::Indefinite => self.take_marked()?,
        };
        Ok(Element { tag, content })
    }

    fn header(&mut self) -> Result<(u8, Length), CmsError> {
        let tag = self.octet()?;
        if tag & LONG_TAG == LONG_TAG {
            return Err(CmsError::Structure("a tag in the long form"));
        }
        let first = self.octet()?;
        let length = match first {
            INDEFINITE if tag & CONSTRUCTED == 0 => {
                return Err(CmsError::Structure("an indefinite length of a primitive element"));
            }
            INDEFINITE => Length::Indefinite,
            0..INDEFINITE => Length::Definite(first.into()),
            _ => Length::Definite(self.long_length(first & !INDEFINITE)?),
        };
        Ok((tag, length))
    }

    /// A length in the long form (X.690, section 8.1.3.5). BER, unlike DER, allows more octets than needed.
    fn long_length(&mut self, octets: u8) -> Result<usize, CmsError> {
        if octets > MAX_LENGTH_OCTETS {
            return Err(CmsError::Structure("a length of more than four octets"));
        }
        let length =
            self.take(octets.into())?.iter().fold(0_u32, |length, octet| length << 8 | u32::from(*octet));
        usize::try_from(length).map_err(|_| TRUNCATED)
    }

    /// Everything before the end-of-contents mark that belongs to what comes before.
    fn take_marked(&mut self) -> Result<&'a [u8], CmsError> {
        let start = self.input;
        let mut open = 1_usize;
        loop {
            let before = self.input.len();
            match self.header()? {
                (0, Length::Definite(0)) => {
                    open = open.saturating_sub(1);
                    if open == 0 {
                        return start.get(..start.len().saturating_sub(before)).ok_or(TRUNCATED);
                    }
                }
                (0, _) => return Err(CmsError::Structure("an end-of-contents mark with content")),
                (_, Length::Definite(length)) => {
                    self.take(length)?;
                }
                (_, Length::Indefinite) if open == MAX_DEPTH => return Err(TOO_DEEP),
                (_, Length::Indefinite) => open = open.saturating_add(1),
            }
        }
    }

    fn octet(&mut self) -> Result<u8, CmsError> {
        let (octet, rest) = self.input.split_first().ok_or(TRUNCATED)?;
        self.input = rest;
        Ok(*octet)
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], CmsError> {
        let (taken, rest) = self.input.split_at_checked(length).ok_or(TRUNCATED)?;
        self.input = rest;
        Ok(taken)
    }
}

const TRUNCATED: CmsError = CmsError::Structure("it ends within an element");
const TOO_DEEP: CmsError = CmsError::Structure("elements lie too deep in each other");

/// The pieces of a string are octet strings, each in one piece or in several itself.
fn append_pieces(mut pieces: Reader<'_>, whole: &mut Vec<u8>, depth: usize) -> Result<(), CmsError> {
    let depth = depth.checked_sub(1).ok_or(TOO_DEEP)?;
    const CONSTRUCTED_STRING: u8 = OCTET_STRING | CONSTRUCTED;
    while !pieces.is_empty() {
        let piece = pieces.element()?;
        match piece.tag {
            OCTET_STRING => whole.extend_from_slice(piece.content),
            CONSTRUCTED_STRING => append_pieces(Reader::new(piece.content), whole, depth)?,
            _ => return Err(CmsError::Structure("a piece of a string is no octet string")),
        }
    }
    Ok(())
}
