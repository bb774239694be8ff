output "preprov_pool" {
  description = "The pool as `preprov pool adopt terraform` reads it. Pass it on as an output of the root module."
  value = {
    schema          = "preprov/terraform/1"
    name            = var.name
    vendor          = "local"
    counts_owner    = var.counts_owner
    counts_variable = var.counts_variable
    groups = [
      for n, g in var.groups : {
        name         = n
        provider     = "local"
        states       = g.standby == "none" ? ["running"] : ["running", g.standby]
        mixes_states = true
        chooses_zone = true
        min_nodes    = g.min_nodes
        max_nodes    = g.max_nodes
        standby      = g.standby == "none" ? null : g.standby
        counts       = { running = local.groups[n].output.running, standby = local.groups[n].output.standby }
        offerings    = [merge(g.offering, { capacity_type = "on_demand" })]
        options      = {}
      }
    ]
  }
}
