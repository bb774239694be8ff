"""The nouns: frozen, validated, pure values. Import the module you need; nothing heavy is loaded here."""

import copyreg
from types import MappingProxyType


def _read_only(values: dict[object, object]) -> MappingProxyType[object, object]:
    return MappingProxyType(values)


# The values go to worker processes; Python itself cannot send the read-only mappings that they hold.
copyreg.pickle(MappingProxyType, lambda mapping: (_read_only, (dict(mapping),)))
