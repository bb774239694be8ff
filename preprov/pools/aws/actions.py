"""The API actions that preprov's code calls on AWS, by role: policies are made from this list and tested against it."""

import json
from typing import Final

OBSERVE: Final = (
    "autoscaling:DescribeAutoScalingGroups",
    "autoscaling:DescribeLifecycleHooks",
    "autoscaling:DescribePolicies",
    "autoscaling:DescribeScalingActivities",
    "autoscaling:DescribeScheduledActions",
    "autoscaling:DescribeWarmPool",
    "ec2:DescribeImages",
    "ec2:DescribeInstances",
    "ec2:DescribeLaunchTemplateVersions",
    "ec2:DescribeSpotPriceHistory",
    "ec2:DescribeSubnets",
    "ec2:DescribeVolumes",
    "pricing:GetProducts",
    "servicequotas:GetServiceQuota",
    "sqs:GetQueueAttributes",
    "sts:GetCallerIdentity",
)
"""Reads only: enough for the modes observe and recommend."""
ACT: Final = (
    "autoscaling:CompleteLifecycleAction",
    "autoscaling:CreateOrUpdateTags",
    "autoscaling:DeleteScheduledAction",
    "autoscaling:DeleteTags",
    "autoscaling:DeleteWarmPool",
    "autoscaling:DetachInstances",
    "autoscaling:LaunchInstances",
    "autoscaling:PutScheduledUpdateGroupAction",
    "autoscaling:PutWarmPool",
    "autoscaling:RecordLifecycleActionHeartbeat",
    "autoscaling:SetDesiredCapacity",
    "autoscaling:SetInstanceProtection",
    "autoscaling:TerminateInstanceInAutoScalingGroup",
    "autoscaling:UpdateAutoScalingGroup",
    "ec2:AttachVolume",
    "ec2:CreateFleet",
    "ec2:CreateImage",
    "ec2:CreateLaunchTemplateVersion",
    "ec2:CreateTags",
    "ec2:CreateVolume",
    "ec2:DeleteTags",
    "ec2:DeleteVolume",
    "ec2:DeregisterImage",
    "ec2:DetachVolume",
    "ec2:ModifyLaunchTemplate",
    "ec2:ModifyVolume",
    "ec2:RunInstances",
    "ec2:StartInstances",
    "ec2:StopInstances",
    "ec2:TerminateInstances",
    "sqs:DeleteMessage",
    "sqs:ReceiveMessage",
)
"""Writes: what the modes floor and full need on top."""
IMPLIED: Final = ("ec2:DeleteSnapshot", "iam:PassRole")
"""Not called by us, but needed by the calls above: instances may have a role, images have snapshots. Fleets run
instances: that right is asked for by a dry run, and so among the writes."""
AGENT: Final = ("ec2:CreateTags",)
"""What a node's agent calls, on its own machine and for the tags of its reports only."""
SAME_RIGHT: Final = {"sqs:DeleteMessageBatch": "sqs:DeleteMessage"}
"""Calls whose right has another name."""


def policy(actions: tuple[str, ...]) -> str:
    """An IAM policy that grants these actions, to be pasted; where it can be, narrow it to your groups and tags."""
    statement = {"Sid": "Preprov", "Effect": "Allow", "Action": sorted(actions), "Resource": "*"}
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]}, indent=2)
