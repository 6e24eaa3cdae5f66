"""Says whether pycose finds the signature of an attestation document right. It looks at nothing else: no chain, no dates.

    pycose_verify.py DOCUMENT
"""

import pathlib
import sys

import cbor2
from cryptography import x509
from pycose.keys import EC2Key
from pycose.messages import Sign1Message

# COSE_Sign1's tag, 18: pycose wants it, and the security module does not write it.
TAG = b"\xd2"


def public_key(message):
    """The key of the certificate inside the document."""
    certificate = x509.load_der_x509_certificate(cbor2.loads(message.payload)["certificate"])
    point = certificate.public_key().public_numbers()
    return EC2Key(crv="P_384", x=point.x.to_bytes(48, "big"), y=point.y.to_bytes(48, "big"))


message = Sign1Message.decode(TAG + pathlib.Path(sys.argv[1]).read_bytes())
message.key = public_key(message)
print("accepted" if message.verify_signature() else "refused")
