"""All configuration: one TOML file and the environment, validated before anything opens.

An environment variable BROKER_<SECTION>__<KEY> overrides the file, for example BROKER_LISTEN__ADDRESS; [[oidc]], of
which there may be several, stands in the file only. An unknown key is refused by name. This is the server's only
reader of the environment.
"""

import os
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Final, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, TomlConfigSettingsSource

from broker import allowed

ENVIRONMENT_PREFIX: Final = "BROKER_"
CONFIG_VARIABLE: Final = "BROKER_CONFIG"
# What the commands that call a broker read; of no meaning to the server.
CLIENT_VARIABLES: Final = frozenset({"BROKER_ADDRESS", "BROKER_ID"})


class ConfigurationProblem(Exception):
    """The configuration cannot be used; the message names each key and its fix."""


User = Annotated[str, BeforeValidator(allowed.text_of), AfterValidator(allowed.user)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Broker(_Section):
    """Who the broker is."""

    issuer: Annotated[str, AfterValidator(allowed.issuer)]
    spiffe_id: Annotated[str, AfterValidator(allowed.spiffe_id)]

    @property
    def origin(self) -> str:
        """The issuer without its scheme: what the log's checkpoints are named after."""
        return self.issuer.removeprefix("https://")


class Listen(_Section):
    """Where agents and services connect."""

    address: Annotated[str, AfterValidator(allowed.address)] = "127.0.0.1:8443"


class Admin(_Section):
    """The admin socket: health, reflection, counters."""

    socket: Path


class WorkloadApi(_Section):
    """Where the SPIRE agent answers; empty: SPIFFE_ENDPOINT_SOCKET."""

    socket: Annotated[str, AfterValidator(allowed.socket)] | None = None
    timeout: timedelta = Field(default=timedelta(seconds=30), ge=timedelta(milliseconds=100))


class StoreSection(_Section):
    """What the broker remembers."""

    url: Annotated[str, AfterValidator(allowed.store_url)]

    @property
    def path(self) -> Path:
        """The database file."""
        return Path(self.url.removeprefix("sqlite:///"))


class Keys(_Section):
    """Signing keys: the directory of the private ones, and how long each signs."""

    dir: Path
    rotate_every: timedelta = Field(default=timedelta(days=30), ge=timedelta(seconds=1))
    rotate_checkpoints_every: timedelta = Field(default=timedelta(days=365), ge=timedelta(seconds=1))
    publish_ahead: timedelta = Field(default=timedelta(minutes=5), ge=timedelta(milliseconds=100))

    @model_validator(mode="after")
    def _published_before_it_signs(self) -> Self:
        if self.publish_ahead > min(self.rotate_every, self.rotate_checkpoints_every):
            raise ValueError("publish_ahead must not be above rotate_every or rotate_checkpoints_every")
        return self


class PolicySection(_Section):
    """The policy bundle's directory."""

    dir: Path
    reload_every: timedelta = Field(default=timedelta(seconds=1), ge=timedelta(milliseconds=100))


class Oidc(_Section):
    """An OpenID Connect issuer whose word about a person counts; there may be several."""

    issuer: Annotated[str, AfterValidator(allowed.identity_issuer)]
    audience: Annotated[str, AfterValidator(allowed.claim_text)] | None = None
    subject_claim: Annotated[str, AfterValidator(allowed.claim_text)] = "sub"
    ca_file: Path | None = None
    keys_max_age: timedelta = Field(default=timedelta(hours=1), ge=timedelta(minutes=1), le=timedelta(days=1))


class Issuer(_Section):
    """The half with the keys and the store; its user, when it has one of its own."""

    user: User | None = None


class Door(_Section):
    """The half that parses strangers' bytes; its user, when it has one of its own."""

    user: User | None = None


class Tasks(_Section):
    """How long a task may last."""

    default_lifetime: timedelta = Field(default=timedelta(hours=1), ge=timedelta(seconds=1))
    maximum_lifetime: timedelta = Field(default=timedelta(days=1), ge=timedelta(seconds=1))

    @model_validator(mode="after")
    def _default_within_maximum(self) -> Self:
        if self.default_lifetime > self.maximum_lifetime:
            raise ValueError("default_lifetime must not be above maximum_lifetime")
        return self


class Limits(_Section):
    """Bounds that keep one caller from harming the others."""

    call_deadline: timedelta = Field(default=timedelta(seconds=10), ge=timedelta(milliseconds=100))
    heartbeat: timedelta = Field(default=timedelta(seconds=2), ge=timedelta(milliseconds=50))
    connection_age: timedelta = Field(default=timedelta(hours=1), ge=timedelta(seconds=1))


class Settings(BaseSettings):
    """The whole configuration."""

    model_config = SettingsConfigDict(
        env_prefix=ENVIRONMENT_PREFIX,
        env_nested_delimiter="__",
        extra="forbid",
        frozen=True,
        nested_model_default_partial_update=True,
    )

    broker: Broker
    listen: Listen = Listen()
    admin: Admin
    workload_api: WorkloadApi = WorkloadApi()
    store: StoreSection
    keys: Keys
    policy: PolicySection
    oidc: tuple[Oidc, ...] = ()
    issuer: Issuer = Issuer()
    door: Door = Door()
    tasks: Tasks = Tasks()
    limits: Limits = Limits()

    @model_validator(mode="after")
    def _two_users_or_none(self) -> Self:
        issuer, door = self.issuer.user, self.door.user
        if (issuer is None) != (door is None):
            missing = "[issuer] user" if issuer is None else "[door] user"
            raise ValueError(f"[issuer] user and [door] user: {missing} is missing; set both, or neither")
        if issuer is not None and issuer == door:
            raise ValueError(f"[issuer] user and [door] user: both are {issuer}; two users keep the halves apart")
        return self

    @model_validator(mode="after")
    def _one_of_each_issuer(self) -> Self:
        issuers = [each.issuer for each in self.oidc]
        for each in issuers:
            if issuers.count(each) > 1:
                raise ValueError(f"[[oidc]] issuer: {each} stands there twice; keep one")
            if each.rstrip("/") == self.broker.issuer:
                raise ValueError(f"[[oidc]] issuer: {each} is the broker itself, which says nothing about persons")
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,  # noqa: ARG003  # pydantic's signature
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Take the environment first, then the file, and nothing else."""
        return env_settings, TomlConfigSettingsSource(settings_cls)


def config_path(given: Path | None) -> Path:
    """Return the configuration file: what was given, else BROKER_CONFIG, else ./broker.toml.

    Raises:
        ConfigurationProblem: there is no such file.

    """
    path = given or Path(os.environ.get(CONFIG_VARIABLE, "broker.toml"))
    if not path.is_file():
        raise ConfigurationProblem(f"{path}: no such file. Name the configuration with --config or {CONFIG_VARIABLE}.")
    return path.resolve()


def load(path: Path) -> Settings:
    """Read the file and the environment.

    Raises:
        ConfigurationProblem: with a line for each key that is unknown, missing or wrong.

    """

    class FromFile(Settings):
        model_config = SettingsConfigDict(toml_file=path)

    if unknown := _unknown_variables():
        raise ConfigurationProblem("\n".join(f"environment: {name}: unknown key" for name in unknown))
    try:
        return FromFile()  # type: ignore[call-arg]
    except ValidationError as problem:
        raise ConfigurationProblem("\n".join(f"{path}: {_line(error)}" for error in problem.errors())) from None
    except ValueError as problem:
        raise ConfigurationProblem(f"{path}: not valid TOML: {problem}") from None
    except OSError as problem:
        raise ConfigurationProblem(f"{path}: {problem.strerror}") from None


def _line(error: Any) -> str:  # noqa: ANN401  # pydantic's ErrorDetails is private
    key = ".".join(str(part) for part in error["loc"])
    if not key:  # of several sections at once; the message names them
        return str(error["msg"].removeprefix("Value error, "))
    match error["type"]:
        case "extra_forbidden":
            return f"{key}: unknown key"
        case "missing":
            return f"{key}: missing"
        case _:
            return f"{key}: {error['msg'].removeprefix('Value error, ')}"


def _unknown_variables() -> list[str]:
    """Return the BROKER_ variables that name no section and key, such as a misspelt one."""
    known = {CONFIG_VARIABLE, *CLIENT_VARIABLES}
    for section, field in Settings.model_fields.items():
        model = field.annotation
        if isinstance(model, type) and issubclass(model, BaseModel):
            known |= {f"{ENVIRONMENT_PREFIX}{section}__{key}".upper() for key in model.model_fields}
    return sorted(name for name in os.environ if name.startswith(ENVIRONMENT_PREFIX) and name not in known)
