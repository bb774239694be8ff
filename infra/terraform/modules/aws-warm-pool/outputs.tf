locals {
  vendor = {
    for n, g in var.groups : n => {
      name         = n
      provider     = "aws"
      states       = concat(["running"], local.states[g.standby])
      mixes_states = false
      chooses_zone = true
      min_nodes    = g.min_nodes
      max_nodes    = g.max_nodes
      standby      = g.standby == "none" ? null : local.states[g.standby][0]
      counts       = local.counts[n]
      offerings = [
        for o in g.offerings : merge(o, {
          capacity_type = try(g.spot.on_demand_percent, 100) == 100 ? "on_demand" : "spot"
        })
      ]
      options = merge(
        { region = data.aws_region.current.name, asg = local.autoscaling_groups[n].name },
        var.notices ? { queue_url = aws_sqs_queue.notices[0].url } : {},
      )
    }
  }

  fleet_groups = {
    for n, f in var.fleets : n => {
      name         = n
      provider     = "aws"
      states       = distinct(concat(["running"], f.states))
      mixes_states = true
      chooses_zone = true
      min_nodes    = 0
      max_nodes    = f.max_nodes
      standby      = null
      counts       = { running = 0, standby = 0 }
      offerings    = [for o in f.offerings : merge(o, { capacity_type = f.spot ? "spot" : "on_demand" })]
      options = merge(
        { region = data.aws_region.current.name, launch_template = aws_launch_template.this[n].name, subnets = var.subnets },
        var.notices ? { queue_url = aws_sqs_queue.notices[0].url } : {},
      )
    }
  }
}

data "aws_region" "current" {}

output "preprov_pool" {
  description = "The pool as `preprov pool adopt terraform` reads it. Pass it on as an output of the root module."
  value = {
    schema          = "preprov/terraform/1"
    name            = var.name
    vendor          = "aws"
    counts_owner    = var.counts_owner
    counts_variable = var.counts_variable
    groups          = concat(values(local.vendor), values(local.fleet_groups))
  }
}

output "autoscaling_group_names" {
  description = "Group -> name of its Auto Scaling group."
  value       = { for n, g in local.autoscaling_groups : n => g.name }
}

output "observe_role_arn" {
  description = "Role with which preprov may look and write nothing; null if none was made."
  value       = one(aws_iam_role.observe[*].arn)
}

output "act_role_arn" {
  description = "Role with which preprov may also move nodes of this pool; null if none was made."
  value       = one(aws_iam_role.act[*].arn)
}

output "node_role_name" {
  description = "Role of the nodes, to attach more policies to."
  value       = aws_iam_role.node.name
}

output "notices_queue_url" {
  description = "Queue of interruption and rebalance notices; null if there is none."
  value       = one(aws_sqs_queue.notices[*].url)
}
