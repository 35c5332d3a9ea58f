"""Say in one line why a device could not talk to its server: `check_server.py HOST:PORT CA`.

A server that is not there yet is no error: a SuperNode asks again. One that shows another
certificate, or does not speak TLS, will not get better by asking.
"""

from __future__ import annotations

import socket
import ssl
import sys


def main() -> int:
    """Connect once; exit status 1 if the server must not be talked to."""
    address, certificate = sys.argv[1:]
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    try:
        context = ssl.create_default_context(cafile=certificate)
    except (OSError, ssl.SSLError) as error:
        print(f"{certificate} holds no certificate: {error}", file=sys.stderr)
        return 1
    try:
        with socket.create_connection((host, int(port)), timeout=10) as plain:
            plain.settimeout(10)
            with context.wrap_socket(plain, server_hostname=host):
                return 0
    except ssl.SSLCertVerificationError as error:
        print(
            f"certificate verify failed: {address} is not the server of {certificate} "
            f"({error.verify_message})",
            file=sys.stderr,
        )
        return 1
    except ssl.SSLError as error:
        print(f"{address} does not speak TLS ({error.reason})", file=sys.stderr)
        return 1
    except ValueError:
        print(f"{address!r} is no address: write host:port", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"{address} does not answer yet ({error}): trying again", file=sys.stderr)
        return 0


if __name__ == "__main__":
    sys.exit(main())
