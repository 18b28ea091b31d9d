"""Base class of all records: frozen, strict about unknown keys, digestable."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from adaqat_hw.errors import ConfigError, OtherVersion


class Record(BaseModel):
    """Immutable record that crosses a stage or a process boundary.

    Subclasses set ``schema_version``; it is written to disk and checked on reading. ``remedy``
    is what to do about a record of another version.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    schema_version: ClassVar[int] = 1
    remedy: ClassVar[str] = "run the stage again"

    def to_json(self) -> str:
        """Return indented JSON with the record's type and version in front."""
        body = {"record": type(self).__name__, "schema_version": self.schema_version}
        body.update(self.model_dump(mode="json"))
        return json.dumps(body, indent=1)

    def digest(self) -> str:
        """Return 12 hex digits of SHA-256 over the canonical JSON."""
        return digest_of(self.model_dump(mode="json"))

    def write(self, path: Path) -> Path:
        """Write the record to ``path`` atomically and return the path."""
        write_atomic(path, self.to_json() + "\n")
        return path

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a record; raise ConfigError naming file and fault when it is not one."""
        try:
            text = path.read_text(encoding="utf-8")
        except FileNotFoundError:
            raise ConfigError(f"{cls.__name__} {str(path)!r} does not exist.") from None
        except (OSError, UnicodeDecodeError) as exc:
            raise ConfigError(f"{cls.__name__} {str(path)!r} cannot be read: {exc}.") from exc
        return cls.parse_text(text, str(path))

    @classmethod
    def parse_text(cls, text: str, source: str) -> Self:
        """Parse ``text``; ``source`` names its origin in error messages."""
        try:
            body: Any = json.loads(text)
        except json.JSONDecodeError as exc:
            raise ConfigError(
                f"{cls.__name__} {source!r} is not valid JSON ({exc}); it is damaged or was "
                "edited wrongly: delete it and run the stage again."
            ) from exc
        if not isinstance(body, dict):
            raise ConfigError(f"{cls.__name__} {source!r} must hold one JSON object.")
        kind = body.pop("record", cls.__name__)
        version = body.pop("schema_version", cls.schema_version)
        if kind != cls.__name__:
            raise ConfigError(f"{source!r} holds a {kind!r} record, not a {cls.__name__!r}.")
        if version != cls.schema_version:
            raise OtherVersion(
                f"{source!r} has {cls.__name__} version {version!r}; this release reads version "
                f"{cls.schema_version}: {cls.remedy}."
            )
        try:
            return cls.model_validate(body)
        except ValidationError as exc:
            raise ConfigError(f"{cls.__name__} {source!r}: {first_fault(exc)}") from exc


def first_fault(exc: ValidationError) -> str:
    """Put the faults of a pydantic error into one sentence each, the first three.

    A fault between the keys of a table names their values itself; the table is not printed.
    """
    parts = []
    for err in exc.errors()[:3]:
        where = ".".join(str(x) for x in err["loc"])
        if err["type"] == "missing":
            parts.append(f"{where} is missing")
            continue
        message = str(err["msg"]).removeprefix("Value error, ").rstrip(".")
        if err["type"] == "value_error" and isinstance(err.get("input"), dict):
            parts.append(f"{where}: {message}" if where else message)
        else:
            parts.append(f"{where or 'record'} = {err.get('input')!r}: {message}")
    return "; ".join(parts) + "."


def digest_of(value: Any) -> str:
    """Return 12 hex digits of SHA-256 over ``value`` as canonical JSON."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def sha256_file(path: Path) -> str:
    """Return the SHA-256 of a file's bytes as 64 hex digits."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def write_atomic(path: Path, text: str) -> None:
    """Write ``text`` under a temporary name in the same folder, then rename."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)
    except OSError as exc:
        temporary.unlink(missing_ok=True)
        raise ConfigError(
            f"{str(path)!r} could not be written ({exc.strerror or exc}); nothing was changed: "
            "free disk space or choose another folder."
        ) from exc
