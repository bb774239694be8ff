locals {
  # What preprov calls the state that a group's standby pool keeps. One that keeps nodes running is its fastest tier.
  states = {
    none    = []
    running = ["hibernated"]
    stopped = ["stopped"]
  }
  standby_states = {
    running = "Running"
    stopped = "Deallocated"
  }

  counts = { for n in keys(var.groups) : n => lookup(var.counts, n, { running = 0, standby = 0 }) }
  kept   = { for n, g in var.groups : n => g if g.standby != "none" }
  rights = jsondecode(file("${path.module}/rights.json"))

  # Where counts go through Terraform, preprov moves no group: it may still write notes on nodes.
  moves = var.counts_owner == "preprov" ? concat(local.rights.act.group, local.rights.act.node, local.rights.act.standby) : local.rights.act.node
  acts  = var.bake_images ? concat(local.moves, local.rights.act.image) : local.moves

  described = {
    for n, g in var.groups : n => {
      name         = n
      provider     = "azure"
      states       = concat(["running"], local.states[g.standby])
      mixes_states = false
      chooses_zone = false
      min_nodes    = g.min_nodes
      max_nodes    = g.max_nodes
      standby      = g.standby == "none" ? null : local.states[g.standby][0]
      counts       = local.counts[n]
      offerings    = [merge(g.offering, { capacity_type = g.spot ? "spot" : "on_demand" })]
    }
  }
}
