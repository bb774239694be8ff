provider "google" {
  project = var.project
  region  = var.region
}

resource "google_compute_network" "this" {
  name                    = "nightly"
  auto_create_subnetworks = false
}

resource "google_compute_subnetwork" "nodes" {
  name                     = "nightly-nodes"
  region                   = var.region
  network                  = google_compute_network.this.id
  ip_cidr_range            = "10.20.0.0/20"
  private_ip_google_access = true

  log_config {
    aggregation_interval = "INTERVAL_10_MIN"
    flow_sampling        = 0.1
  }
}

# Nodes need no way in.
resource "google_compute_firewall" "nothing_in" {
  name      = "nightly-nothing-in"
  network   = google_compute_network.this.id
  direction = "INGRESS"
  priority  = 65534

  deny {
    protocol = "all"
  }

  source_ranges = ["0.0.0.0/0"]
}

module "nightly" {
  source = "../../../modules/gcp-warm-pool"

  name         = "nightly"
  project      = var.project
  region       = var.region
  counts_owner = var.counts_owner
  counts       = var.preprov_counts

  # A ladder of three tiers is three groups: stopped nodes are cheap, suspended ones quick, spot ones are for the rest.
  groups = {
    stopped = {
      zone      = "${var.region}-b"
      standby   = "stopped"
      max_nodes = 40
      offering  = { type = "n2-standard-8", cpu = 8, memory = 32, usd_per_hour = 0.39 }
    }
    quick = {
      zone      = "${var.region}-b"
      standby   = "hibernated"
      max_nodes = 10
      offering  = { type = "n2-standard-8", cpu = 8, memory = 32, usd_per_hour = 0.39 }
    }
    spot = {
      zone      = "${var.region}-c"
      spot      = true
      max_nodes = 60
      offering  = { type = "n2-standard-8", cpu = 8, memory = 32, usd_per_hour = 0.1 }
    }
  }

  subnetwork   = google_compute_subnetwork.nodes.self_link
  source_image = "projects/debian-cloud/global/images/family/debian-12"
  act_members  = var.act_members
  labels       = { team = "data-platform" }
}
