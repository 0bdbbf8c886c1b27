"""The section about how events travel between the parts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator
from pydantic_core import PydanticCustomError

from inferwatch.delivery.kafka_options import Options, Value, is_server_list
from inferwatch.secret_file import SecretFile
from inferwatch.settings.section import Section


class EmbeddedTransport(Section):
    """Everything in one process, on the payload log itself."""

    kind: Literal["embedded"] = "embedded"


class KafkaTransport(Section):
    """`inferwatch ingest` writes events to a topic, `inferwatch store` reads them into the payload log."""

    kind: Literal["kafka"]
    bootstrap: str
    """`host:port`, or several with commas between them."""
    topic: str = Field("inferwatch.payloads", pattern=r"^[A-Za-z0-9._-]{1,249}$")
    """The topic of requests and responses."""
    findings_topic: str = Field("inferwatch.findings", pattern=r"^[A-Za-z0-9._-]{1,249}$")
    """The topic of findings; kept free for them: no command reads or writes it yet."""
    group: str = Field("inferwatch", min_length=1, max_length=249)
    """The consumer group of `store`; one without a committed offset begins at the earliest record."""
    client: Literal["confluent", "kafka-python"] = "confluent"
    """`confluent` needs the extra `kafka`; `kafka-python`, without a C library and several times the CPU,
    `kafka-pure`."""
    options: Mapping[str, Value | SecretFile] = Field({}, repr=False)
    """Options of the client by librdkafka's names, such as `security.protocol`, `sasl.mechanism`, `sasl.username`,
    `sasl.password`, `ssl.ca.location`, `linger.ms`. A secret is given as `{file: PATH}`, and read again after it was
    refused."""

    @field_validator("bootstrap")
    @classmethod
    def _servers(cls, bootstrap: str) -> str:
        if not is_server_list(bootstrap):
            raise PydanticCustomError("servers", "input should be host:port[,host:port...]")
        return bootstrap

    @field_validator("options", mode="before")
    @classmethod
    def _plain_or_secret(cls, given: Any) -> Any:  # noqa: ANN401 - whatever the file has
        if not isinstance(given, Mapping):
            return given
        options = {name: _option(value) for name, value in given.items()}
        if unusable := [str(name) for name, value in options.items() if value is None]:
            raise PydanticCustomError(
                "option",
                "{names}: allowed is a text, a number, true, false, or a mapping of `file` to a path",
                {"names": ", ".join(unusable)},
            )
        return options

    def rooted(self, root: Path) -> KafkaTransport:
        """Return the settings with relative paths of secrets taken from a directory."""
        options: Options = {
            name: SecretFile(root / value.path) if isinstance(value, SecretFile) else value
            for name, value in self.options.items()
        }
        return self.model_copy(update={"options": options})


AnyTransport = EmbeddedTransport | KafkaTransport
TransportSettings = Annotated[AnyTransport, Field(discriminator="kind")]


def _option(value: object) -> Value | SecretFile | None:
    """Return the value of an option; None for what is none."""
    if isinstance(value, (str, int, float, SecretFile)):
        return value
    if isinstance(value, Mapping) and list(value) == ["file"] and isinstance(value["file"], (str, Path)):
        return SecretFile(Path(value["file"]))
    return None
