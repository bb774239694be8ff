resource "aws_launch_template" "this" {
  for_each = local.templates

  name                   = "${var.name}-${each.key}"
  description            = "Nodes of group ${each.key} of pool ${var.name}"
  image_id               = var.image_id
  instance_type          = each.value.type
  update_default_version = true
  user_data              = var.user_data == "" ? null : base64encode(var.user_data)

  # A node that shuts itself down is stopped, not ended: only preprov and the group end nodes.
  instance_initiated_shutdown_behavior = "stop"

  iam_instance_profile {
    arn = aws_iam_instance_profile.node.arn
  }

  block_device_mappings {
    device_name = var.root_device_name

    ebs {
      encrypted             = true
      kms_key_id            = var.kms_key_arn
      volume_size           = var.root_volume_gib
      volume_type           = "gp3"
      delete_on_termination = true
    }
  }

  dynamic "hibernation_options" {
    for_each = each.value.hibernates ? [true] : []
    content {
      configured = true
    }
  }

  # The agent reads its orders from its own tags, through the instance's metadata; session tokens only, one hop.
  metadata_options {
    http_endpoint               = "enabled"
    http_tokens                 = "required"
    http_put_response_hop_limit = 1
    instance_metadata_tags      = "enabled"
  }

  monitoring {
    enabled = true
  }

  network_interfaces {
    associate_public_ip_address = var.public_addresses
    delete_on_termination       = true
    security_groups             = var.security_group_ids
  }

  dynamic "tag_specifications" {
    for_each = toset(["instance", "volume"])
    content {
      resource_type = tag_specifications.key
      tags          = merge(var.tags, { "preprov:pool" = var.name, "preprov:group" = each.key })
    }
  }

  tags = merge(var.tags, { "preprov:pool" = var.name, "preprov:group" = each.key })
}
