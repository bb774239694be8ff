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
  description = "The pool's groups by name: one flexible scale set each, with at most one standby pool. `standby` is \"none\", \"running\" or \"stopped\" (deallocated). `offering` is its VM size with what it holds (cpu in cores, memory in GiB)."
  type = map(object({
    standby   = optional(string, "none")
    min_nodes = optional(number, 0)
    max_nodes = number
    spot      = optional(bool, false)
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
    condition     = alltrue([for n in keys(var.groups) : can(regex("^[a-z0-9]([a-z0-9-]{0,18}[a-z0-9])?$", n))])
    error_message = "A group's name is up to 20 lower-case letters, digits and dashes."
  }

  validation {
    condition     = alltrue([for g in values(var.groups) : contains(["none", "running", "stopped"], g.standby)])
    error_message = "standby is \"none\", \"running\" or \"stopped\"; the azurerm provider cannot declare hibernated pools yet."
  }

  validation {
    condition     = alltrue([for g in values(var.groups) : 0 <= g.min_nodes && g.min_nodes <= g.max_nodes])
    error_message = "min_nodes lies between 0 and max_nodes."
  }

  validation {
    condition     = alltrue([for g in values(var.groups) : g.offering.cpu > 0 && g.offering.memory > 0])
    error_message = "An offering has cpu and memory above 0."
  }

  validation {
    condition     = alltrue([for g in values(var.groups) : !g.spot || g.standby == "none"])
    error_message = "A standby pool keeps no spot nodes: give spot a group with standby = \"none\"."
  }
}

variable "resource_group_name" {
  description = "Resource group of the pool. preprov's roles are narrowed to it, so one of its own is best."
  type        = string
}

variable "resource_group_id" {
  description = "Id of that resource group."
  type        = string

  validation {
    condition     = can(regex("^/subscriptions/[^/]+/resourceGroups/[^/]+$", var.resource_group_id))
    error_message = "resource_group_id is \"/subscriptions/.../resourceGroups/...\"."
  }
}

variable "location" {
  description = "Azure region."
  type        = string
}

variable "zones" {
  description = "Availability zones of the nodes; empty = wherever there is room."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for z in var.zones : contains(["1", "2", "3"], z)])
    error_message = "Zones are \"1\", \"2\" and \"3\"."
  }
}

variable "subnet_id" {
  description = "Subnet of the nodes."
  type        = string
}

variable "network_security_group_id" {
  description = "Network security group of the nodes. Nodes need no way in."
  type        = string
}

variable "source_image_id" {
  description = "Image of the nodes (of a compute gallery), best with images and data baked in."
  type        = string
}

variable "admin_username" {
  description = "Name of the administrator on the nodes."
  type        = string
  default     = "preprov"
}

variable "admin_public_key" {
  description = "SSH public key of the administrator; passwords are off."
  type        = string

  validation {
    condition     = can(regex("^(ssh-|ecdsa-)", var.admin_public_key))
    error_message = "admin_public_key is an OpenSSH public key."
  }
}

variable "user_data" {
  description = "Cloud-init user data in clear; it starts the agent. Must hold no secret."
  type        = string
  default     = ""
}

variable "os_disk_gib" {
  description = "Size of the OS disk, GiB."
  type        = number
  default     = 64

  validation {
    condition     = var.os_disk_gib >= 30
    error_message = "The OS disk has at least 30 GiB."
  }
}

variable "disk_encryption_set_id" {
  description = "Disk encryption set with your own key; null = Azure's own, with which every disk is encrypted."
  type        = string
  default     = null
}

variable "encryption_at_host" {
  description = "Whether temporary disks and caches are encrypted too. The subscription needs the feature EncryptionAtHost."
  type        = bool
  default     = true
}

variable "public_addresses" {
  description = "Whether nodes get public addresses."
  type        = bool
  default     = false
}

variable "fault_domains" {
  description = "Fault domains over which nodes are spread; 1 = as Azure sees fit."
  type        = number
  default     = 1

  validation {
    condition     = contains([1, 2, 3], var.fault_domains)
    error_message = "fault_domains is 1, 2 or 3."
  }
}

variable "observe_principals" {
  description = "Object ids of the principals that may look."
  type        = set(string)
  default     = []
}

variable "act_principals" {
  description = "Object ids of the principals that may look and move nodes."
  type        = set(string)
  default     = []
}

variable "tags" {
  description = "Tags of everything. A scale set whose counts are preprov's keeps those it was made with. Names that begin with \"preprov:\" are preprov's own."
  type        = map(string)
  default     = {}

  validation {
    condition     = alltrue([for k in keys(var.tags) : !startswith(k, "preprov:")])
    error_message = "Tags that begin with \"preprov:\" are preprov's own."
  }
}

variable "bake_images" {
  description = "Whether preprov may make images for this pool (`preprov image bake`), roll them out and delete old ones."
  type        = bool
  default     = false
  nullable    = false
}
