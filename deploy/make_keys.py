"""Make the certificates of one server and the keys of its devices.

    python deploy/make_keys.py KEYS --host fnl.example.org --host 10.0.0.7 --devices 3

writes into the folder KEYS, which must not have them yet:

- `ca.crt`: the certificate that devices and whoever submits runs check the server by;
- `server.crt`, `server.key`: for the SuperLink;
- `device-0.key`, `device-0.pub`, …: one pair a device, NIST P-384 as Flower asks; the private half
  goes to the device and nowhere else, the public half is registered with the server.

The authority's own key is not kept: another server certificate means another `ca.crt`.
"""

from __future__ import annotations

import argparse
import ipaddress
import os
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_PEM = serialization.Encoding.PEM
_OPENSSH = serialization.Encoding.OpenSSH


def main() -> int:
    """Write what the arguments ask for; exit status 1 and one line if it is there already."""
    parser = argparse.ArgumentParser(description="Keys for one fnl server and its devices.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--host", action="append", required=True, help="name or address; repeat")
    parser.add_argument("--devices", type=int, required=True)
    parser.add_argument("--days", type=int, default=365, help="validity of the certificates")
    arguments = parser.parse_args()
    try:
        arguments.folder.mkdir(parents=True, exist_ok=True)
        write_server(arguments.folder, arguments.host, arguments.days)
        for number in range(arguments.devices):
            write_device(arguments.folder, number)
    except FileExistsError as error:
        print(f"{error.filename} is there already: remove it or take another folder")
        return 1
    print(f"certificates and keys of {arguments.devices} devices in {arguments.folder}")
    return 0


def write_server(folder: Path, hosts: list[str], days: int) -> None:
    """Write an authority's certificate and the server's, valid for `hosts`."""
    authority_key, server_key = (ec.generate_private_key(ec.SECP384R1()) for _ in range(2))
    authority = (
        _certificate("fnl authority", "fnl authority", authority_key, days)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .sign(authority_key, hashes.SHA384())
    )
    server = (
        _certificate("fnl server", "fnl authority", server_key, days)
        .add_extension(x509.SubjectAlternativeName([_name(host) for host in hosts]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()),
            critical=False,
        )
        .sign(authority_key, hashes.SHA384())
    )
    _write(folder / "ca.crt", authority.public_bytes(_PEM), secret=False)
    _write(folder / "server.crt", server.public_bytes(_PEM), secret=False)
    _write(folder / "server.key", _private(server_key, _PEM), secret=True)


def write_device(folder: Path, number: int) -> None:
    """Write one device's pair in OpenSSH's format."""
    key = ec.generate_private_key(ec.SECP384R1())
    public = key.public_key().public_bytes(_OPENSSH, serialization.PublicFormat.OpenSSH)
    _write(folder / f"device-{number}.key", _private(key, _PEM, openssh=True), secret=True)
    _write(folder / f"device-{number}.pub", public + b"\n", secret=False)


def _certificate(
    subject: str, issuer: str, key: ec.EllipticCurvePrivateKey, days: int
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))  # a device's clock may be behind
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _private(
    key: ec.EllipticCurvePrivateKey, encoding: serialization.Encoding, *, openssh: bool = False
) -> bytes:
    form = serialization.PrivateFormat.OpenSSH if openssh else serialization.PrivateFormat.PKCS8
    return key.private_bytes(encoding, form, serialization.NoEncryption())


def _write(path: Path, content: bytes, *, secret: bool) -> None:
    """Write a new file; a secret one is readable by its owner only, from the start."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600 if secret else 0o644)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)


if __name__ == "__main__":
    sys.exit(main())
