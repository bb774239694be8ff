locals {
  # What preprov calls the state that a group keeps.
  states = {
    none       = []
    stopped    = ["stopped"]
    hibernated = ["hibernated"]
  }

  counts  = { for n in keys(var.groups) : n => lookup(var.counts, n, { running = 0, standby = 0 }) }
  rights  = jsondecode(file("${path.module}/rights.json"))
  role_id = replace(var.name, "-", "_")

  # Machines of a group are named after it. Of no other kind of resource does Compute Engine tell a condition the name.
  machines_only = join(" || ", [
    for n in keys(var.groups) : "resource.name.extract('/instances/{name}').startsWith('${var.name}-${n}-')"
  ])

  described = {
    for n, g in var.groups : n => {
      name         = n
      provider     = "gcp"
      states       = concat(["running"], local.states[g.standby])
      mixes_states = true
      chooses_zone = false
      min_nodes    = g.min_nodes
      max_nodes    = g.max_nodes
      standby      = g.standby == "none" ? null : local.states[g.standby][0]
      counts       = local.counts[n]
      offerings    = [merge(g.offering, { zone = g.zone, capacity_type = g.spot ? "spot" : "on_demand" })]
    }
  }
}
