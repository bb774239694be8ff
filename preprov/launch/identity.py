"""Who this controller is to the nodes it hands tasks to: a key of its own and a certificate signed with it."""

import base64
import os
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any, Final

from preprov.model.notes import CONTROLLER, spread

_YEARS: Final = timedelta(days=3650)


class Identity:
    """Made once below `home`, readable for this user alone; the key never leaves this machine.

    Attributes:
        file: PEM of key and certificate.
    """

    def __init__(self, home: Path) -> None:
        self.file = Path(home).absolute() / "keys" / "controller.pem"
        if not self.file.exists():
            _make(self.file)

    @property
    def certificate(self) -> str:
        """Its certificate in DER form, base64."""
        from cryptography import x509
        from cryptography.hazmat.primitives.serialization import Encoding

        der = x509.load_pem_x509_certificate(self.file.read_bytes()).public_bytes(Encoding.DER)
        return base64.b64encode(der).decode()

    def notes(self) -> dict[str, str]:
        """What makes it known to a machine."""
        return spread(CONTROLLER, {"certificate": self.certificate})


def _make(file: Path) -> None:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "preprov")])
    now = datetime.now(UTC)
    builder: Any = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(x509.random_serial_number())
    builder = builder.not_valid_before(now - timedelta(days=1)).not_valid_after(now + _YEARS)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    certificate = builder.sign(key, hashes.SHA256())
    plain = serialization.NoEncryption()
    text = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
    text += certificate.public_bytes(serialization.Encoding.PEM)
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    # Each caller's own file, threads of one process among them; readable for this user alone.
    with NamedTemporaryFile(dir=file.parent, prefix=f".{file.name}.") as part:
        part.write(text)
        part.flush()
        with suppress(FileExistsError):  # whoever was first keeps it
            os.link(part.name, file)
