"""Where Kafka is, and how a client and the brokers prove to each other who they are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from workers.runtime.environment import Environment, SettingError, variable
from workers.runtime.kafka_words import Mechanism, Protocol
from workers.runtime.secret_files import Secret, reveal
from workers.runtime.transport import ClientTls


@dataclass(frozen=True, slots=True, kw_only=True)
class SaslUser:
    """The user of SASL."""

    mechanism: Mechanism
    name: str
    password: Secret = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class KafkaAccess:
    """`bootstrap` is a list `host:port[,host:port]`; `user` is None without SASL, `tls` None without TLS."""

    bootstrap: str
    tls: ClientTls | None = None
    user: SaslUser | None = None

    @classmethod
    def of(cls, environment: Environment) -> KafkaAccess:
        """Read `Q2O_KAFKA` and `Q2O_KAFKA_…`. Raises SettingError for a value that is unknown, missing, or not used by the protocol."""
        bootstrap, protocol = environment.text("kafka"), Protocol(environment.text("kafka_security_protocol"))
        chosen = f"Q2O_KAFKA_SECURITY_PROTOCOL={protocol}"
        tls = ClientTls.of("kafka", environment, unencrypted=None if protocol.has_tls else chosen)
        return cls(bootstrap=bootstrap, tls=tls if protocol.has_tls else None, user=_user(protocol, chosen, environment))

    def client_settings(self) -> dict[str, str]:
        """The settings of a client, by the names of librdkafka."""
        settings = {"bootstrap.servers": self.bootstrap, "security.protocol": self.protocol}
        if self.tls is not None:
            files = {
                "ssl.ca.location": self.tls.ca_file,
                "ssl.certificate.location": self.tls.certificate_file,
                "ssl.key.location": self.tls.key_file,
            }
            settings |= {"ssl.endpoint.identification.algorithm": "https"}
            settings |= {name: str(file) for name, file in files.items() if file is not None}
        if self.user is not None:
            settings |= {
                "sasl.mechanism": self.user.mechanism,
                "sasl.username": self.user.name,
                "sasl.password": reveal(self.user.password),
            }
        return settings

    @property
    def protocol(self) -> str:
        """How a client speaks to the brokers, in Kafka's word."""
        return ("SASL_" if self.user else "") + ("SSL" if self.tls else "PLAINTEXT")


def _user(protocol: Protocol, chosen: str, environment: Environment) -> SaslUser | None:
    given: Mapping[str, object] = {
        "kafka_user": environment.find("kafka_user"),
        "kafka_password": environment.find_secret("kafka_password"),
        "kafka_sasl_mechanism": environment.variables.get(variable("kafka_sasl_mechanism")),
    }
    if not protocol.has_user:
        if unused := [variable(name) for name, value in given.items() if value]:
            raise SettingError(f"{unused[0]} is set, but {chosen} has no user: set the protocol to SASL_SSL, or unset {unused[0]}")
        return None
    if missing := [variable(name) for name in ("kafka_user", "kafka_password") if not given[name]]:
        raise SettingError(f"{chosen} needs {' and '.join(missing)}: set {'them' if len(missing) > 1 else 'it'}")
    mechanism = Mechanism(environment.text("kafka_sasl_mechanism"))
    if mechanism is Mechanism.PLAIN and not protocol.has_tls:
        raise SettingError(
            f"Q2O_KAFKA_SASL_MECHANISM=PLAIN would send the password unencrypted with {chosen}: use SASL_SSL or SCRAM-SHA-512"
        )
    return SaslUser(mechanism=mechanism, name=environment.text("kafka_user"), password=environment.secret("kafka_password"))
