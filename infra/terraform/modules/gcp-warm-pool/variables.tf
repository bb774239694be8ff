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
  description = "The pool's groups by name: one zonal managed instance group each, with at most one standby state. `standby` is \"none\", \"stopped\" or \"hibernated\" (suspended). `offering` is its machine type with what it holds (cpu in cores, memory in GiB)."
  type = map(object({
    zone      = string
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

  validation {
    condition     = alltrue([for g in values(var.groups) : startswith(g.zone, "${var.region}-")])
    error_message = "A group's zone lies in the region."
  }

  validation {
    condition     = alltrue([for g in values(var.groups) : !g.spot || g.standby == "none"])
    error_message = "A spot machine that was taken away cannot be woken: give spot a group with standby = \"none\"."
  }

  validation {
    condition     = alltrue([for g in values(var.groups) : g.offering.gpu == 0 || g.standby != "hibernated"])
    error_message = "Compute Engine cannot suspend a machine that has GPUs."
  }
}

variable "project" {
  description = "Project of the pool. Rights on managed instance groups cannot be narrowed below it, so a project of its own is best."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{4,28}[a-z0-9]$", var.project))
    error_message = "project is a project's id."
  }
}

variable "region" {
  description = "Region of the groups' zones."
  type        = string

  validation {
    condition     = can(regex("^[a-z]+-[a-z]+[0-9]+$", var.region))
    error_message = "region is a name such as \"europe-west1\"."
  }
}

variable "subnetwork" {
  description = "Subnetwork of the nodes, as a self link. It needs Private Google Access where nodes have no public addresses."
  type        = string
}

variable "source_image" {
  description = "Image or image family of the nodes, best with images and data baked in."
  type        = string
}

variable "user_data" {
  description = "Cloud-init user data in clear; it starts the agent. Must hold no secret."
  type        = string
  default     = ""
}

variable "boot_disk_gib" {
  description = "Size of the boot disk, GiB."
  type        = number
  default     = 50

  validation {
    condition     = var.boot_disk_gib >= 10
    error_message = "The boot disk has at least 10 GiB."
  }
}

variable "boot_disk_type" {
  description = "Type of the boot disk."
  type        = string
  default     = "pd-balanced"
}

variable "kms_key" {
  description = "Key (self link) that encrypts disks; null = Google's own, with which every disk is encrypted."
  type        = string
  default     = null
}

variable "public_addresses" {
  description = "Whether nodes get public addresses."
  type        = bool
  default     = false
}

variable "network_tags" {
  description = "Network tags of the nodes, for firewall rules. Nodes need no way in."
  type        = list(string)
  default     = []
}

variable "node_roles" {
  description = "Project roles given to the service account of the nodes, for example to read images and data."
  type        = set(string)
  default     = []
}

variable "observe_members" {
  description = "Who may look: members such as \"serviceAccount:preprov@acme.iam.gserviceaccount.com\"."
  type        = set(string)
  default     = []

  validation {
    condition     = alltrue([for m in var.observe_members : can(regex("^(user|group|serviceAccount|principal|principalSet):.+", m))])
    error_message = "A member is \"serviceAccount:...\", \"group:...\", \"user:...\" or a principal; allUsers is refused."
  }
}

variable "act_members" {
  description = "Who may look and move nodes."
  type        = set(string)
  default     = []

  validation {
    condition     = alltrue([for m in var.act_members : can(regex("^(user|group|serviceAccount|principal|principalSet):.+", m))])
    error_message = "A member is \"serviceAccount:...\", \"group:...\", \"user:...\" or a principal; allUsers is refused."
  }
}

variable "labels" {
  description = "Labels of everything that can have some. Names that begin with \"preprov-\" are preprov's own."
  type        = map(string)
  default     = {}

  validation {
    condition     = alltrue([for k in keys(var.labels) : !startswith(k, "preprov-")])
    error_message = "Labels that begin with \"preprov-\" are preprov's own."
  }
}

variable "bake_images" {
  description = "Whether preprov may make images for this pool (`preprov image bake`), roll them out and delete old ones."
  type        = bool
  default     = false
  nullable    = false
}
