output "preprov_pool" {
  description = "For preprov pool adopt terraform."
  value       = module.nightly.preprov_pool
}

output "observe_role_arn" {
  description = "Role with which preprov may look."
  value       = module.nightly.observe_role_arn
}

output "act_role_arn" {
  description = "Role with which preprov may move nodes."
  value       = module.nightly.act_role_arn
}
