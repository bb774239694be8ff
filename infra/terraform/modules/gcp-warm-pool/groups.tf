# Two resources of one shape, for what a resource ignores cannot depend on a variable: `counts_owner` chooses.
# To change it later without making the groups anew: terraform state mv, see the README.

resource "google_compute_instance_group_manager" "preprov" {
  for_each = var.counts_owner == "preprov" ? var.groups : {}

  name               = "${var.name}-${each.key}"
  description        = "Group ${each.key} of pool ${var.name}"
  project            = var.project
  zone               = each.value.zone
  base_instance_name = "${var.name}-${each.key}"

  target_size           = max(local.counts[each.key].running, each.value.min_nodes)
  target_stopped_size   = each.value.standby == "stopped" ? local.counts[each.key].standby : 0
  target_suspended_size = each.value.standby == "hibernated" ? local.counts[each.key].standby : 0

  # A node is put to sleep by name when it is verified, and handed over by name: the group does neither by itself.
  standby_policy {
    mode              = "MANUAL"
    initial_delay_sec = 0
  }

  version {
    instance_template = google_compute_instance_template.this[each.key].self_link_unique
  }

  # A new template is for new nodes: none that runs is replaced.
  update_policy {
    type                           = "OPPORTUNISTIC"
    minimal_action                 = "NONE"
    most_disruptive_allowed_action = "NONE"
  }

  # A node that failed is reported and ended by preprov, which knows what ran there.
  instance_lifecycle_policy {
    default_action_on_failure = "DO_NOTHING"
  }

  # A node takes minutes until it is verified: an apply does not wait for that.
  wait_for_instances = false

  lifecycle {
    # What preprov writes.
    ignore_changes = [target_size, target_stopped_size, target_suspended_size]
  }
}

resource "google_compute_instance_group_manager" "terraform" {
  for_each = var.counts_owner == "terraform" ? var.groups : {}

  name               = "${var.name}-${each.key}"
  description        = "Group ${each.key} of pool ${var.name}"
  project            = var.project
  zone               = each.value.zone
  base_instance_name = "${var.name}-${each.key}"

  target_size           = max(local.counts[each.key].running, each.value.min_nodes)
  target_stopped_size   = each.value.standby == "stopped" ? local.counts[each.key].standby : 0
  target_suspended_size = each.value.standby == "hibernated" ? local.counts[each.key].standby : 0

  # A node is put to sleep by name when it is verified, and handed over by name: the group does neither by itself.
  standby_policy {
    mode              = "MANUAL"
    initial_delay_sec = 0
  }

  version {
    instance_template = google_compute_instance_template.this[each.key].self_link_unique
  }

  # A new template is for new nodes: none that runs is replaced.
  update_policy {
    type                           = "OPPORTUNISTIC"
    minimal_action                 = "NONE"
    most_disruptive_allowed_action = "NONE"
  }

  # A node that failed is reported and ended by preprov, which knows what ran there.
  instance_lifecycle_policy {
    default_action_on_failure = "DO_NOTHING"
  }

  # A node takes minutes until it is verified: an apply does not wait for that.
  wait_for_instances = false
}

locals {
  managers = merge(google_compute_instance_group_manager.preprov, google_compute_instance_group_manager.terraform)
}
