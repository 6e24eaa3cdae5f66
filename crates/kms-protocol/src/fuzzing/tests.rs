//! The fuzz targets' bodies, on their corpora and on mutations of them.

use getrandom::SysRng;
use rsa::pkcs8::EncodePublicKey;

use super::*;
use crate::cms::{Encoding, seal};

/// Mutations of each input.
const MUTATIONS: u64 = 400;

#[test]
fn the_corpus_of_envelopes_breaks_nothing() {
    corpus::replay("cms", MUTATIONS, |input| _ = envelope(input));
}

#[test]
fn the_corpus_of_requests_breaks_nothing() {
    corpus::replay("sigv4", MUTATIONS, |input| _ = signed_request(input));
}

#[test]
fn the_corpora_are_what_their_names_say() {
    for (name, input) in corpus::inputs("cms") {
        assert_eq!(envelope(&input), name.starts_with("kms") || name.starts_with("our"), "{name}");
        assert_eq!(RecipientKey::from_spki_der(&input).is_ok(), name == "public-key", "{name}");
    }
    for (name, input) in corpus::inputs("sigv4") {
        assert_eq!(signed_request(&input), name.starts_with("botocore"), "{name}");
    }
}

#[test]
#[ignore = "writes the seeds of the corpora anew, all but what KMS and botocore made"]
fn write_seeds() {
    let spki = KEY.to_public_key().to_public_key_der().unwrap().into_vec();
    let recipient = RecipientKey::from_spki_der(&spki).unwrap();
    let seal =
        |length: usize, encoding| seal(&recipient, &vec![b'x'; length], encoding, &mut SysRng).unwrap();
    let der = seal(32, Encoding::Der);
    let damaged = |at: usize| {
        let mut damaged = der.clone();
        damaged[at] ^= 1;
        damaged
    };
    corpus::write(
        "cms",
        &[
            ("our-der", der.clone()),
            ("our-ber", seal(32, Encoding::Ber)),
            ("our-ber-in-pieces", seal(2500, Encoding::Ber)),
            ("our-empty", seal(0, Encoding::Ber)),
            ("another-version", damaged(21)),
            ("a-byte-more", [der.as_slice(), &[0]].concat()),
            ("deep", [0x30, 0x80].repeat(40)),
            ("public-key", spki),
        ],
    );
    let botocore = GENUINE[0];
    let many: String = (0..70).map(|number| format!("h{number};")).collect();
    let seeds = [
        ("another-region", botocore.replace("us-east-1/kms", "eu-west-1/kms")),
        ("another-signature", botocore.replace("531f56", "531f57")),
        ("query", botocore.replace("POST /", "POST /a%20b/?b=2&a=%2F&a")),
        ("dots-in-the-path", botocore.replace("POST /", "POST /a/../b")),
        ("twice-the-date", botocore.replace("X-Amz-Date", "X-Amz-Date:20150830T123600Z\nX-Amz-Date")),
        (
            "unsigned-body",
            botocore.replace("X-Amz-Date", "X-Amz-Content-SHA256:UNSIGNED-PAYLOAD\nX-Amz-Date"),
        ),
        ("many-signed", botocore.replace("content-type;host", &many)),
        (
            "components-alone",
            "Credential=A/20150830/r/s/aws4_request,SignedHeaders=a,Signature=00".to_owned(),
        ),
    ];
    corpus::write("sigv4", &seeds.map(|(name, text)| (name, text.into_bytes())));
}
