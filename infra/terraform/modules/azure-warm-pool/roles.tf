# Rights come from rights.json alone, which is made from the list of calls in preprov's code.

resource "azurerm_role_definition" "observe" {
  name              = "preprov observes ${var.name}"
  scope             = var.resource_group_id
  description       = "Looks at the scale sets and standby pools of this resource group, and writes nothing"
  assignable_scopes = [var.resource_group_id]

  permissions {
    actions = local.rights.observe
  }
}

resource "azurerm_role_definition" "act" {
  name              = "preprov acts on ${var.name}"
  scope             = var.resource_group_id
  description       = "Moves the nodes of scale sets and standby pools of this resource group"
  assignable_scopes = [var.resource_group_id]

  permissions {
    actions = local.acts
  }
}

resource "azurerm_role_definition" "join" {
  name              = "preprov joins nodes of ${var.name}"
  scope             = var.subnet_id
  description       = "Puts new nodes into their subnet"
  assignable_scopes = [var.subnet_id, var.network_security_group_id]

  permissions {
    actions = local.rights.act.join
  }
}

resource "azurerm_role_assignment" "observe" {
  for_each = setunion(var.observe_principals, var.act_principals)

  scope              = var.resource_group_id
  role_definition_id = azurerm_role_definition.observe.role_definition_resource_id
  principal_id       = each.key
  description        = "preprov looks at pool ${var.name}"
}

resource "azurerm_role_assignment" "act" {
  for_each = var.act_principals

  scope              = var.resource_group_id
  role_definition_id = azurerm_role_definition.act.role_definition_resource_id
  principal_id       = each.key
  description        = "preprov moves the nodes of pool ${var.name}"
}

resource "azurerm_role_assignment" "join_subnet" {
  for_each = var.counts_owner == "preprov" ? var.act_principals : toset([])

  scope              = var.subnet_id
  role_definition_id = azurerm_role_definition.join.role_definition_resource_id
  principal_id       = each.key
  description        = "preprov puts nodes of pool ${var.name} into their subnet"
}

resource "azurerm_role_assignment" "join_security_group" {
  for_each = var.counts_owner == "preprov" ? var.act_principals : toset([])

  scope              = var.network_security_group_id
  role_definition_id = azurerm_role_definition.join.role_definition_resource_id
  principal_id       = each.key
  description        = "preprov puts nodes of pool ${var.name} under their security group"
}

# The nodes themselves: their agents write reports as tags, and may do nothing else to any machine. Azure cannot narrow
# this to the machine itself, because a scale set makes it; it can to this resource group.

resource "azurerm_role_definition" "node" {
  name              = "preprov nodes of ${var.name}"
  scope             = var.resource_group_id
  description       = "Writes tags, the reports of nodes among them"
  assignable_scopes = [var.resource_group_id]

  permissions {
    actions = local.rights.agent
  }
}

resource "azurerm_role_assignment" "node" {
  scope              = var.resource_group_id
  role_definition_id = azurerm_role_definition.node.role_definition_resource_id
  principal_id       = azurerm_user_assigned_identity.node.principal_id
  description        = "nodes of pool ${var.name} report by tags"
}
