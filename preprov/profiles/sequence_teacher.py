"""Teaching the sequence model: each past run is a lesson, told from the runs of its signature before it.

Needs torch (extra `torch`), imported only when there is something to be taught. The same lessons give the same weights:
everything is drawn from one seed, in one thread.
"""

from collections import OrderedDict, deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from preprov.model.errors import ConfigError
from preprov.model.usage import UsageRun
from preprov.profiles.aligned import BINS, RESOURCES, AlignedRuns, binned, features
from preprov.profiles.sequence import FARTHEST, FEATURES, NODES, SEEN_AT, SEEN_UNTIL, Network, Told, Vintage, told

Floats = NDArray[np.float64]

FIRST: Final = 64
"""Lessons below which nothing is taught."""
_AGAIN: Final = 1.5
"""Taught again when there are so many times as many lessons as the last time."""
_MOST_LESSONS: Final = 4096
_MOST_SIGNATURES: Final = 256
_UNITS: Final = 24
_BATCH: Final = 64
_EPOCHS: Final = 40
_STEPS: Final = (300, 800)
"""Of training, however few or many lessons there are."""
_RATE: Final = 4e-3
_DECAY: Final = 1e-3
_ASIDE: Final = 0.2
"""The newest lessons, by which quantiles are put right."""
_FEWEST_ASIDE: Final = 20
"""Of each resource; fewer put nothing right."""
_FAR: Final = 6.0
_SEEN: Final = 0.5
"""Share of lessons in which the first part of the run is told too."""


def available() -> bool:
    """True if torch is installed."""
    return find_spec("torch") is not None


def must_be_available() -> None:
    """Say what is missing.

    Raises:
        ConfigError: torch is not installed.
    """
    if not available():
        raise ConfigError(
            "the sequence model cannot be taught: torch is not installed",
            where="extra torch",
            hint="pip install 'preprov[torch]'",
        )


@dataclass(frozen=True, slots=True)
class Lesson:
    """One run as it was foretold, and what came: (BINS,) of use, and of its length, in spreads off their medians."""

    of: Told
    resource: str
    use: Floats
    length: float


class Teacher:
    """Collects lessons over all signatures, and says when it is time to teach; memory is bounded.

    Args:
        seed: of weights and order.
    """

    def __init__(self, seed: int = 0) -> None:
        self._seed = seed
        self._lessons: deque[Lesson] = deque(maxlen=_MOST_LESSONS)
        self._past: OrderedDict[str, AlignedRuns] = OrderedDict()
        self._taken, self._taught_at, self._until = 0, 0, -np.inf

    def __len__(self) -> int:
        return len(self._lessons)

    def take(self, signature: str, run: UsageRun) -> None:
        """One more run that has ended."""
        past = self._past.setdefault(signature, AlignedRuns())
        self._past.move_to_end(signature)
        if len(self._past) > _MOST_SIGNATURES:
            self._past.popitem(last=False)
        for resource in RESOURCES:
            made = _lesson(past, run, resource)
            if made is not None:
                self._lessons.append(made)
                self._taken += 1
        past.add(run)
        self._until = max(self._until, run.submitted)

    @property
    def is_due(self) -> bool:
        """True if there is half as much again to teach."""
        return self._taken >= max(FIRST, _AGAIN * self._taught_at)

    def teach(self, until: float | None = None) -> Vintage:
        """Train on what there is; some ten seconds at most on one core.

        Args:
            until: epoch s from when on it may be asked; None = when the last run that was taken was submitted.

        Raises:
            ConfigError: torch is not installed.
        """
        must_be_available()
        self._taught_at = self._taken
        made = train(list(self._lessons), self._seed)
        return Vintage(self._until if until is None else until, made, len(self._lessons))


def _lesson(past: AlignedRuns, run: UsageRun, resource: str) -> Lesson | None:
    """None where too little was known, or nothing ever varied."""
    came = binned(run, resource)
    of = told(past, features(run), resource) if np.isfinite(came).all() else None
    if of is None or not (of.scale > 0).all():
        return None
    use = (np.log(came) - of.center) / of.scale
    varies = of.length_spread > 0
    length = (np.log(run.duration_s) - of.length) / of.length_spread if varies else 0.0
    return Lesson(of, resource, np.clip(use, -_FAR, _FAR), float(np.clip(length, -_FAR, _FAR)))


def train(lessons: Sequence[Lesson], seed: int) -> Network:
    """Weights that lose least (pinball, at NODES) on all lessons but the newest, put right on those.

    Args:
        lessons: at least ten, the oldest first.
    """
    import torch

    aside = max(int(_ASIDE * len(lessons)), 1)
    rng = np.random.default_rng(seed)
    with _one_thread(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = module()
        taught = lessons[:-aside]
        steps = min(max(_EPOCHS * -(-len(taught) // _BATCH), _STEPS[0]), _STEPS[1])
        optimiser = torch.optim.AdamW(net.parameters(), lr=_RATE, weight_decay=_DECAY)
        pace = torch.optim.lr_scheduler.OneCycleLR(optimiser, max_lr=_RATE, total_steps=steps)
        for batch in _batches(taught, steps, rng):
            optimiser.zero_grad()
            loss = _loss(net, batch)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            optimiser.step()
            pace.step()
    found = {k: v.detach().numpy().astype(np.float64) for k, v in net.state_dict().items()}
    plain = Network(found, {r: np.zeros((2, 2, len(NODES))) for r in RESOURCES})
    return Network(found, {r: _shift(plain, [x for x in lessons[-aside:] if x.resource == r]) for r in RESOURCES})


def module() -> Any:
    """The network as torch has it; it begins by correcting nothing."""
    from torch import nn

    net: Any = nn.ModuleDict(
        {
            "gru": nn.GRU(FEATURES, _UNITS, batch_first=True, bidirectional=True),
            "use": nn.Linear(2 * _UNITS, len(NODES)),
            "length": nn.Linear(2 * _UNITS, len(NODES)),
        }
    )
    for head in ("use", "length"):
        nn.init.zeros_(net[head].weight)
        nn.init.zeros_(net[head].bias)
    return net


def forward(net: Any, rows: Any) -> tuple[Any, Any]:
    """(B, BINS, FEATURES) -> (B, BINS, Q) and (B, Q) corrections, in spreads: as `Network.corrections`."""
    hidden, _ = net["gru"](rows)
    return FARTHEST * net["use"](hidden).tanh(), FARTHEST * net["length"](hidden.mean(dim=1)).tanh()


def _loss(net: Any, batch: Sequence[Any]) -> Any:
    rows, prior, use, length_prior, length, levels = batch
    more, longer = forward(net, rows)
    return (
        _pinball(use[:, :, None] - prior - more, levels) + _pinball(length[:, None] - length_prior - longer, levels) / 2
    )


def _pinball(away: Any, levels: Any) -> Any:
    return (levels * away - away.clamp(max=0)).mean()


def _batches(lessons: Sequence[Lesson], steps: int, rng: np.random.Generator) -> Iterator[Sequence[Any]]:
    import torch

    def tensor(of: Any) -> Any:
        return torch.tensor(np.asarray(of), dtype=torch.float32)

    levels = tensor(NODES)
    order: list[int] = []
    for _ in range(steps):
        if len(order) < min(_BATCH, len(lessons)):
            order = [*order, *rng.permutation(len(lessons)).tolist()]
        chosen, order = [lessons[i] for i in order[:_BATCH]], order[_BATCH:]
        yield (
            tensor([_rows(x, rng) for x in chosen]),
            tensor([x.of.prior for x in chosen]),
            tensor([x.use for x in chosen]),
            tensor([x.of.length_prior for x in chosen]),
            tensor([x.length for x in chosen]),
            levels,
        )


def _rows(lesson: Lesson, rng: np.random.Generator) -> Floats:
    """What the network is told: now and then also what the run used at some instant while it ran."""
    share = float(rng.uniform(0.0, SEEN_UNTIL))
    seen = _seen(lesson, share) if rng.uniform() < _SEEN else None
    return (seen or lesson.of).rows


def _seen(lesson: Lesson, share: float) -> Told | None:
    """With what the run used after a share of its expected length; None if it was over by then."""
    own = share / float(np.exp(lesson.length * lesson.of.length_spread))
    if own >= 1:
        return None
    at = int(own * BINS)
    return lesson.of.seen(share, float(lesson.use[at] * lesson.of.scale[at] + lesson.of.center[at]))


def _shift(network: Network, lessons: Sequence[Lesson]) -> Floats:
    """(2, 2, Q): the levels' own quantiles of what came less what was foretold (conformal, one level at a time)."""
    out = np.zeros((2, 2, len(NODES)))
    for seen in range(2):
        told_of = [(x, _seen(x, SEEN_AT) if seen else x.of) for x in lessons]
        away, longer = [], []
        for x, of in told_of:
            if of is not None:
                more, long = network.corrections(of.rows)
                away.append(x.use[:, None] - np.sort(of.prior + more, axis=1))
                longer.append(x.length - np.sort(of.length_prior + long))
        if len(away) >= _FEWEST_ASIDE:
            for q, level in enumerate(NODES):
                out[seen, 0, q] = np.quantile(np.concatenate([a[:, q] for a in away]), level)
                out[seen, 1, q] = np.quantile([a[q] for a in longer], level)
    return out


@contextmanager
def _one_thread() -> Iterator[None]:
    """What is added up in another order is another number."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
