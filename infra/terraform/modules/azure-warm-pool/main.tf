# The account that the nodes run as; give it what they need to read images and data.
resource "azurerm_user_assigned_identity" "node" {
  name                = "${var.name}-node"
  resource_group_name = var.resource_group_name
  location            = var.location
  tags                = var.tags
}
