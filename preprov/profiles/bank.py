"""Many signatures' sizers, and what a signature without a history borrows."""

from collections import OrderedDict
from typing import Final

from preprov.profiles.history import Facts
from preprov.profiles.sizer import Sized, Sizer
from preprov.profiles.waste import Price

MOST: Final = 20_000
"""Sizers kept; the one that was asked for longest ago goes first."""


class SizerBank:
    """Sizers by name, made when first met; memory is bounded."""

    def __init__(self, price: Price, seed: int = 0, most: int = MOST) -> None:
        self.price = price
        self._seed = seed
        self._most = most
        self._sizers: OrderedDict[str, Sizer] = OrderedDict()

    def __len__(self) -> int:
        return len(self._sizers)

    def learn(self, name: str, peak: float, hours: float, facts: Facts) -> bool:
        """One finished run of that name; False if it teaches nothing."""
        sizer = self._sizers.get(name)
        if sizer is None:
            sizer = self._sizers[name] = Sizer(self.price, self._seed)
            if len(self._sizers) > self._most:
                self._sizers.popitem(last=False)
        self._sizers.move_to_end(name)
        return sizer.learn(peak, hours, facts)

    def size(self, name: str, facts: Facts) -> Sized | None:
        """What to ask for; None if nothing of that name has ended."""
        sizer = self._sizers.get(name)
        if sizer is None or not len(sizer):
            return None
        self._sizers.move_to_end(name)
        return sizer.size([facts])[0]
