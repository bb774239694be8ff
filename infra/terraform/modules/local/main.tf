# Two resources of one shape, for what a resource ignores cannot depend on a variable: `counts_owner` chooses.
# To change it later without making the groups anew: terraform state mv, see the README.

resource "terraform_data" "preprov" {
  for_each = var.counts_owner == "preprov" ? var.groups : {}

  input = {
    pool    = var.name
    group   = each.key
    running = max(local.counts[each.key].running, each.value.min_nodes)
    standby = local.counts[each.key].standby
  }

  lifecycle {
    # What preprov decides.
    ignore_changes = [input]
  }
}

resource "terraform_data" "terraform" {
  for_each = var.counts_owner == "terraform" ? var.groups : {}

  input = {
    pool    = var.name
    group   = each.key
    running = max(local.counts[each.key].running, each.value.min_nodes)
    standby = local.counts[each.key].standby
  }
}

locals {
  groups = merge(terraform_data.preprov, terraform_data.terraform)
}
