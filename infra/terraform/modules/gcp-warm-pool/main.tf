resource "google_service_account" "node" {
  account_id   = "${substr(var.name, 0, 24)}-node"
  display_name = "Nodes of pool ${var.name}"
  project      = var.project
}

resource "google_project_iam_member" "node" {
  for_each = var.node_roles

  project = var.project
  role    = each.key
  member  = google_service_account.node.member
}

resource "google_compute_instance_template" "this" {
  #checkov:skip=CKV_GCP_40:an address is only given where public_addresses asks for one, which is off unless said otherwise

  for_each = var.groups

  name_prefix  = "${var.name}-${each.key}-"
  description  = "Nodes of group ${each.key} of pool ${var.name}"
  project      = var.project
  region       = var.region
  machine_type = each.value.offering.type
  labels       = merge(var.labels, { "preprov-pool" = var.name, "preprov-group" = each.key })
  tags         = var.network_tags

  # The agent reads its orders from metadata and reports by guest attributes.
  metadata = {
    enable-guest-attributes = "TRUE"
    enable-oslogin          = "TRUE"
    block-project-ssh-keys  = "TRUE"
    serial-port-enable      = "FALSE"
    user-data               = var.user_data
  }

  disk {
    boot         = true
    auto_delete  = true
    source_image = var.source_image
    disk_type    = var.boot_disk_type
    disk_size_gb = var.boot_disk_gib
    labels       = merge(var.labels, { "preprov-pool" = var.name })

    dynamic "disk_encryption_key" {
      for_each = var.kms_key == null ? [] : [var.kms_key]
      content {
        kms_key_self_link = disk_encryption_key.value
      }
    }
  }

  network_interface {
    subnetwork = var.subnetwork

    dynamic "access_config" {
      for_each = var.public_addresses ? [true] : []
      content {}
    }
  }

  scheduling {
    provisioning_model          = each.value.spot ? "SPOT" : "STANDARD"
    preemptible                 = each.value.spot
    automatic_restart           = !each.value.spot
    on_host_maintenance         = each.value.spot || each.value.offering.gpu > 0 ? "TERMINATE" : "MIGRATE"
    instance_termination_action = each.value.spot ? "DELETE" : null
  }

  service_account {
    email  = google_service_account.node.email
    scopes = ["cloud-platform"]
  }

  shielded_instance_config {
    enable_secure_boot          = true
    enable_vtpm                 = true
    enable_integrity_monitoring = true
  }

  lifecycle {
    create_before_destroy = true
  }
}
