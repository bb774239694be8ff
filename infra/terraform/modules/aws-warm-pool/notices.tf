# What EC2 says before it takes a node back; preprov reads it from the queue.

locals {
  notices = var.notices ? {
    interruption = "EC2 Spot Instance Interruption Warning"
    rebalance    = "EC2 Instance Rebalance Recommendation"
    state        = "EC2 Instance State-change Notification"
  } : {}
}

resource "aws_sqs_queue" "notices" {
  count = var.notices ? 1 : 0

  name                       = "${var.name}-notices"
  message_retention_seconds  = 1800
  visibility_timeout_seconds = 60
  sqs_managed_sse_enabled    = true
  tags                       = var.tags
}

resource "aws_cloudwatch_event_rule" "notices" {
  for_each = local.notices

  name          = "${var.name}-${each.key}"
  description   = "${each.value} for pool ${var.name}"
  event_pattern = jsonencode({ source = ["aws.ec2"], "detail-type" = [each.value] })
  tags          = var.tags
}

resource "aws_cloudwatch_event_target" "notices" {
  for_each = local.notices

  rule = aws_cloudwatch_event_rule.notices[each.key].name
  arn  = aws_sqs_queue.notices[0].arn
}

resource "aws_sqs_queue_policy" "notices" {
  count = var.notices ? 1 : 0

  queue_url = aws_sqs_queue.notices[0].id
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Sid       = "EventBridge"
      Effect    = "Allow"
      Principal = { Service = "events.amazonaws.com" }
      Action    = "sqs:SendMessage"
      Resource  = aws_sqs_queue.notices[0].arn
      Condition = { ArnEquals = { "aws:SourceArn" = [for r in aws_cloudwatch_event_rule.notices : r.arn] } }
    }]
  })
}
