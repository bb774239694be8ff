"""Where secrets are: preprov.toml names them and never holds one."""

import os
from pathlib import Path

from pydantic import model_validator

from preprov.configfile.base import Section
from preprov.model.errors import ConfigError


class Secret(Section):
    """Where a secret is; the file itself never holds one: { env = "NAME" } or { file = "/run/secrets/name" }."""

    env: str | None = None
    file: Path | None = None

    @model_validator(mode="after")
    def _one(self) -> "Secret":
        if (self.env is None) == (self.file is None):
            raise ValueError('say either { env = "NAME" } or { file = "/path" }')
        return self

    def read(self, what: str) -> str:
        """The secret, read anew each time, so that it can be changed without a restart.

        Raises:
            ConfigError: it is not there; says where it was looked for.
        """
        if self.env is not None:
            if value := os.environ.get(self.env, ""):
                return value
            raise ConfigError(f"{what}: the variable {self.env} is not set", where="environment", hint="set it")
        try:
            return Path(str(self.file)).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as e:
            why = getattr(e, "strerror", None) or "it is not text"
            raise ConfigError(f"{what}: cannot read {self.file}: {why}", where=str(self.file)) from None
