# Applies anywhere: it declares a pool whose nodes preprov runs on this machine, and needs no cloud and no provider.
module "nightly" {
  source = "../../../modules/local"

  name         = "nightly"
  counts_owner = var.counts_owner
  counts       = var.preprov_counts

  groups = {
    quick = {
      standby   = "hibernated"
      max_nodes = 4
      offering  = { type = "small", cpu = 2, memory = 4, usd_per_hour = 0.1 }
    }
    cheap = {
      standby   = "stopped"
      max_nodes = 8
      offering  = { type = "small", cpu = 2, memory = 4, usd_per_hour = 0.1 }
    }
  }
}
