locals {
  # What preprov calls the state that a group's warm pool keeps. One that keeps nodes running is its fastest tier.
  states = {
    none       = []
    running    = ["hibernated"]
    stopped    = ["stopped"]
    hibernated = ["hibernated"]
  }
  warm_states = {
    running    = "Running"
    stopped    = "Stopped"
    hibernated = "Hibernated"
  }

  counts = { for n in keys(var.groups) : n => lookup(var.counts, n, { running = 0, standby = 0 }) }

  # Launch templates are of groups and fleets alike.
  templates = merge(
    { for n, g in var.groups : n => { type = g.offerings[0].type, hibernates = g.standby == "hibernated" } },
    { for n, f in var.fleets : n => { type = f.offerings[0].type, hibernates = contains(f.states, "hibernated") } },
  )

  # Several types, or any spot, need a mixed instances policy; one type alone is simplest without.
  mixed = { for n, g in var.groups : n => length(g.offerings) > 1 || g.spot != null }

  group_tags = merge([
    for n in keys(var.groups) : { for k, v in var.tags : "${n}/${k}" => { group = n, key = k, value = v } }
  ]...)

  roles = length(var.trusted_principal_arns) > 0
}
