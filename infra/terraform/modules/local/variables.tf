variable "name" {
  description = "Name of the pool. Every resource, tag and role carries it."
  type        = string

  validation {
    condition     = can(regex("^[a-z0-9][a-z0-9-]{1,30}$", var.name))
    error_message = "name is 2 to 31 lower-case letters, digits and dashes, and begins with a letter or a digit."
  }
}

variable "counts_owner" {
  description = "Who writes counts. \"preprov\": Terraform makes the groups and then leaves their counts alone. \"terraform\": counts go through `counts`, and preprov writes none itself."
  type        = string
  default     = "preprov"

  validation {
    condition     = contains(["preprov", "terraform"], var.counts_owner)
    error_message = "counts_owner is \"preprov\" or \"terraform\"."
  }
}

variable "counts" {
  description = "Nodes per group: in service, and kept in standby. With counts_owner = \"preprov\" they hold when a group is made and never again."
  type = map(object({
    running = optional(number, 0)
    standby = optional(number, 0)
  }))
  default = {}

  validation {
    condition     = alltrue([for g in keys(var.counts) : contains(keys(var.groups), g)])
    error_message = "counts names a group that is not in groups."
  }

  validation {
    condition = alltrue([
      for c in values(var.counts) : c.running >= 0 && c.standby >= 0 && floor(c.running) == c.running && floor(c.standby) == c.standby
    ])
    error_message = "Counts are whole numbers from 0 on."
  }

  validation {
    condition = alltrue([
      for g, c in var.counts : c.running + c.standby <= try(var.groups[g].max_nodes, 0)
    ])
    error_message = "A group cannot have more nodes, in service and in standby together, than its max_nodes."
  }

  validation {
    condition     = alltrue([for g, c in var.counts : c.standby == 0 || try(var.groups[g].standby, "none") != "none"])
    error_message = "A group without a standby state keeps no node in standby."
  }
}

variable "counts_variable" {
  description = "Name of the root module's variable that is passed on as `counts`, so that preprov knows what to write where counts_owner = \"terraform\"."
  type        = string
  default     = "preprov_counts"
}

variable "groups" {
  description = "The pool's groups by name. `standby` is \"none\", \"stopped\" or \"hibernated\". `offering` is what a node holds (cpu in cores, memory in GiB)."
  type = map(object({
    standby   = optional(string, "none")
    min_nodes = optional(number, 0)
    max_nodes = number
    offering = object({
      type         = string
      cpu          = number
      memory       = number
      gpu          = optional(number, 0)
      usd_per_hour = optional(number)
    })
  }))

  validation {
    condition     = length(var.groups) > 0
    error_message = "A pool has at least one group."
  }

  validation {
    condition     = alltrue([for n in keys(var.groups) : can(regex("^[a-z0-9][a-z0-9-]{0,30}$", n))])
    error_message = "A group's name is up to 31 lower-case letters, digits and dashes."
  }

  validation {
    condition     = alltrue([for g in values(var.groups) : contains(["none", "stopped", "hibernated"], g.standby)])
    error_message = "standby is \"none\", \"stopped\" or \"hibernated\"."
  }

  validation {
    condition     = alltrue([for g in values(var.groups) : 0 <= g.min_nodes && g.min_nodes <= g.max_nodes])
    error_message = "min_nodes lies between 0 and max_nodes."
  }

  validation {
    condition     = alltrue([for g in values(var.groups) : g.offering.cpu > 0 && g.offering.memory > 0])
    error_message = "An offering has cpu and memory above 0."
  }
}
