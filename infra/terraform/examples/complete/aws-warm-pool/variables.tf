variable "region" {
  description = "AWS region."
  type        = string
  default     = "eu-central-1"
}

variable "image_id" {
  description = "Machine image of the nodes."
  type        = string
}

variable "trusted_principal_arns" {
  description = "Who may take preprov's roles."
  type        = list(string)
  default     = []
}

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
