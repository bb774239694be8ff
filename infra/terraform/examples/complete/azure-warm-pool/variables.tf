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

variable "location" {
  description = "Azure region."
  type        = string
  default     = "westeurope"
}

variable "source_image_id" {
  description = "Image of the nodes."
  type        = string
}

variable "admin_public_key" {
  description = "SSH public key of the administrator."
  type        = string
}

variable "act_principals" {
  description = "Object ids of who may act as preprov."
  type        = set(string)
  default     = []
}
