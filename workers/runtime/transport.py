"""TLS with the servers that this process calls: which authorities it trusts, how it proves itself, and what a failed handshake means.

The rule it keeps: a certificate that is not accepted is told from an outage. The sentence names the peer, the fault, and the setting that
a person must correct, because time alone mends nothing.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from workers.runtime.environment import Environment, SettingError, variable

HTTPS = 443
PATIENCE = 1.0  # seconds; a server refuses at once, and one that accepts says nothing
FILES = ("ca_file", "certificate_file", "key_file")
# X.509 verification codes of OpenSSL: the name or the address in a certificate is not that of the server.
_OTHER_NAME = frozenset({62, 64})
_EXPIRED = 10
# What a server says during the handshake when it does not accept a client, by OpenSSL's names of the TLS alerts. In TLS 1.3 the answer may
# come after the request was sent, but the server has not read the request then.
_REFUSES_US = frozenset(
    {
        "SSLV3_ALERT_BAD_CERTIFICATE",
        "SSLV3_ALERT_CERTIFICATE_EXPIRED",
        "SSLV3_ALERT_CERTIFICATE_REVOKED",
        "SSLV3_ALERT_CERTIFICATE_UNKNOWN",
        "SSLV3_ALERT_HANDSHAKE_FAILURE",
        "SSLV3_ALERT_UNSUPPORTED_CERTIFICATE",
        "TLSV1_ALERT_ACCESS_DENIED",
        "TLSV1_ALERT_UNKNOWN_CA",
        "TLSV13_ALERT_CERTIFICATE_REQUIRED",
    }
)
_NO_COMMON_TLS = frozenset(
    {
        "HTTP_REQUEST",
        "RECORD_LAYER_FAILURE",
        "TLSV1_ALERT_INSUFFICIENT_SECURITY",
        "TLSV1_ALERT_PROTOCOL_VERSION",
        "UNSUPPORTED_PROTOCOL",
        "WRONG_VERSION_NUMBER",
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientTls:
    """The PEM files for TLS with one peer; a file that is None leaves the default.

    `ca_file`: the authorities that may sign the peer's certificate, instead of the public ones. `certificate_file` and `key_file`: what this
    process shows to a peer that demands a client certificate. `peer` is the word in the names of the settings: `engine` has
    `Q2O_ENGINE_CA_FILE`, `Q2O_ENGINE_CERTIFICATE_FILE` and `Q2O_ENGINE_KEY_FILE`.
    """

    peer: str
    ca_file: Path | None = None
    certificate_file: Path | None = None
    key_file: Path | None = None

    @classmethod
    def of(cls, peer: str, environment: Environment, *, unencrypted: str | None) -> ClientTls:
        """Read the files of a peer. Raises SettingError for files that cannot be used, or that nothing would use.

        `unencrypted`: the setting by which connections to this peer have no TLS, as `NAME=value`; None when they have.
        """
        given = {name: Path(value) for name in FILES if (value := environment.find(f"{peer}_{name}"))}
        if given and unencrypted:
            raise SettingError(
                f"{variable(f'{peer}_{next(iter(given))}')} is set, but {unencrypted} has no TLS: correct one of them"
            )
        tls = cls(peer=peer, **given)
        if not unencrypted:
            tls.context()
        return tls

    @classmethod
    def of_url(cls, peer: str, environment: Environment, name: str = "") -> ClientTls:
        """Read the files of a peer whose address is a URL, by its setting `Q2O_<PEER>_URL`, or the one of another `name`."""
        name = name or f"{peer}_url"
        url = environment.text(name)
        unencrypted = None if url.lower().startswith("https://") else f"{variable(name)}={url}"
        return cls.of(peer, environment, unencrypted=unencrypted)

    def context(self) -> ssl.SSLContext:
        """Make the context of a client that checks the peer's certificate and name. Raises SettingError for a file that cannot be used."""
        if (self.certificate_file is None) != (self.key_file is None):
            present, missing = ("certificate_file", "key_file") if self.certificate_file else ("key_file", "certificate_file")
            raise SettingError(f"{self.setting(present)} is set without {self.setting(missing)}: set both")
        context = self._trusting()
        if self.certificate_file and self.key_file:
            self._prove(context, self.certificate_file, self.key_file)
        return context

    @property
    def of_requests(self) -> tuple[bool | str, tuple[str, str] | None]:
        """The attributes `verify` and `cert` of a session of the library requests, which reads the files for every new connection."""
        pair = (str(self.certificate_file), str(self.key_file)) if self.certificate_file else None
        return str(self.ca_file) if self.ca_file else True, pair

    def setting(self, name: str) -> str:
        """The name of the variable that gives one of the files."""
        return variable(f"{self.peer}_{name}")

    def refusal(self, error: BaseException) -> str | None:
        """Say why this peer and this process do not trust each other; None when the error is not about that."""
        fault = _tls_fault(error)
        if isinstance(fault, ssl.SSLCertVerificationError):
            return self._distrust(fault)
        if fault is None or fault.reason not in _REFUSES_US | _NO_COMMON_TLS:
            return None
        alert = fault.reason.lower().replace("_", " ")
        if fault.reason in _NO_COMMON_TLS:
            return f"the {self.peer} and this process have no TLS in common ({alert}): does its address name a port with TLS 1.2 or later?"
        certificate, key = self.setting("certificate_file"), self.setting("key_file")
        return (
            f"the {self.peer} does not accept our client certificate ({alert}): set {certificate} and {key} to one that it accepts"
        )

    def _trusting(self) -> ssl.SSLContext:
        if self.ca_file is None:
            import httpx  # only here: the command line imports this module, and httpx takes longer to load than the rest of it

            return httpx.create_ssl_context()
        with self._explained("ca_file", self.ca_file, "a certificate of an authority"):
            return ssl.create_default_context(cafile=self.ca_file)

    def _prove(self, context: ssl.SSLContext, certificate: Path, key: Path) -> None:
        def refuse_password() -> str:
            raise SettingError(
                f"{self.setting('key_file')}={key} is encrypted: give the key without a password, readable by this user only"
            )

        with self._explained("key_file", key, "a private key"):
            key.read_bytes()
        with self._explained(
            "certificate_file", certificate, f"a certificate that belongs to the key in {self.setting('key_file')}"
        ):
            context.load_cert_chain(certificate, key, password=refuse_password)

    @contextmanager
    def _explained(self, name: str, file: Path, wanted: str) -> Iterator[None]:
        try:
            yield
        except ssl.SSLError as error:
            raise SettingError(f"{self.setting(name)}={file} holds no PEM text of {wanted} ({error.reason}): correct it") from error
        except OSError as error:
            raise SettingError(f"{self.setting(name)}={file} cannot be read ({error.strerror}): correct it") from error

    def proves_refusal(self, error: BaseException) -> bool:
        """Whether nothing was carried out: our side refused the certificate, or the server said, in its encrypted words, that it refuses us.

        Text without TLS proves nothing: it may come after the request, from a gateway that breaks.
        """
        fault = _tls_fault(error)
        return isinstance(fault, ssl.SSLCertVerificationError) or (fault is not None and fault.reason in _REFUSES_US)

    def explain(self, error: BaseException, url: str) -> str | None:
        """Say why this peer and this process do not trust each other, and ask the peer when the error of a request does not tell.

        A server of TLS 1.3 refuses a client only after the client's first bytes, and a client that is still sending sees no more than a
        lost connection. None when both trust each other, or when the peer cannot be asked.
        """
        address = urlsplit(url)
        if (reason := self.refusal(error)) or address.scheme != "https" or not _was_cut(error):
            return reason
        try:
            with (
                socket.create_connection((str(address.hostname), address.port or HTTPS), PATIENCE) as connection,
                self.context().wrap_socket(connection, server_hostname=address.hostname) as secured,
            ):
                secured.recv(1)
        except (OSError, SettingError) as refused:
            return self.refusal(refused)
        return None

    def _distrust(self, fault: ssl.SSLCertVerificationError) -> str:
        reason = fault.verify_message.rstrip(".")
        if fault.verify_code in _OTHER_NAME:
            return f"the certificate of the {self.peer} is not for this address ({reason}): correct the address, or the certificate"
        if fault.verify_code == _EXPIRED:
            return f"the certificate of the {self.peer} has expired: renew it there"
        ca_file = self.setting("ca_file")
        return f"the certificate of the {self.peer} is not trusted ({reason}): set {ca_file} to the authority that signed it"


def _tls_fault(error: BaseException) -> ssl.SSLError | None:
    return next((each for each in _causes(error) if isinstance(each, ssl.SSLError)), None)


def _was_cut(error: BaseException) -> bool:
    return any(isinstance(each, (ssl.SSLError, ConnectionError)) for each in _causes(error))


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """Give an error and those that it holds or was raised from: HTTP libraries wrap the errors of TLS and of sockets in errors of their own."""
    while error is not None:
        yield error
        held = next((each for each in error.args if isinstance(each, BaseException)), None)
        error = held or error.__cause__ or error.__context__
