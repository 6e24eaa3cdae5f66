"""Every operation of the key service, asked with boto3. Ends with 0 if each answer, and each error's class, is what it should be."""

import json
import pathlib
import subprocess

import boto3
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_private_key, load_der_public_key

kms = boto3.client("kms")
errors = kms.exceptions
NO_KEY = "1234abcd-12ab-34cd-56ef-1234567890ab"


def refused(error, operation, **request):
    """The operation must fail with this class, or with this code where boto3 has no class for it."""
    expected = error if isinstance(error, str) else error.__name__
    try:
        operation(**request)
    except errors.ClientError as found:
        assert found.response["Error"]["Code"] == expected, found
        assert isinstance(error, str) or isinstance(found, error), type(found)
        assert found.response["Error"]["Message"], found
        return
    raise AssertionError(f"not refused: {operation} {request}")


def opened(answer):
    """CiphertextForRecipient, opened with the enclave's key by openssl, and nothing beside it."""
    assert not answer.get("Plaintext") and not answer.get("PrivateKeyPlaintext") and not answer.get("SharedSecret")
    pathlib.Path("answer.cms").write_bytes(answer["CiphertextForRecipient"])
    command = ["openssl", "cms", "-decrypt", "-inform", "DER", "-in", "answer.cms", "-inkey", "enclave.pem", "-binary"]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout


recipient = {"KeyEncryptionAlgorithm": "RSAES_OAEP_SHA_256", "AttestationDocument": pathlib.Path("document.cose").read_bytes()}
changed = dict(recipient, AttestationDocument=recipient["AttestationDocument"][:-1] + b"\0")

# Keys.
key = kms.create_key(Description="of boto3")["KeyMetadata"]
assert key["KeyState"] == "Enabled" and key["Arn"].endswith(":key/" + key["KeyId"])
other = kms.create_key()["KeyMetadata"]
assert kms.describe_key(KeyId=key["Arn"])["KeyMetadata"] == key
listed = [found["KeyId"] for page in kms.get_paginator("list_keys").paginate(PaginationConfig={"PageSize": 1}) for found in page["Keys"]]
assert sorted(listed) == sorted([key["KeyId"], other["KeyId"]])
kms.update_key_description(KeyId=key["KeyId"], Description="changed")
assert kms.describe_key(KeyId=key["KeyId"])["KeyMetadata"]["Description"] == "changed"
refused(errors.NotFoundException, kms.describe_key, KeyId=NO_KEY)
refused(errors.InvalidArnException, kms.describe_key, KeyId="arn:aws:kms")
refused(errors.InvalidGrantTokenException, kms.get_public_key, KeyId=key["KeyId"], GrantTokens=["token"])
refused(errors.InvalidMarkerException, kms.list_keys, Marker="here")
refused(errors.UnsupportedOperationException, kms.create_key, KeySpec="RSA_2048", KeyUsage="ENCRYPT_DECRYPT")
refused(errors.UnsupportedOperationException, kms.create_key, Tags=[{"TagKey": "a", "TagValue": "b"}])
refused(errors.UnsupportedOperationException, kms.sign, KeyId=key["KeyId"], Message=b"m", SigningAlgorithm="ECDSA_SHA_256")

# Aliases.
kms.create_alias(AliasName="alias/a", TargetKeyId=key["KeyId"])
refused(errors.AlreadyExistsException, kms.create_alias, AliasName="alias/a", TargetKeyId=key["KeyId"])
refused(errors.InvalidAliasNameException, kms.create_alias, AliasName="alias/aws/a", TargetKeyId=key["KeyId"])
kms.update_alias(AliasName="alias/a", TargetKeyId=other["KeyId"])
assert [alias["TargetKeyId"] for alias in kms.list_aliases()["Aliases"]] == [other["KeyId"]]
kms.delete_alias(AliasName="alias/a")
refused(errors.NotFoundException, kms.describe_key, KeyId="alias/a")

# Encryption.
context = {"tenant": "a", "purpose": "b"}
encrypted = kms.encrypt(KeyId=key["KeyId"], Plaintext=b"secret", EncryptionContext=context)
blob = encrypted["CiphertextBlob"]
assert encrypted["KeyId"] == key["Arn"]
assert kms.decrypt(CiphertextBlob=blob, EncryptionContext=context)["Plaintext"] == b"secret"
refused(errors.InvalidCiphertextException, kms.decrypt, CiphertextBlob=blob)
refused(errors.InvalidCiphertextException, kms.decrypt, CiphertextBlob=b"none of ours")
refused(errors.IncorrectKeyException, kms.decrypt, CiphertextBlob=blob, EncryptionContext=context, KeyId=other["KeyId"])
refused(errors.DryRunOperationException, kms.decrypt, CiphertextBlob=blob, EncryptionContext=context, DryRun=True)
refused("ValidationException", kms.encrypt, KeyId=key["KeyId"], Plaintext=b"x" * 4097)
moved = kms.re_encrypt(CiphertextBlob=blob, SourceEncryptionContext=context, DestinationKeyId=other["KeyId"])
assert moved["SourceKeyId"] == key["Arn"] and moved["KeyId"] == other["Arn"]
assert kms.decrypt(CiphertextBlob=moved["CiphertextBlob"])["Plaintext"] == b"secret"
assert opened(kms.decrypt(CiphertextBlob=blob, EncryptionContext=context, Recipient=recipient)) == b"secret"
refused("ValidationException", kms.decrypt, CiphertextBlob=blob, EncryptionContext=context, Recipient=changed)

# Data keys.
data = kms.generate_data_key(KeyId=key["KeyId"], KeySpec="AES_256")
assert kms.decrypt(CiphertextBlob=data["CiphertextBlob"])["Plaintext"] == data["Plaintext"] and len(data["Plaintext"]) == 32
data = kms.generate_data_key(KeyId=key["KeyId"], NumberOfBytes=64, Recipient=recipient)
assert opened(data) == kms.decrypt(CiphertextBlob=data["CiphertextBlob"])["Plaintext"]
data = kms.generate_data_key_without_plaintext(KeyId=key["KeyId"], KeySpec="AES_128")
assert len(kms.decrypt(CiphertextBlob=data["CiphertextBlob"])["Plaintext"]) == 16


def belongs_together(private, public):
    """A private key in PKCS#8 and a public one in SubjectPublicKeyInfo, as cryptography reads them."""
    found = load_der_private_key(private, None).public_key()
    assert found == load_der_public_key(public)
    return found


for spec, bits in (("RSA_2048", 2048), ("RSA_3072", 3072), ("RSA_4096", 4096), ("ECC_NIST_P256", 256), ("ECC_NIST_P384", 384), ("ECC_NIST_P521", 521)):
    pair = kms.generate_data_key_pair(KeyId=key["KeyId"], KeyPairSpec=spec)
    assert belongs_together(pair["PrivateKeyPlaintext"], pair["PublicKey"]).key_size == bits
    assert kms.decrypt(CiphertextBlob=pair["PrivateKeyCiphertextBlob"])["Plaintext"] == pair["PrivateKeyPlaintext"]
pair = kms.generate_data_key_pair(KeyId=key["KeyId"], KeyPairSpec="ECC_NIST_P256", Recipient=recipient)
belongs_together(opened(pair), pair["PublicKey"])
pair = kms.generate_data_key_pair_without_plaintext(KeyId=key["KeyId"], KeyPairSpec="ECC_NIST_P384")
belongs_together(kms.decrypt(CiphertextBlob=pair["PrivateKeyCiphertextBlob"])["Plaintext"], pair["PublicKey"])
assert len(kms.generate_random(NumberOfBytes=1024)["Plaintext"]) == 1024
assert len(opened(kms.generate_random(NumberOfBytes=24, Recipient=recipient))) == 24

# Agreement.
for spec, curve in (("ECC_NIST_P256", ec.SECP256R1()), ("ECC_NIST_P384", ec.SECP384R1()), ("ECC_NIST_P521", ec.SECP521R1())):
    ours = kms.create_key(KeySpec=spec, KeyUsage="KEY_AGREEMENT")["KeyMetadata"]["KeyId"]
    peer = ec.generate_private_key(curve)
    public = peer.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    shared = peer.exchange(ec.ECDH(), load_der_public_key(kms.get_public_key(KeyId=ours)["PublicKey"]))
    request = {"KeyId": ours, "KeyAgreementAlgorithm": "ECDH", "PublicKey": public}
    assert kms.derive_shared_secret(**request)["SharedSecret"] == shared
    assert opened(kms.derive_shared_secret(**request, Recipient=recipient)) == shared
refused(errors.InvalidKeyUsageException, kms.encrypt, KeyId=ours, Plaintext=b"x")

# Policies. The last takes the key away from everybody without a document of this image.
policy = kms.get_key_policy(KeyId=key["KeyId"])["Policy"]
assert json.loads(policy)["Statement"][0]["Effect"] == "Allow"
assert kms.list_key_policies(KeyId=key["KeyId"])["PolicyNames"] == ["default"]
refused(errors.MalformedPolicyDocumentException, kms.put_key_policy, KeyId=key["KeyId"], Policy="{}")
attested = json.loads(policy)
statement = {"Sid": "NotWithoutTheImage", "Effect": "Deny", "Principal": "*", "Action": "kms:Decrypt", "Resource": "*"}
statement["Condition"] = {"StringNotEqualsIgnoreCase": {"kms:RecipientAttestation:ImageSha384": "a0" * 48}}
attested["Statement"].append(statement)
kms.put_key_policy(KeyId=key["KeyId"], Policy=json.dumps(attested))
refused("AccessDeniedException", kms.decrypt, CiphertextBlob=blob, EncryptionContext=context)
assert opened(kms.decrypt(CiphertextBlob=blob, EncryptionContext=context, Recipient=recipient)) == b"secret"

# The end of a key.
kms.disable_key(KeyId=other["KeyId"])
refused(errors.DisabledException, kms.encrypt, KeyId=other["KeyId"], Plaintext=b"x")
kms.enable_key(KeyId=other["KeyId"])
scheduled = kms.schedule_key_deletion(KeyId=other["KeyId"], PendingWindowInDays=7)
assert scheduled["KeyState"] == "PendingDeletion"
assert kms.describe_key(KeyId=other["KeyId"])["KeyMetadata"]["DeletionDate"] == scheduled["DeletionDate"]
refused(errors.KMSInvalidStateException, kms.encrypt, KeyId=other["KeyId"], Plaintext=b"x")
kms.cancel_key_deletion(KeyId=other["KeyId"])
assert kms.describe_key(KeyId=other["KeyId"])["KeyMetadata"]["KeyState"] == "Disabled"
