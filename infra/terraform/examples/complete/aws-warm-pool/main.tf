provider "aws" {
  region = var.region
}

# A network of its own: two private subnets and no way in. Nodes reach AWS by the endpoints or NAT of your VPC.
resource "aws_vpc" "this" {
  #checkov:skip=CKV2_AWS_11:an example; flow logs need a bucket of yours

  cidr_block           = "10.20.0.0/16"
  enable_dns_hostnames = true
  tags                 = { Name = "nightly" }
}

resource "aws_default_security_group" "closed" {
  vpc_id = aws_vpc.this.id
}

resource "aws_subnet" "private" {
  for_each = { "${var.region}a" = "10.20.0.0/20", "${var.region}b" = "10.20.16.0/20" }

  vpc_id            = aws_vpc.this.id
  availability_zone = each.key
  cidr_block        = each.value
  tags              = { Name = "nightly-${each.key}" }
}

resource "aws_security_group" "nodes" {
  name        = "nightly-nodes"
  description = "Nodes of the nightly pool: nothing comes in, TLS goes out"
  vpc_id      = aws_vpc.this.id

  egress {
    description = "TLS"
    protocol    = "tcp"
    from_port   = 443
    to_port     = 443
    cidr_blocks = ["0.0.0.0/0"]
  }
}

module "nightly" {
  source = "../../../modules/aws-warm-pool"

  name         = "nightly"
  counts_owner = var.counts_owner
  counts       = var.preprov_counts

  # A ladder of three tiers is three groups: stopped nodes are cheap, hibernated ones quick, spot ones are for the rest.
  groups = {
    stopped = {
      standby   = "stopped"
      max_nodes = 40
      offerings = [{ type = "m6i.2xlarge", cpu = 8, memory = 32, usd_per_hour = 0.384 }]
    }
    quick = {
      standby   = "hibernated"
      max_nodes = 10
      offerings = [{ type = "m6i.2xlarge", cpu = 8, memory = 32, usd_per_hour = 0.384 }]
    }
    spot = {
      max_nodes = 60
      spot      = { on_demand_base = 0, on_demand_percent = 0 }
      offerings = [
        { type = "m6i.2xlarge", cpu = 8, memory = 32, usd_per_hour = 0.15 },
        { type = "m5.2xlarge", cpu = 8, memory = 32, usd_per_hour = 0.15 },
      ]
    }
  }

  subnets                = { for zone, s in aws_subnet.private : zone => s.id }
  security_group_ids     = [aws_security_group.nodes.id]
  image_id               = var.image_id
  trusted_principal_arns = var.trusted_principal_arns
  tags                   = { team = "data-platform" }
}
