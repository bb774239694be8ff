"""Settings of the process, from the environment (`PREPROV_…`). Pools, sources and tenants are data: see configfile."""

import os
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from preprov.model.errors import ConfigError


def default_home() -> Path:
    """Where node disks, samples, reports and the embedded store live if nothing else is said."""
    base = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(base) / "preprov"


class StoreSettings(BaseModel):
    """Where the store is.

    Attributes:
        url: SQLAlchemy URL; None = SQLite under home. May carry a password, so it is never printed whole.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    url: SecretStr | None = None


class Settings(BaseSettings):
    """One frozen tree; every field is `PREPROV_NAME`, nested ones `PREPROV_STORE__URL`.

    Attributes:
        home: node disks, samples, reports. config: path of preprov.toml.
        samples: joint demand samples per forecast. seed: of every random draw.
        log_level: of the program's own log on stderr.
        task_runner: what flows map their tasks over pools with: "threads" of one process, or "dask" (extra `dask`).
        task_workers: threads, or processes of a Dask cluster started for the flow; None = one per core.
        dask_address: of a Dask scheduler that runs already; None = a cluster on this machine for the time of the flow.
        clock: a night that is played faster than it is (see `clocks.named`), so that every process of it agrees on what
            time it is; None = wall time.
    """

    model_config = SettingsConfigDict(
        env_prefix="PREPROV_",
        env_nested_delimiter="__",
        frozen=True,
        extra="ignore",
        nested_model_default_partial_update=True,
    )
    home: Path = Field(default_factory=default_home)
    config: Path | None = None
    store: StoreSettings = StoreSettings()
    samples: int = Field(default=200, ge=20, le=5000)
    seed: int = 0
    log_level: str = "warning"
    task_runner: Literal["threads", "dask"] = "threads"
    task_workers: int | None = Field(default=None, ge=1)
    dask_address: str | None = None
    clock: str | None = None

    @classmethod
    def load(cls) -> Self:
        """Read the environment.

        Raises:
            ConfigError: a variable has a wrong value.
        """
        try:
            return cls()
        except ValidationError as e:
            first = e.errors()[0]
            name = "PREPROV_" + "__".join(str(p).upper() for p in first["loc"])
            raise ConfigError(f"{name}: {first['msg']}", where="environment") from None

    @property
    def store_url(self) -> str:
        """The URL in clear; for the driver only."""
        if self.store.url is not None:
            return self.store.url.get_secret_value()
        return f"sqlite:///{self.home / 'preprov.db'}"

    def config_path(self) -> Path | None:
        """The configuration file in use: PREPROV_CONFIG, ./preprov.toml, else home's; None if there is none.

        Raises:
            ConfigError: PREPROV_CONFIG names a file that does not exist.
        """
        if self.config is not None:
            if not self.config.exists():
                raise ConfigError(
                    f"{self.config} does not exist",
                    where="PREPROV_CONFIG",
                    hint="`preprov init` writes an annotated example",
                )
            return self.config
        for path in (Path("preprov.toml"), self.home / "preprov.toml"):
            if path.exists():
                return path
        return None
