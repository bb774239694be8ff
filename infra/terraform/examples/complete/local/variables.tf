variable "counts_owner" {
  description = "\"preprov\" or \"terraform\"."
  type        = string
  default     = "preprov"
}

variable "preprov_counts" {
  description = "Nodes per group, in service and in standby; written by preprov where Terraform owns the counts."
  type        = map(object({ running = optional(number, 0), standby = optional(number, 0) }))
  default     = {}
}
