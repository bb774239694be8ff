provider "azurerm" {
  features {}
}

resource "azurerm_resource_group" "this" {
  name     = "nightly"
  location = var.location
}

resource "azurerm_virtual_network" "this" {
  name                = "nightly"
  resource_group_name = azurerm_resource_group.this.name
  location            = azurerm_resource_group.this.location
  address_space       = ["10.20.0.0/16"]
}

resource "azurerm_subnet" "nodes" {
  name                 = "nodes"
  resource_group_name  = azurerm_resource_group.this.name
  virtual_network_name = azurerm_virtual_network.this.name
  address_prefixes     = ["10.20.0.0/20"]
}

# No rule lets anything in; what is not allowed is denied.
resource "azurerm_network_security_group" "nodes" {
  name                = "nightly-nodes"
  resource_group_name = azurerm_resource_group.this.name
  location            = azurerm_resource_group.this.location
}

resource "azurerm_subnet_network_security_group_association" "nodes" {
  subnet_id                 = azurerm_subnet.nodes.id
  network_security_group_id = azurerm_network_security_group.nodes.id
}

module "nightly" {
  source = "../../../modules/azure-warm-pool"

  name                = "nightly"
  resource_group_name = azurerm_resource_group.this.name
  resource_group_id   = azurerm_resource_group.this.id
  location            = azurerm_resource_group.this.location
  counts_owner        = var.counts_owner
  counts              = var.preprov_counts

  # A ladder of three tiers is three groups: deallocated nodes are cheap, running ones at once, spot ones for the rest.
  groups = {
    stopped = {
      standby   = "stopped"
      max_nodes = 40
      offering  = { type = "Standard_D8s_v5", cpu = 8, memory = 32, usd_per_hour = 0.384 }
    }
    quick = {
      standby   = "running"
      max_nodes = 10
      offering  = { type = "Standard_D8s_v5", cpu = 8, memory = 32, usd_per_hour = 0.384 }
    }
    spot = {
      spot      = true
      max_nodes = 60
      offering  = { type = "Standard_D8s_v5", cpu = 8, memory = 32, usd_per_hour = 0.08 }
    }
  }

  subnet_id                 = azurerm_subnet.nodes.id
  network_security_group_id = azurerm_network_security_group.nodes.id
  source_image_id           = var.source_image_id
  admin_public_key          = var.admin_public_key
  act_principals            = var.act_principals
  tags                      = { team = "data-platform" }
}
