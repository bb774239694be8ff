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
  description = "The pool's groups by name: one Auto Scaling group each, with at most one standby state. `standby` is \"none\", \"running\" (booted and verified, not in service), \"stopped\" or \"hibernated\". `offerings` are its instance types with what they hold (cpu in cores, memory in GiB). `spot` mixes spot with on-demand nodes, and is for groups without standby only: a warm pool keeps none."
  type = map(object({
    standby   = optional(string, "none")
    min_nodes = optional(number, 0)
    max_nodes = number
    offerings = list(object({
      type         = string
      cpu          = number
      memory       = number
      gpu          = optional(number, 0)
      usd_per_hour = optional(number)
    }))
    spot = optional(object({
      on_demand_base    = optional(number, 0)
      on_demand_percent = optional(number, 0)
    }))
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
    condition     = alltrue([for g in values(var.groups) : contains(["none", "running", "stopped", "hibernated"], g.standby)])
    error_message = "standby is \"none\", \"running\", \"stopped\" or \"hibernated\"."
  }

  validation {
    condition     = alltrue([for g in values(var.groups) : 0 <= g.min_nodes && g.min_nodes <= g.max_nodes])
    error_message = "min_nodes lies between 0 and max_nodes."
  }

  validation {
    condition = alltrue([
      for g in values(var.groups) : length(g.offerings) > 0 && alltrue([for o in g.offerings : o.cpu > 0 && o.memory > 0])
    ])
    error_message = "A group has at least one offering, each with cpu and memory above 0."
  }

  validation {
    condition     = alltrue([for g in values(var.groups) : g.spot == null || g.standby == "none"])
    error_message = "EC2 warm pools keep no spot nodes: give spot a group with standby = \"none\"."
  }

  validation {
    condition     = alltrue([for g in values(var.groups) : g.spot == null || try(g.spot.on_demand_percent >= 0 && g.spot.on_demand_percent <= 100, false)])
    error_message = "on_demand_percent lies between 0 and 100."
  }
}

variable "fleets" {
  description = "Groups without an Auto Scaling group, by name: preprov launches their nodes by instant fleets from a launch template, by name and with no count anywhere. The act role is then also allowed to run instances of these templates."
  type = map(object({
    states    = optional(list(string), ["running"])
    max_nodes = number
    spot      = optional(bool, false)
    offerings = list(object({
      type         = string
      cpu          = number
      memory       = number
      gpu          = optional(number, 0)
      usd_per_hour = optional(number)
    }))
  }))
  default = {}

  validation {
    condition     = length(setintersection(keys(var.fleets), keys(var.groups))) == 0
    error_message = "A fleet and a group have the same name."
  }

  validation {
    condition = alltrue([
      for f in values(var.fleets) : length(f.offerings) > 0 && alltrue([for s in f.states : contains(["running", "stopped", "hibernated"], s)])
    ])
    error_message = "A fleet has at least one offering; its states are among \"running\", \"stopped\" and \"hibernated\"."
  }
}

variable "subnets" {
  description = "Availability zone -> id of the private subnet in which nodes are placed there."
  type        = map(string)

  validation {
    condition     = length(var.subnets) > 0
    error_message = "At least one subnet is needed."
  }
}

variable "security_group_ids" {
  description = "Security groups of the nodes. Nodes need no way in: agents and preprov leave each other notes as tags."
  type        = list(string)

  validation {
    condition     = length(var.security_group_ids) > 0
    error_message = "At least one security group is needed: the VPC's default one is seldom what is wanted."
  }
}

variable "image_id" {
  description = "Machine image (AMI) of the nodes, best with images and data baked in."
  type        = string

  validation {
    condition     = startswith(var.image_id, "ami-")
    error_message = "image_id begins with \"ami-\"."
  }
}

variable "user_data" {
  description = "Cloud-init user data in clear; it starts the agent. Must hold no secret."
  type        = string
  default     = ""
}

variable "root_device_name" {
  description = "Root device of the image."
  type        = string
  default     = "/dev/xvda"
}

variable "root_volume_gib" {
  description = "Size of the root disk, GiB. A node that hibernates writes its memory there."
  type        = number
  default     = 50

  validation {
    condition     = var.root_volume_gib >= 8
    error_message = "The root disk has at least 8 GiB."
  }
}

variable "kms_key_arn" {
  description = "Key that encrypts disks; null = the account's own EBS key. The service-linked role of Auto Scaling must be allowed to use it."
  type        = string
  default     = null
}

variable "public_addresses" {
  description = "Whether nodes get public addresses."
  type        = bool
  default     = false
}

variable "verify_timeout" {
  description = "Seconds a node may take until its agent has verified it; it is thrown away then. preprov asks for more time while it makes progress."
  type        = number
  default     = 900

  validation {
    condition     = var.verify_timeout >= 30 && var.verify_timeout <= 7200
    error_message = "verify_timeout lies between 30 and 7200 seconds."
  }
}

variable "notices" {
  description = "Whether interruption and rebalance notices are collected in a queue for preprov."
  type        = bool
  default     = true
}

variable "node_policy_arns" {
  description = "Policies attached to the role of the nodes, for example to read images and data."
  type        = set(string)
  default     = []
}

variable "trusted_principal_arns" {
  description = "Who may take the two roles made for preprov. Empty = no roles are made."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for a in var.trusted_principal_arns : can(regex("^arn:[a-z-]+:(iam|sts)::", a))])
    error_message = "Principals are ARNs of IAM users, roles or accounts; \"*\" is refused."
  }
}

variable "external_id" {
  description = "External id that must be given to take the roles; null = none."
  type        = string
  default     = null
}

variable "tags" {
  description = "Tags of everything. Names that begin with \"preprov:\" are preprov's own."
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

variable "keep_volumes" {
  description = "Whether preprov may make storage volumes for this pool (`preprov reservation create --volume`), attach them to its nodes, grow and delete them. They are encrypted."
  type        = bool
  default     = false
  nullable    = false
}
