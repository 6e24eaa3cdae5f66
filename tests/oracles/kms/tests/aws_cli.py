"""The AWS command line against the key service: the commands that people type."""

import base64
import json
import pathlib
import subprocess
import sys

AWS = pathlib.Path(sys.executable).parent / "aws"


def aws(*arguments, status=0):
    """Runs a command; what it answered, or what it complained of."""
    done = subprocess.run([AWS, "--output", "json", "kms", *arguments], capture_output=True)
    assert done.returncode == status, (arguments, done)
    if status:
        return done.stderr.decode()
    return json.loads(done.stdout) if done.stdout.strip() else None


secret = pathlib.Path("secret")
secret.write_bytes(b"attack at dawn")
key = aws("create-key", "--description", "of the command line")["KeyMetadata"]["KeyId"]
aws("create-alias", "--alias-name", "alias/cli", "--target-key-id", key)
assert [found["KeyId"] for found in aws("list-keys")["Keys"]] == [key]
assert aws("list-aliases")["Aliases"][0]["TargetKeyId"] == key
assert aws("describe-key", "--key-id", "alias/cli")["KeyMetadata"]["Description"] == "of the command line"
encrypted = aws("encrypt", "--key-id", "alias/cli", "--plaintext", "fileb://secret", "--encryption-context", "tenant=a")
pathlib.Path("blob").write_bytes(base64.b64decode(encrypted["CiphertextBlob"]))
decrypted = aws("decrypt", "--ciphertext-blob", "fileb://blob", "--encryption-context", "tenant=a")
assert base64.b64decode(decrypted["Plaintext"]) == secret.read_bytes()
assert "InvalidCiphertextException" in aws("decrypt", "--ciphertext-blob", "fileb://blob", status=255)
recipient = "KeyEncryptionAlgorithm=RSAES_OAEP_SHA_256,AttestationDocument@=fileb://document.cose"
sealed = aws("decrypt", "--ciphertext-blob", "fileb://blob", "--encryption-context", "tenant=a", "--recipient", recipient)
assert "Plaintext" not in sealed
pathlib.Path("sealed").write_bytes(base64.b64decode(sealed["CiphertextForRecipient"]))
command = ["openssl", "cms", "-decrypt", "-inform", "DER", "-in", "sealed", "-inkey", "enclave.pem", "-binary"]
assert subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout == secret.read_bytes()
assert len(base64.b64decode(aws("generate-data-key", "--key-id", key, "--key-spec", "AES_256")["Plaintext"])) == 32
assert "Plaintext" not in aws("generate-data-key-without-plaintext", "--key-id", key, "--key-spec", "AES_256")
assert len(base64.b64decode(aws("generate-random", "--number-of-bytes", "20")["Plaintext"])) == 20
assert "PublicKey" in aws("generate-data-key-pair", "--key-id", key, "--key-pair-spec", "ECC_NIST_P256")
policy = aws("get-key-policy", "--key-id", key, "--policy-name", "default")["Policy"]
aws("put-key-policy", "--key-id", key, "--policy-name", "default", "--policy", policy)
aws("disable-key", "--key-id", key)
assert "DisabledException" in aws("generate-data-key", "--key-id", key, "--key-spec", "AES_256", status=255)
aws("enable-key", "--key-id", key)
aws("schedule-key-deletion", "--key-id", key, "--pending-window-in-days", "7")
assert "KMSInvalidStateException" in aws("generate-data-key", "--key-id", key, "--key-spec", "AES_256", status=255)
aws("cancel-key-deletion", "--key-id", key)
aws("delete-alias", "--alias-name", "alias/cli")
assert "NotFoundException" in aws("describe-key", "--key-id", "alias/cli", status=255)
