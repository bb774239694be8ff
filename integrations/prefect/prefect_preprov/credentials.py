"""Where preprov is, and how to prove who asks."""

import os

from prefect.blocks.core import Block
from pydantic import Field, SecretStr


class PreprovCredentials(Block):
    """Address and token of `preprov serve`.

    Example:
        ```python
        from prefect_preprov import PreprovCredentials, warm_capacity

        place = PreprovCredentials.load("BLOCK_NAME")
        with warm_capacity("batch", {"cpu": 4}, credentials=place) as held:
            print(held)
        ```
    """

    _block_type_name = "preprov Credentials"
    _block_type_slug = "preprov-credentials"
    _documentation_url = "https://github.com/preprov/preprov/tree/main/docs/how-to/serve-prefect.md"  # type: ignore[assignment]
    _logo_url = "https://raw.githubusercontent.com/preprov/preprov/main/docs/images/warm-wave.png"  # type: ignore[assignment]

    url: str = Field(default="http://127.0.0.1:8470", description="Of the API, as `preprov serve` says it.")
    token: SecretStr | None = Field(default=None, description="As `preprov token create` printed it.")

    @classmethod
    def of_environment(cls) -> "PreprovCredentials":
        """PREPROV_URL and PREPROV_TOKEN; what is not set is as the fields say."""
        token = os.environ.get("PREPROV_TOKEN")
        given = {"url": url} if (url := os.environ.get("PREPROV_URL")) else {}
        return cls(**given, token=SecretStr(token) if token else None)
