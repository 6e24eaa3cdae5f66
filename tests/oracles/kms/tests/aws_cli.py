"""Every operation of the key service, asked with the AWS command line."""

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
assert "PrivateKeyPlaintext" not in aws("generate-data-key-pair-without-plaintext", "--key-id", key, "--key-pair-spec", "ECC_NIST_P256")

# Another key, and an alias that goes over to it.
other = aws("create-key")["KeyMetadata"]["KeyId"]
aws("update-key-description", "--key-id", other, "--description", "another")
assert aws("describe-key", "--key-id", other)["KeyMetadata"]["Description"] == "another"
aws("update-alias", "--alias-name", "alias/cli", "--target-key-id", other)
assert aws("describe-key", "--key-id", "alias/cli")["KeyMetadata"]["KeyId"] == other
move = ["--ciphertext-blob", "fileb://blob", "--source-encryption-context", "tenant=a", "--destination-key-id", "alias/cli"]
pathlib.Path("moved").write_bytes(base64.b64decode(aws("re-encrypt", *move)["CiphertextBlob"]))
moved = aws("decrypt", "--ciphertext-blob", "fileb://moved")
assert base64.b64decode(moved["Plaintext"]) == secret.read_bytes() and moved["KeyId"].endswith(other)

# Two keys agree on the same secret, whichever of them is asked.
pair = [aws("create-key", "--key-spec", "ECC_NIST_P384", "--key-usage", "KEY_AGREEMENT")["KeyMetadata"]["KeyId"] for _ in range(2)]
for name in pair:
    pathlib.Path(name).write_bytes(base64.b64decode(aws("get-public-key", "--key-id", name)["PublicKey"]))
agree = ["derive-shared-secret", "--key-agreement-algorithm", "ECDH"]
shared = [aws(*agree, "--key-id", one, "--public-key", f"fileb://{peer}")["SharedSecret"] for one, peer in (pair, pair[::-1])]
assert shared[0] == shared[1] and len(base64.b64decode(shared[0])) == 48

assert aws("list-key-policies", "--key-id", key)["PolicyNames"] == ["default"]
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
