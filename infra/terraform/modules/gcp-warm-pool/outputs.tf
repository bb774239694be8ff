output "preprov_pool" {
  description = "The pool as `preprov pool adopt terraform` reads it. Pass it on as an output of the root module."
  value = {
    schema          = "preprov/terraform/1"
    name            = var.name
    vendor          = "gcp"
    counts_owner    = var.counts_owner
    counts_variable = var.counts_variable
    groups = [
      for n, g in local.described : merge(g, {
        options = { project = var.project, zone = var.groups[n].zone, mig = local.managers[n].name }
      })
    ]
  }
}

output "instance_group_manager_names" {
  description = "Group -> name of its managed instance group."
  value       = { for n, g in local.managers : n => g.name }
}

output "observe_role" {
  description = "Role with which preprov may look and write nothing."
  value       = google_project_iam_custom_role.observe.id
}

output "act_roles" {
  description = "Roles with which preprov may move groups and leave notes on machines."
  value       = [google_project_iam_custom_role.act_group.id, google_project_iam_custom_role.act_node.id]
}

output "node_service_account" {
  description = "Account that the nodes run as."
  value       = google_service_account.node.email
}
