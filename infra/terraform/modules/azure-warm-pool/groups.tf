# Two resources of one shape, for what a resource ignores cannot depend on a variable: `counts_owner` chooses.
# To change it later without making the groups anew: terraform state mv, see the README.

resource "azurerm_orchestrated_virtual_machine_scale_set" "preprov" {
  for_each = var.counts_owner == "preprov" ? var.groups : {}

  name                        = "${var.name}-${each.key}"
  resource_group_name         = var.resource_group_name
  location                    = var.location
  zones                       = var.zones
  platform_fault_domain_count = var.fault_domains
  single_placement_group      = false
  zone_balance                = false

  instances                    = max(local.counts[each.key].running, each.value.min_nodes)
  sku_name                     = each.value.offering.type
  priority                     = each.value.spot ? "Spot" : "Regular"
  eviction_policy              = each.value.spot ? "Delete" : null
  source_image_id              = var.source_image_id
  user_data_base64             = var.user_data == "" ? null : base64encode(var.user_data)
  encryption_at_host_enabled   = var.encryption_at_host
  extension_operations_enabled = true
  upgrade_mode                 = "Manual"

  identity {
    type         = "UserAssigned"
    identity_ids = [azurerm_user_assigned_identity.node.id]
  }

  os_profile {
    linux_configuration {
      admin_username                  = var.admin_username
      computer_name_prefix            = substr(each.key, 0, 9)
      disable_password_authentication = true
      provision_vm_agent              = true

      admin_ssh_key {
        username   = var.admin_username
        public_key = var.admin_public_key
      }
    }
  }

  os_disk {
    caching                = "ReadWrite"
    storage_account_type   = "Premium_LRS"
    disk_size_gb           = var.os_disk_gib
    disk_encryption_set_id = var.disk_encryption_set_id
  }

  network_interface {
    name                          = "nic"
    primary                       = true
    enable_accelerated_networking = true
    network_security_group_id     = var.network_security_group_id

    ip_configuration {
      name      = "ip"
      primary   = true
      subnet_id = var.subnet_id

      dynamic "public_ip_address" {
        for_each = var.public_addresses ? [true] : []
        content {
          name = "public"
        }
      }
    }
  }

  # Spot evictions are announced to the node as scheduled events; terminations leave it time to end its work.
  termination_notification {
    enabled = true
    timeout = "PT5M"
  }

  boot_diagnostics {}

  tags = merge(var.tags, { "preprov:pool" = var.name, "preprov:group" = each.key })

  lifecycle {
    # What preprov writes. Its tags say which launches were made; yours hold from when the scale set is made.
    ignore_changes = [instances, tags]
  }
}

resource "azurerm_virtual_machine_scale_set_standby_pool" "preprov" {
  for_each = var.counts_owner == "preprov" ? local.kept : {}

  name                                  = "${var.name}-${each.key}"
  resource_group_name                   = var.resource_group_name
  location                              = var.location
  attached_virtual_machine_scale_set_id = azurerm_orchestrated_virtual_machine_scale_set.preprov[each.key].id
  virtual_machine_state                 = local.standby_states[each.value.standby]
  tags                                  = merge(var.tags, { "preprov:pool" = var.name, "preprov:group" = each.key })

  # The pool keeps its maximum less what is in the scale set, and never fewer than its minimum.
  elasticity_profile {
    max_ready_capacity = local.counts[each.key].standby
    min_ready_capacity = local.counts[each.key].standby
  }

  lifecycle {
    # What preprov writes.
    ignore_changes = [elasticity_profile]
  }
}

resource "azurerm_orchestrated_virtual_machine_scale_set" "terraform" {
  for_each = var.counts_owner == "terraform" ? var.groups : {}

  name                        = "${var.name}-${each.key}"
  resource_group_name         = var.resource_group_name
  location                    = var.location
  zones                       = var.zones
  platform_fault_domain_count = var.fault_domains
  single_placement_group      = false
  zone_balance                = false

  instances                    = max(local.counts[each.key].running, each.value.min_nodes)
  sku_name                     = each.value.offering.type
  priority                     = each.value.spot ? "Spot" : "Regular"
  eviction_policy              = each.value.spot ? "Delete" : null
  source_image_id              = var.source_image_id
  user_data_base64             = var.user_data == "" ? null : base64encode(var.user_data)
  encryption_at_host_enabled   = var.encryption_at_host
  extension_operations_enabled = true
  upgrade_mode                 = "Manual"

  identity {
    type         = "UserAssigned"
    identity_ids = [azurerm_user_assigned_identity.node.id]
  }

  os_profile {
    linux_configuration {
      admin_username                  = var.admin_username
      computer_name_prefix            = substr(each.key, 0, 9)
      disable_password_authentication = true
      provision_vm_agent              = true

      admin_ssh_key {
        username   = var.admin_username
        public_key = var.admin_public_key
      }
    }
  }

  os_disk {
    caching                = "ReadWrite"
    storage_account_type   = "Premium_LRS"
    disk_size_gb           = var.os_disk_gib
    disk_encryption_set_id = var.disk_encryption_set_id
  }

  network_interface {
    name                          = "nic"
    primary                       = true
    enable_accelerated_networking = true
    network_security_group_id     = var.network_security_group_id

    ip_configuration {
      name      = "ip"
      primary   = true
      subnet_id = var.subnet_id

      dynamic "public_ip_address" {
        for_each = var.public_addresses ? [true] : []
        content {
          name = "public"
        }
      }
    }
  }

  # Spot evictions are announced to the node as scheduled events; terminations leave it time to end its work.
  termination_notification {
    enabled = true
    timeout = "PT5M"
  }

  boot_diagnostics {}

  tags = merge(var.tags, { "preprov:pool" = var.name, "preprov:group" = each.key })
}

resource "azurerm_virtual_machine_scale_set_standby_pool" "terraform" {
  for_each = var.counts_owner == "terraform" ? local.kept : {}

  name                                  = "${var.name}-${each.key}"
  resource_group_name                   = var.resource_group_name
  location                              = var.location
  attached_virtual_machine_scale_set_id = azurerm_orchestrated_virtual_machine_scale_set.terraform[each.key].id
  virtual_machine_state                 = local.standby_states[each.value.standby]
  tags                                  = merge(var.tags, { "preprov:pool" = var.name, "preprov:group" = each.key })

  # The pool keeps its maximum less what is in the scale set, and never fewer than its minimum.
  elasticity_profile {
    max_ready_capacity = local.counts[each.key].standby
    min_ready_capacity = local.counts[each.key].standby
  }
}

locals {
  scale_sets = merge(
    azurerm_orchestrated_virtual_machine_scale_set.preprov,
    azurerm_orchestrated_virtual_machine_scale_set.terraform,
  )
  standby_pools = merge(
    azurerm_virtual_machine_scale_set_standby_pool.preprov,
    azurerm_virtual_machine_scale_set_standby_pool.terraform,
  )
}
