mock_provider "aws" {
  mock_data "aws_partition" {
    defaults = { partition = "aws" }
  }
  mock_data "aws_region" {
    defaults = { name = "eu-central-1" }
  }
  mock_resource "aws_launch_template" {
    defaults = { id = "lt-1", arn = "arn:aws:ec2:eu-central-1:123456789012:launch-template/lt-1", latest_version = 1 }
  }
  mock_resource "aws_autoscaling_group" {
    defaults = { arn = "arn:aws:autoscaling:eu-central-1:123456789012:autoScalingGroup:1:autoScalingGroupName/g" }
  }
  mock_resource "aws_iam_role" {
    defaults = { arn = "arn:aws:iam::123456789012:role/node" }
  }
  mock_resource "aws_iam_instance_profile" {
    defaults = { arn = "arn:aws:iam::123456789012:instance-profile/node" }
  }
  mock_resource "aws_sqs_queue" {
    defaults = { arn = "arn:aws:sqs:eu-central-1:123456789012:q", url = "https://sqs/q" }
  }
  mock_resource "aws_cloudwatch_event_rule" {
    defaults = { arn = "arn:aws:events:eu-central-1:123456789012:rule/r" }
  }
}

variables {
  name                   = "nightly"
  subnets                = { "eu-central-1a" = "subnet-1", "eu-central-1b" = "subnet-2" }
  security_group_ids     = ["sg-1"]
  image_id               = "ami-1"
  trusted_principal_arns = ["arn:aws:iam::123456789012:role/preprov"]
  groups = {
    stopped = {
      standby   = "stopped"
      max_nodes = 10
      offerings = [{ type = "m6i.large", cpu = 2, memory = 8 }]
    }
    quick = {
      standby   = "hibernated"
      max_nodes = 5
      offerings = [{ type = "m6i.large", cpu = 2, memory = 8 }]
    }
    mixed = {
      max_nodes = 20
      spot      = { on_demand_percent = 25 }
      offerings = [{ type = "m6i.large", cpu = 2, memory = 8 }, { type = "m5.large", cpu = 2, memory = 8 }]
    }
  }
}

run "one_vendor_group_per_standby_state" {
  assert {
    condition     = length(aws_autoscaling_group.preprov) == 3 && length(aws_autoscaling_group.terraform) == 0
    error_message = "preprov owns the counts unless it is said otherwise."
  }
  assert {
    condition     = aws_autoscaling_group.preprov["stopped"].warm_pool[0].pool_state == "Stopped" && aws_autoscaling_group.preprov["quick"].warm_pool[0].pool_state == "Hibernated"
    error_message = "Each group keeps its own standby state."
  }
  assert {
    condition     = length(aws_autoscaling_group.preprov["mixed"].warm_pool) == 0
    error_message = "A group without standby has no warm pool."
  }
  assert {
    condition     = alltrue([for g in aws_autoscaling_group.preprov : g.protect_from_scale_in && contains(g.suspended_processes, "AZRebalance")])
    error_message = "Nothing but preprov takes a node away."
  }
  assert {
    condition     = aws_autoscaling_group.preprov["mixed"].mixed_instances_policy[0].instances_distribution[0].on_demand_percentage_above_base_capacity == 25
    error_message = "The mix of spot and on-demand is as declared."
  }
}

run "nodes_are_private_and_encrypted" {
  assert {
    condition = alltrue([
      for t in aws_launch_template.this : t.block_device_mappings[0].ebs[0].encrypted == "true" && t.network_interfaces[0].associate_public_ip_address == "false" && t.metadata_options[0].http_tokens == "required"
    ])
    error_message = "Disks are encrypted, there are no public addresses, metadata need a token."
  }
  assert {
    condition     = aws_launch_template.this["quick"].hibernation_options[0].configured && length(aws_launch_template.this["stopped"].hibernation_options) == 0
    error_message = "Only what hibernates is configured to."
  }
}

run "terraform_owns_the_counts" {
  variables {
    counts_owner = "terraform"
    counts       = { stopped = { running = 2, standby = 3 } }
  }
  assert {
    condition     = length(aws_autoscaling_group.preprov) == 0 && aws_autoscaling_group.terraform["stopped"].desired_capacity == 2
    error_message = "Counts come from the variable."
  }
  assert {
    condition     = aws_autoscaling_group.terraform["stopped"].warm_pool[0].min_size == 3
    error_message = "So does the size of the warm pool."
  }
  assert {
    condition     = !contains(flatten([for s in jsondecode(aws_iam_role_policy.act[0].policy).Statement : s.Action]), "autoscaling:SetDesiredCapacity")
    error_message = "preprov's own role writes no counts then."
  }
  assert {
    condition     = !contains(flatten([for s in jsondecode(aws_iam_role_policy.act[0].policy).Statement : s.Action]), "ec2:CreateImage")
    error_message = "Images are made by preprov only where bake_images says so."
  }
  assert {
    condition     = length(setintersection(flatten([for s in jsondecode(aws_iam_role_policy.act[0].policy).Statement : s.Action]), ["ec2:CreateVolume", "ec2:AttachVolume", "ec2:DeleteVolume"])) == 0
    error_message = "Volumes are made and moved by preprov only where keep_volumes says so."
  }
}

run "roles_grant_what_is_called_and_no_more" {
  variables {
    bake_images  = true
    keep_volumes = true
    fleets = {
      burst = { max_nodes = 5, offerings = [{ type = "m6i.large", cpu = 2, memory = 8 }] }
    }
  }
  assert {
    condition     = toset(flatten([for s in jsondecode(aws_iam_role_policy.observe[0].policy).Statement : s.Action])) == toset(jsondecode(file("rights.json")).observe)
    error_message = "observe has the reads and nothing else."
  }
  assert {
    condition     = toset(flatten([for s in jsondecode(aws_iam_role_policy.act[0].policy).Statement : s.Action])) == toset(concat(jsondecode(file("rights.json")).observe, flatten(values(jsondecode(file("rights.json")).act))))
    error_message = "act has the reads and the writes of the list and nothing else."
  }
  assert {
    condition = alltrue([
      for s in jsondecode(aws_iam_role_policy.act[0].policy).Statement : try(s.Condition.StringEquals["aws:ResourceTag/preprov:pool"], "") == "nightly" if contains(["Groups", "Nodes", "Notes", "BakeFrom", "Images", "Volumes"], s.Sid)
    ])
    error_message = "Writes are narrowed to the pool's tag."
  }
  assert {
    condition = alltrue([
      for s in jsondecode(aws_iam_role_policy.act[0].policy).Statement : s.Condition.Bool["ec2:Encrypted"] == "true" && s.Condition.StringEquals["aws:RequestTag/preprov:pool"] == "nightly" if s.Sid == "MakeVolumes"
    ])
    error_message = "A volume is encrypted and carries the pool's tag from its first moment."
  }
}

run "no_roles_unless_somebody_may_take_them" {
  variables {
    trusted_principal_arns = []
  }
  assert {
    condition     = length(aws_iam_role.act) == 0 && output.act_role_arn == null
    error_message = "No role is made for nobody."
  }
}

run "a_warm_pool_keeps_no_spot_nodes" {
  command = plan
  variables {
    groups = {
      stopped = { standby = "stopped", max_nodes = 1, spot = {}, offerings = [{ type = "m6i.large", cpu = 2, memory = 8 }] }
    }
  }
  expect_failures = [var.groups]
}

run "anybody_is_refused" {
  command = plan
  variables {
    trusted_principal_arns = ["*"]
  }
  expect_failures = [var.trusted_principal_arns]
}
