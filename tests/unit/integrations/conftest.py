"""The API of the web's tests, asked by the distributions that speak to it."""

from tests.unit.web.conftest import config, limits, site

__all__ = ["config", "limits", "site"]
