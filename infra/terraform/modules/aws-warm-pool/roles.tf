# Rights come from rights.json alone, which is made from the list of calls in preprov's code.

data "aws_partition" "current" {}

locals {
  rights   = jsondecode(file("${path.module}/rights.json"))
  any_node = "arn:${data.aws_partition.current.partition}:ec2:*:*:instance/*"
  of_pool  = { "aws:ResourceTag/preprov:pool" = var.name }

  observe_statements = [{ Sid = "Observe", Effect = "Allow", Action = local.rights.observe, Resource = ["*"], Condition = {} }]

  group_statements = [
    {
      Sid       = "Groups"
      Effect    = "Allow"
      Action    = local.rights.act.group
      Resource  = [for g in local.autoscaling_groups : g.arn]
      Condition = { StringEquals = local.of_pool }
    },
    {
      Sid       = "Tend"
      Effect    = "Allow"
      Action    = local.rights.act.tend
      Resource  = [for g in local.autoscaling_groups : g.arn]
      Condition = { StringEquals = local.of_pool }
    },
    {
      Sid       = "Nodes"
      Effect    = "Allow"
      Action    = local.rights.act.node
      Resource  = [local.any_node]
      Condition = { StringEquals = local.of_pool }
    },
    {
      Sid       = "Notes"
      Effect    = "Allow"
      Action    = local.rights.act.note
      Resource  = [local.any_node]
      Condition = { StringEquals = local.of_pool, "ForAllValues:StringLike" = { "aws:TagKeys" = ["preprov:*"] } }
    },
  ]

  queue_statements = [
    for q in aws_sqs_queue.notices : {
      Sid       = "Notices"
      Effect    = "Allow"
      Action    = local.rights.act.queue
      Resource  = [q.arn]
      Condition = {}
    }
  ]

  # A fleet runs instances of our launch templates and of nothing else; every machine it makes carries the pool's tag.
  fleet_statements = [
    for s in [
      {
        Sid       = "Fleets"
        Effect    = "Allow"
        Action    = local.rights.act.fleet
        Resource  = ["*"]
        Condition = {}
      },
      {
        Sid      = "Run"
        Effect   = "Allow"
        Action   = local.rights.act.run
        Resource = ["*"]
        Condition = {
          ArnLike = { "ec2:LaunchTemplate" = [for k, t in aws_launch_template.this : t.arn if var.bake_images || contains(keys(var.fleets), k)] }
          Bool    = { "ec2:IsLaunchTemplateResource" = "true" }
        }
      },
      {
        Sid      = "FleetTags"
        Effect   = "Allow"
        Action   = local.rights.agent
        Resource = ["*"]
        Condition = {
          StringEquals = { "ec2:CreateAction" = ["CreateFleet", "RunInstances"], "aws:RequestTag/preprov:pool" = var.name }
        }
      },
      {
        Sid       = "NodeRole"
        Effect    = "Allow"
        Action    = local.rights.act.pass
        Resource  = [aws_iam_role.node.arn]
        Condition = { StringEquals = { "iam:PassedToService" = "ec2.amazonaws.com" } }
      },
    ] : s if length(var.fleets) > 0 || var.bake_images
  ]

  # An image is made of a machine of this pool, carries the pool's tag, and goes with its snapshots.
  any_image = [for kind in ["image", "snapshot"] : "arn:${data.aws_partition.current.partition}:ec2:*::${kind}/*"]
  bake_statements = [
    for s in [
      {
        Sid       = "BakeFrom"
        Effect    = "Allow"
        Action    = local.rights.act.bake
        Resource  = [local.any_node]
        Condition = { StringEquals = local.of_pool }
      },
      {
        Sid       = "Bake"
        Effect    = "Allow"
        Action    = local.rights.act.bake
        Resource  = local.any_image
        Condition = { StringEquals = { "aws:RequestTag/preprov:pool" = var.name } }
      },
      {
        Sid       = "ImageTags"
        Effect    = "Allow"
        Action    = local.rights.agent
        Resource  = local.any_image
        Condition = { StringEquals = { "ec2:CreateAction" = "CreateImage", "aws:RequestTag/preprov:pool" = var.name } }
      },
      {
        Sid       = "Images"
        Effect    = "Allow"
        Action    = local.rights.act.image
        Resource  = local.any_image
        Condition = { StringEquals = local.of_pool }
      },
      {
        Sid       = "Templates"
        Effect    = "Allow"
        Action    = local.rights.act.template
        Resource  = [for t in aws_launch_template.this : t.arn]
        Condition = {}
      },
    ] : s if var.bake_images
  ]

  # A volume carries the pool's tag from its first moment, is encrypted, and goes to machines of this pool only.
  any_volume = "arn:${data.aws_partition.current.partition}:ec2:*:*:volume/*"
  volume_statements = [
    for s in [
      {
        Sid       = "MakeVolumes"
        Effect    = "Allow"
        Action    = local.rights.act.disk
        Resource  = [local.any_volume]
        Condition = { StringEquals = { "aws:RequestTag/preprov:pool" = var.name }, Bool = { "ec2:Encrypted" = "true" } }
      },
      {
        Sid       = "VolumeTags"
        Effect    = "Allow"
        Action    = local.rights.agent
        Resource  = [local.any_volume]
        Condition = { StringEquals = { "ec2:CreateAction" = "CreateVolume", "aws:RequestTag/preprov:pool" = var.name } }
      },
      {
        Sid       = "Volumes"
        Effect    = "Allow"
        Action    = local.rights.act.volume
        Resource  = [local.any_volume, local.any_node]
        Condition = { StringEquals = local.of_pool }
      },
    ] : s if var.keep_volumes
  ]

  trust = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Sid       = "Preprov"
      Effect    = "Allow"
      Principal = { AWS = var.trusted_principal_arns }
      Action    = "sts:AssumeRole"
      Condition = { for test, keys in { StringEquals = { "sts:ExternalId" = var.external_id } } : test => keys if var.external_id != null }
    }]
  })
}

resource "aws_iam_role" "observe" {
  count = local.roles ? 1 : 0

  name               = "${var.name}-preprov-observe"
  description        = "preprov may look at pool ${var.name}, and write nothing"
  assume_role_policy = local.trust
  tags               = var.tags
}

resource "aws_iam_role_policy" "observe" {
  count = local.roles ? 1 : 0

  name   = "observe"
  role   = aws_iam_role.observe[0].id
  policy = jsonencode({ Version = "2012-10-17", Statement = local.observe_statements })
}

resource "aws_iam_role" "act" {
  count = local.roles ? 1 : 0

  name               = "${var.name}-preprov-act"
  description        = "preprov may look, and move the nodes of pool ${var.name}"
  assume_role_policy = local.trust
  tags               = var.tags
}

resource "aws_iam_role_policy" "act" {
  count = local.roles ? 1 : 0

  name = "act"
  role = aws_iam_role.act[0].id
  policy = jsonencode({
    Version = "2012-10-17"
    # Where counts go through Terraform, preprov moves none: it lets verified nodes go on, and leaves them notes.
    Statement = concat(
      local.observe_statements,
      [for s in local.group_statements : s if var.counts_owner == "preprov" || contains(["Tend", "Notes"], s.Sid)],
      local.queue_statements,
      local.fleet_statements,
      local.bake_statements,
      local.volume_statements,
    )
  })
}

# The nodes themselves: each agent writes its reports as tags on its own machine, and whatever else you attach.

resource "aws_iam_role" "node" {
  name        = "${var.name}-node"
  description = "Nodes of pool ${var.name}"
  tags        = var.tags
  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Sid       = "Nodes"
      Effect    = "Allow"
      Principal = { Service = "ec2.amazonaws.com" }
      Action    = "sts:AssumeRole"
    }]
  })
}

resource "aws_iam_role_policy" "node" {
  name = "report"
  role = aws_iam_role.node.id
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Sid      = "Report"
      Effect   = "Allow"
      Action   = local.rights.agent
      Resource = [local.any_node]
      Condition = {
        StringEquals              = local.of_pool
        "ForAllValues:StringLike" = { "aws:TagKeys" = ["preprov:report.*", "preprov:notice"] }
        ArnEquals                 = { "ec2:SourceInstanceARN" = replace(local.any_node, "/*", "/$${ec2:InstanceID}") }
      }
    }]
  })
}

resource "aws_iam_role_policy_attachment" "node" {
  for_each = var.node_policy_arns

  role       = aws_iam_role.node.name
  policy_arn = each.key
}

resource "aws_iam_instance_profile" "node" {
  name = "${var.name}-node"
  role = aws_iam_role.node.name
  tags = var.tags
}
