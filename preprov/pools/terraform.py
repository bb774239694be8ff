"""Pools whose every count goes through Terraform: preprov changes one variable, plans, and applies that plan.

What exists is asked of the vendor, through its own provider; what is written is a count, never a node. So nodes are
raised, woken and kept here, and a node in service is ended by nobody but the owner of the module: Terraform lowers a
count blindly, and cannot name the node that goes.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Final, TypeAlias

import structlog

from preprov.contracts import Capabilities, Finding, GivesNotice, LaunchRequest, Notice, PoolProvider, Tended
from preprov.model.errors import ConfigError, NodeBusyError, NotFoundError, PoolError, QuotaExceededError
from preprov.model.nodes import Node, Phase, PoolObservation
from preprov.model.offerings import Preload, Standby
from preprov.model.pools import Pool
from preprov.pools.terraform_command import Plan
from preprov.pools.terraform_counts import Wanted
from preprov.pools.terraform_declared import DeclaredCounts, DeclaredPool, declared_in
from preprov.pools.terraform_options import TerraformGroup, terraform_group
from preprov.pools.terraform_sections import is_count, shape_drift

log = structlog.get_logger(__name__)

Vendor: TypeAlias = Callable[[str], PoolProvider]
"""The provider of a vendor by its name; it only reads, drains and tends here."""

_KEPT: Final = {Phase.HIBERNATED: Standby.HIBERNATED, Phase.STOPPED: Standby.STOPPED}
_NAMELESS: Final = "lower its count in Terraform, or let preprov own the counts (counts_owner)"


class TerraformProvider:
    """Nodes whose counts are variables of a root module; options of a group as `terraform_options` reads them.

    Args:
        vendor: gives the provider by which the nodes are seen.
    """

    name = "terraform"

    def __init__(self, vendor: Vendor) -> None:
        self._vendor = vendor

    # ---- what exists

    def capabilities(self, pool: Pool, group: str) -> Capabilities:
        """A count and a standby count; the vendor chooses the nodes, and nothing ends a raise by itself.

        Nothing wakes between plans: each change is a run of Terraform, or a pull request.
        """
        declared = pool.group(group).standby_states
        return Capabilities(
            standby_states=declared,
            mixes_states=False,
            chooses_offering=False,
            preloads=False,
            names_kept=False,
            names_serving=False,
            marks_launches=False,
            steps_down=False,
            sets_targets=bool(declared & {Standby.HIBERNATED, Standby.STOPPED}),
            reacts=False,
        )

    def observe(self, pool: Pool) -> PoolObservation:
        """As the contract says; asked of the vendors."""
        seen = [provider.observe(theirs) for provider, theirs in self._vendors(pool)]
        return PoolObservation(
            pool.name,
            max(s.at for s in seen),
            tuple(n for s in seen for n in s.nodes),
            all(s.complete for s in seen),
            tuple(p for s in seen for p in s.problems),
        )

    # ---- more

    def launch(self, request: LaunchRequest) -> tuple[str, ...]:
        """As the contract says: the count rises once per token, by what there is room for.

        Returns those new nodes that can be seen already; asked again, none.
        """
        group = terraform_group(request.pool, request.group)
        before = {n.node_id for n in self._nodes(group)}

        def more(now: DeclaredCounts) -> DeclaredCounts:
            room = group.group.max_nodes - now.running - now.standby
            step = min(request.count, room) if room > 0 else request.count
            return DeclaredCounts(running=now.running + step, standby=now.standby)

        self._change(group, more, token=request.token, why=f"{request.count} more in {request.group}")
        new = sorted(n.node_id for n in self._nodes(group) if n.node_id not in before)
        return tuple(new[: request.count])

    def start(self, pool: Pool, node_ids: Sequence[str], preload: Preload) -> None:
        """As the contract says: as many leave standby as are named and asleep, less those on their way already."""
        for group, nodes in self._by_group(pool, node_ids):
            asleep = sum(1 for n in nodes if n.phase in _KEPT)
            serving = sum(1 for n in self._nodes(group) if n.phase not in _KEPT)

            def woken(now: DeclaredCounts, asleep: int = asleep, serving: int = serving) -> DeclaredCounts:
                step = max(asleep - max(now.running - serving, 0), 0)
                return DeclaredCounts(running=now.running + step, standby=max(now.standby - step, 0))

            if asleep:
                self._change(group, woken, why=f"{asleep} of {group.group.name} woken")

    def targets(self, pool: Pool, group: str) -> Mapping[Standby, int]:
        """As the contract says: the standby count that is wanted."""
        ours = terraform_group(pool, group)
        kept = ours.group.quickest_kept
        return {} if kept is None else {kept: ours.file.read(_declared(ours)).counts[group].standby}

    def set_targets(self, pool: Pool, group: str, targets: Mapping[Standby, int]) -> None:
        """As the contract says: the standby count."""
        ours = terraform_group(pool, group)
        bad = [s for s, n in targets.items() if n and s not in ours.group.standby_states - {Standby.RUNNING}]
        if bad:
            raise PoolError(f"group {group} keeps no {', '.join(bad)} nodes", where=ours.where, hint="another group")
        wanted = sum(targets.values())

        def kept(now: DeclaredCounts) -> DeclaredCounts:
            return DeclaredCounts(running=now.running, standby=wanted)

        self._change(ours, kept, why=f"{wanted} of {group} in standby")

    # ---- less

    def hibernate(self, pool: Pool, node_ids: Sequence[str]) -> None:
        """A node in service cannot be named to Terraform: refused. One that is kept is left alone."""
        self._keep(pool, node_ids, Phase.HIBERNATED)

    def stop(self, pool: Pool, node_ids: Sequence[str]) -> None:
        """As `hibernate`."""
        self._keep(pool, node_ids, Phase.STOPPED)

    def _keep(self, pool: Pool, node_ids: Sequence[str], phase: Phase) -> None:
        for group, nodes in self._by_group(pool, node_ids):
            others = [n.node_id for n in nodes if n.phase is not phase]
            _refuse_busy(group, nodes)
            if others:
                raise PoolError(
                    f"Terraform cannot name the nodes that it keeps: {', '.join(others)}",
                    where=group.where,
                    hint="set the group's standby target",
                )

    def drain(self, pool: Pool, node_ids: Sequence[str]) -> None:
        """As the contract says; told to the vendor's nodes, no count changes."""
        for group, nodes in self._by_group(pool, node_ids):
            provider, theirs = self._of(group)
            provider.drain(theirs, [n.node_id for n in nodes])

    def terminate(self, pool: Pool, node_ids: Sequence[str]) -> None:
        """Nodes in standby go by count, one in service cannot be named to Terraform: refused. Absent = success."""
        there = {n.node_id for n in self.observe(pool).nodes}
        for group, nodes in self._by_group(pool, [i for i in node_ids if i in there]):
            _refuse_busy(group, nodes)
            serving = [n.node_id for n in nodes if n.phase not in _KEPT]
            if serving:
                raise PoolError(
                    f"Terraform cannot name the nodes that go: {', '.join(serving)}", where=group.where, hint=_NAMELESS
                )
            kept = sum(1 for n in self._nodes(group) if n.phase in _KEPT)

            def fewer(now: DeclaredCounts, going: int = len(nodes), kept: int = kept) -> DeclaredCounts:
                step = max(going - max(kept - now.standby, 0), 0)
                return DeclaredCounts(running=now.running, standby=max(now.standby - step, 0))

            self._change(group, fewer, why=f"{len(nodes)} of {group.group.name} out of standby")

    # ---- what the vendor does all the same

    def tend(self, pool: Pool, held: Collection[str] = ()) -> tuple[str, ...]:
        """As the contract says, where the vendor has it: verified nodes go on."""
        vendors = [(p, theirs) for p, theirs in self._vendors(pool) if isinstance(p, Tended)]
        return tuple(line for p, theirs in vendors for line in p.tend(theirs, held))

    def notices(self, pool: Pool) -> tuple[Notice, ...]:
        """As the contract says, where the vendor has it."""
        return tuple(n for p, theirs in self._vendors(pool) if isinstance(p, GivesNotice) for n in p.notices(theirs))

    def settle_notices(self, pool: Pool, notices: Sequence[Notice]) -> None:
        """As the contract says."""
        for provider, theirs in self._vendors(pool):
            if isinstance(provider, GivesNotice):
                provider.settle_notices(theirs, notices)

    def examine(self, pool: Pool) -> tuple[Finding, ...]:
        """As the contract says: whether the module can be read and counts are Terraform's, and what has drifted."""
        out: list[Finding] = []
        for group in _one_per_folder(pool):
            what = f"{group.where}: Terraform in {group.terraform.folder}"
            try:
                declared = _declared(group)
                with group.terraform.plan(refresh_only=True) as plan:
                    drift = [str(c) for c in shape_drift(plan.drift, declared.counts_owner)]
            except PoolError as e:
                out.append(Finding(what, "bad", e.what, e.hint))
                continue
            counts = ", ".join(f"{g.name} {g.counts.running}+{g.counts.standby}" for g in declared.groups)
            out.append(Finding(what, "ok", f"declares {counts} (in service + in standby)"))
            if drift:
                out.append(Finding(f"{group.where}: drift", "warn", "; ".join(drift), "terraform plan shows all of it"))
        return tuple(out)

    def other_writers(self, pool: Pool, group: str) -> tuple[str, ...]:
        """Terraform is the one writer; what else writes there shows as drift."""
        return ()

    # ---- as it was found

    def baseline(self, pool: Pool, group: str) -> Mapping[str, object]:
        """As the contract says: the group's counts as its variable has them, or as last applied where it has none."""
        ours = terraform_group(pool, group)
        return self._wanted(ours).model_dump()

    def restore(
        self, pool: Pool, group: str, baseline: Mapping[str, object], held: Collection[str] = ()
    ) -> tuple[str, ...]:
        """As the contract says: the counts as they were found, applied, or proposed where a pull request applies them.

        Terraform cannot name the nodes that go: fewer are in service only once all of them are drained and idle.
        """
        ours = terraform_group(pool, group)
        was = self._wanted(ours)
        found = DeclaredCounts.model_validate({**was.model_dump(), **baseline})
        working = self._working(ours, held) if found.running < was.running else []

        def back(now: DeclaredCounts) -> DeclaredCounts:
            return DeclaredCounts(
                running=max(found.running, now.running) if working else found.running, standby=found.standby
            )

        self._change(ours, back, why=f"{group} given back as it was found")
        return (*_told(ours, was, self._wanted(ours)), *([_waits(working)] if working else []))

    def _wanted(self, group: TerraformGroup) -> DeclaredCounts:
        with group.file.held():
            return group.file.read(_declared(group)).counts[group.group.name]

    def _working(self, group: TerraformGroup, held: Collection[str]) -> list[str]:
        """Nodes in service that run a task or are promised to one, after all were told to begin nothing more."""
        provider, theirs = self._of(group)
        serving = [n.node_id for n in self._nodes(group) if n.phase not in _KEPT]
        provider.drain(theirs, serving)
        working = [n.node_id for n in self._nodes(group) if n.phase not in _KEPT and (n.is_busy or n.node_id in held)]
        if isinstance(provider, Tended):
            provider.tend(theirs, held)  # the idle lose the protection that would keep them
        return working

    # ---- the one way a count changes

    def _change(
        self,
        group: TerraformGroup,
        change: Callable[[DeclaredCounts], DeclaredCounts],
        *,
        why: str,
        token: str = "",
    ) -> None:
        """Write the variable, plan, look at the plan, apply it.

        Without a plan, or with one that is refused, the file is as it was; a plan whose application failed leaves it as
        it is wanted, and the next call goes on from there.

        Raises:
            PoolError: preprov owns the counts, the plan would do more than change counts, or Terraform failed.
            QuotaExceededError: the group's limit.
        """
        file, name, planned = group.file, group.group.name, False
        with file.held():
            declared = _declared(group)
            now = file.read(declared)
            wanted = now
            if not token or token not in now.orders:
                counts = change(now.counts[name])
                _check_room(group, declared, counts)
                orders = {**now.orders, **({token: why} if token else {})}
                wanted = Wanted({**now.counts, name: counts}, orders)
            settled = group.by == "pull-request" or _applied(declared) == now.counts
            if wanted == now and settled:
                return
            before = file.text()
            file.write(wanted)
            if group.by == "pull-request":
                log.info("counts proposed", pool=group.pool.name, file=str(file.path), why=why)
                return
            try:
                with group.terraform.plan() as plan:
                    _only_counts(group, plan)
                    log.info("terraform plan", pool=group.pool.name, why=why, plan=plan.text)
                    planned = True
                    if plan.changes:
                        group.terraform.apply(plan)
            except PoolError:
                if not planned:
                    file.put_back(before)
                raise
            log.info("terraform applied", pool=group.pool.name, changes=[str(c) for c in plan.changes])

    # ---- the vendor's view

    def _vendors(self, pool: Pool) -> Iterator[tuple[PoolProvider, Pool]]:
        """Each vendor's provider, with the pool as it is to see it."""
        groups = [terraform_group(pool, g.name) for g in pool.groups if g.provider == self.name]
        for vendor in dict.fromkeys(g.vendor for g in groups):
            theirs = tuple(g.of_vendor() for g in groups if g.vendor == vendor)
            yield self._vendor(vendor), replace(pool, groups=theirs)

    def _of(self, group: TerraformGroup) -> tuple[PoolProvider, Pool]:
        return self._vendor(group.vendor), replace(group.pool, groups=(group.of_vendor(),))

    def _nodes(self, group: TerraformGroup) -> tuple[Node, ...]:
        provider, theirs = self._of(group)
        return provider.observe(theirs).nodes

    def _by_group(self, pool: Pool, node_ids: Sequence[str]) -> list[tuple[TerraformGroup, list[Node]]]:
        """The named nodes, by group.

        Raises:
            NotFoundError: some are not there.
        """
        nodes = {n.node_id: n for n in self.observe(pool).nodes}
        absent = sorted(set(node_ids) - set(nodes))
        if absent:
            raise NotFoundError(f"no node {', '.join(absent)}", where=pool.name, hint="observe again")
        named = [nodes[i] for i in dict.fromkeys(node_ids)]
        return [
            (terraform_group(pool, name), [n for n in named if n.group == name])
            for name in dict.fromkeys(n.group for n in named)
        ]


def _declared(group: TerraformGroup) -> DeclaredPool:
    """What was last applied.

    Raises:
        PoolError: it could not be read, declares no such group, or leaves the counts to preprov.
    """
    where = str(group.terraform.folder)
    try:
        found = {p.name: p for p in declared_in({"outputs": group.terraform.outputs()}, where)}
        pool = found[group.declared]
        pool.group(group.group.name)
    except KeyError:
        raise NotFoundError(
            f"Terraform declares no pool {group.declared}", where=where, hint="adopt it again"
        ) from None
    except ConfigError as e:
        raise PoolError(e.what, where=where, hint=e.hint) from None
    if pool.counts_owner != "terraform":
        raise PoolError(
            f"the counts of pool {pool.name} are preprov's, not Terraform's",
            where=where,
            hint='adopt it again, or set counts_owner = "terraform" and apply',
        )
    return pool


def _only_counts(group: TerraformGroup, plan: Plan) -> None:
    """Raises PoolError if the plan does anything else."""
    unexpected = [c for c in plan.changes if not is_count(c)]
    if unexpected:
        raise PoolError(
            f"the plan does more than change counts: {'; '.join(map(str, unexpected))}",
            where=group.where,
            hint="apply that yourself first; nothing was applied",
        )


def _applied(declared: DeclaredPool) -> dict[str, DeclaredCounts]:
    return {g.name: g.counts for g in declared.groups}


def _check_room(group: TerraformGroup, declared: DeclaredPool, counts: DeclaredCounts) -> None:
    most = min(declared.group(group.group.name).max_nodes, group.group.max_nodes)
    if counts.running + counts.standby > most:
        raise QuotaExceededError(
            f"group {group.group.name} may have {most} nodes, {counts.running} in service and {counts.standby} in "
            "standby were asked for",
            where=group.where,
            hint="raise max_nodes in Terraform and adopt the pool again",
        )


def _told(group: TerraformGroup, was: DeclaredCounts, now: DeclaredCounts) -> Iterator[str]:
    """What was put back; a line if anything was."""
    if was == now:
        return
    counts = f"in service {was.running} -> {now.running}, in standby {was.standby} -> {now.standby}"
    proposed = f" proposed in {group.file.path.name}: it holds once that is merged and applied"
    yield counts + (proposed if group.by == "pull-request" else ", applied")


def _waits(working: Sequence[str]) -> str:
    what = "still work and Terraform cannot name the nodes that go: all in service stay, drained"
    return f"{', '.join(working)} {what}; give it back again when they are idle"


def _refuse_busy(group: TerraformGroup, nodes: Sequence[Node]) -> None:
    busy = [n.node_id for n in nodes if n.is_busy]
    if busy:
        raise NodeBusyError(f"{', '.join(busy)} runs a task", where=group.where)


def _one_per_folder(pool: Pool) -> list[TerraformGroup]:
    groups = [terraform_group(pool, g.name) for g in pool.groups if g.provider == TerraformProvider.name]
    return list({g.terraform.folder: g for g in groups}.values())
