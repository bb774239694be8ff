# Two resources of one shape, for what a resource ignores cannot depend on a variable: `counts_owner` chooses.
# To change it later without making the groups anew: terraform state mv, see the README.

resource "aws_autoscaling_group" "preprov" {
  for_each = var.counts_owner == "preprov" ? var.groups : {}

  name                = "${var.name}-${each.key}"
  min_size            = each.value.min_nodes
  max_size            = each.value.max_nodes
  desired_capacity    = max(local.counts[each.key].running, each.value.min_nodes)
  vpc_zone_identifier = values(var.subnets)

  # Nodes end by name, when they are idle; nothing else takes one away.
  protect_from_scale_in  = true
  suspended_processes    = ["AZRebalance"]
  capacity_rebalance     = false
  force_delete_warm_pool = true

  # A node is in service when its agent has verified it, which takes minutes: an apply does not wait for that.
  wait_for_capacity_timeout = "0"
  health_check_type         = "EC2"
  health_check_grace_period = var.verify_timeout
  enabled_metrics = [
    "GroupDesiredCapacity", "GroupInServiceInstances", "GroupPendingInstances", "GroupTotalInstances",
    "WarmPoolDesiredCapacity", "WarmPoolMinSize", "WarmPoolWarmedCapacity",
  ]

  # There before the first node; kept up to date by aws_autoscaling_lifecycle_hook.
  initial_lifecycle_hook {
    name                 = "preprov-verify"
    lifecycle_transition = "autoscaling:EC2_INSTANCE_LAUNCHING"
    heartbeat_timeout    = var.verify_timeout
    default_result       = "ABANDON"
  }

  dynamic "launch_template" {
    for_each = local.mixed[each.key] ? [] : [true]
    content {
      id      = aws_launch_template.this[each.key].id
      version = aws_launch_template.this[each.key].latest_version
    }
  }

  dynamic "mixed_instances_policy" {
    for_each = local.mixed[each.key] ? [true] : []
    content {
      launch_template {
        launch_template_specification {
          launch_template_id = aws_launch_template.this[each.key].id
          version            = aws_launch_template.this[each.key].latest_version
        }

        dynamic "override" {
          for_each = each.value.offerings
          content {
            instance_type = override.value.type
          }
        }
      }

      instances_distribution {
        on_demand_base_capacity                  = each.value.spot == null ? 0 : each.value.spot.on_demand_base
        on_demand_percentage_above_base_capacity = each.value.spot == null ? 100 : each.value.spot.on_demand_percent
        on_demand_allocation_strategy            = "prioritized"
        spot_allocation_strategy                 = "price-capacity-optimized"
      }
    }
  }

  dynamic "warm_pool" {
    for_each = each.value.standby == "none" ? [] : [local.counts[each.key].standby]
    content {
      pool_state                  = local.warm_states[each.value.standby]
      min_size                    = warm_pool.value
      max_group_prepared_capacity = warm_pool.value

      instance_reuse_policy {
        reuse_on_scale_in = true
      }
    }
  }

  dynamic "tag" {
    for_each = merge(var.tags, { "preprov:pool" = var.name, "preprov:group" = each.key })
    content {
      key                 = tag.key
      value               = tag.value
      propagate_at_launch = startswith(tag.key, "preprov:")
    }
  }

  lifecycle {
    # What preprov writes. Its tags say what is to be on a node's disk; yours are kept by aws_autoscaling_group_tag.
    ignore_changes = [
      desired_capacity,
      min_size,
      warm_pool[0].min_size,
      warm_pool[0].max_group_prepared_capacity,
      tag,
    ]
  }
}

resource "aws_autoscaling_group" "terraform" {
  for_each = var.counts_owner == "terraform" ? var.groups : {}

  name                = "${var.name}-${each.key}"
  min_size            = each.value.min_nodes
  max_size            = each.value.max_nodes
  desired_capacity    = max(local.counts[each.key].running, each.value.min_nodes)
  vpc_zone_identifier = values(var.subnets)

  # Nodes end by name, when they are idle; nothing else takes one away.
  protect_from_scale_in  = true
  suspended_processes    = ["AZRebalance"]
  capacity_rebalance     = false
  force_delete_warm_pool = true

  # A node is in service when its agent has verified it, which takes minutes: an apply does not wait for that.
  wait_for_capacity_timeout = "0"
  health_check_type         = "EC2"
  health_check_grace_period = var.verify_timeout
  enabled_metrics = [
    "GroupDesiredCapacity", "GroupInServiceInstances", "GroupPendingInstances", "GroupTotalInstances",
    "WarmPoolDesiredCapacity", "WarmPoolMinSize", "WarmPoolWarmedCapacity",
  ]

  # There before the first node; kept up to date by aws_autoscaling_lifecycle_hook.
  initial_lifecycle_hook {
    name                 = "preprov-verify"
    lifecycle_transition = "autoscaling:EC2_INSTANCE_LAUNCHING"
    heartbeat_timeout    = var.verify_timeout
    default_result       = "ABANDON"
  }

  dynamic "launch_template" {
    for_each = local.mixed[each.key] ? [] : [true]
    content {
      id      = aws_launch_template.this[each.key].id
      version = aws_launch_template.this[each.key].latest_version
    }
  }

  dynamic "mixed_instances_policy" {
    for_each = local.mixed[each.key] ? [true] : []
    content {
      launch_template {
        launch_template_specification {
          launch_template_id = aws_launch_template.this[each.key].id
          version            = aws_launch_template.this[each.key].latest_version
        }

        dynamic "override" {
          for_each = each.value.offerings
          content {
            instance_type = override.value.type
          }
        }
      }

      instances_distribution {
        on_demand_base_capacity                  = each.value.spot == null ? 0 : each.value.spot.on_demand_base
        on_demand_percentage_above_base_capacity = each.value.spot == null ? 100 : each.value.spot.on_demand_percent
        on_demand_allocation_strategy            = "prioritized"
        spot_allocation_strategy                 = "price-capacity-optimized"
      }
    }
  }

  dynamic "warm_pool" {
    for_each = each.value.standby == "none" ? [] : [local.counts[each.key].standby]
    content {
      pool_state                  = local.warm_states[each.value.standby]
      min_size                    = warm_pool.value
      max_group_prepared_capacity = warm_pool.value

      instance_reuse_policy {
        reuse_on_scale_in = true
      }
    }
  }

  dynamic "tag" {
    for_each = merge(var.tags, { "preprov:pool" = var.name, "preprov:group" = each.key })
    content {
      key                 = tag.key
      value               = tag.value
      propagate_at_launch = startswith(tag.key, "preprov:")
    }
  }
}

locals {
  autoscaling_groups = merge(aws_autoscaling_group.preprov, aws_autoscaling_group.terraform)
}

resource "aws_autoscaling_lifecycle_hook" "verify" {
  for_each = var.groups

  name                   = "preprov-verify"
  autoscaling_group_name = local.autoscaling_groups[each.key].name
  lifecycle_transition   = "autoscaling:EC2_INSTANCE_LAUNCHING"
  heartbeat_timeout      = var.verify_timeout
  default_result         = "ABANDON"
}

resource "aws_autoscaling_group_tag" "this" {
  for_each = var.counts_owner == "preprov" ? local.group_tags : {}

  autoscaling_group_name = local.autoscaling_groups[each.value.group].name

  tag {
    key                 = each.value.key
    value               = each.value.value
    propagate_at_launch = false
  }
}
