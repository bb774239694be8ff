output "preprov_pool" {
  description = "For preprov pool adopt terraform."
  value       = module.nightly.preprov_pool
}
