"""The one table of settings: what each variable `Q2O_…` means, what it may be, its default, and which commands read it.

The table gives the check at the start of a process, the names that exist, and the table in docs/settings.md. A setting that is not here
does not exist: a process refuses to start with it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from domain.rights import PROCESSES
from workers.runtime.ages import DAYS
from workers.runtime.kafka_words import Mechanism, Protocol
from workers.runtime.setting_kinds import (
    BEARER,
    BROKERS,
    DATABASE,
    HOST,
    HS256_SECRET,
    IDENTITY,
    KEY_SET,
    NAMES,
    PATH,
    PORT,
    REDIS,
    SECRET,
    SIGNING_SECRETS,
    TEXT,
    URL,
    WORKER_ID,
    Kind,
    number,
    whole,
    word_of,
)

PREFIX, FILE = "Q2O_", "_FILE"
ENGINE_USERS = {process: f"q2o-{process}" for process in ("tasks", "dispatch", "reconcile")}
"""The engine's user of each process that calls it. No caller of the HTTP API can have such a name (`workers.http.actors`)."""
OF_A_PROCESS: Mapping[str, tuple[str, ...]] = {
    "database_url": PROCESSES,
    "engine_user": tuple(ENGINE_USERS),
    "engine_password": tuple(ENGINE_USERS),
}
"""Setting -> the processes that may have one of their own: Q2O_RELAY_DATABASE_URL goes before Q2O_DATABASE_URL in `q2o relay`."""
MAKING = {"database_url": frozenset({"migrate"}), "engine_password": frozenset({"deploy"})}
"""The commands that make logins with the passwords of the processes."""
SERVING = frozenset({"http", "tasks", "dispatch", "relay", "inbox", "reconcile", "retain"})
CALLING = frozenset({*ENGINE_USERS, "deploy", "restart-instances"})
HTTP, KAFKA, ASKING = frozenset({"http"}), frozenset({"relay", "inbox", "dead-letters"}), frozenset({"tasks", "reconcile"})
RECONCILING = frozenset({"reconcile"})
RETAINED, LOCAL, AUDITING = frozenset({"retain", "audit"}), frozenset({"up"}), frozenset({"audit"})
COMMANDS = SERVING | CALLING | LOCAL | {"migrate", "rebuild", "sandbox", "token", "audit", "dead-letters"}
"""`audit` stands for all commands that only read, with its login: `q2o audit`, `q2o explain` and `q2o status`."""
DATABASE_OF = {"rebuild": "reconcile", "restart-instances": "reconcile"}
"""Command -> the process whose login to the database it has."""
LONGEST_SECONDS = 86_400  # a day: no wait of a process is meant to be longer
SECONDS = number(0.1, LONGEST_SECONDS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One variable. `readers` are commands of `q2o` (`up` stands for `demo` too); those in `needed_by` do not start without it."""

    name: str
    says: str
    kind: Kind
    readers: frozenset[str]
    default: str | None = None
    needed_by: frozenset[str] = frozenset()
    is_secret: bool = False

    @property
    def variable(self) -> str:
        return variable(self.name)


def variable(name: str) -> str:
    """The variable of a setting: engine_url -> Q2O_ENGINE_URL."""
    return f"{PREFIX}{name.upper()}"


def _is(name: str, kind: Kind, readers: frozenset[str], default: str | None, says: str) -> Setting:
    return Setting(name=name, kind=kind, readers=readers, default=default, says=says)


def _needs(name: str, kind: Kind, readers: frozenset[str], says: str) -> Setting:
    """A setting that its readers need, except the audit: what it cannot look at, it says."""
    return Setting(name=name, kind=kind, readers=readers, says=says, needed_by=readers - AUDITING)


def _secret(name: str, readers: frozenset[str], says: str, *, kind: Kind = SECRET, needed: bool = True) -> Setting:
    needed_by = readers - AUDITING if needed else frozenset[str]()
    return Setting(name=name, kind=kind, readers=readers, says=says, needed_by=needed_by, is_secret=True)


def _files(peer: str, whom: str, readers: frozenset[str]) -> Iterator[Setting]:
    says = {
        "ca": "the authorities that may sign its certificate",
        "certificate": "our certificate",
        "key": "the key of our certificate",
    }
    for name, meaning in says.items():
        yield _is(f"{peer}_{name}_file", PATH, readers, None, f"{meaning} (PEM), for TLS with {whom}")


_COMMON = (
    _is("mode", word_of("local", "production"), COMMANDS, "local", "`production` refuses what is good enough for one machine only"),
    Setting(
        name="database_url",
        kind=DATABASE,
        readers=SERVING | {"migrate", "restart-instances", "rebuild", "audit"},
        needed_by=SERVING | {"migrate", "audit", *DATABASE_OF},
        says="the product's database",
        is_secret=True,
    ),
    _is(
        "only_tenant",
        IDENTITY,
        SERVING | {"audit", "rebuild"},
        None,
        "the one tenant that the process serves; without it, every tenant",
    ),
    _is("health_port", PORT, SERVING, None, "`/healthz`, `/readyz` and `/metrics`, on `Q2O_HTTP_HOST`; never public; 0: none"),
    _is("http_host", HOST, SERVING, "127.0.0.1", "the address on which ports are opened"),
)
_ENGINE = (
    _needs("engine_url", URL, CALLING | AUDITING, "the REST interface of the engine; it ends in `/engine-rest`"),
    _needs("engine_user", TEXT, CALLING | AUDITING, "the user of this process in the engine"),
    _secret("engine_password", CALLING | AUDITING, "the password of that user"),
    *_files("engine", "the engine", CALLING | AUDITING),
    _is(
        "worker_id",
        WORKER_ID,
        frozenset({"tasks", "dispatch"}),
        None,
        "the name of this process in the engine; without it, a fresh one",
    ),
    _is("topics", NAMES, frozenset({"tasks"}), None, "the topics to work on; without it, all"),
    # The heartbeat extends a lock three times within its duration, and each extension needs a second at least.
    _is(
        "lock_duration_seconds",
        number(3, 3_600),
        frozenset({"tasks"}),
        "20",
        "how long a fetched task is locked; while it is worked on, its lock is extended three times in this time",
    ),
    _is(
        "attempt_stale_after_seconds",
        number(3, LONGEST_SECONDS),
        ASKING,
        "20",
        "a worker that is silent for so long is dead; at least the duration of a lock",
    ),
    _is(
        "start_safe_interval_seconds",
        number(1, LONGEST_SECONDS),
        frozenset({"reconcile"}),
        "15",
        "a start of a process that the engine has not seen for so long never arrives",
    ),
    _is("projection_limit_seconds", SECONDS, RECONCILING, "60", "how long a list may lack a change, before its row is rebuilt"),
    _is("audit_interval_seconds", SECONDS, RECONCILING, "10", "the rest before it [audits](audit.md) 50 more quotes"),
)
_REDIS = (
    _secret(
        "redis_url",
        RECONCILING,
        "keeps several reconcilers from [repeating the same reads](#redis); without it, each one makes them",
        kind=REDIS,
        needed=False,
    ),
    *_files("redis", "Redis", RECONCILING),
)
_LONGEST_DAYS = 36_500  # a century
_RETENTION = (
    *(
        _is(f"retain_{name}_days", number(0, _LONGEST_DAYS), RETAINED, str(days), f"[how long](#retention) `{name}` are kept")
        for name, days in DAYS.items()
    ),
    _is(
        "archive_dir",
        PATH,
        RETAINED,
        None,
        "[where archives are written](#retention); without it, finished business stays in the tables",
    ),
)
_OTHERS = (
    _needs("kafka", BROKERS, KAFKA | AUDITING, "the brokers"),
    _is("kafka_security_protocol", word_of(*Protocol), KAFKA | AUDITING, Protocol.PLAINTEXT, "the protocol of their listener"),
    _is("kafka_user", TEXT, KAFKA | AUDITING, None, "the user, for a protocol with `SASL`"),
    _secret("kafka_password", KAFKA | AUDITING, "the password of that user", needed=False),
    _is("kafka_sasl_mechanism", word_of(*Mechanism), KAFKA | AUDITING, Mechanism.SCRAM_SHA_512, "how the password is proved"),
    *_files("kafka", "the brokers", KAFKA | AUDITING),
    _needs("provider_url", URL, ASKING, "the fulfilment provider"),
    _secret("provider_token", ASKING, "the bearer token for it", kind=BEARER),
    *_files("provider", "the provider", ASKING | AUDITING),
    _is(
        "provider_ledger_url",
        URL,
        AUDITING,
        None,
        "where `q2o audit` reads what the provider has really done; only the sandbox has this",
    ),
)
_EDGE = (
    _secret(
        "callback_secret",
        HTTP | {"sandbox"},
        "signs the callbacks of the provider: base64 of 24 to 64 bytes; several with commas",
        kind=SIGNING_SECRETS,
    ),
    _is("http_port", PORT, HTTP, "8080", "the HTTP API; 0: a free port"),
    _is("http_head_seconds", number(0.1, 300), HTTP, "10", "how long the head of a request may take"),
    _is("http_body_seconds", number(0.1, 3_600), HTTP, "20", "how long the body of a request may take"),
    _is("http_rate_per_second", number(1, 1_000_000), HTTP, "500", "requests of one tenant in the long run"),
    _is("http_burst", whole(1, 1_000_000), HTTP, "1000", "requests of one tenant at once"),
    _secret(
        "jwt_secret",
        HTTP | {"token"},
        "signs the tokens of the local suite (HS256): 32 bytes or more",
        kind=HS256_SECRET,
        needed=False,
    ),
    _is("jwt_issuer", URL, HTTP, None, "`iss` of the tokens, exactly; needed without `Q2O_JWT_SECRET`"),
    _is("jwt_audience", NAMES, HTTP, None, "`aud` of the tokens; needed with an issuer"),
    _is("jwks", KEY_SET, HTTP, None, "the public keys; without it, where the discovery document of the issuer says"),
    # A clock that is more than some minutes wrong is a fault to repair (RFC 7519, 4.1.4), not one to allow for.
    _is("jwt_leeway_seconds", number(0, 300), HTTP, "10", "how much clocks may differ"),
    _is("jwt_longest_seconds", number(1, 31_536_000), HTTP, "86400", "the longest time from `iat` to `exp`"),
    _is("jwt_subject_claim", TEXT, HTTP, "sub", "who acts"),
    _is("jwt_tenant_claim", TEXT, HTTP, "tenant", "the tenant, a UUID"),
    _is("jwt_roles_claim", NAMES, HTTP, "roles", "lists of roles"),
    _is("jwt_scope_claim", NAMES, HTTP, "scope,scp", "scopes of machines"),
    _is("jwt_region_claim", TEXT, HTTP, "region", "the region"),
    _is("jwt_customers_claim", TEXT, HTTP, "customers", "the customers for whom a buyer buys"),
    _is("jwt_role_names", NAMES, HTTP, None, "`theirs=ours,theirs=ours`: names of roles and scopes"),
    _is("jwt_machine", TEXT, HTTP, None, "a claim, or `claim=value`, that only tokens of machines have"),
)
_ON_ONE_MACHINE = (
    _is("data_dir", PATH, LOCAL | {"token", "sandbox"}, ".q2o", "the directory of the local stack"),
    _is("tenant", IDENTITY, LOCAL | {"token"}, None, "the tenant of the suite that was started last; the suite sets it"),
    _is(
        "api",
        URL,
        frozenset(),
        None,
        "the HTTP API, for the commands of the documentation; the suite writes it to its file `environment`",
    ),
    _is("ports", word_of("fixed", "free"), LOCAL, "fixed", "which ports the servers take"),
    *(
        _is(f"{name}_port", PORT, LOCAL, None, f"the port of {whose}")
        for name, whose in {
            "engine": "Camunda",
            "provider": "the sandbox provider",
            "database": "PostgreSQL",
            "kafka": "Kafka",
            "kafka_controller": "Kafka's controller",
        }.items()
    ),
    _is("java", PATH, LOCAL, None, "a `java` of version 17 or later"),
    _is("jar_dir", PATH, LOCAL, None, "the directory of the jars"),
    _is("engine_profile", TEXT, LOCAL, None, "`behind-tls`: the engine stands behind a proxy with TLS"),
    _is("engine_database_url", DATABASE, LOCAL, None, "the database of an engine that is started"),
    _is("engine_host", HOST, frozenset(), "127.0.0.1", "read by the engine: its address"),
    _is("engine_jdbc_url", TEXT, frozenset(), None, "read by the engine: its database"),
    _is("engine_database_user", TEXT, frozenset(), None, "read by the engine: its user there"),
    _is("engine_database_password", TEXT, frozenset(), None, "read by the engine: the password there"),
)


def _with_own(settings: tuple[Setting, ...]) -> Iterator[Setting]:
    """Every setting, and after it those of single processes."""
    for setting in settings:
        yield setting
        for process in OF_A_PROCESS.get(setting.name, ()):
            yield replace(
                setting,
                name=f"{process}_{setting.name}",
                says=f"the same for `q2o {process}` alone",
                readers=frozenset({process}) | MAKING.get(setting.name, frozenset()),
                needed_by=MAKING["engine_password"] if setting.name == "engine_password" else frozenset(),
            )


SETTINGS: Mapping[str, Setting] = {
    setting.name: setting for setting in _with_own((*_COMMON, *_ENGINE, *_REDIS, *_RETENTION, *_OTHERS, *_EDGE, *_ON_ONE_MACHINE))
}
"""By their names in lower case, without `Q2O_`."""
SECRETS = tuple(name for name, setting in SETTINGS.items() if setting.is_secret)
"""What may stand in a file; other variables that end so, such as Q2O_ENGINE_KEY_FILE, are files for a library."""
VARIABLES = frozenset(setting.variable for setting in SETTINGS.values()) | {variable(name) + FILE for name in SECRETS}


def read_by(command: str) -> tuple[Setting, ...]:
    """The settings that a command reads."""
    return tuple(setting for setting in SETTINGS.values() if command in setting.readers)
