output "preprov_pool" {
  description = "The pool as `preprov pool adopt terraform` reads it. Pass it on as an output of the root module."
  value = {
    schema          = "preprov/terraform/1"
    name            = var.name
    vendor          = "azure"
    counts_owner    = var.counts_owner
    counts_variable = var.counts_variable
    groups = [
      for n, g in local.described : merge(g, {
        options = merge(
          { resource_group = var.resource_group_name, scale_set = local.scale_sets[n].name, subscription = split("/", var.resource_group_id)[2] },
          g.standby == null ? {} : { standby_pool = local.standby_pools[n].name },
        )
      })
    ]
  }
}

output "scale_set_ids" {
  description = "Group -> id of its scale set."
  value       = { for n, s in local.scale_sets : n => s.id }
}

output "standby_pool_ids" {
  description = "Group -> id of its standby pool, where it has one."
  value       = { for n, p in local.standby_pools : n => p.id }
}

output "observe_role_id" {
  description = "Role with which preprov may look and write nothing."
  value       = azurerm_role_definition.observe.role_definition_resource_id
}

output "act_role_id" {
  description = "Role with which preprov may move nodes."
  value       = azurerm_role_definition.act.role_definition_resource_id
}

output "node_identity" {
  description = "Principal id of the identity that the nodes run as."
  value       = azurerm_user_assigned_identity.node.principal_id
}
