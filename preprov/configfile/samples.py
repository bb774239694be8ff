"""[samples]: how long samples of what tasks used stay as they came."""

from pydantic import Field, model_validator

from preprov.configfile.base import Section
from preprov.model.usage import Thinning

_DAY_S = 86_400.0


class SamplesSection(Section):
    """[samples]: how usage samples grow coarser with age; means, and peaks of memory, stay what they were.

    Attributes:
        thin: false keeps all as they came.
        whole_days: older ones become one for every `thin_seconds`.
        thin_days: older ones become one for every `coarse_seconds`.
    """

    thin: bool = True
    whole_days: float = Field(default=7.0, gt=0)
    thin_seconds: float = Field(default=30.0, ge=1)
    thin_days: float = Field(default=30.0, gt=0)
    coarse_seconds: float = Field(default=300.0, ge=1)

    @model_validator(mode="after")
    def _ascending(self) -> "SamplesSection":
        if self.thin_days < self.whole_days or self.coarse_seconds < self.thin_seconds:
            raise ValueError("older samples are coarser: whole_days <= thin_days, thin_seconds <= coarse_seconds")
        if self.coarse_seconds % self.thin_seconds:
            raise ValueError("`coarse_seconds` must be a multiple of `thin_seconds`")
        return self

    def build(self) -> Thinning:
        """The domain value."""
        if not self.thin:
            return Thinning(())
        return Thinning(((self.whole_days * _DAY_S, self.thin_seconds), (self.thin_days * _DAY_S, self.coarse_seconds)))
